"""Mixing the clips of a batch with one another, and whose label the mixture carries; by name in `MIXING`.

What is mixed are the tensors that the networks see: where a network makes its input of the joints (`Streams`), its
bones, skips and motions are mixed, not the joints they come from.

Letters: N clips, M persons, T frames, V joints, P joints of a network's part, C channels, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from skelgraph.batch import Batch, Output
from skelgraph.errors import UserError
from skelgraph.nn.streams import Streams
from skelgraph.registry import Registry
from skelgraph.topology import Topology

MIXING: Registry = Registry("mix")


class Credit(NamedTuple):
    """Whose label each clip carries: ``own`` to the part ``share``, ``other`` to the rest.

    Shapes:
        own, other (N,) int64; share (N,) in [0, 1].
    """

    own: Tensor
    other: Tensor
    share: Tensor


@dataclass(frozen=True)
class Mixture:
    """A drawn mixture: the partner of each clip, itself where a clip stays as it is, and the labels that follow."""

    partner: Tensor
    credit: Credit

    def apply(self, x: Tensor, joints: Tensor) -> Tensor:
        """The mixed ``x (N, M, T, P, ...)`` whose joints are those of numbers ``joints (P,)``."""
        raise NotImplementedError

    def batch(self, batch: Batch) -> Batch:
        """A batch with mixed joints; a person of either clip is there. Its ``label`` stays each clip's own."""
        joints = torch.arange(batch.keypoints.shape[3], device=batch.keypoints.device)
        score = self.apply(batch.score.unsqueeze(-1), joints).squeeze(-1)
        valid = batch.valid | batch.valid[self.partner]
        return batch.with_(keypoints=self.apply(batch.keypoints, joints), score=score, valid=valid)

    def answer(self, model: nn.Module, batch: Batch) -> Output:
        """What ``model`` says of the mixture: of its mixed streams, or of mixed joints where it has no `Streams`."""
        streams = [module for module in model.modules() if isinstance(module, Streams)]
        if not streams:
            mixed: Output = model(self.batch(batch))
            return mixed
        hooks = [module.register_forward_hook(self._mix_stream) for module in streams]
        try:
            answer: Output = model(batch)
        finally:
            for hook in hooks:
                hook.remove()
        return answer

    def _mix_stream(self, module: nn.Module, args: object, out: Tensor) -> Tensor:
        assert isinstance(module, Streams)
        return self.apply(out, module.joints)


def _column(rows: Tensor, like: Tensor) -> Tensor:
    """``rows (N,)`` that broadcasts over ``like (N, ...)``."""
    return rows.view(-1, *[1] * (like.dim() - 1))


# ---- partial mixing -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PartialMixture(Mixture):
    """Some joints come from the partner, in all frames and of all persons.

    Attributes:
        swapped: (V,) bool, the joints that come from the partner.
        places: (V,) order in which the joints of a mixed clip stand in the tensor; None keeps them where they belong.
    """

    swapped: Tensor
    places: Tensor | None = None

    def apply(self, x: Tensor, joints: Tensor) -> Tensor:
        swapped = self.swapped[joints].view(1, 1, 1, -1, *[1] * (x.dim() - 4))
        mixed = torch.where(swapped, x[self.partner], x)
        if self.places is None:
            return mixed
        touched = self.partner != torch.arange(len(x), device=x.device)
        scrambled = mixed.index_select(3, self.places[joints].argsort())
        return torch.where(_column(touched, x), scrambled, mixed)


def rebalanced_share(own: Tensor, other: Tensor, share: Tensor | float, kappa: float) -> Tensor:
    """How much of a mixture's label is the clip's own: the rarer class takes all where the sizes differ a lot.

    0 where n_own > kappa n_other, 1 where n_other > kappa n_own, ``share`` otherwise.

    Args:
        own, other: sizes of the two classes, of one shape.
        share: what the clip's own part of the mixture would give it, one number or of that shape.
        kappa: 3 in Remix and BRL; infinite gives ``share`` always.

    Source: Remix (Chou et al., ECCV Workshops 2020).
    """
    settled = torch.where(other > kappa * own, 1.0, share)
    return torch.where(own > kappa * other, 0.0, settled)


