"""Runs a reader over its source and writes a store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from skelgraph.data.clip_steps import ClipStep, bind
from skelgraph.data.readers import damage, joining
from skelgraph.data.readers.base import READERS, Reader
from skelgraph.data.readers.joining import Part
from skelgraph.data.readers.skipped_log import SkippedLog
from skelgraph.data.readers.workers import Job, Ready, Skipped, read
from skelgraph.data.shard_stores import Whole
from skelgraph.data.writer import Interrupted, StoreWriter, check_splits
from skelgraph.errors import UserError, shortened


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        path: the store.
        clips: how many are in it now.
        skipped: what was left out; also in ``skipped.csv`` inside the store.
        absent: names that the splits mention but no clip bears.
        resumed: how many clips an import that was killed had written before.
        notes: what else there is to say, in plain words.
    """

    path: Path
    clips: int
    skipped: tuple[Skipped, ...] = ()
    absent: int = 0
    resumed: int = 0
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The report in plain words."""
        text = [f"{self.clips} clips written to {self.path}"]
        if self.resumed:
            text.append(f"{self.resumed} of them were there from an import that had not ended")
        if self.skipped:
            text.append(f"{len(self.skipped)} skipped, reasons in {self.path / 'skipped.csv'}; the first:")
            text.extend(f"  {item.reason}" for item in self.skipped[:3])
        if self.absent:
            text.append(f"{self.absent} names in the splits have no clip and were left out of them")
        return [*text, *self.notes]


def import_data(
    format: str, src: str | os.PathLike[str], dst: str | os.PathLike[str], *, topology: str | None = None,
    strict: bool = False, overwrite: bool = False, progress: bool = True, clip_steps: Sequence[ClipStep] = (),
    workers: int = 1, shard: str | None = None, append: bool = False, restart: bool = False, **options: Any,
) -> ImportReport:  # fmt: skip
    """Read files of a known format into a store.

    The store is made beside its place and put there when it is whole. An import that was killed, interrupted or
    stopped by a full disk goes on when it is called again with the same arguments (``workers`` may differ); the store
    is then the same, byte by byte, as without the interruption.

    Args:
        format: a name in `READERS`.
        src: file or folder of that format.
        dst: the store's folder.
        topology: joint layout (name or file) in place of the reader's own.
        strict: stop at the first damaged file; otherwise it is skipped and listed.
        overwrite: replace an existing store.
        progress: show a bar on the terminal.
        clip_steps: what is done to every clip, in order (`skelgraph.data.clip_steps`).
        workers: processes that read; the store does not depend on it.
        shard: ``i/n``, i from 0: read the i-th of n equal shares of the items only, as one of n imports with the same
            arguments, at any time and on any machine that sees ``dst``. The last of them makes ``dst`` one store.
        append: add the clips to the store that is there; its classes are known by name and must suffice.
        restart: throw away what an import that was killed has left.
        options: the reader's keyword-only parameters.

    Raises:
        UserError: unknown format or option, nothing readable, a place that cannot be written, or any damage if strict.
    """
    part, path = Part.parse(shard), Path(dst)
    if append and (overwrite or part):
        raise UserError("--append goes neither with --overwrite nor with --shard.")
    if workers < 1:
        raise UserError(f"--workers {workers}: at least 1 process must read.")
    old = Whole.read(path) if append else None
    plan = _Plan.make(format, Path(src), topology, clip_steps, options, old)
    how = {"overwrite": overwrite, "append": append, "restart": restart}
    if part is None:
        return plan.run(path, None, how, strict=strict, progress=progress, workers=workers)
    own = part.place(path, overwrite)
    if joining.finished(own) and not overwrite:
        report = ImportReport(own, Whole.read(own).meta.clips, notes=(f"shard {part} was there already",))
    else:
        report = plan.run(own, part, how, strict=strict, progress=progress, workers=workers)
    joined = joining.join(path, part, lambda names: _published(plan.reader, names))
    return replace(report, absent=joined.absent, notes=(*report.notes, joined.text))


@dataclass(frozen=True)
class _Plan:
    """A reader, what other processes must know of it, and the facts that go into ``meta.json``."""

    reader: Reader
    job: Job
    classes: tuple[str, ...]
    steps: list[dict[str, Any]]
    old: Whole | None

    @classmethod
    def make(
        cls, format: str, src: Path, topology: str | None, clip_steps: Sequence[ClipStep], options: dict[str, Any],
        old: Whole | None,
    ) -> _Plan:  # fmt: skip
        if topology is not None and "topology" in READERS.settings(format):
            options = {**options, "topology": topology}
        reader = damage.safely(src, lambda: READERS.create(format, src, **options))
        layout = topology or reader.topology
        if layout is None:
            raise UserError(f"{src}: the joint layout is not known from these files; say --topology.")
        changes, stored = bind(clip_steps, damage.layout(layout, src if topology is None else None))
        steps = [{"name": "import", "format": format, "options": options}, *map(dict, reader.steps)]
        steps += [step.record for step in changes]
        classes = tuple(str(name) for name in reader.classes)
        labels: tuple[int, ...] = ()
        if old is not None:
            classes, labels = old.classes, _labels(classes, old)
        job = Job(format, src, options, stored, reader.dims, len(classes), tuple(changes), labels)
        return cls(reader, job, classes, steps, old)

    def run(
        self, path: Path, part: Part | None, how: dict[str, Any], *, strict: bool, progress: bool, workers: int
    ) -> ImportReport:
        """Write the store, or one shard of it."""
        reader, src = self.reader, self.job.src
        whole = damage.safely(src, reader.items)
        items, titles = whole if part is None else part.cut(whole, src), _fingerprint(reader, whole)
        writer = StoreWriter(
            path, topology=self.job.topology, dims=reader.dims, classes=self.classes, units=reader.units,
            up=reader.up, source=reader.source, terms=reader.terms, modalities=reader.modalities,
            modality_facts=reader.modality_facts, steps=self.steps, work=self._work(titles, part, strict), **how,
        )  # fmt: skip
        writer.may_be_empty = part is not None
        with writer:
            resumed, absent = writer.resumed, 0
            before = len(writer) if resumed else 0
            with SkippedLog(writer.folder / "skipped.csv", writer.read_text("skipped.csv"), resumed.get("size")) as log:
                self._copy(items, writer, log, strict, progress, workers)
            skipped = tuple(log.items)
            if part is not None:
                writer.add_text(joining.FACTS, part.facts(len(whole), titles))
            elif len(writer) == (self.old.meta.clips if self.old else 0):
                raise UserError(f"{src}: no clip could be read; the first reason: {skipped[0].reason}")
            else:
                new = writer.names.difference(self.old.names if self.old else ())
                writer.protocols, absent = _published(reader, new)
        return ImportReport(path, len(writer), skipped, absent, before)

    def _copy(
        self, items: Sequence[Any], writer: StoreWriter, log: SkippedLog, strict: bool, progress: bool, workers: int
    ) -> None:
        """Write every clip from where the writer stands."""
        first, done = writer.resumed.get("item", 0), writer.resumed.get("events", 0)
        with closing(read(self.reader, self.job, items[first:], workers)) as stream:  # type: ignore[type-var]
            for item, events in enumerate(_bar(stream, first, len(items), progress), first):
                for place, event in enumerate(events):
                    if item == first and place < done:
                        continue
                    note = {"item": item, "events": place + 1, "size": log.size}
                    fault = _write(writer, event, note) if isinstance(event, Ready) else event
                    if fault is not None and strict:
                        raise UserError(fault.reason)
                    if fault is not None:
                        log.add(fault)

    def _work(self, titles: str, part: Part | None, strict: bool) -> dict[str, Any]:
        """What must be equal for an import to go on where another one ended."""
        return {
            "source": str(self.job.src.resolve()), "steps": self.steps, "topology": self.job.topology.to_dict(),
            "items": titles, "shard": str(part), "strict": strict, "classes": self.classes,
            "store that grows": self.old and self.old.meta.content_hash,
        }  # fmt: skip


def _write(writer: StoreWriter, ready: Ready, note: dict[str, int]) -> Skipped | None:
    """Write a clip; why it cannot stand in this store, if so."""
    try:
        writer.write(ready.clip, ready.title, digest=ready.digest, note=note)
    except Interrupted:
        raise
    except UserError as error:
        return Skipped(ready.title, ready.clip.name, shortened(str(error)))
    return None


def _labels(classes: Sequence[str], old: Whole) -> tuple[int, ...]:
    """The number in the old store of each new class."""
    for name in classes:
        if name not in old.classes:
            raise UserError(
                f"{old.path}: has no class '{name}', and a store that grows keeps its classes: "
                f"{', '.join(old.classes)}."
            )
    return tuple(old.classes.index(name) for name in classes)


def _fingerprint(reader: Reader, items: Sequence[Any]) -> str:
    """Tells these items from others by their number and titles."""
    made = blake2b(str(len(items)).encode(), digest_size=16)
    for item in items:
        made.update(reader.title(item).encode("utf-8", "surrogateescape") + b"\n")
    return made.hexdigest()


def _published(reader: Reader, names: frozenset[str]) -> tuple[dict[str, dict[str, list[str]]], int]:
    """The splits without clips that were skipped, and how many names went."""
    published = damage.safely(reader.src, lambda: reader.protocols(names))
    given = {name: {part: list(clips) for part, clips in parts.items()} for name, parts in published.items()}
    mentioned = {clip for parts in given.values() for clips in parts.values() for clip in clips}
    kept = {
        name: {part: [clip for clip in clips if clip in names] for part, clips in parts.items()}
        for name, parts in given.items()
    }
    check_splits(kept, names, str(reader.src))
    return kept, len(mentioned - names)


def _bar(stream: Iterator[Iterable[Any]], done: int, total: int, shown: bool) -> Iterable[Iterable[Any]]:
    if not shown:
        return stream
    from rich.console import Console
    from rich.progress import track

    return track(stream, "reading", total=total, completed=done, console=Console(stderr=True), transient=True)
