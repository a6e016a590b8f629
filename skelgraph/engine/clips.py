"""The clips of a stage: which rows of the store train, validate and test, and the loaders over them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from skelgraph.batch import ClipSpec, ModalitySpec
from skelgraph.data import protocols, sampling
from skelgraph.data.loader import BatchReader, EpochBatches, OrderedBatches, make_loader
from skelgraph.data.longtail import LEFT_OUT, left_out_validation
from skelgraph.data.store import Store
from skelgraph.engine.run_folder import replacing
from skelgraph.errors import UserError
from skelgraph.recipe import DataConfig, ProtocolConfig
from skelgraph.topology import Topology
from skelgraph.topology_map import TopologyMap
from skelgraph.transforms import Pipeline

FEW_STEPS = 10
TRAIN_CLIPS = "train_clips.txt"


@dataclass(frozen=True)
class Parts:
    """Rows of the store for training, validation (may be empty) and test."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


class StageClips:
    """Store and parts of one stage.

    Args:
        data: the stage's ``data:``.
        protocol: how validation is carved out of the training part.
        topology: of the recipe; clips of another one are mapped by joint names.
        seed: of crops and order.
    """

    def __init__(self, data: DataConfig, protocol: ProtocolConfig, topology: Topology, seed: int) -> None:
        self.data, self.protocol, self.topology, self.seed = data, protocol, topology, seed
        self.store = Store.open(data.store)
        if data.channels not in (None, self.store.meta.dims):
            raise UserError(
                f"{data.store}: holds {self.store.meta.dims}-D joints, the recipe wants {data.channels}-D; "
                "set data.channels or import other data."
            )

    @cached_property
    def modalities(self) -> dict[str, ModalitySpec]:
        """What a batch has beside the skeleton."""
        return {item.name: item.spec for item in self.reader().modalities}

    def spec(self, classes: tuple[str, ...]) -> ClipSpec:
        """What a model of this stage must know."""
        return ClipSpec(
            self.topology, self.store.meta.dims, self.data.persons, self.data.frames, classes, self.modalities
        )

    def pipeline(self) -> Pipeline:
        """The transforms of this stage.

        Raises:
            UserError: one of them cannot stand beside a modality.
        """
        pipeline = Pipeline(self.topology, self.data.transforms)
        pipeline.check_modalities(self.modalities)
        return pipeline

    def facts(self, rows: np.ndarray) -> dict[str, Any]:
        """What a prediction must know of the clips that were trained on, as plain data.

        ``topology`` of the store, ``steps`` of its import, ``missing`` joints that no clip could have, and the median
        length of a clip: ``frames``, and ``fps`` where it is known.
        """
        store, rates = self.store, self.store.fps[rows]
        missing = TopologyMap.between(store.topology, self.topology).missing
        return {
            "topology": store.topology.name,
            "steps": store.meta.steps,
            "missing": list(missing),
            "frames": int(np.median(store.frames[rows])),
            "fps": None if np.isnan(rates).all() else float(np.nanmedian(rates)),
        }

    def parts(self, *, labelled: bool, holdout: bool) -> Parts:
        """Split of the store: the test part is never touched by the other two.

        A protocol with a part ``left_out`` has a training part that was thinned out on purpose: nothing is added to it,
        and validation comes out of what was left out.

        Args:
            labelled: leave out clips without label.
            holdout: find a validation part where the protocol has none of its own.
        """
        split = self.store.protocol(self.data.protocol)
        empty = np.zeros(0, dtype=np.int64)
        train, val, left = (split.get(part, empty) for part in ("train", "val", LEFT_OUT))
        test = split.get(self.data.test_part)
        if test is None:
            raise UserError(f"{self.data.store}: protocol '{self.data.protocol}' has no part '{self.data.test_part}'; "
                            f"it has {', '.join(sorted(split))}.")  # fmt: skip
        labels = self.store.labels
        if labelled:
            train, val, left = (rows[labels[rows] >= 0] for rows in (train, val, left))
        if not holdout:
            train, val = (train if len(left) else np.sort(np.concatenate([train, val]))), empty
        elif len(val) == 0:
            train, val = self._validation(train, left)
        if labelled and self.data.label_fraction is not None:
            train = protocols.label_fraction(
                labels, train, self.data.label_fraction, self.data.label_seed, self.data.label_draw
            )
        if len(train) == 0:
            raise UserError(f"{self.data.store}: protocol '{self.data.protocol}' has no clip to train on.")
        self._refuse_empty(np.concatenate([train, val, test]))
        return Parts(train, val, test)

    def _refuse_empty(self, rows: np.ndarray) -> None:
        """With further modalities a clip must have one of them, or somebody must be seen."""
        if not self.data.wanted:
            return
        there = np.any([self.store.has_modality(name) for name in self.data.wanted], axis=0)
        empty = [row for row in rows[~there[rows]].tolist() if not self.store.row(row)[1].any()]
        if empty:
            others = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
            raise UserError(
                f"{self.data.store}: clip '{self.store.names[empty[0]]}'{others} of protocol '{self.data.protocol}': "
                f"nobody is seen and there is none of {', '.join(self.data.wanted)}; leave it out of the protocol."
            )

    def _validation(self, train: np.ndarray, left: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Training and validation rows of a protocol that has no validation part."""
        labels, groups, share = self.store.labels, self.store.groups, self.protocol.validation
        seed = self.protocol.seed
        if len(left) == 0:
            return protocols.holdout(labels, groups, train, share, seed)
        val = left_out_validation(labels, groups, train, left, share, seed)
        if len(val) == 0:
            raise UserError(f"{self.data.store}: every clip left out of protocol '{self.data.protocol}' shares its "
                            "recording with a training clip, so there is nothing to validate on; set "
                            "protocol.selection: none.")  # fmt: skip
        return train, val

    def reader(self, views: int = 1) -> BatchReader:
        """Reads batches of these clips."""
        sampler = sampling.create(self.data.sampling.name, **self.data.sampling.settings)
        return BatchReader(
            self.store, self.data.frames, self.data.persons, sampler, self.topology, views, self.seed, self.data.wanted
        )

    def test_loader(self, indices: np.ndarray, batch: int, views: int) -> DataLoader:
        """Every clip of ``indices`` once, ``views`` crops of each."""
        return make_loader(self.reader(views), OrderedBatches(indices, batch, views), self.data.workers)


class TrainingClips(LightningDataModule):
    """The loaders of a fit stage, made once the rank is known.

    Where only a share of the labels is used, the names of these clips are left in ``train_clips.txt``.

    Args:
        clips: the stage's clips.
        parts: rows to train on and to validate on.
        batch: clips of one step over all ranks.
        views: crops of each clip.
        order: epoch -> positions in the training part, or None for a shuffle.
    """

    def __init__(
        self, clips: StageClips, parts: Parts, batch: int, views: int, order: Callable[[int], np.ndarray | None]
    ) -> None:
        super().__init__()
        self.prepare_data_per_node = False
        self.clips, self.parts, self.batch, self.views, self.order = clips, parts, batch, views, order

    def prepare_data(self) -> None:
        if self.clips.data.label_fraction is None or self.trainer is None:
            return
        names = self.clips.store.names
        with replacing(Path(self.trainer.default_root_dir) / TRAIN_CLIPS) as temporary:
            temporary.write_text("".join(f"{names[row]}\n" for row in self.parts.train), encoding="utf-8")

    def batches(self, rank: int = 0, world: int = 1) -> EpochBatches:
        """The sequence of training batches of one rank."""
        batches = EpochBatches(
            self.parts.train, self.batch, self.clips.seed, self._position, self.order, rank, world, self.views
        )
        if batches.batch % world:
            raise UserError(f"batch {batches.batch} cannot be shared evenly by {world} processes.")
        return batches

    def _position(self) -> int:
        return self.trainer.global_step if self.trainer is not None else 0

    def train_dataloader(self) -> DataLoader:
        trainer = self.trainer
        batches = self.batches(trainer.global_rank, trainer.world_size)
        return make_loader(self.clips.reader(self.views), batches, self.clips.data.workers)

    def val_dataloader(self) -> DataLoader | list:
        if len(self.parts.val) == 0:
            return []
        trainer = self.trainer
        batches = OrderedBatches(self.parts.val, self.batch, self.views, trainer.global_rank, trainer.world_size)
        return make_loader(self.clips.reader(self.views), batches, self.clips.data.workers)


def warn_if_short(steps_per_epoch: int, epochs: int | None, stage: str) -> None:
    """A length in epochs means little where an epoch has few steps."""
    if epochs is not None and steps_per_epoch < FEW_STEPS:
        warnings.warn(
            f"stage '{stage}': an epoch has only {steps_per_epoch} steps, so {epochs} epochs are "
            f"{epochs * steps_per_epoch} steps; for small data give the length in steps (steps: 3000).",
            stacklevel=2,
        )
