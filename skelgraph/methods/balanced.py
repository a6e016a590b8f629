"""Learning from long-tailed labels: over-sampling, mixing and re-weighting on any model, stream and data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skelgraph.batch import Batch, Output
from skelgraph.errors import UserError
from skelgraph.methods.balanced_losses import LOSSES
from skelgraph.methods.base import METHODS
from skelgraph.methods.mixing import MIXING, Credit, Mixture
from skelgraph.methods.optim import Length, OptimizerConfig, ScheduleConfig
from skelgraph.methods.resampling import RESAMPLING
from skelgraph.methods.supervised import Supervised
from skelgraph.models.base import Model
from skelgraph.registry import Registry
from skelgraph.transforms import Pipeline

LAST_EPOCHS = 19 / 24
Choice = bool | str | Mapping[str, Any] | None


@dataclass(frozen=True)
class Deferred:
    """When re-weighting begins: at a whole number of epochs done, or at a share of the run (a number with a point).

    Raises:
        UserError: neither an epoch from 0 nor a share in [0, 1].
    """

    begin: float

    def __post_init__(self) -> None:
        number = isinstance(self.begin, int | float) and not isinstance(self.begin, bool)
        if not number or self.begin < 0 or (isinstance(self.begin, float) and self.begin > 1):
            raise UserError(
                f"reweight_from is an epoch (a whole number from 0) or a share of the run (0.0 to 1.0), "
                f"got {self.begin!r}."
            )

    def turn(self, epoch: float, step: int, length: Length | None) -> int | None:
        """Whole epochs since re-weighting has begun, None before: a function of the step, so right after a resume.

        Args:
            epoch: epochs done.
            step: optimiser steps done.
            length: of the stage; where it counts in steps, every turn after the beginning is 0.
        """
        if isinstance(self.begin, int):
            return int(epoch) - self.begin if epoch >= self.begin else None
        total = length.total if length is not None else 1
        if step / total < self.begin:
            return None
        if length is None or length.per_unit == 1:
            return 0
        # 19/24 of 24 epochs may come out just below 19.
        return int(epoch) - int(self.begin * total / length.per_unit + 1e-6)


def choice(registry: Registry, wanted: Choice, usual: str) -> tuple[str, dict[str, Any]] | None:
    """Name and settings of a component written as ``true``, a name, settings, or both; None for false and null.

    Raises:
        UserError: unknown name or setting.
    """
    if wanted is None or wanted is False:
        return None
    settings = dict(wanted) if isinstance(wanted, Mapping) else {}
    name = wanted if isinstance(wanted, str) else settings.pop("name", usual)
    registry.check(name, settings)
    return name, settings


@METHODS.register("balanced")
class Balanced(Supervised):
    """Supervised learning with a choice of loss, over-sampling and mixing for classes of unequal size.

    Sizes are measured from the training labels. A model that trains several streams together (``Output.streams``) has
    one loss for each, all from the same mixture. Over-sampling replaces the order of the loader; mixing is for training
    alone; weights of the classes wait until ``reweight_from``.

    Args:
        model: a model with a classifier.
        loss: a name of `LOSSES` or ``{name: class_balanced, beta: 0.99}``.
        oversample: ``true`` (the tail third) or a name of `RESAMPLING`, perhaps with settings.
        mix: ``true`` (rebalanced partial mixing) or a name of `MIXING`, perhaps with settings.
        reweight_from: the epoch, or the share of the run, from which on the class weights of the loss count; 0 is from
            the start. 19 of 24 epochs in BRL. A loss without class weights takes no notice.
        label_smoothing: as in `Supervised`.

    Raises:
        UserError: unknown name or setting, a part the topology lacks; later, a class without training clip.
    """

    counts: Tensor

    def __init__(
        self,
        model: Model,
        *,
        loss: str | Mapping[str, Any] = "cross_entropy",
        oversample: Choice = None,
        mix: Choice = None,
        reweight_from: float = LAST_EPOCHS,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(model, label_smoothing=label_smoothing)
        self.register_buffer("counts", torch.zeros(model.spec.num_classes, dtype=torch.long))
        self.deferred = Deferred(reweight_from)
        self._loss = choice(LOSSES, loss, "cross_entropy")
        if self._loss is None:
            raise UserError(f"loss: name one of {', '.join(LOSSES.names())}.")
        drawn, mixed = choice(RESAMPLING, oversample, "tail"), choice(MIXING, mix, "partial")
        self.resampling = None if drawn is None else RESAMPLING.create(drawn[0], **drawn[1])
        self.mixing = None if mixed is None else MIXING.create(mixed[0], model.spec.topology, **mixed[1])
        self.criterion: nn.Module | None = None

    def measure(self, labels: np.ndarray) -> None:
        """Count the clips of each class and build the loss for them; once, before the first step.

        Raises:
            UserError: a class has no clip.
        """
        if self.criterion is not None:
            return
        counts = measured(labels, self.spec.classes)
        assert self._loss is not None
        self.criterion = LOSSES.create(self._loss[0], counts, **self._loss[1])
        self.counts.copy_(counts)

    def draws(self, labels: np.ndarray, seed: int, epoch: int) -> np.ndarray | None:
        self.measure(labels)
        if self.resampling is None:
            return None
        counts = np.bincount(labels, minlength=self.spec.num_classes)
        positions: np.ndarray = self.resampling(labels, counts, seed, epoch)
        return positions

    def plan(self, optimizer: OptimizerConfig, schedule: ScheduleConfig, length: Length, pipeline: Pipeline) -> None:
        super().plan(optimizer, schedule, length, pipeline)
        assert self._loss is not None
        if self._loss[1].get("official") and length.per_unit == 1:
            raise UserError(
                f"loss '{self._loss[0]}' with official: true changes from epoch to epoch; give the length of the stage "
                "in epochs, not in steps."
            )

    @property
    def stage_length(self) -> Length | None:
        """The length of the stage; None before `plan`."""
        return self._recipe[2] if self._recipe is not None else None

    def mixture(self, batch: Batch) -> Mixture | None:
        """What is mixed with what in this step; None while nothing is."""
        if self.mixing is None or not self.training:
            return None
        drawn: Mixture = self.mixing.draw(batch.label, self.counts)
        return drawn

    def step(self, prepared: Batch, epoch: float) -> dict[str, Tensor]:
        if self.criterion is None:
            raise RuntimeError("call draws() or measure() before the first step")
        turn = self.deferred.turn(epoch, self.global_step, self.stage_length)
        mixture = self.mixture(prepared)
        output = self.answer(prepared) if mixture is None else mixture.answer(self.model, prepared)
        credit = None if mixture is None else mixture.credit
        labels = {} if credit is None else {"other": credit.other, "share": credit.share}
        losses = [
            self.criterion(logits, prepared.label, turn, smoothing=self.label_smoothing, **labels)
            for logits in list(output.streams.values()) or [output.logits]
        ]
        return {"loss": sum(losses[1:], losses[0]), "top1": top1(output, prepared.label, credit)}


def measured(labels: np.ndarray, classes: tuple[str, ...]) -> Tensor:
    """(K,) clips of each class.

    Raises:
        UserError: a class has none.
    """
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    empty = np.flatnonzero(counts == 0).tolist()
    if empty:
        raise UserError(
            f"class '{classes[empty[0]]}' has no training clip ({len(empty)} of {len(classes)} classes have none), so "
            "it has no weight; choose another protocol."
        )
    return torch.from_numpy(counts)


def top1(output: Output, label: Tensor, credit: Credit | None) -> Tensor:
    """Share of right answers; in a mixture each of the two labels counts by its share."""
    answer = output.logits.argmax(-1)
    own = (answer == label).float()
    if credit is None:
        return own.mean()
    share = credit.share.float()
    return (share * own + (1 - share) * (answer == credit.other).float()).mean()


@METHODS.register("brl")
class BRL(Balanced):
    """Balanced representation learning: `balanced` with tail over-sampling, partial mixing and the action-aware loss.

    Any of the three is taken out by ``oversample: false``, ``mix: false`` or ``loss: cross_entropy``.

    Args:
        official: every part as in the released code, see `TailOversampling`, `PartialMixing` and `ActionAware`; single
            parts by their own ``official``.
        loss, oversample, mix, reweight_from, label_smoothing: as in `Balanced`.

    Source: Liu et al., Balanced Representation Learning for Long-tailed Skeleton-based Action Recognition, arXiv
    2308.14024.
    """

    def __init__(
        self,
        model: Model,
        *,
        loss: str | Mapping[str, Any] = "action_aware",
        oversample: Choice = True,
        mix: Choice = True,
        reweight_from: float = LAST_EPOCHS,
        label_smoothing: float = 0.0,
        official: bool = False,
    ) -> None:
        super().__init__(
            model,
            loss=_as_published(LOSSES, loss, "action_aware", official) or loss,
            oversample=_as_published(RESAMPLING, oversample, "tail", official),
            mix=_as_published(MIXING, mix, "partial", official),
            reweight_from=reweight_from,
            label_smoothing=label_smoothing,
        )


def _as_published(registry: Registry, wanted: Choice, usual: str, official: bool) -> dict[str, Any] | None:
    """A choice in full, with ``official`` where the component knows it and does not say so itself."""
    named = choice(registry, wanted, usual)
    if named is None:
        return None
    name, settings = named
    known = {"official": official} if "official" in registry.settings(name) else {}
    return {"name": name, **known, **settings}
