"""Masked reconstruction of joint embeddings with a re-weighted cosine error (SkeletonMAE, ICCV 2023)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.batch import Batch
from skelgraph.errors import UserError, unknown
from skelgraph.methods.base import METHODS, Method
from skelgraph.methods.masks import disjoint_parts, part_table, random_joints, random_parts
from skelgraph.methods.reduce import global_mean
from skelgraph.models.base import Model
from skelgraph.models.skeletonmae import SkeletonMAE

TARGETS = ("detach", "through", "frozen")
BODY_PARTS = ("head", "torso", "left_arm", "right_arm", "left_leg", "right_leg")


def cosines(x: Tensor, y: Tensor) -> Tensor:
    """Cosine over the last axis, at least in float32; 0 where either is the zero vector."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    with torch.autocast(x.device.type, enabled=False):
        unit_x, unit_y = (F.normalize(z.to(wide), dim=-1, eps=1e-12) for z in (x, y))
        return (unit_x * unit_y).sum(-1)


def sce_loss(x: Tensor, y: Tensor, where: Tensor | None = None, beta: float = 2.0, literal: bool = False) -> Tensor:
    """Scaled cosine error: mean over the chosen joints of ``(1 - cos(x, y)) ** beta``.

    With ``literal`` equation 2 of the paper to the letter: for each graph the sum of ``((1 - cos) / n) ** beta`` over
    its n chosen joints, then the mean over graphs; that is ``n ** (1 - beta)`` times the other for a constant n.

    Args:
        x: targets.
        y: reconstructions.
        where: joints that count, broadcast to (..., V); None takes all.
        beta: exponent; larger ones weigh easy joints less.
        literal: see above.

    Shapes:
        x, y (..., V, D); where (..., V) bool; result a scalar, averaged over the joints (graphs) of all processes.
    """
    # Rounding may carry a cosine beyond 1, and a fractional power of a negative figure is NaN.
    error = (1.0 - cosines(x, y)).clamp(min=0.0)
    chosen = torch.ones_like(error) if where is None else where.to(error.dtype).expand_as(error)
    if not literal:
        return global_mean((error.pow(beta) * chosen).sum(), chosen.sum())
    number = chosen.sum(-1, keepdim=True)
    graphs = ((error / number.clamp(min=1.0)).pow(beta) * chosen).sum(-1)
    return global_mean(graphs.sum(), (number > 0).sum())


class EdgeDecoder(nn.Module):
    """Scores the edges of the skeleton from joint encodings by an inner product. Ours: the paper's equations have none.

    Args:
        adjacency: plain A (V, V), what is to be told.
        hidden: width of the encoding.
        width: width of the inner product.

    Shapes:
        h (..., V, hidden), mask (..., V); result: balanced binary cross-entropy over pairs with a masked joint.
    """

    adjacency: Tensor

    def __init__(self, adjacency: Tensor, hidden: int, width: int = 16) -> None:
        super().__init__()
        self.query = nn.Linear(hidden, width)
        self.bias = nn.Parameter(torch.zeros(()))
        self.register_buffer("adjacency", adjacency, persistent=False)

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        q = self.query(h)
        scores = q @ q.transpose(-1, -2) / q.shape[-1] ** 0.5 + self.bias
        pairs = (mask.unsqueeze(-1) | mask.unsqueeze(-2)).expand(scores.shape).triu(1).to(scores.dtype)
        label = self.adjacency.to(scores.dtype)
        density = label.mean()
        balance = torch.where(label > 0, 0.5 / density, 0.5 / (1.0 - density))
        error = F.binary_cross_entropy_with_logits(scores, label.expand_as(scores), reduction="none")
        return global_mean((error * balance * pairs).sum(), pairs.sum())


