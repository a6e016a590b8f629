"""Why a network answers as it does: saliency by integrated gradients, attention, and deletion curves that check either.

Letters: N clips, M persons, T frames, V joints, S steps of a modality, P points, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import singledispatch

import numpy as np
import torch
from torch import Tensor

from skelgraph.batch import Batch
from skelgraph.errors import UserError
from skelgraph.models import Model
from skelgraph.models.deformable3d import Deformable3D
from skelgraph.models.mmixer import MMixer
from skelgraph.nn.lattice import LatticeTokens

STEPS = 128
AT_ONCE = 8
ORDERS = 16
CUTS = 10


@dataclass(frozen=True)
class Saliency:
    """What every input adds to the logarithm of a class's probability, in nats.

    Attributes:
        joints: (N, M, T, V). modalities: (N, S) by name.
        gap: (N,) how far all of it together is from the difference between the clip and the empty one, in nats.
    """

    joints: Tensor
    modalities: Mapping[str, Tensor]
    gap: Tensor


def saliency(model: Model, batch: Batch, target: Tensor, steps: int = STEPS) -> Saliency:
    """Integrated gradients from an empty clip to the given one.

    In the empty clip joints and sequences are 0, as a missing joint is; of pictures all frames are the clip's mean
    picture. A black start would not do: a network that normalises its features sees the same in a picture and in a
    thousandth of it, so all that the pictures say would happen in one jump at the start, which no gradient shows.

    Args:
        model: with a classifier, in eval mode.
        batch: as the model takes it, after the transforms.
        target: (N,) class to speak for.
        steps: points on the way.

    Shapes:
        see `Saliency`; a joint that is not seen has exactly 0.

    Raises:
        UserError: captum is missing, or the model has no classifier.

    Source: Sundararajan et al., ICML 2017.
    """
    try:
        from captum.attr import IntegratedGradients
    except ModuleNotFoundError:
        raise UserError("saliency needs captum: pip install 'skelgraph[viz]'.") from None
    if not model.spec.classes:
        raise UserError("saliency needs a classifier; this network has none.")
    inputs, starts, names = _inputs(batch)
    parts = []
    for row in range(len(batch)):
        one, (own, start) = batch[row : row + 1], (tuple(x[row : row + 1] for x in each) for each in (inputs, starts))

        def answer(*values: Tensor, one: Batch = one) -> Tensor:
            repeated = one.map(lambda x: x.expand(len(values[0]), *x.shape[1:]))
            items = {
                name: replace(repeated.modalities[name], values=x) for name, x in zip(names, values[1:], strict=True)
            }
            return model(repeated.with_(keypoints=values[0], modalities=items)).logits.float().log_softmax(-1)

        # A fused recurrent layer on a GPU has no gradient in eval mode.
        with torch.backends.cudnn.flags(enabled=False):
            found, gap = IntegratedGradients(answer).attribute(
                own, start, target=target[row : row + 1], n_steps=steps, internal_batch_size=AT_ONCE,
                method="riemann_middle", return_convergence_delta=True,
            )  # fmt: skip
        parts.append(([x.detach() for x in found], gap.detach()))
    whole = [torch.cat([found[i] for found, _ in parts]) for i in range(len(inputs))]
    joints = torch.where(batch.score > 0, whole[0].sum(-1), 0.0)
    sums = {name: x.flatten(2).sum(-1) for name, x in zip(names, whole[1:], strict=True)}
    return Saliency(joints, sums, torch.cat([gap for _, gap in parts]))


def _inputs(batch: Batch) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[str, ...]]:
    """What is changed on the way, at its end and at its start: joints, then the modalities by name as numbers."""
    ends, starts = [batch.keypoints], [torch.zeros_like(batch.keypoints)]
    for item in batch.modalities.values():
        x = item.values.to(batch.keypoints.dtype) / (255 if item.values.dtype == torch.uint8 else 1)
        valid = item.valid.view(*item.valid.shape, *[1] * (x.dim() - 2))
        ends.append(torch.where(valid, x, 0.0))
        mean = ends[-1].sum(1, keepdim=True) / valid.sum(1, keepdim=True).clamp(min=1)
        starts.append(torch.where(valid & (item.kind == "frames"), mean, 0.0))
    return tuple(ends), tuple(starts), tuple(batch.modalities)


# ---- attention -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attention:
    """Where a network looks; every map sums to at most 1 over what its softmax ran over.

    Attributes:
        joints: (N, M, T, V) by name, the most telling first.
        frames: (N, T) by name.
        shares: reader -> source -> (N,), how much of what a modality is told comes from which other.
        points: of each lattice (N, T, P, 3): x and y as shares of the picture, weight; frames without points hold NaN.
    """

    joints: Mapping[str, Tensor] = field(default_factory=dict)
    frames: Mapping[str, Tensor] = field(default_factory=dict)
    shares: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    points: Mapping[str, Tensor] = field(default_factory=dict)


@singledispatch
def attention(model: Model, batch: Batch) -> Attention:
    """Attention of a network on a batch after the transforms; a plugin registers its own with ``attention.register``.

    Raises:
        UserError: a network that has none.
    """
    raise UserError(f"{type(model).__name__} keeps no attention to show; --saliency works for every network.")


@attention.register
def _of_mmixer(model: MMixer, batch: Batch) -> Attention:
    """CFEM of the last layer, mean over heads and queries: what each modality is told of each other."""
    found = model.explain(batch)
    if found.tokens is None or not found.attention:
        raise UserError("this M-Mixer has no attention (content is not cfem); --saliency works for every network.")
    m, tokens = len(model.names), found.tokens
    weights = found.attention[-1].mean(1).unflatten(1, (m, -1)).mean(2)
    shape = batch.score.shape
    joints: dict[str, Tensor] = {}
    frames: dict[str, Tensor] = {}
    shares: dict[str, dict[str, Tensor]] = {}
    for reader, name in enumerate(model.names):
        shares[name] = {}
        for source, other in enumerate(model.names):
            own = tokens.modality == source
            part, step, joint = weights[:, reader, own], tokens.step[own], tokens.joint[own]
            shares[name][other] = part.sum(1)
            if source == reader:
                continue
            count = int(step.max()) + 1
            rows = part.unflatten(1, (count, -1))
            title = f"{other}, read for {name}"
            frames[f"CFEM weight of a step of {title}"] = _stretched(rows.sum(2), shape[2])
            if joint.numel() and int(joint.min()) >= 0 and rows.shape[2] == shape[3]:
                of_joint = _stretched(rows, shape[2])[:, None].expand(shape)
                joints[f"CFEM weight of a joint of {title}"] = torch.where(batch.score > 0, of_joint, 0.0)
    return Attention(joints, frames, shares)


@attention.register
def _of_deformable(model: Deformable3D, batch: Batch) -> Attention:
    """Temporal and joint stride attention of every block from the last on, and the points of the token search."""
    records = model.explain(batch)
    shape, persons = batch.score.shape, batch.score.shape[1]
    joints, frames = {}, {}
    for number in reversed(range(len(records))):
        record, block = records[number], f"block {number + 1}"
        for key, words in (("tsa", "temporal stride attention of the modal token"),
                           ("jsa", "joint stride attention within a frame")):  # fmt: skip
            if f"{key}.joint" not in record or record[f"{key}.joint"].shape[-1] == 0:
                continue
            rows = _stretched(record[f"{key}.joint"].mean(1), shape[2]).unflatten(-1, (persons, -1)).transpose(1, 2)
            joints[f"{words[0].upper()}{words[1:]}, {block}"] = torch.where(batch.score > 0, rows, 0.0)
        if "tsa.frame" in record:
            frames[f"Temporal stride attention to a frame, {block}"] = _stretched(record["tsa.frame"].mean(1), shape[2])
    points = {}
    for name, embed in model.stems.items():
        assert isinstance(embed, LatticeTokens)
        points[name] = _points(records[-1], name, embed.cells, shape[2])
    return Attention(joints, frames, {}, points)


def _stretched(x: Tensor, frames: int) -> Tensor:
    """``(N, S, ...)`` at T frames, each at the step that covers it."""
    at = torch.arange(frames, device=x.device) * x.shape[1] // frames
    return x[:, at]


def _points(record: Mapping[str, Tensor], name: str, cells: tuple[int, int], frames: int) -> Tensor:
    """Deformable points at the frames they are nearest to, and their weight for the last modal token, at most 1."""
    where, weight = record[f"d3a.{name}.points"], record[f"d3a.{name}.attn_modal"].mean(1)[:, -1]
    groups, slots = where.shape[1:3]
    flat = where.flatten(2, 4)
    own = weight[:, : flat.shape[2]]
    own = (own / own.amax(1, keepdim=True).clamp(min=1e-9))[:, None].expand(-1, groups, -1)
    size = torch.tensor([cells[1], cells[0]], device=flat.device, dtype=flat.dtype)
    made = torch.cat([(flat[..., [2, 1]] + 0.5) / size, own.unsqueeze(-1).to(flat.dtype)], dim=-1).flatten(1, 2)
    total = record["tsa.frame"].shape[-1] if "tsa.frame" in record else int(flat[..., 0].max().round()) + 1
    asked = torch.arange(frames, device=flat.device) * total // frames
    apart = (flat[..., 0].flatten(1)[:, None] - asked[:, None]).abs()
    return torch.where((apart <= max(0.5, total / slots / 2)).unsqueeze(-1), made[:, None], float("nan"))


# ---- deletion ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Deletion:
    """How the probability of a class falls while joints are taken away.

    Attributes:
        removed: (R,) share of the seen joints that is gone, from 0 to 1; to 0.9 where the network refuses a clip in
            which nothing is left.
        important: (N, R) the most important first. random: (N, R) mean over random orders.
        orders: number of random orders.
    """

    removed: Tensor
    important: Tensor
    random: Tensor
    orders: int

    @property
    def areas(self) -> tuple[Tensor, Tensor]:
        """(N,) mean probability along each curve; the smaller the first against the second, the better the map."""

        def mean(curve: Tensor) -> Tensor:
            return torch.trapezoid(curve, self.removed, dim=1) / self.removed[-1]

        return mean(self.important), mean(self.random)


@torch.no_grad()
def deletion(
    model: Model, batch: Batch, target: Tensor, importance: Tensor, seed: int = 0, orders: int = ORDERS
) -> Deletion:
    """Take whole joints of persons away, as if the detector had missed them, by importance and in random orders.

    Args:
        model: in eval mode. batch: as the model takes it, after the transforms.
        target: (N,) class whose probability is followed.
        importance: of every joint and frame; a joint counts with its sum over time.
        seed: of the random orders.

    Shapes:
        importance (N, M, T, V).
    """
    seen = (batch.score > 0).any(2).flatten(1)
    ranked = importance.sum(2).flatten(1).masked_fill(~seen, float("-inf"))
    random = np.random.default_rng(seed)
    removed = torch.linspace(0, 1, CUTS + 1)
    try:
        _without(model, batch, target, seen)
    except UserError:
        removed = removed[:-1]

    def curve(value: Tensor) -> Tensor:
        place = value.argsort(1, descending=True).argsort(1)
        counts = [(share * seen.sum(1, keepdim=True)).round() for share in removed]
        return torch.stack([_without(model, batch, target, (place < count) & seen) for count in counts], dim=1).cpu()

    draws = [
        torch.from_numpy(random.random(tuple(seen.shape))).to(seen.device).masked_fill(~seen, -1) for _ in range(orders)
    ]
    return Deletion(removed, curve(ranked), torch.stack([curve(draw) for draw in draws]).mean(0), orders)


def _without(model: Model, batch: Batch, target: Tensor, gone: Tensor) -> Tensor:
    """Probability (N,) of the class when these joints of these persons ``gone (N, M V)`` are missing."""
    missing = gone.view(len(batch), batch.score.shape[1], 1, -1)
    left = batch.with_(
        keypoints=torch.where(missing.unsqueeze(-1), 0.0, batch.keypoints), score=torch.where(missing, 0.0, batch.score)
    )
    return model(left).logits.float().softmax(-1).gather(1, target.view(-1, 1)).squeeze(1)
