"""Joints in csv or parquet tables: the form that any program can write."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from skelgraph.data.clip import Clip
from skelgraph.data.readers.base import READERS
from skelgraph.data.readers.csv_columns import FRAME, JOINT, PERSON, TIME, Columns, find_columns, joint_places
from skelgraph.data.readers.labels import FACTS, Row, class_names, row_of
from skelgraph.data.readers.own_files import OwnFiles, as_protocol, parse_image
from skelgraph.data.readers.table_file import SUFFIXES, floats, line, load_table, texts
from skelgraph.errors import UserError

MOST_VALUES = 500_000_000
CLIP = "clip"
KEYS = ("label", *FACTS, "split")


class Part(NamedTuple):
    """A clip of a table: the file, the clip's name there ("" = the whole file)."""

    path: Path
    clip: str


@READERS.register("csv")
class CsvTable(OwnFiles):
    """Own joints as csv or parquet, a row a frame (wide) or a row a joint (long).

    Columns of joints are described in `skelgraph.data.readers.csv_columns`. Further columns: ``clip`` (several clips in
    one file; else a file is a clip), ``frame`` (else rows are frames in order) or ``time`` in seconds, ``person``,
    and, the same in every row of a clip, ``label, subject, camera, setup, group, split``. An empty cell or NaN in a
    coordinate is a missing joint; a frame number that is left out is a frame in which nobody is seen.

    Args:
        src: a file, or a folder with files at any depth.
        topology: the layout; by default the shipped one that has just the joints of the first file.
        units: of the coordinates; by default pixels in 2-D.
        up: the axis that points up, e.g. ``-y``; by default -y in 2-D.
        image: size of the picture as ``1280x720``.
        labels, fps, persons: see `OwnFiles`; a column ``label`` goes before folders.
    """

    suffixes = SUFFIXES
    in_memory = True

    def __init__(
        self, src: Path, *, topology: str | None = None, units: str | None = None, up: str | None = None,
        image: str | None = None, labels: str | None = None, fps: float | None = None, persons: int = 0,
    ) -> None:  # fmt: skip
        self._rows: dict[Part, Row] = {}
        self.topology, self.image = topology, parse_image(image)
        super().__init__(src, labels=labels, fps=fps, persons=persons)
        first = self._columns(self._items[0].path)
        self.topology, self.dims = topology or first.topology.name, len(first.axes)
        self.steps = [{"name": "order persons", "by": "joints seen, most first"}]
        self.units = str(units) if units is not None else ("pixels" if self.dims == 2 else "")
        self.up = str(up) if up is not None else ("-y" if self.dims == 2 else None)

    def find(self) -> list[Part]:
        parts = []
        for path in self.files(self.src):
            table = load_table(path)
            names = texts(table, CLIP) if CLIP in table.column_names else [""] * table.num_rows
            if CLIP in table.column_names and "" in names:
                raise UserError(f"{line(names.index(''), path)}: the column 'clip' is empty.")
            found = [Part(path, name) for name in dict.fromkeys(names)]
            self._rows |= dict(zip(found, _clip_rows(table, names, path), strict=True))
            parts += found
        return parts

    def path_of(self, item: Part) -> Path:
        return item.path

    def title(self, item: Part) -> str:
        return f"{item.path}, clip '{item.clip}'" if item.clip else str(item.path)

    def name_of(self, item: Part) -> str:
        return item.clip or super().name_of(item)

    def row(self, item: Part, name: str) -> Row:
        own = self._rows[item]
        if self._unlabelled:
            return replace(own, label=None)
        if self._table is None and own.label is not None:
            return own
        other = super().row(item, name or self.name_of(item))
        return Row(other.label, other.split or own.split, tuple((dict(own.facts) | dict(other.facts)).items()))

    def protocols(self, names: Collection[str]) -> Mapping[str, Mapping[str, Iterable[str]]]:
        splits = ((self.name_of(item), item) for item in self._items)
        return as_protocol((name, self.row(item, name).split) for name, item in splits if name in names)

    def read(self, item: Part) -> Iterator[Clip]:
        columns, table = self._columns(item.path), _loaded(item.path)
        if len(columns.axes) != self.dims:
            raise UserError(f"{item.path}: has the axes {', '.join(columns.axes)}, the first file had {self.dims}.")
        rows = np.arange(table.num_rows)
        if item.clip:
            rows = _rows_by_clip(item.path)[item.clip]
            table = table.take(pa.array(rows))
        points, times = _Arrays(table, columns, item.path, rows).clip(self.persons)
        name = self.name_of(item)
        seen = np.isfinite(points).all(-1) & (points[..., -1] > 0)
        yield Clip.of(
            name, np.where(seen[..., None], points[..., :-1], 0), np.where(seen, points[..., -1], 0),
            fps=None if times is not None else self.fps, timestamps=times, image_size=self.image,
            **self.facts(item, name),
        )  # fmt: skip

    def _columns(self, path: Path) -> Columns:
        return _described(path, self.topology)

    def _class_names(self) -> tuple[str, ...]:
        if self._table is not None:
            return super()._class_names()
        return class_names(self.row(item, "").label for item in self._items)


@lru_cache(maxsize=2)
def _loaded(path: Path) -> pa.Table:
    """A file that holds many clips is read once for all of them; rows are taken from one piece, not from many."""
    return load_table(path).combine_chunks()


@lru_cache(maxsize=2)
def _rows_by_clip(path: Path) -> dict[str, np.ndarray]:
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(texts(_loaded(path), CLIP)):
        rows.setdefault(name, []).append(row)
    return {name: np.array(places) for name, places in rows.items()}


