"""Reads the items of a source, in this process or in several, always in their order."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any, NamedTuple

from skelgraph import plugins
from skelgraph.data.clip import Clip
from skelgraph.data.clip_steps import ClipStep, apply
from skelgraph.data.content_hash import clip_digest
from skelgraph.data.readers.base import READERS, Reader
from skelgraph.data.readers.damage import reason
from skelgraph.data.writer import Interrupted
from skelgraph.errors import UserError
from skelgraph.topology import Topology

CHUNK = 32  # items that go to a worker at once
AHEAD = 3  # chunks in the making for each worker


@dataclass(frozen=True)
class Skipped:
    """Something that could not be read: the work item, the clip if it got that far, and why."""

    item: str
    clip: str
    reason: str


class Ready(NamedTuple):
    """A clip that has been checked, its digest, and the item it came from."""

    clip: Clip
    digest: bytes
    title: str


@dataclass(frozen=True)
class Job:
    """All that another process must know to read items as this one does.

    Attributes:
        format, src, options: how the reader is made.
        topology, dims, classes: what every clip is held against; ``classes`` is their number.
        steps: what is done to every clip.
        labels: the class number in the store by that of the reader; empty = they are equal.
        plugins: files of the user that may have registered the format.
    """

    format: str
    src: Path
    options: dict[str, Any]
    topology: Topology
    dims: int
    classes: int
    steps: tuple[ClipStep, ...] = ()
    labels: tuple[int, ...] = ()
    plugins: tuple[str, ...] = field(default_factory=lambda: tuple(_plugin_files()))

    def reader(self) -> Reader:
        """A reader of one's own."""
        plugins.load(self.plugins)
        made: Reader = READERS.create(self.format, self.src, **self.options)
        return made

    def finished(self, clip: Clip, title: str) -> Clip:
        """The clip as the store will have it.

        Raises:
            UserError: it is faulty.
        """
        clip = apply(self.steps, clip)
        if self.labels:
            clip = replace(
                clip, label=None if clip.label is None else self._label(clip.label),
                segments=clip.segments and tuple((s, e, self._label(label)) for s, e, label in clip.segments),
            )  # fmt: skip
        clip.check(self.topology, self.dims, self.classes, title)
        return clip

    def _label(self, label: int) -> int:
        return self.labels[label] if 0 <= label < len(self.labels) else self.classes


def events(reader: Reader, job: Job, item: Any) -> Iterator[Ready | Skipped]:
    """Every clip of an item, or why it is left out. A faulty clip does not spoil the others of its item."""
    title = reader.title(item)
    try:
        for clip in reader.read(item):
            try:
                clip = job.finished(clip, title)
            except UserError as error:
                yield Skipped(title, clip.name, reason(title, error))
            else:
                yield Ready(clip, clip_digest(clip), title)
    except Exception as error:
        # Damage that a reader did not foresee must not end an import of many hours.
        yield Skipped(title, "", reason(title, error))


def read(reader: Reader, job: Job, items: Sequence[Any], workers: int) -> Iterator[Iterable[Ready | Skipped]]:
    """The events of each item in order.

    Args:
        reader: for reading in this process.
        job: for reading in others.
        items: of the reader.
        workers: processes; 1 = this one alone. A reader that holds its whole source never gets further ones.

    Raises:
        UserError: a worker died, or cannot make the reader.
    """
    if workers > 1 and not reader.in_memory and len(items) > 1:
        return _read_in_pool(job, items, workers)
    return (events(reader, job, item) for item in items)


def _read_in_pool(job: Job, items: Sequence[Any], workers: int) -> Iterator[Iterable[Ready | Skipped]]:
    size = max(1, min(CHUNK, len(items) // (4 * workers)))
    # Spawned and not forked: whoever imports from a notebook has threads, which a fork would break.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin, initargs=(job,))
    waiting: deque[Future[list[list[Ready | Skipped]]]] = deque()
    try:
        for start in range(0, len(items), size):
            waiting.append(pool.submit(_read_chunk, list(items[start : start + size])))
            if len(waiting) > AHEAD * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool:
        raise Interrupted(
            f"{job.src}: a worker process died, perhaps for want of memory; the same command goes on, with fewer "
            "--workers if it happens again. A script that imports needs its 'if __name__ == \"__main__\":'."
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


_JOB: Job | None = None
_READER: Reader | None = None


def _begin(job: Job) -> None:
    """Start of a worker: remember the job, and leave when the parent is gone, however that came."""
    global _JOB
    _JOB = job
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()


def _leave_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


def _read_chunk(items: list[Any]) -> list[list[Ready | Skipped]]:
    global _READER
    assert _JOB is not None
    if _READER is None:
        _READER = _JOB.reader()
    return [list(events(_READER, _JOB, item)) for item in items]


def _plugin_files() -> Iterator[str]:
    for name, module in list(sys.modules.items()):
        if name.startswith(plugins.PREFIX) and module.__file__:
            yield module.__file__
