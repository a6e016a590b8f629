"""A stage that trains."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from skelgraph import models
from skelgraph.batch import ClipSpec, ModalitySpec
from skelgraph.engine.callbacks import BestStep, CsvLog, Lines, RollingCheckpoint, StepSeed, mixed_seed
from skelgraph.engine.clips import Parts, StageClips, TrainingClips, warn_if_short
from skelgraph.engine.precision import DoubleBatches
from skelgraph.engine.run_folder import Run, StageFolder, find_exports, read_tensors, write_tensors
from skelgraph.errors import UserError
from skelgraph.methods import METHODS, Method
from skelgraph.methods.optim import Length
from skelgraph.recipe import FitStage, Study
from skelgraph.topology import Topology

ADVERTISING = ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda", "lightning.fabric")
REMARKS = (
    ".*does not have many workers.*",
    ".*`IterableDataset`.*",
    ".*lr_scheduler.step.*",
    ".*srun.*",
    ".*in eval mode at the start of training.*",
    ".*smaller than the logging interval.*",
    ".*dataloader is not resumable.*",
    ".*isinstance.treespec.*",
    ".*persistent_workers.*",
    ".*Checkpoint directory.*",
)


@dataclass(frozen=True)
class Place:
    """Where training happens: passed on to Lightning's Trainer."""

    accelerator: str = "auto"
    devices: int | str = 1
    strategy: str = "auto"
    nodes: int = 1


def spec_card(spec: ClipSpec) -> dict[str, Any]:
    """A `ClipSpec` as plain data."""
    return {
        "topology": spec.topology.to_dict(),
        "channels": spec.channels,
        "persons": spec.persons,
        "frames": spec.frames,
        "classes": list(spec.classes),
        "modalities": {name: asdict(item) for name, item in spec.modalities.items()},
    }


def spec_from_card(card: Mapping[str, Any], source: str) -> ClipSpec:
    """The `ClipSpec` of `spec_card`."""
    return ClipSpec(
        topology=Topology.from_dict(card["topology"], source=source),
        channels=card["channels"],
        persons=card["persons"],
        frames=card["frames"],
        classes=tuple(card["classes"]),
        modalities={name: _modality_spec(item) for name, item in card.get("modalities", {}).items()},
    )


def _modality_spec(card: Mapping[str, Any]) -> ModalitySpec:
    signs = card.get("mirror")
    return ModalitySpec(card["kind"], card["steps"], tuple(card["shape"]), None if signs is None else tuple(signs))


def stage_seed(seed: int, stage: str) -> int:
    """The seed of one stage, so that adding a stage leaves the others as they were."""
    return mixed_seed(seed, *stage.encode())


