"""The contract every method keeps: what a step computes, and what later stages may take from it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from skelgraph.batch import Batch
from skelgraph.errors import UserError
from skelgraph.methods.optim import Length, OptimizerConfig, ScheduleConfig, build_optimizer, build_schedule
from skelgraph.models.base import Exports, Model
from skelgraph.registry import Registry
from skelgraph.transforms import Pipeline

METHODS: Registry = Registry("method")


class Method(LightningModule):
    """Base of all methods. Settings a recipe may change are keyword-only parameters of ``__init__``.

    Args:
        model: the network that learns.

    Attributes:
        needs_labels: unlabelled clips are left out of the training part.
        loader_views: temporal crops of each clip in a batch, consecutive.
        monitor: the validation figure that chooses the best step, with ``max`` or ``min``; None keeps the last.
    """

    needs_labels: ClassVar[bool] = True
    loader_views: ClassVar[int] = 1
    monitor: ClassVar[tuple[str, str] | None] = None

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.pipeline: Pipeline | None = None
        self._recipe: tuple[OptimizerConfig, ScheduleConfig, Length] | None = None

    @property
    def spec(self) -> Any:
        """The input of the model."""
        return self.model.spec

    def plan(self, optimizer: OptimizerConfig, schedule: ScheduleConfig, length: Length, pipeline: Pipeline) -> None:
        """Told by the engine before training: how to optimise, how long, and the transforms on the device."""
        self._recipe = (optimizer, schedule, length)
        self.pipeline = pipeline

    def check(self, clips: int, batch: int) -> None:
        """Told by the engine before training: how many clips there are, and how many of them a step takes.

        Raises:
            UserError: the settings of the method do not go with them.
        """

    def consume(self, exports: Exports) -> None:
        """Start the method's own parts from what an earlier stage exported; the model has taken its part already."""

    def draws(self, labels: np.ndarray, seed: int, epoch: int) -> np.ndarray | None:
        """Positions in the training part to visit in ``epoch``, in order; None for a plain shuffle.

        Must depend on its arguments alone, and give the same number every epoch. May repeat positions.
        """
        return None

    def prepare(self, batch: Batch) -> Any:
        """Transforms on the device, with augmentation while training; contrastive methods return several views."""
        return self.pipeline(batch, training=self.training) if self.pipeline is not None else batch

    def step(self, prepared: Any, epoch: float) -> dict[str, Tensor]:
        """Figures of one batch, among them ``loss``; each a scalar that may be averaged over batches."""
        raise NotImplementedError

    def after_step(self) -> None:
        """Called after every optimiser step, before its checkpoint is written: queues and the like."""

    def exports(self) -> dict[str, nn.Module]:
        """Named parts that a later stage may start from (``from:``)."""
        return {"backbone": self.model}

    def configure_optimizers(self) -> Any:
        if self._recipe is None:
            raise RuntimeError("call plan() before training")
        optimizer = build_optimizer(self.parameters(), self._recipe[0])
        schedule = build_schedule(optimizer, self._recipe[1], self._recipe[2])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @property
    def epoch_position(self) -> float:
        """Epochs done, as a fraction: a function of the step, hence right after a resume."""
        per_epoch = self._recipe[2].per_unit if self._recipe and self._recipe[2].per_unit > 1 else None
        return self.global_step / per_epoch if per_epoch else float(self.current_epoch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        figures = self.step(self.prepare(batch), self.epoch_position)
        loss = figures["loss"]
        if loss.device.type == "cpu" and not torch.isfinite(loss):
            clips = ", ".join(str(int(i)) for i in batch.index[:: self.loader_views][:8])
            raise UserError(
                f"the loss is {loss.item()} at step {self.global_step} (clips {clips} ... of the store); "
                "the last good checkpoint is kept. Lower the learning rate or check these clips."
            )
        self.log_dict({f"train_{k}": v.detach() for k, v in figures.items()}, batch_size=len(batch))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        figures = self.step(self.prepare(batch), self.epoch_position)
        self.log_dict(
            {f"val_{k}": v.detach() for k, v in figures.items()},
            on_step=False, on_epoch=True, batch_size=len(batch), sync_dist=True,
        )  # fmt: skip

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        # Lightning's hook for the end of a batch comes after the callbacks, hence after the checkpoint.
        super().optimizer_step(*args, **kwargs)
        self.after_step()
