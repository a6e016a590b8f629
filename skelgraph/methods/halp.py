"""Hallucinated latent positives: MoCo with further positives made on the sphere of embeddings (HaLP, CVPR 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skelgraph.errors import UserError
from skelgraph.methods.base import METHODS
from skelgraph.methods.contrastive import Embeddings, Moco, Views
from skelgraph.methods.hallucinate import Draws, Positives, attraction, hallucinate
from skelgraph.methods.queue import Count
from skelgraph.methods.sphere import cluster
from skelgraph.models.base import Exports, Model, load_exact


class Prototypes(nn.Module):
    """Centres of the newest keys.

    Args:
        number: P.
        dim: D.

    Attributes:
        centres: unit vectors (P, D), zero before the first k-means.
        age: steps since the last k-means; -1 before the first.
    """

    centres: Tensor

    def __init__(self, number: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.zeros(number, dim))
        self.age = Count(-1)

    @torch.no_grad()
    def refresh(self, keys: Tensor, generator: torch.Generator, spread: bool) -> None:
        """Cluster the keys ``(E, D)`` anew."""
        self.centres.copy_(cluster(keys, len(self.centres), generator, spread).centres)
        self.age.set(0)


@METHODS.register("halp")
class HaLP(Moco):
    """MoCo, and queries are drawn to positives hallucinated on the sphere, see `hallucinate`.

    Prototypes are the centres of the newest keys. From each key one walks towards random other prototypes, at most as
    far as the key's own prototype stays the nearer of the two; points that a third prototype has won are dropped. ::

        loss = loss of MoCo - weight * mean over kept points x of q.x / temperature

    Only the query receives a gradient of it. It begins once ``warmup`` keys have come, counted over the stages that the
    queue was handed on by, so after ``from:`` a moco run usually at once.

    Figures beside those of `Moco`: ``loss_halp`` (the sum over streams, without the weight), ``kept`` (share of the
    points that were not dropped) and ``reach`` (mean cosine of a key and its kept points; low is hard).

    Args:
        model: as in `Moco`.
        prototypes: P.
        refresh: steps from one k-means to the next.
        newest: E, how many keys k-means clusters.
        positives: points made from each key.
        candidates: the most similar prototypes that one walks to, after leaving out the ``skip`` most similar.
        skip: see above; at least 1, since the nearest is the key's own.
        hardness: lambda; a point stays a share u of the way back from the limit, uniform in 0 to this. 0 always takes
            the limit itself.
        margin: taken off every share; with hardness 0 a margin of 0.01 is the published "hardest" setting.
        weight: mu.
        published: the released code's form of the limit, see `skelgraph.methods.hallucinate.furthest`.
        warmup: keys; None is twice the queue.
        spread: k-means starts as k-means++; false takes random keys, as published for several streams.
        queue, momentum, temperature, dim, projection, symmetric, distill, topk, teacher, student: as in `Moco`.

    Raises:
        UserError: fewer keys than prototypes, or a figure out of its range.

    Source: Shah et al., CVPR 2023.
    """

    def __init__(
        self,
        model: Model,
        *,
        prototypes: int = 20,
        refresh: int = 10,
        newest: int = 256,
        positives: int = 100,
        candidates: int = 20,
        skip: int = 1,
        hardness: float = 0.8,
        margin: float = 0.0,
        weight: float = 2.0,
        published: bool = False,
        warmup: int | None = None,
        spread: bool = True,
        queue: int = 16384,
        momentum: float = 0.999,
        temperature: float = 0.07,
        dim: int = 128,
        projection: str = "mlp",
        symmetric: bool = False,
        distill: float = 1.0,
        topk: int | None = None,
        teacher: float = 0.05,
        student: float = 0.1,
    ) -> None:
        super().__init__(
            model, queue=queue, momentum=momentum, temperature=temperature, dim=dim, projection=projection,
            symmetric=symmetric, distill=distill, topk=topk, teacher=teacher, student=student,
        )  # fmt: skip
        _check(prototypes, newest, queue, skip, hardness)
        self.prototypes = nn.ModuleDict({name: Prototypes(prototypes, dim) for name in self.networks})
        self.refresh, self.newest, self.positives = refresh, newest, positives
        self.candidates, self.skip, self.hardness, self.margin = candidates, skip, hardness, margin
        self.weight, self.published, self.spread = weight, published, spread
        self.warmup = 2 * queue if warmup is None else warmup
        # The engine seeds torch alike on all processes before a method is made, and k-means must agree on all.
        self.seed = torch.initial_seed()

    def step(self, prepared: Views, epoch: float) -> dict[str, Tensor]:
        if self.training:
            with torch.autocast(prepared[0].keypoints.device.type, enabled=False):
                self.update_prototypes()
        return super().step(prepared, epoch)

    def update_prototypes(self) -> None:
        """Run k-means where it is due: the queue is warm, and ``refresh`` steps have gone since the last."""
        for place, (name, _, branch) in enumerate(self.streams()):
            own, seen = self.of(name), int(branch.queue.seen)
            if seen < self.warmup or 0 <= int(own.age) < self.refresh:
                continue
            keys = branch.queue.newest(self.newest)
            generator = torch.Generator(keys.device)
            # Of the seed and the number of keys alone, hence equal on all processes and after a resume.
            generator.manual_seed((self.seed + 0x9E3779B97F4A7C15 * (len(self.networks) * seen + place)) % 2**63)
            own.refresh(keys, generator, self.spread)

    def of(self, stream: str) -> Prototypes:
        """The prototypes of a stream."""
        found = self.prototypes[stream]
        assert isinstance(found, Prototypes)
        return found

    def chance(self, stream: str, keys: Tensor) -> Draws:
        """The draws of one step for keys ``(N, D)`` of a stream."""
        shape = (len(keys), self.positives)
        number = min(self.candidates, len(self.of(stream).centres) - self.skip)
        choice = torch.randint(number, shape, device=keys.device)
        return Draws(choice, torch.rand(shape, device=keys.device, dtype=keys.dtype) * self.hardness)

    def hallucinated(self, stream: str, keys: Tensor) -> Positives:
        """Positives from keys ``(N, D)`` of a stream."""
        return hallucinate(
            keys, self.of(stream).centres, self.chance(stream, keys),
            number=self.candidates, skip=self.skip, margin=self.margin, published=self.published,
        )  # fmt: skip

    def compare(self, queries: Embeddings, keys: Embeddings) -> dict[str, Tensor]:
        figures = super().compare(queries, keys)
        zero = torch.zeros_like(figures["loss_nce"])
        losses, kept, reach = [zero], [zero], [zero]
        warm = [name for name in queries if int(self.of(name).age) >= 0]
        for name in warm:
            made = self.hallucinated(name, keys[name])
            losses.append(attraction(queries[name], made, self.temperature))
            cosines = torch.einsum("nd,nsd->ns", keys[name], made.points)
            kept.append(made.kept.to(zero.dtype).mean())
            reach.append(torch.where(made.kept, cosines, 0.0).sum() / made.kept.sum().clamp(min=1))
        loss = torch.stack(losses).sum()
        figures["loss"] = figures["loss"] + self.weight * loss
        share = 1.0 / max(1, len(warm))
        figures["loss_halp"] = loss.detach()
        return figures | {"kept": torch.stack(kept).sum() * share, "reach": torch.stack(reach).sum() * share}

    def after_step(self) -> None:
        super().after_step()
        for name in self.networks:
            age = self.of(name).age
            if int(age) >= 0:
                age.set(int(age) + 1)

    def exports(self) -> dict[str, nn.Module]:
        return {**super().exports(), "prototypes": self.prototypes}

    def consume(self, exports: Exports) -> None:
        """As `Moco.consume`; prototypes of another number are left behind, and k-means makes new ones at once."""
        super().consume(exports)
        given: Any = exports.get("prototypes", {})
        own = self.prototypes.state_dict()
        if given and all(key in given and given[key].shape == own[key].shape for key in own):
            load_exact(self.prototypes, given)


def _check(prototypes: int, newest: int, queue: int, skip: int, hardness: float) -> None:
    """Hold the settings against each other."""
    if newest > queue:
        raise UserError(f"newest: a queue of {queue} keys has no newest {newest}; set newest to {queue} or less.")
    if newest < prototypes:
        raise UserError(
            f"prototypes: {newest} keys (newest) cannot have {prototypes} centres; "
            f"set prototypes to {newest} or less, or newest to {prototypes} or more."
        )
    if not 1 <= skip < prototypes:
        raise UserError(f"skip: of {prototypes} prototypes 1 to {prototypes - 1} can be left out, not {skip}.")
    if not 0 <= hardness <= 1:
        raise UserError(f"hardness: {hardness:g} is not between 0 (the limit itself) and 1.")