def random_partners(clips: int, count: int, device: torch.device) -> Tensor:
    """(N,) for ``count`` random clips a random other clip, for the rest themselves."""
    partner = torch.arange(clips, device=device)
    if clips < 2 or not count:
        return partner
    chosen = torch.randperm(clips, device=device)[:count]
    away = torch.randint(1, clips, (len(chosen),), device=device)
    return partner.index_copy(0, chosen, (chosen + away) % clips)


def official_pairs(
    chosen: Iterable[int], clips: int, pick: Callable[[Sequence[int]], int]
) -> list[tuple[int, int]]:  # fmt: skip
    """Clips that BRL's released code mixes, with their partners, in its order.

    Its loop takes each mixed position out of the list it runs over. So the position behind a mixed one is passed over,
    and partners come from positions that are not mixed yet.

    Args:
        chosen: positions to mix.
        clips: N.
        pick: chooses a partner out of the positions left.
    """
    wanted, left, at = set(chosen), list(range(clips)), 0
    pairs: list[tuple[int, int]] = []
    while at < len(left):
        position = left[at]
        if position in wanted and len(left) > 1:
            left.remove(position)
            pairs.append((position, pick(left)))
        at += 1
    return pairs


class Mixing(nn.Module):
    """Draws a `Mixture` for every batch; its tables move with the device."""

    def draw(self, label: Tensor, counts: Tensor) -> Mixture:
        """A mixture for the labels ``(N,)`` of a batch, by torch's generator; ``counts (K,)`` are the class sizes."""
        raise NotImplementedError


@MIXING.register("partial")
class PartialMixing(Mixing):
    """Rebalanced partial mixing: a few clips get the lower body of another clip, and the label of the rarer class.

    Args:
        topology: of the clips.
        ratio: floor(ratio N) clips of a batch are mixed; 1/16 as published.
        parts: names of two parts that together are the body; the joints of the second come from the partner.
        share: of the clip's own label where the classes are of like size; None is the first part's share of the
            joints, in BRL's released code 0.64 on every topology.
        kappa: how many times larger a class must be to lose its label, see `rebalanced_share`.
        official: as BRL's released code: joints of a mixed clip stand in the order of the two parts, all clips of a
            batch have the share of the last one mixed (0 where none is), and clips are passed over as in
            `official_pairs`.

    Raises:
        UserError: a part that the topology lacks, parts that overlap or leave a joint out, a ratio outside [0, 1].

    Source: BRL (arXiv 2308.14024).
    """

    swapped: Tensor
    places: Tensor

    def __init__(
        self, topology: Topology, *, ratio: float = 1 / 16, parts: Sequence[str] = ("upper", "lower"),
        share: float | None = None, kappa: float = 3.0, official: bool = False,
    ) -> None:  # fmt: skip
        if not 0 <= ratio <= 1:
            raise UserError(f"mix: 'ratio' is a share of the batch, between 0 and 1; got {ratio:g}.")
        if isinstance(parts, str) or len(parts) != 2:
            raise UserError("mix: 'parts' are two names, for example [upper, lower].")
        kept, swapped = (topology.part_index(name).tolist() for name in parts)
        if sorted(kept + swapped) != list(range(len(topology.joints))):
            raise UserError(
                f"mix: the parts '{parts[0]}' and '{parts[1]}' of topology '{topology.name}' overlap or leave joints "
                "out; together they must be the whole body."
            )
        if share is None:
            share = 0.64 if official else len(kept) / len(topology.joints)
        super().__init__()
        self.ratio, self.share, self.kappa, self.official = ratio, share, kappa, official
        where = torch.zeros(len(topology.joints), dtype=torch.bool)
        where[swapped] = True
        self.register_buffer("swapped", where, persistent=False)
        self.register_buffer("places", torch.tensor(kept + swapped).argsort(), persistent=False)

    def draw(self, label: Tensor, counts: Tensor) -> PartialMixture:
        clips, count = len(label), int(self.ratio * len(label))
        if self.ratio and not count:
            warnings.warn(f"mix: a ratio of {self.ratio:g} of {clips} clips is none; nothing is mixed.", stacklevel=2)
        if not self.official:
            return self.mixture(label, counts, random_partners(clips, count, label.device))
        chosen = torch.randperm(clips)[:count].tolist()
        pairs = official_pairs(chosen, clips, lambda left: left[int(torch.randint(len(left), ()))])
        return self.official_mixture(label, counts, pairs)

    def mixture(self, label: Tensor, counts: Tensor, partner: Tensor) -> PartialMixture:
        """The mixture of each clip with its ``partner (N,)``; a clip that is its own partner has share 1."""
        other = label[partner]
        share = rebalanced_share(counts[label], counts[other], self.share, self.kappa)
        alone = partner == torch.arange(len(label), device=label.device)
        return PartialMixture(partner, Credit(label, other, torch.where(alone, 1.0, share)), self.swapped)

    def official_mixture(self, label: Tensor, counts: Tensor, pairs: Sequence[tuple[int, int]]) -> PartialMixture:
        """The mixture of `official_pairs`, as published."""
        partner = torch.arange(len(label))
        for one, other in pairs:
            partner[one] = other
        partner = partner.to(label.device)
        labels = label[partner]
        share = torch.zeros(len(label), device=label.device)
        if pairs:
            last = pairs[-1][0]
            share = rebalanced_share(counts[label[last]], counts[labels[last]], self.share, self.kappa).expand_as(share)
        return PartialMixture(partner, Credit(label, labels, share), self.swapped, self.places)


