"""An import cut into shares that know nothing of each other, and the store that they are together.

``DST/shard-0003-of-0016`` is a store by itself, without splits. Whoever finds all of them there writes the small files
of ``DST``, whose shards are the files in those folders. Doing so twice gives the same files, so it needs no lock.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skelgraph.data.content_hash import RollingHash
from skelgraph.data.schema import Shard, Splits
from skelgraph.data.shard_stores import Whole, agree, first_double, write_text
from skelgraph.data.shards import map_batches
from skelgraph.data.writer import check_splits
from skelgraph.errors import UserError

FACTS = "shard.json"
META = "meta.json"


@dataclass(frozen=True)
class Part:
    """Share ``index`` (from 0) of ``count``."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str | None) -> Part | None:
        """``i/n``.

        Raises:
            UserError: not of that form.
        """
        if text is None:
            return None
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if match is None or int(match[1]) >= int(match[2]):
            raise UserError(f"--shard {text}: write i/n with i from 0 to n - 1, e.g. 0/16 to 15/16.")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def folder(self, dst: Path) -> Path:
        """Where this share is written."""
        return dst / f"shard-{self.index:04d}-of-{self.count:04d}"

    def place(self, dst: Path, overwrite: bool) -> Path:
        """`folder`, if a share may be written there.

        Raises:
            UserError: ``dst`` holds something else, or is finished and should be overwritten.
        """
        others = {path.name.rpartition("-of-")[2] for path in dst.glob("shard-*-of-*")} - {f"{self.count:04d}"}
        if others:
            raise UserError(
                f"{dst}: holds shares of {min(others).lstrip('0')}, not of {self.count}; use another place."
            )
        if finished(dst) and (overwrite or not finished(self.folder(dst))):
            raise UserError(f"{dst}: is a finished store; delete it to import its shards anew.")
        return self.folder(dst)

    def cut(self, items: Sequence[Any], src: Path) -> Sequence[Any]:
        """The items of this share.

        Raises:
            UserError: there are fewer items than shares.
        """
        if len(items) < self.count:
            raise UserError(f"{src}: has {len(items)} items, which cannot be cut into {self.count} shards.")
        return items[len(items) * self.index // self.count : len(items) * (self.index + 1) // self.count]

    def facts(self, items: int, titles: str) -> str:
        """What must be equal in all shares, as json."""
        return json.dumps({"count": self.count, "items": items, "titles": titles})


@dataclass(frozen=True)
class Joined:
    """What came of looking for the other shares: in words, and how many names of the splits no clip bears."""

    text: str
    absent: int = 0


def finished(path: Path) -> bool:
    """Whether a whole store is there."""
    return (path / META).is_file()


def join(dst: Path, part: Part, published: Callable[[frozenset[str]], tuple[Splits, int]]) -> Joined:
    """Make ``dst`` one store if all its shares are there.

    Args:
        dst: the folder of the shares.
        part: any of them.
        published: gives the splits for these clips, and how many names went.

    Raises:
        UserError: the shares were cut from different sources, differ in joints, classes or steps, or a clip name stands
            in two.
    """
    folders = [Part(index, part.count).folder(dst) for index in range(part.count)]
    missing = [index for index, folder in enumerate(folders) if not finished(folder)]
    if missing:
        listed = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
        return Joined(f"{len(missing)} of {part.count} shards are still to come: {listed}")
    shares = [Whole.read(folder) for folder in folders]
    first, facts = shares[0], {share.text(FACTS) for share in shares}
    for share in shares[1:]:
        agree(share.path, first, share.meta, share.classes, str(first.path))
        if share.meta.steps != first.meta.steps or len(facts) > 1:
            raise UserError(f"{share.path}: made with other options or from other files than {first.path}.")
    names = _names(dst, shares)
    splits, absent = published(names)
    check_splits(splits, names, str(dst))
    _write(dst, shares, splits)
    return Joined(f"all {part.count} shards are there: {dst} is one store of {len(names)} clips", absent)


def _names(dst: Path, shares: Sequence[Whole]) -> frozenset[str]:
    """All clip names.

    Raises:
        UserError: there is none, or one stands twice.
    """
    files = [share.path / shard.file for share in shares for shard in share.meta.shards]
    columns = [batch.column("name") for file in files for batch in map_batches(file)]
    if not columns:
        raise UserError(f"{dst}: no clip could be read in any shard; see skipped.csv in the first.")
    double = first_double(columns)
    if double is not None:
        raise UserError(
            f"{dst}: a clip of the name '{double}' stands in two shards; clips of one store differ in name."
        )
    return frozenset(name for column in columns for name in column.to_pylist())


def _write(dst: Path, shares: Sequence[Whole], splits: Splits) -> None:
    """The small files of the joined store, the one that makes it a store last."""
    meta, state = shares[0].meta.model_copy(), RollingHash()
    meta.shards = [
        Shard(file=f"{share.path.name}/{shard.file}", clips=shard.clips)
        for share in shares
        for shard in share.meta.shards
    ]
    for share in shares:
        state = state.join(share.hash)
    meta.clips = state.clips
    meta.set_hash(state, shares[0].classes, splits)
    skipped = [(share.text("skipped.csv") or "").splitlines(keepends=True) for share in shares]
    write_text(dst / "skipped.csv", "".join([*skipped[0][:1], *(line for lines in skipped for line in lines[1:])]))
    write_text(dst / "classes.json", json.dumps(shares[0].classes, indent=1, ensure_ascii=False))
    write_text(dst / "splits.json", json.dumps(splits))
    write_text(dst / META, meta.model_dump_json(indent=1))
