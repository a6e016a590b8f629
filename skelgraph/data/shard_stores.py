"""Stores as raw material of other stores: to append to, or to be one shard of many."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from skelgraph.data.content_hash import RollingHash, clip_digest
from skelgraph.data.schema import Meta, Shard, Splits, read_classes, read_splits
from skelgraph.data.shard_files import first_batches
from skelgraph.data.shards import map_batches
from skelgraph.data.store import Store
from skelgraph.errors import UserError


@dataclass(frozen=True)
class Whole:
    """A finished store: its folder and everything in it but the clips."""

    path: Path
    meta: Meta
    classes: tuple[str, ...]
    splits: Splits

    @classmethod
    def read(cls, path: Path) -> Whole:
        """Read the small files of a store.

        Raises:
            UserError: no store there, or a damaged one.
        """
        meta = Meta.read(path / "meta.json")
        return cls(path, meta, tuple(read_classes(path)), read_splits(path))

    @property
    def names(self) -> Iterator[str]:
        """Names of its clips in order."""
        return names(self.path, self.meta.shards)

    @property
    def hash(self) -> RollingHash:
        """State of the hash over its clips; a store of an earlier version is read whole for it."""
        if self.meta.clips_hash:
            return RollingHash.of(self.meta.clips_hash, self.meta.clips)
        state = RollingHash()
        for clip in Store([self.path]):
            state = state.add(clip_digest(clip))
        return state

    def text(self, name: str) -> str | None:
        """A further text file in the folder, if it is there."""
        path = self.path / name
        return path.read_bytes().decode("utf-8", "replace") if path.is_file() else None

    def link_shards(self, folder: Path) -> list[Shard]:
        """Have ``folder`` hold the shards as well, by a second name of the same file where the disk can do that."""
        for shard in self.meta.shards:
            place = folder / shard.file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            try:
                os.link(self.path / shard.file, place)
            except OSError:
                shutil.copy2(self.path / shard.file, place)
        return [shard.model_copy() for shard in self.meta.shards]


def agree(path: Path, first: Whole, meta: Meta, classes: Sequence[str], what: str) -> None:
    """Raise unless clips of both may stand in one store."""
    differences = first.meta.differences(meta) + (["classes"] if list(first.classes) != list(classes) else [])
    if differences:
        raise UserError(f"{path}: its {differences[0]} differ from those of {what}, so they cannot be one store.")


def names(folder: Path, shards: Sequence[Shard], batches: int = 0) -> Iterator[str]:
    """Clip names of shards in order; with ``batches`` the last file is unfinished and holds so many."""
    for place, shard in enumerate(shards):
        path = folder / shard.file
        last = batches and place == len(shards) - 1
        for batch in first_batches(path, batches) if last else map_batches(path):
            yield from batch.column("name").to_pylist()


def first_double(columns: Iterable[pa.Array]) -> str | None:
    """A name that stands twice in these columns, or None."""
    whole = pa.chunked_array(list(columns))
    if pc.count_distinct(whole).as_py() == len(whole):
        return None
    counts = pc.value_counts(whole)
    twice = pc.greater(counts.field("counts"), 1)
    return str(counts.field("values").filter(twice)[0])


def merged(
    first: Mapping[str, Mapping[str, Sequence[str]]], second: Mapping[str, Mapping[str, Sequence[str]]]
) -> Splits:
    """Splits of both, each part the clips of the one and then of the other."""
    result: Splits = {}
    for splits in (first, second):
        for protocol, parts in splits.items():
            for part, clips in parts.items():
                result.setdefault(protocol, {}).setdefault(part, []).extend(clips)
    return result


def write_text(path: Path, text: str) -> None:
    """Write a text file, all or nothing; line ends stay as they are."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8", newline="")
    temporary.replace(path)