# ---- mixing of whole clips ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BlendMixture(Mixture):
    """weight * clip + (1 - weight) * partner, with ``weight (N,)``."""

    weight: Tensor

    def apply(self, x: Tensor, joints: Tensor) -> Tensor:
        weight = _column(self.weight, x).to(x.dtype)
        return weight * x + (1 - weight) * x[self.partner]


@MIXING.register("mixup")
class Mixup(Mixing):
    """Every clip is blended with a random one, and so are their labels; the weight is Beta(alpha, alpha).

    Source: Zhang et al., ICLR 2018; the weight is drawn for each clip.
    """

    def __init__(self, topology: Topology, *, alpha: float = 1.0) -> None:
        if alpha <= 0:
            raise UserError(f"mix: 'alpha' of the Beta distribution is above 0, got {alpha:g}.")
        super().__init__()
        self.alpha = alpha

    def draw(self, label: Tensor, counts: Tensor) -> BlendMixture:
        both = torch.full((len(label),), self.alpha, device=label.device)
        weight = torch.distributions.Beta(both, both, validate_args=False).sample()
        partner = torch.randperm(len(label), device=label.device)
        return self.mixture(label, counts, partner, weight)

    def mixture(self, label: Tensor, counts: Tensor, partner: Tensor, weight: Tensor) -> BlendMixture:
        """The blend of each clip with its ``partner (N,)`` by ``weight (N,)``."""
        return BlendMixture(partner, Credit(label, label[partner], weight), weight)


@MIXING.register("remix")
class Remix(Mixup):
    """Mixup whose label goes to the rarer class alone, where it is ``kappa`` times rarer and enough of it is seen.

    Args:
        alpha: as in mixup.
        kappa: how many times larger a class must be to lose its label.
        tau: it does so where its own weight is below ``tau``.

    Source: Chou et al., ECCV Workshops 2020.
    """

    def __init__(self, topology: Topology, *, alpha: float = 1.0, kappa: float = 3.0, tau: float = 0.5) -> None:
        super().__init__(topology, alpha=alpha)
        self.kappa, self.tau = kappa, tau

    def mixture(self, label: Tensor, counts: Tensor, partner: Tensor, weight: Tensor) -> BlendMixture:
        own, other = counts[label], counts[label[partner]]
        loses = (own >= self.kappa * other) & (weight < self.tau)
        wins = (other >= self.kappa * own) & (1 - weight < self.tau)
        share = torch.where(loses, 0.0, torch.where(wins, 1.0, weight))
        return BlendMixture(partner, Credit(label, label[partner], share), weight)
