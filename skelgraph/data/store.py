"""Clips on disk: a folder of memory-mapped Arrow shards that opens in milliseconds and copies nothing.

Layout: ``meta.json`` (see `Meta`), ``classes.json`` (names), ``splits.json`` (``{protocol: {part: [clip names]}}``),
``clips-*.arrow`` (Arrow IPC, one row a clip). polars, pandas and DuckDB read the shards without us.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skelgraph.data.clip import Clip
from skelgraph.data.schema import MODALITY, Meta, columns, modality_column, read_classes, read_splits
from skelgraph.data.shards import Rows, column, map_batches, numbers
from skelgraph.errors import UserError, unknown
from skelgraph.topology import Topology

if TYPE_CHECKING:
    from skelgraph.data.graphs import DGLClips, PyGClips

PathLike = str | os.PathLike[str]


class ModalityItem(NamedTuple):
    """A further modality of one clip: its steps or the path of them, and the seconds of each step where known."""

    content: np.ndarray | Path
    times: np.ndarray | None


class Store:
    """Read access to one store, or to several as one; use `Store.open`.

    Nothing but the small json files is read until asked for. A pickled store is its paths.

    Attributes:
        paths: the folders.
        meta: of the first folder; all agree in joints, dims and classes.
        classes: class names.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        if not paths:
            raise UserError("no store given.")
        self.paths = tuple(paths)
        self._metas = [Meta.read(path / "meta.json") for path in self.paths]
        self.meta = self._metas[0]
        classes = [read_classes(path) for path in self.paths]
        self.classes: tuple[str, ...] = tuple(classes[0])
        for path, meta, names in zip(self.paths[1:], self._metas[1:], classes[1:], strict=True):
            self._agree(path, meta, names)
        folders = zip(self.paths, self._metas, strict=True)
        self._shards = [(path / item.file, meta) for path, meta in folders for item in meta.shards]
        for shard, _ in self._shards:
            if not shard.is_file():
                raise UserError(f"{shard}: missing; import the data again.")
        self._length = sum(meta.clips for meta in self._metas)
        if len(self.paths) > 1 and pc.count_distinct(self._name_column).as_py() < self._length:
            raise UserError(f"{self._where}: the same clip name stands in two of these stores.")

    @classmethod
    def open(cls, path: PathLike | Sequence[PathLike]) -> Store:
        """Open a folder, or several as one store, in the given order.

        Raises:
            UserError: no store there, a file missing, or stores that differ in joints, dims, units or classes.

        Examples:
            >>> from tempfile import TemporaryDirectory
            >>> from skelgraph.data.synthetic import write_demo
            >>> with TemporaryDirectory() as folder:
            ...     store = Store.open(write_demo(f"{folder}/demo", clips=6, classes=3))
            ...     len(store), store[0].keypoints.shape[2:]  # joints and coordinates
            (6, (17, 2))
        """
        several = [path] if isinstance(path, str | os.PathLike) else list(path)
        return cls([Path(item).absolute() for item in several])

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.paths,)

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"Store({self._where}: {len(self)} clips, {self.topology.name}, {len(self.classes)} classes)"

    @cached_property
    def topology(self) -> Topology:
        """The joint layout, as it was when the store was made."""
        return Topology.from_dict(self.meta.topology, source=str(self.paths[0] / "meta.json"))

    # ---- columns --------------------------------------------------------------------------------------------------

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Clip names."""
        return tuple(column(self._batches, "name").to_pylist())

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) int64; -1 = unlabelled."""
        labels = numbers(self._batches, "label", -1, np.int64)
        if labels.max(initial=-1) >= len(self.classes):
            raise UserError(f"{self._where}: label {labels.max()}, but there are {len(self.classes)} classes; damaged.")
        return labels

    @cached_property
    def frames(self) -> np.ndarray:
        """(N,) int64: T of each clip."""
        return numbers(self._batches, "frames", 0, np.int64)

    @cached_property
    def persons(self) -> np.ndarray:
        """(N,) int64: M of each clip."""
        return numbers(self._batches, "persons", 0, np.int64)

    @cached_property
    def fps(self) -> np.ndarray:
        """(N,) float64; NaN = unknown."""
        return numbers(self._batches, "fps", float("nan"), np.float64)

    @cached_property
    def image_sizes(self) -> np.ndarray:
        """(N, 2) float64: height and width in pixels; NaN = unknown."""
        sides = [numbers(self._batches, side, float("nan"), np.float64) for side in ("height", "width")]
        return np.stack(sides, axis=1)

    @property
    def groups(self) -> tuple[str | None, ...]:
        """The recording or performance of each clip; None = unknown."""
        return self.column("group")

    def column(self, name: str) -> tuple[Any, ...]:
        """Any small column (``subject``, ``camera``, ``setup``, ``group``, ...) as plain values."""
        known = self._batches[0].schema.names
        if name not in known:
            raise unknown("column", name, known, self._where)
        return tuple(column(self._batches, name).to_pylist())

    # ---- clips ----------------------------------------------------------------------------------------------------

    def row(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints (M, T, V, C) and score (M, T, V) of a clip: read-only views of the file, some microseconds."""
        try:
            return self._rows(index)
        except (ValueError, IndexError):
            if not 0 <= index < len(self):
                raise IndexError(f"clip {index} of {len(self)}") from None
            raise UserError(f"{self._where}: clip {index} is damaged; import the data again.") from None

    def __getitem__(self, index: int) -> Clip:
        index = index + len(self) if index < 0 else index
        keypoints, score = self.row(index)
        which, place = self._rows.locate(index)
        batch = self._batches[which]
        skip = ("keypoints", "score", "frames", "persons", "timestamps", "segments", "height", "width")
        plain = {
            name: batch.column(name)[place].as_py()
            for name in batch.schema.names
            if name not in skip and not name.startswith(MODALITY)
        }
        height, width = batch.column("height")[place].as_py(), batch.column("width")[place].as_py()
        segments = batch.column("segments")[place].as_py()
        times = batch.column("timestamps")[place]
        further = {name: found for name in self.meta.modalities if (found := self.modality(name, index)) is not None}
        return Clip(
            **plain, keypoints=keypoints, score=score,
            image_size=None if height is None or width is None else (height, width),
            segments=None if segments is None else tuple((s["start"], s["end"], s["label"]) for s in segments),
            timestamps=times.values.to_numpy() if times.is_valid else None,
            modalities={name: found.content for name, found in further.items()},
            modality_times={name: found.times for name, found in further.items() if found.times is not None},
        )  # fmt: skip

    def modality(self, name: str, index: int) -> ModalityItem | None:
        """A further modality of a clip, nothing of it read yet; None where the clip does not have it."""
        which, place = self._rows.locate(index)
        item = self._modality_column(name, which)[place]
        if not item.is_valid:
            return None
        times = item.get("times")
        seconds = times.values.to_numpy() if times is not None and times.is_valid else None
        if item["path"].is_valid:
            return ModalityItem(self._folder_of(index) / item["path"].as_py(), seconds)
        return ModalityItem(item["values"].values.to_numpy().reshape(item["shape"].as_py()), seconds)

    def has_modality(self, name: str) -> np.ndarray:
        """(N,) bool: which clips have it."""
        parts = [self._modality_column(name, which).is_valid() for which in range(len(self._batches))]
        return np.concatenate([part.to_numpy(zero_copy_only=False) for part in parts])

    def timestamps(self, index: int) -> np.ndarray | None:
        """(T,) seconds of each frame of a clip; None where they are unknown or frames are evenly spaced."""
        which, place = self._rows.locate(index)
        times = self._batches[which].column("timestamps")[place]
        return times.values.to_numpy() if times.is_valid else None

    def __iter__(self) -> Iterator[Clip]:
        return (self[index] for index in range(len(self)))

    # ---- protocols ------------------------------------------------------------------------------------------------

    @property
    def protocols(self) -> tuple[str, ...]:
        """Protocols that every opened folder knows."""
        first, *others = self._splits
        return tuple(name for name in first if all(name in splits for splits in others))

    def protocol(self, name: str) -> dict[str, np.ndarray]:
        """Row numbers of each part (``train``, ``val``, ``test``, ...) in the order of the store.

        Raises:
            UserError: unknown protocol (lists those there are), or one that names an absent clip.
        """
        if name not in self.protocols:
            raise unknown("protocol", name, self.protocols, self._where)
        parts: dict[str, list[str]] = {}
        for splits in self._splits:
            for part, clips in splits[name].items():
                parts.setdefault(part, []).extend(clips)
        return {part: np.sort(self._places(clips, name)) for part, clips in parts.items()}

    def _places(self, clips: Sequence[str], protocol: str) -> np.ndarray:
        """Row numbers (len(clips),) of names; in Arrow, since a million Python strings take a tenth of a gigabyte."""
        found = pc.index_in(pa.array(clips, pa.string()), value_set=self._name_column)
        if found.null_count:
            lost = clips[pc.index(found.is_null(), True).as_py()]
            raise UserError(f"{self._where}: protocol '{protocol}' names clip '{lost}', which is not there.")
        return found.to_numpy().astype(np.int64)

    # ---- overview, other libraries --------------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """A summary of plain values: counts, shapes, protocols, origin."""
        counts = np.bincount(self.labels[self.labels >= 0], minlength=len(self.classes))
        frames = self.frames
        return {
            "paths": [str(path) for path in self.paths],
            "clips": len(self),
            "unlabelled": int((self.labels < 0).sum()),
            "classes": {name: int(count) for name, count in zip(self.classes, counts, strict=True)},
            "frames": {"min": int(frames.min()), "median": float(np.median(frames)), "max": int(frames.max())},
            "persons": {int(number): int((self.persons == number).sum()) for number in np.unique(self.persons)},
            "topology": self.topology.name,
            "joints": len(self.topology.joints),
            "dims": self.meta.dims,
            "units": self.meta.units,
            "up": self.meta.up,
            "modalities": list(self.meta.modalities),
            "protocols": {
                name: {part: len(rows) for part, rows in self.protocol(name).items()} for name in self.protocols
            },
            "steps": self.meta.steps,
            "source": self.meta.source,
            "terms": self.meta.terms,
            "demo": any(meta.demo for meta in self._metas),
            "content_hash": self.meta.content_hash,
        }

    def to_pyg_dataset(self, frames: int = 64, persons: int = 1, indices: Sequence[int] | None = None) -> PyGClips:
        """The clips as temporal graphs for PyTorch Geometric's own loaders."""
        from skelgraph.data import graphs

        return graphs.PyGClips(self, frames, persons, indices)

    def to_dgl_dataset(self, frames: int = 64, persons: int = 1, indices: Sequence[int] | None = None) -> DGLClips:
        """The clips as temporal graphs for DGL's own loaders."""
        from skelgraph.data import graphs

        return graphs.DGLClips(self, frames, persons, indices)

    # ---- inside ---------------------------------------------------------------------------------------------------

    @property
    def _where(self) -> str:
        return ", ".join(str(path) for path in self.paths)

    @cached_property
    def _batches(self) -> list[pa.RecordBatch]:
        shards = [(shard, columns(meta.modalities)) for shard, meta in self._shards]
        batches = [batch for shard, schema in shards for batch in map_batches(shard, schema)]
        rows = sum(batch.num_rows for batch in batches)
        if rows != self._length:
            raise UserError(f"{self._where}: holds {rows} clips, meta.json tells of {self._length}; import it again.")
        if not rows:
            raise UserError(f"{self._where}: has no clips.")
        return batches

    @cached_property
    def _name_column(self) -> pa.Array:
        return column(self._batches, "name").combine_chunks()

    @cached_property
    def _rows(self) -> Rows:
        return Rows(self._batches, len(self.topology.joints), self.meta.dims)

    @cached_property
    def _splits(self) -> list[dict[str, dict[str, list[str]]]]:
        return [read_splits(path) for path in self.paths]

    def _agree(self, path: Path, meta: Meta, classes: list[str]) -> None:
        differences = self.meta.differences(meta) + (["classes"] if list(self.classes) != list(classes) else [])
        if differences:
            raise UserError(f"{path}: its {differences[0]} differ from {self.paths[0]}; they cannot open as one store.")

    def _modality_column(self, name: str, which: int) -> pa.StructArray:
        if name not in self.meta.modalities:
            raise unknown("modality", name, self.meta.modalities, self._where)
        return self._batches[which].column(modality_column(name))

    def _folder_of(self, index: int) -> Path:
        ends = np.cumsum([meta.clips for meta in self._metas])
        return self.paths[int(np.searchsorted(ends, index, side="right"))]