@METHODS.register("masked")
class Masked(Method):
    """Hide joints of single frames and reconstruct their embeddings; needs no labels.

    Figures beside the loss: ``cosine`` at masked joints; ``margin``, how far it is above the best constant for each
    joint (a constant already reaches 0.92 to 0.98, so the cosine alone says little); ``spread`` of the targets,
    ``1 - |mean of x/|x||^2``, which falls towards 0 when the embedding collapses.

    Args:
        model: a `SkeletonMAE`.
        mask_parts: names of parts hidden in every clip, or ``random``: each clip hides ``parts_min`` to ``parts_max``.
        parts_min, parts_max: limits of ``random``; a maximum of None leaves one part visible.
        random_from: parts that ``random`` draws from; None takes the six body parts.
        mask_joints_ratio: hide this share of the joints, drawn at random for each clip, instead of parts.
        beta: exponent of the loss.
        literal: equation 2 to the letter, see `sce_loss`.
        target: ``detach``; ``through`` lets the loss move its own target (as the paper, which can collapse); ``frozen``
            does not train the embedding.
        frames_per_clip: train on so many random frames of each clip; None on all.
        edges: weight of the edge reconstruction, see `EdgeDecoder`.

    Raises:
        UserError: not a SkeletonMAE, unknown part or target, a mask that hides nothing or everything.

    Source: section 3.1 and equation 2; departures in docs/skeletonmae.md.
    """

    needs_labels: ClassVar[bool] = False
    part_rows: Tensor
    hidden_joints: Tensor

    def __init__(
        self,
        model: Model,
        *,
        mask_parts: Sequence[str] | str = ("right_arm", "right_leg"),
        parts_min: int = 1,
        parts_max: int | None = None,
        random_from: Sequence[str] | None = None,
        mask_joints_ratio: float | None = None,
        beta: float = 2.0,
        literal: bool = False,
        target: str = "detach",
        frames_per_clip: int | None = 8,
        edges: float = 0.0,
    ) -> None:
        super().__init__(model)
        if not isinstance(model, SkeletonMAE):
            raise UserError(f"the method 'masked' trains the model 'skeletonmae', not {type(model).__name__}.")
        if target not in TARGETS:
            raise unknown("target", target, TARGETS)
        model.reset_classifier(())
        self.random = mask_parts == "random"
        if isinstance(mask_parts, str) and not self.random:
            mask_parts = [mask_parts]
        names = (random_from or list(BODY_PARTS)) if self.random else list(mask_parts)
        by_joints = mask_joints_ratio is not None
        table = part_table(self.spec.topology, [] if by_joints else names)
        self.register_buffer("part_rows", table, persistent=False)
        self.register_buffer("hidden_joints", table.any(0).nonzero().flatten(), persistent=False)
        self.parts_min, self.parts_max = parts_min, parts_max or len(names) - 1
        self.ratio = mask_joints_ratio
        self._check_mask()
        self.beta, self.literal, self.target, self.frames_per_clip = beta, literal, target, frames_per_clip
        if target == "frozen":
            model.embed.requires_grad_(False)
        self.edge_weight = edges
        adjacency = torch.as_tensor(self.spec.topology.adjacency("plain"), dtype=torch.float32)
        self.edge_decoder = EdgeDecoder(adjacency, model.feature_dim) if edges else None
        self._warned = False
        self._first_spread = 0.0

    def _check_mask(self) -> None:
        if self.ratio is not None:
            random_joints(self.spec.joints, 1, self.ratio, torch.device("cpu"))
        elif self.random:
            disjoint_parts(self.spec.topology, self.part_rows)
            random_parts(self.part_rows, 1, self.parts_min, self.parts_max)
        else:
            hidden = int(self.part_rows.any(0).sum())
            if not 0 < hidden < self.spec.joints:
                raise UserError(f"mask_parts hides {hidden} of {self.spec.joints} joints; hide some and leave some.")

    @property
    def mae(self) -> SkeletonMAE:
        """The model by its own type."""
        assert isinstance(self.model, SkeletonMAE)
        return self.model

    def mask(self, clips: int, device: torch.device) -> Tensor:
        """Hidden joints, ``(1 or N, 1, 1, V)``: the same in every frame and person of a clip."""
        if self.ratio is not None:
            drawn = random_joints(self.spec.joints, clips, self.ratio, device)
        elif self.random:
            drawn = random_parts(self.part_rows, clips, self.parts_min, self.parts_max)
        else:
            drawn = self.part_rows.any(0, keepdim=True)
        return drawn[:, None, None]

    def some_frames(self, batch: Batch) -> Batch:
        """The batch with ``frames_per_clip`` random frames of each clip, all of them where there are no more."""
        n, _, t = batch.keypoints.shape[:3]
        wanted = self.frames_per_clip
        if wanted is None or wanted >= t:
            return batch
        device = batch.keypoints.device
        frames = torch.rand(n, t, device=device).argsort(-1)[:, :wanted]
        rows = torch.arange(n, device=device)[:, None]
        return batch.with_(
            keypoints=batch.keypoints.transpose(1, 2)[rows, frames].transpose(1, 2),
            score=batch.score.transpose(1, 2)[rows, frames].transpose(1, 2),
            valid=batch.valid.transpose(1, 2)[rows, frames].transpose(1, 2),
        )

    def step(self, prepared: Batch, epoch: float) -> dict[str, Tensor]:
        batch = self.some_frames(prepared)
        model = self.mae
        mask = self.mask(len(batch), batch.keypoints.device)
        x = model.embed_joints(batch)
        target = x if self.target == "through" else x.detach()
        h = model.encode(x, mask)
        y = model.decode(h, mask)
        counted = mask & (batch.score > 0) & batch.valid.unsqueeze(-1)
        if self.ratio is None and not self.random:
            joints = self.hidden_joints  # the same in all clips: compare these alone
            target, y, counted = target[..., joints, :], y[..., joints, :], counted[..., joints]
        loss = sce_loss(target, y, counted, self.beta, self.literal)
        figures = self._figures(target.detach(), y.detach(), counted)
        if self.edge_decoder is not None:
            edge = self.edge_decoder(h, mask)
            figures["edge_loss"] = edge.detach()
            loss = loss + self.edge_weight * edge
        self._warn(figures["spread"])
        return {"loss": loss, **figures}

    @torch.no_grad()
    def _figures(self, x: Tensor, y: Tensor, counted: Tensor) -> dict[str, Tensor]:
        rows = counted.reshape(-1, counted.shape[-1], 1).to(torch.float32)
        units = F.normalize(x.float(), dim=-1).reshape(*rows.shape[:-1], -1) * rows
        cosine = cosines(x, y).reshape(rows.shape[:-1]).float() * rows[..., 0]
        number = rows[..., 0].sum(0)
        total = number.sum().clamp(min=1.0)
        sums = units.sum(0)
        # The best constant is the direction of the mean unit vector; its mean cosine is that vector's length.
        best = sums.norm(dim=-1).sum() / total
        mean = cosine.sum() / total
        spread = 1.0 - (sums.sum(0) / total).square().sum()
        return {"cosine": mean, "margin": mean - best, "spread": spread}

    def _warn(self, spread: Tensor) -> None:
        # Every 50 steps: reading a figure makes the device wait.
        if self._warned or self.global_step % 50:
            return
        now = float(spread)
        # Small coordinates beside the bias give a small spread from the start; only its fall is a collapse.
        self._first_spread = self._first_spread or now
        if now < min(0.1, 0.5 * self._first_spread):
            self._warned = True
            warnings.warn(
                f"the targets of the masked loss have nearly collapsed (spread {now:.3f}, at first "
                f"{self._first_spread:.3f}): their embeddings all point one way. Use target: detach.",
                stacklevel=2,
            )

    def exports(self) -> dict[str, nn.Module]:
        model = self.mae
        parts: dict[str, nn.Module] = {"backbone": model, "embed": model.embed, "encoder": model.encoder}
        if model.joint_pe is not None:
            parts["joint_pe"] = model.joint_pe
        return parts