@lru_cache(maxsize=2)
def _described(path: Path, topology: str | None) -> Columns:
    table = _loaded(path)
    joints = texts(table, JOINT) if JOINT in table.column_names else None
    return find_columns(table.column_names, joints, topology, path)


def _clip_rows(table: pa.Table, names: list[str], path: Path) -> list[Row]:
    """What the columns ``label``, ``subject``, ... say about each clip, in the order of their first rows."""
    columns = {key: texts(table, key) for key in KEYS if key in table.column_names}
    firsts: dict[str, int] = {}
    for place, name in enumerate(names):
        first = firsts.setdefault(name, place)
        for key, values in columns.items():
            if values[place] != values[first]:
                clip = f" of clip '{name}'" if name else ""
                raise UserError(
                    f"{line(place, path)}: {key} '{values[place]}' differs from the '{values[first]}' before{clip}."
                )
    return [row_of({key: values[row] for key, values in columns.items()}, line(row, path)) for row in firsts.values()]


class _Arrays:
    """The rows of one clip as an array.

    Args:
        table: its rows.
        columns: what they hold.
        path, rows: file and row numbers, for messages.
    """

    def __init__(self, table: pa.Table, columns: Columns, path: Path, rows: np.ndarray) -> None:
        self.table, self.columns, self.path, self.rows = table, columns, path, rows

    def clip(self, persons: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Points (M, T, V, C + 1), the score last, NaN where missing; and seconds (T,), where there is a time."""
        frame, times = self._frames()
        names = texts(self.table, PERSON) if PERSON in self.table.column_names else [""] * len(self.rows)
        people = list(dict.fromkeys(names))
        person = np.array([people.index(name) for name in names])
        joints, axes = len(self.columns.topology.joints), self.columns.axes
        count = int(frame.max()) + 1
        if len(people) * count * joints * len(axes) > MOST_VALUES:
            raise UserError(
                f"{self.path}: {len(people)} persons in {count} frames are too many for one clip; is the column "
                "'frame' a frame number and 'person' a person?"
            )
        points = np.full((len(people), count, joints, len(axes) + 1), np.nan)
        if self.columns.wide:
            self._wide(points, person, frame)
        else:
            self._long(points, person, frame)
        seen = (np.isfinite(points).all(-1)).sum((1, 2))
        order = np.argsort(-seen, kind="stable")[: persons or None]
        return points[order], times

    def _frames(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Frame of each row from 0, and seconds of each frame."""
        names = self.table.column_names
        times = self._column(TIME) if TIME in names else None
        if FRAME in names:
            number = self._column(FRAME)
            wrong = np.flatnonzero(number != np.floor(number))
            if len(wrong):
                raise UserError(f"{self._line(wrong[0])}: frame {number[wrong[0]]:g} is no whole number.")
            frame = (number - number.min()).astype(np.int64)
            if times is None:
                return frame, None
            even = np.unique(frame)
            if len(even) != even[-1] + 1:
                raise UserError(f"{self.path}: with a column 'time', frame numbers must not leave any out.")
        elif times is not None:
            _, frame = np.unique(times, return_inverse=True)
        elif JOINT in names or PERSON in names:
            raise UserError(f"{self.path}:1: several rows make a frame, so a column 'frame' or 'time' is needed.")
        else:
            return np.arange(len(self.rows)), None
        seconds = np.zeros(int(frame.max()) + 1)
        seconds[frame] = times
        if (np.diff(seconds) <= 0).any():
            raise UserError(f"{self.path}: time does not rise with the frames.")
        return frame, seconds if len(seconds) > 1 else None

    def _column(self, name: str) -> np.ndarray:
        values = floats(self.table, [name], self.path)[:, 0]
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            raise UserError(f"{self._line(wrong[0])}: {name} is empty or no number.")
        return values

    def _wide(self, points: np.ndarray, person: np.ndarray, frame: np.ndarray) -> None:
        self._once(person, frame, np.zeros_like(frame))
        axes = [*self.columns.axes, "score"]
        numbers = floats(self.table, list(self.columns.wide.values()), self.path)
        for place, (joint, kind) in enumerate(self.columns.wide):
            points[person, frame, joint, axes.index(kind)] = numbers[:, place]
        unscored = [joint for joint in range(points.shape[2]) if (joint, "score") not in self.columns.wide]
        points[..., unscored, -1] = 1.0

    def _long(self, points: np.ndarray, person: np.ndarray, frame: np.ndarray) -> None:
        names = texts(self.table, JOINT)
        places = joint_places(names, self.columns, self.path)
        joint = np.array([places[name] for name in names])
        self._once(person, frame, joint)
        points[person, frame, joint, :-1] = floats(self.table, self.columns.axes, self.path)
        score = self.columns.score
        points[person, frame, joint, -1] = 1.0 if score is None else floats(self.table, [score], self.path)[:, 0]

    def _once(self, person: np.ndarray, frame: np.ndarray, joint: np.ndarray) -> None:
        """Raise where two rows are about the same."""
        keys = np.stack([person, frame, joint], 1)
        _, first = np.unique(keys, axis=0, return_index=True)
        if len(first) < len(keys):
            row = int(np.setdiff1d(np.arange(len(keys)), first)[0])
            raise UserError(f"{self._line(row)}: the same person, frame and joint as in a row before.")

    def _line(self, row: Any) -> str:
        return line(int(self.rows[row]), self.path)
