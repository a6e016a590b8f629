"""Runs a reader over its source and writes a store."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skelgraph.data.clip_steps import ClipStep, apply, bind
from skelgraph.data.readers.base import READERS, Reader
from skelgraph.data.writer import StoreWriter
from skelgraph.errors import UserError
from skelgraph.topology import Topology


@dataclass(frozen=True)
class Skipped:
    """Something that could not be read: the work item, the clip if it got that far, and why."""

    item: str
    clip: str
    reason: str


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        path: the store.
        clips: how many were written.
        skipped: what was left out; also in ``skipped.csv`` inside the store.
        absent: names that the splits mention but no clip bears.
    """

    path: Path
    clips: int
    skipped: tuple[Skipped, ...] = ()
    absent: int = 0

    def lines(self) -> list[str]:
        """The report in plain words."""
        text = [f"{self.clips} clips written to {self.path}"]
        if self.skipped:
            text.append(f"{len(self.skipped)} skipped, reasons in {self.path / 'skipped.csv'}; the first:")
            text.extend(f"  {item.reason}" for item in self.skipped[:3])
        if self.absent:
            text.append(f"{self.absent} names in the splits have no clip and were left out of them")
        return text


def import_data(
    format: str, src: str | os.PathLike[str], dst: str | os.PathLike[str], *, topology: str | None = None,
    strict: bool = False, overwrite: bool = False, progress: bool = True, clip_steps: Sequence[ClipStep] = (),
    **options: Any,
) -> ImportReport:  # fmt: skip
    """Read files of a known format into a store.

    Args:
        format: a name in `READERS`.
        src: file or folder of that format.
        dst: the store's folder.
        topology: joint layout (name or file) in place of the reader's own.
        strict: stop at the first damaged file; otherwise it is skipped and listed.
        overwrite: replace an existing store.
        progress: show a bar on the terminal.
        clip_steps: what is done to every clip, in order (`skelgraph.data.clip_steps`).
        options: the reader's keyword-only parameters.

    Raises:
        UserError: unknown format or option, nothing readable, a place that cannot be written, or any damage if strict.
    """
    if topology is not None and "topology" in READERS.settings(format):
        options["topology"] = topology
    reader: Reader = READERS.create(format, Path(src), **options)
    layout = topology or reader.topology
    if layout is None:
        raise UserError(f"{src}: the joint layout is not known from these files; say --topology.")
    changes, stored = bind(clip_steps, Topology.load(layout))
    writer = StoreWriter(
        dst, topology=stored, dims=reader.dims, classes=reader.classes, units=reader.units, up=reader.up,
        source=reader.source, terms=reader.terms, modalities=reader.modalities, overwrite=overwrite,
        steps=[{"name": "import", "format": format, "options": options}, *reader.steps, *(s.record for s in changes)],
    )  # fmt: skip
    items = reader.items()
    with writer:
        skipped = list(_copy(reader, _bar(items, progress), writer, strict, changes))
        if not len(writer):
            raise UserError(f"{src}: no clip could be read; the first reason: {skipped[0].reason}")
        absent = _set_protocols(reader, writer)
        writer.add_text("skipped.csv", _csv(skipped))
    return ImportReport(Path(dst), len(writer), tuple(skipped), absent)


def _copy(
    reader: Reader, items: Iterable[Any], writer: StoreWriter, strict: bool, steps: Sequence[ClipStep]
) -> Iterator[Skipped]:
    """Write every clip; yields what was left out. A faulty clip does not spoil the others of its item."""
    for item in items:
        title = reader.title(item)
        try:
            for clip in reader.read(item):
                try:
                    writer.write(apply(steps, clip), title)
                except UserError as error:
                    if strict:
                        raise
                    yield Skipped(title, clip.name, str(error))
        except UserError as error:
            if strict:
                raise
            yield Skipped(title, "", str(error))
        except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, OSError) as error:
            # Damage that a reader did not foresee must not end an import of many hours.
            reason = f"{title}: cannot be read ({type(error).__name__}: {error})."
            if strict:
                raise UserError(reason) from error
            yield Skipped(title, "", reason)


def _set_protocols(reader: Reader, writer: StoreWriter) -> int:
    """Give the writer the splits without clips that were skipped; returns how many names went."""
    names = writer.names
    published = reader.protocols(names)
    given = {name: {part: list(clips) for part, clips in parts.items()} for name, parts in published.items()}
    mentioned = {clip for parts in given.values() for clips in parts.values() for clip in clips}
    writer.protocols = {
        name: {part: [clip for clip in clips if clip in names] for part, clips in parts.items()}
        for name, parts in given.items()
    }
    return len(mentioned - names)


def _bar(items: Sequence[Any], shown: bool) -> Iterable[Any]:
    if not shown:
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, description="reading", console=Console(stderr=True), transient=True)


def _csv(skipped: Sequence[Skipped]) -> str:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["item", "clip", "reason"])
    table.writerows([item.item, item.clip, item.reason] for item in skipped)
    return text.getvalue()