class Fit:
    """Everything a training stage needs, from recipe to finished folder.

    Args:
        study: the checked recipe.
        name: the stage.
        run: its run folder.
        place: devices.
    """

    def __init__(self, study: Study, name: str, run: Run, place: Place) -> None:
        stage = study.recipe.stages[name]
        assert isinstance(stage, FitStage)
        self.study, self.name, self.run, self.place, self.stage = study, name, run, place, stage
        self.topology = Topology.load(study.recipe.topology)
        self.seed = stage_seed(study.recipe.seed, name)
        self.clips = StageClips(study.data_for(name), study.recipe.protocol, self.topology, self.seed)
        self.kind: type[Method] = METHODS.get(stage.method)

    def __call__(self, resume: bool) -> dict[str, Any]:
        """Train and leave exports; returns the figures of the stage."""
        selection = self.study.recipe.protocol.selection
        folder = self.run.stage(self.name)
        if selection == "refit" and self.kind.monitor is not None:
            search = StageFolder(folder.path / "holdout")
            found = search.result() or self.train(search, self.parts(True), resume, None)
            if search.result() is None:
                search.finish(found)
            figures = self.train(folder, self.parts(False), resume, stop=max(1, found["best_step"]))
            return {**figures, "chosen_on_validation": found}
        return self.train(folder, self.parts(selection == "holdout"), resume, None)

    def parts(self, holdout: bool) -> Parts:
        """Rows to train and to validate on."""
        return self.clips.parts(labelled=self.kind.needs_labels, holdout=holdout)

    def build(self) -> Method:
        """The method with its model, started from an earlier stage where the recipe says so."""
        torch.manual_seed(self.seed)
        classes = self.clips.store.classes if self.kind.needs_labels else ()
        spec = self.clips.spec(tuple(classes))
        model = models.create(self.stage.model.name, spec, **self.stage.model.settings)
        exports = None if self.stage.from_ is None else find_exports(self.stage.from_, self.run).exports()
        if exports is not None:
            model.consume(exports)
        method: Method = METHODS.create(self.stage.method, model, **self.stage.method_settings)
        if exports is not None:
            method.consume(exports)
        # Lightning keeps the mode it finds, and a fresh module is in training mode down to its frozen parts.
        method.train()
        return method

    def train(self, folder: StageFolder, parts: Parts, resume: bool, stop: int | None) -> dict[str, Any]:
        """One training, to the end of its length or to step ``stop`` of it."""
        folder.open()
        method = self.build()
        labels = self.clips.store.labels[parts.train]
        loader = TrainingClips(
            self.clips, parts, self.stage.batch, self.kind.loader_views,
            lambda epoch: method.draws(labels, self.seed, epoch),
        )  # fmt: skip
        batches = loader.batches()
        method.check(len(parts.train), batches.batch)
        per_epoch = len(batches)
        warn_if_short(per_epoch, self.stage.epochs, self.name)
        total = self.stage.steps or per_epoch * (self.stage.epochs or 0)
        length = Length(total, per_epoch if self.stage.epochs else 1)
        method.plan(self.stage.optimizer, self.stage.schedule, length, self.clips.pipeline())
        steps = min(total, stop or total)
        last = folder.path / "last.ckpt"
        callbacks, best = self._callbacks(folder, steps, parts)
        trainer = self._trainer(folder, callbacks, steps, parts, resume and last.is_file())
        with quiet(), interruptible(trainer):
            trainer.fit(method, loader, ckpt_path=str(last) if resume and last.is_file() else None, weights_only=True)
        if trainer.is_global_zero:
            self._export(folder, method, best, parts)
        return self._figures(method, trainer, parts, best)

    def _callbacks(self, folder: StageFolder, steps: int, parts: Parts) -> tuple[list[Callback], BestStep | None]:
        best = None
        if self.kind.monitor is not None and len(parts.val):
            best = BestStep(folder.path / "best.safetensors", self.kind.monitor)
        fixed: list[Callback] = [
            StepSeed(self.seed),
            RollingCheckpoint(folder.path / "last.ckpt", self.stage.checkpoint_every),
            Lines(self.name, steps),
        ]
        return (fixed if best is None else [best, *fixed]), best

    def _trainer(
        self, folder: StageFolder, callbacks: list[Callback], steps: int, parts: Parts, resumed: bool
    ) -> Trainer:
        every = self.stage.validate_every or max(1, steps // 10)
        logger: list[Any] = [CsvLog(folder.path / "metrics.csv", self._resume_step(folder) if resumed else None)]
        logger += _tensorboard(folder)
        # Lightning takes a precision or a plugin for it, not both.
        double = self.stage.precision == DoubleBatches.precision
        with quiet(), plain_errors():
            return Trainer(
                accelerator=self.place.accelerator, devices=self.place.devices, strategy=self.place.strategy,
                num_nodes=self.place.nodes, precision=None if double else self.stage.precision,
                plugins=[DoubleBatches()] if double else None, max_epochs=-1, max_steps=steps,
                check_val_every_n_epoch=None, val_check_interval=every if len(parts.val) else None,
                limit_val_batches=None if len(parts.val) else 0, num_sanity_val_steps=0,
                gradient_clip_val=self.stage.clip_gradient, callbacks=callbacks, logger=logger,
                log_every_n_steps=max(1, min(10, steps // 20)), enable_checkpointing=False, enable_progress_bar=False,
                enable_model_summary=False, use_distributed_sampler=False, default_root_dir=str(folder.path),
            )  # fmt: skip

    def _resume_step(self, folder: StageFolder) -> int:
        path = folder.path / "last.ckpt"
        try:
            return int(torch.load(path, map_location="cpu", weights_only=True)["global_step"])
        except Exception as error:
            raise UserError(
                f"{path}: damaged ({type(error).__name__}); delete it to begin this stage again, the stages before it "
                "are kept."
            ) from error

    def _export(self, folder: StageFolder, method: Method, best: BestStep | None, parts: Parts) -> None:
        """Keep the last weights beside the chosen ones, then the parts that later stages may start from."""
        if best is not None and best.path.is_file():
            write_tensors(folder.path / "last.safetensors", method.model.state_dict())
            if self.study.recipe.protocol.selection == "holdout":
                method.load_state_dict(read_tensors(best.path))
        card = {
            "model": self.stage.model.model_dump(),
            "method": self.stage.method,
            "spec": spec_card(method.spec),
            "data": self.clips.data.model_dump(),
            "clips": self.clips.facts(parts.train),
            "plugins": self.study.recipe.plugins,
        }
        folder.save_exports({name: part.state_dict() for name, part in method.exports().items()}, card)

    def _figures(self, method: Method, trainer: Trainer, parts: Parts, best: BestStep | None) -> dict[str, Any]:
        figures: dict[str, Any] = {
            "kind": "fit",
            "steps": trainer.global_step,
            "train_clips": len(parts.train),
            "validation_clips": len(parts.val),
            "parameters": sum(p.numel() for p in method.model.parameters()),
            "final": {k: float(v) for k, v in trainer.callback_metrics.items()},
        }
        if method.needs_labels:
            counts = np.bincount(self.clips.store.labels[parts.train], minlength=len(self.clips.store.classes))
            figures["train_counts"] = counts.tolist()
        if best is not None:
            figures |= {"best_step": best.step, "best_value": best.value, "monitor": best.figure}
        return figures


def _tensorboard(folder: StageFolder) -> list[Any]:
    """A TensorBoard logger where the ``track`` extra is installed."""
    try:
        import tensorboard  # noqa: F401
        from lightning.pytorch.loggers import TensorBoardLogger
    except ImportError:
        return []
    return [TensorBoardLogger(str(folder.path), name="tensorboard", version="")]


@contextmanager
def interruptible(trainer: Trainer) -> Iterator[None]:
    """Hand Ctrl-C on: Lightning would end the process by itself, without a word on how to resume."""
    try:
        yield
    except SystemExit:
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise


@contextmanager
def plain_errors() -> Iterator[None]:
    """What Lightning finds wrong with devices or strategy, as a user's mistake."""
    try:
        yield
    except (MisconfigurationException, ValueError) as error:
        raise UserError(f"--accelerator, --devices, --strategy or --nodes: {str(error).splitlines()[0]}") from None


class quiet(warnings.catch_warnings):
    """Lightning's advertising and its remarks on settings we chose on purpose stay silent."""

    def __enter__(self) -> Any:
        for name in ADVERTISING:
            logging.getLogger(name).setLevel(logging.WARNING)
        result = super().__enter__()
        for text in REMARKS:
            warnings.filterwarnings("ignore", message=text)
        return result
