"""What happens around a training step: seeds, checkpoints that survive a kill, the choice of the best step, the log."""

from __future__ import annotations

import csv
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from skelgraph.engine.processes import rank
from skelgraph.engine.run_folder import read_figures, replacing, write_tensors


def mixed_seed(*parts: int) -> int:
    """One 63-bit seed from several whole numbers (SplitMix64 over them)."""
    state = 0x9E3779B97F4A7C15
    for part in parts:
        state = (state ^ (part & 0xFFFFFFFFFFFFFFFF)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ state >> 29) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 32
    return state >> 1


class StepSeed(Callback):
    """Makes all chance on the device (augmentation, masks, dropout) a function of (seed, step, rank)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        torch.manual_seed(mixed_seed(self.seed, trainer.global_step, trainer.global_rank))


class RollingCheckpoint(Callback):
    """Keeps the newest state of training in ``path``, every ``every`` steps; the file is old or new, never half."""

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every == 0:
            temporary = self.path.with_suffix(".part")
            # On saving this flag means "leave the optimiser out"; reading back admits tensors and plain data only.
            trainer.save_checkpoint(temporary, weights_only=False)
            if trainer.is_global_zero:
                temporary.replace(self.path)


class BestStep(Callback):
    """Keeps the weights of the step that is best on validation.

    Args:
        path: where the weights go.
        monitor: the figure and ``max`` or ``min``.
    """

    def __init__(self, path: Path, monitor: tuple[str, str]) -> None:
        self.path, (self.figure, self.mode) = path, monitor
        self.step, self.value = 0, -math.inf if self.mode == "max" else math.inf

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "value": self.value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.step, self.value = state_dict["step"], state_dict["value"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or self.figure not in trainer.callback_metrics:
            return
        value = float(trainer.callback_metrics[self.figure])
        if value > self.value if self.mode == "max" else value < self.value:
            self.step, self.value = trainer.global_step, value
            if trainer.is_global_zero:
                write_tensors(self.path, pl_module.state_dict())


class CsvLog(Logger):
    """Figures over steps in a long csv: ``step, figure, value``; begins anew, or goes on after ``resume_step``."""

    def __init__(self, path: Path, resume_step: int | None) -> None:
        super().__init__()
        self.path = path
        if rank() == 0:
            self._begin(resume_step)

    def _begin(self, resume_step: int | None) -> None:
        """A file with the header and the rows up to ``resume_step``."""
        kept = []
        if resume_step is not None:
            kept = [row for row in read_figures(self.path) if row[0] <= resume_step]
        with replacing(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "figure", "value"])
            writer.writerows([step, figure, f"{value:.6g}"] for step, figure, value in kept)

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> int:
        return 0

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The recipe in the run folder says it all."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerows([step, key, f"{value:.6g}"] for key, value in metrics.items() if key != "epoch")


class Lines(Callback):
    """One line of progress now and then, for people and for log files.

    Args:
        stage: its name.
        total: steps of the stage.
        seconds: least time between two lines.
    """

    def __init__(self, stage: str, total: int, seconds: float = 10.0) -> None:
        self.stage, self.total, self.seconds = stage, total, seconds
        self.begin = self.last = time.monotonic()
        self.first_step: int | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now, step = time.monotonic(), trainer.global_step
        if self.first_step is None:
            self.first_step, self.begin = step - 1, now
        if not trainer.is_global_zero or (now - self.last < self.seconds and step < self.total):
            return
        self.last = now
        figures = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(("train_", "val_"))}
        text = "  ".join(f"{k.replace('train_', '')} {v:.4g}" for k, v in sorted(figures.items()))
        rate = (now - self.begin) / max(1, step - self.first_step - 1)
        left = f"{rate * (self.total - step):.0f} s left" if step < self.total else "done"
        print(f"  {self.stage} step {step}/{self.total}  {text}  {left}", file=sys.stderr, flush=True)
