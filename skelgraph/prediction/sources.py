"""INPUT of ``skelgraph predict``: a store, a file or folder of any known format, an array, a recorded stream."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from skelgraph.data.clip import Clip
from skelgraph.data.readers import READERS, Reader, damage
from skelgraph.data.readers.json_file import load_json
from skelgraph.data.readers.npy import load_array
from skelgraph.data.store import Store
from skelgraph.errors import UserError, unknown
from skelgraph.prediction.inputs import as_clips
from skelgraph.prediction.stream import clip_of_frames
from skelgraph.topology import Topology

OWN = ("store", "npy", "jsonl")


@dataclass
class Source:
    """Clips of one INPUT.

    Attributes:
        format: a name in `READERS`, or one of `OWN`.
        topology: of the joints; None where the files do not say.
        stored: the clips come out of a store.
        clips: reads them, one after another; what is damaged is left out and listed in ``skipped``.
        store: where it is one.
        skipped: why something was left out.
    """

    format: str
    topology: Topology | None
    stored: bool
    clips: Callable[[], Iterator[Clip]]
    store: Store | None = None
    skipped: list[str] = field(default_factory=list)


def open_input(
    path: Path, format: str | None = None, topology: str | None = None, steps: Sequence[Mapping[str, Any]] = (),
    fps: float | None = None,
) -> Source:  # fmt: skip
    """Find out what ``path`` is; labels are not needed.

    Args:
        path: file or folder.
        format: in place of a guess: a name in `READERS`, ``store``, ``npy`` or ``jsonl``.
        topology: joint layout (name or file) in place of the files' own.
        steps: of the import of the training data: its format is tried first, with the options it was given.
        fps: frames a second of a recorded stream.

    Raises:
        UserError: nothing there, no known format, or several; says what to do.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder.")
    layout = None if topology is None else Topology.load(topology)
    kind = format or _own(path)
    if kind == "store":
        store = Store.open(path)
        return Source("store", store.topology, True, lambda: iter(store), store)
    if kind == "npy":
        return Source("npy", layout, False, lambda: iter(_arrays(path)))
    if kind == "jsonl":
        return Source("jsonl", layout, False, lambda: iter([_recorded(path, fps)]))
    if format is not None and format not in READERS:
        raise unknown("format", format, [*READERS.names(), *OWN], "--format")
    trained = next((step for step in steps if step.get("name") == "import" and str(step.get("format")) in READERS), {})
    reader, items, name = _Finder(path, topology, str(trained.get("format", "")), trained.get("options") or {})(format)
    if layout is None and reader.topology is not None:
        layout = damage.layout(reader.topology, path)
    source = Source(name, layout, False, lambda: _read(reader, items, source))
    return source


def _own(path: Path) -> str | None:
    if (path / "meta.json").is_file():
        return "store"
    return path.suffix[1:].lower() if path.suffix.lower() in {".npy", ".jsonl"} else None


@dataclass(frozen=True)
class _Finder:
    """Finds the reader of a path.

    Attributes:
        path: file or folder.
        topology: joint layout that the user named.
        trained, options: format of the training data, and what its reader was told.
    """

    path: Path
    topology: str | None
    trained: str
    options: Mapping[str, Any]

    def __call__(self, format: str | None) -> tuple[Reader, Sequence[Any], str]:
        """The reader named, that of the training data, or the only one that can read the path; and its items."""
        if format is not None:
            return *self._open(format), format
        first = ""
        if self.trained:
            try:
                return *self._tried(self.trained), self.trained
            except UserError as error:
                first = f" (as {self.trained}, like the training data: {error})"
        found: dict[str, tuple[Reader, Sequence[Any]]] = {}
        for name in sorted(READERS.names(), key=lambda name: len(READERS.get(name).__mro__)):
            if any(issubclass(READERS.get(name), READERS.get(other)) for other in found):
                continue  # a data set's own form of a format that reads it already
            try:
                found[name] = self._tried(name)
            except UserError:
                continue
        if not found and self.path.is_file() and self.path.suffix.lower() == ".json":
            load_json(self.path)  # says in which line it is broken, so that nobody looks for a format
        if len(found) != 1:
            nothing = f"no pose format that is known by itself{first}"
            what = f"could be {' or '.join(sorted(found))}" if found else nothing
            formats = ", ".join([*READERS.names(), *OWN])
            raise UserError(f"{self.path}: {what}; name it with --format ({formats}).")
        name, (reader, items) = next(iter(found.items()))
        return reader, items, name

    def _open(self, name: str) -> tuple[Reader, Sequence[Any]]:
        """A reader and what it is to read: a single file, or all items of its source."""
        return damage.safely(self.path, lambda: self._made(name))

    def _made(self, name: str) -> tuple[Reader, Sequence[Any]]:
        kind = READERS.get(name)
        told = self.options if name == self.trained else {}
        options = {key: value for key, value in told.items() if key not in kind.labelling}
        if self.topology is not None and "topology" in READERS.settings(name):
            options["topology"] = self.topology
        if self.path.is_file() and kind.pattern:
            return READERS.create(name, self.path.parent, **options), [self.path]
        reader: Reader = READERS.create(name, self.path, **options)
        return reader, reader.items()

    def _tried(self, name: str) -> tuple[Reader, Sequence[Any]]:
        """As `_open`, if one of the first items can be read."""
        pattern = READERS.get(name).pattern
        if self.path.is_file() and pattern and not fnmatch.fnmatch(self.path.name, pattern):
            raise UserError(f"{self.path}: not of the form {pattern}.")
        reader, items = self._open(name)
        why = f"{self.path}: no clip."
        for item in items[:3]:
            try:
                clip = next(reader.poses(item), None)
                if clip is not None and clip.score.size and clip.keypoints.shape[-1] in (2, 3):
                    return reader, items
            except Exception as error:
                why = damage.reason(reader.title(item), error)
        raise UserError(why)


def _read(reader: Reader, items: Sequence[Any], source: Source) -> Iterator[Clip]:
    read = 0
    for item in items:
        try:
            for clip in reader.poses(item):
                read += 1
                yield clip
        except Exception as error:
            source.skipped.append(damage.reason(reader.title(item), error))
    if not read and source.skipped:
        raise UserError(f"no clip could be read; the first reason: {source.skipped[0]}")


def _arrays(path: Path) -> list[Clip]:
    """Clips of an npy file (T, V, C), (M, T, V, C) or (N, M, T, V, C)."""
    try:
        clips = as_clips(load_array(path))
    except UserError as error:
        raise UserError(damage.reason(str(path), error)) from None
    return [replace(clip, name=clip.name.replace("clip", path.stem, 1)) for clip in clips]


def _recorded(path: Path, fps: float | None) -> Clip:
    try:
        with path.open(encoding="utf-8") as lines:
            return clip_of_frames(lines, path.stem, str(path), fps)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}).") from None
