"""What readers of a user's own recordings share: files below a folder, their names, labels, rates and splits."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from skelgraph.data.clip import Clip
from skelgraph.data.readers.base import Reader, need_items
from skelgraph.data.readers.labels import Row, class_names, read_labels
from skelgraph.errors import UserError

PROTOCOL = "own"
MAX_SIDE = 100_000
MOST_GAPS = 100


class OwnFiles(Reader):
    """Files or folders below ``src``, each of which holds one clip or several.

    Options that every such format has:

    Args:
        src: a file, or a folder with files at any depth.
        labels: ``folder``: a clip is of the class whose name its folder bears; ``none``: no labels; otherwise a csv
            table (`skelgraph.data.readers.labels`). By default folder where every file lies in a sub-folder, else none.
        fps: frames a second, where the files do not say.
        persons: at most so many people of a clip are kept, the largest and longest seen; 0 keeps all.
    """

    terms = "your own"
    suffixes: tuple[str, ...] = ()
    labelling = ("labels",)

    def __init__(self, src: Path, *, labels: str | None, fps: float | None, persons: int) -> None:
        super().__init__(src)
        if not src.exists():
            raise UserError(f"{src}: no such file or folder.")
        if fps is not None and (isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps <= 10_000):
            raise UserError(f"-o fps={fps}: a number of frames a second is wanted, e.g. fps=30.")
        if isinstance(persons, bool) or not isinstance(persons, int) or persons < 0:
            raise UserError(f"-o persons={persons}: a number of people is wanted, or 0 for all.")
        self.fps, self.persons = None if fps is None else float(fps), persons
        self.source, self._unlabelled = src.name, labels == "none"
        self._table = None if labels in (None, "folder", "none") else read_labels(_path(labels))
        self._items = need_items(self.find(), src, f"{' or '.join(self.suffixes)} file")
        nested = all(len(self.path_of(item).relative_to(self._root).parts) > 1 for item in self._items)
        self._by_folder = labels == "folder" or (labels is None and nested)
        if labels == "folder" and not nested:
            flat = next(i for i in self._items if len(self.path_of(i).relative_to(self._root).parts) < 2)
            raise UserError(f"{self.path_of(flat)}: lies in no sub-folder that could name its class; see -o labels.")
        self.classes = self._class_names()

    @property
    def _root(self) -> Path:
        return self.src if self.src.is_dir() else self.src.parent

    def find(self) -> Sequence[Any]:
        """The items; by default all files of the format, the table of labels left out."""
        return self.files(self.src)

    def files(self, src: Path) -> list[Path]:
        """Files with a suffix of the format, in natural order, hidden ones and the table of labels left out."""
        if src.is_file():
            return [src]
        table = self._table.path.resolve() if self._table else None
        found = (path for path in src.rglob("*") if path.suffix.lower() in self.suffixes and path.is_file())
        visible = [path for path in found if not any(part.startswith(".") for part in path.relative_to(src).parts)]
        return sorted((path for path in visible if path.resolve() != table), key=natural)

    def items(self) -> Sequence[Any]:
        return self._items

    def poses(self, item: Any) -> Iterator[Clip]:
        """As `read`, but a folder's name is no label: the folder is another one than in training."""
        return (replace(clip, label=None) for clip in self.read(item))

    def path_of(self, item: Any) -> Path:
        """The file or folder of an item."""
        return Path(item)

    def title(self, item: Any) -> str:
        return str(self.path_of(item))

    def name_of(self, item: Any) -> str:
        """The clip's name: its path below the source, without suffix."""
        path = self.path_of(item).relative_to(self._root)
        return (path.with_suffix("") if path.suffix.lower() in self.suffixes else path).as_posix()

    def row(self, item: Any, name: str) -> Row:
        """What is known about a clip by its folder or by the table.

        Raises:
            UserError: the table does not know it.
        """
        if self._table is not None:
            return self._table.of(name)
        return Row(self.path_of(item).parent.name) if self._by_folder else Row()

    def facts(self, item: Any, name: str) -> dict[str, Any]:
        """Label and facts of a clip, as fields of `Clip`."""
        return self.fields(self.row(item, name))

    def fields(self, row: Row) -> dict[str, Any]:
        """A row as fields of `Clip`."""
        return {"label": None if row.label is None else self.classes.index(row.label), **dict(row.facts)}

    def protocols(self, names: Collection[str]) -> Mapping[str, Mapping[str, Iterable[str]]]:
        return {} if self._table is None else as_protocol((name, self._table.of(name).split) for name in names)

    def _class_names(self) -> tuple[str, ...]:
        """Classes of all clips; one that the table does not know is told when it is read."""
        if self._table is not None:
            return class_names(row.label for row in self._table.rows.values())
        return class_names(self.row(item, "").label for item in self._items)


def as_protocol(splits: Iterable[tuple[str, str | None]]) -> dict[str, dict[str, list[str]]]:
    """The protocol ``own`` from clip names with their parts; none where no clip has one."""
    parts: dict[str, list[str]] = {}
    for name, part in sorted(splits, key=lambda pair: natural(pair[0])):
        if part is not None:
            parts.setdefault(part, []).append(name)
    return {PROTOCOL: parts} if parts else {}


def natural(path: Any) -> list[Any]:
    """Sort key by which frame 2 comes before frame 10."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def frame_places(numbers: Sequence[int], where: str) -> list[int]:
    """Frames from 0 for numbered pictures; a number left out is a frame in which nobody was found.

    Where only every k-th number occurs, they count as neighbours.

    Raises:
        UserError: the numbers lie so far apart that they cannot be frame numbers.
    """
    first = min(numbers)
    stride = math.gcd(*(number - first for number in numbers)) or 1
    places = [(number - first) // stride for number in numbers]
    if max(places) > MOST_GAPS * (len(set(places)) + 10):
        raise UserError(f"{where}: its pictures are numbered {first} to {max(numbers)}, which cannot be frame numbers.")
    return places


def parse_image(text: Any, option: str = "image") -> tuple[int, int] | None:
    """Height and width from ``1280x720`` (width first, as cameras say).

    Raises:
        UserError: no such text.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", str(text).strip().lower())
    sides = (int(match[2]), int(match[1])) if match else (0, 0)
    if not all(0 < side <= MAX_SIDE for side in sides):
        raise UserError(f"-o {option}={text}: write width and height of the picture in pixels, e.g. {option}=1280x720.")
    return sides


def _path(text: Any) -> Path:
    if not isinstance(text, str):
        raise UserError(f"-o labels={text}: 'folder', 'none', or a csv file is wanted.")
    return Path(text)
