"""Which file, or which part of one, holds a modality of which clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from skelgraph.data.media import ARRAYS, PICTURES, VIDEOS, ArraySteps, Size, Steps, open_steps
from skelgraph.data.store import Store
from skelgraph.errors import UserError

TABLES = (".csv", ".tsv")
TIME = ("time", "times", "timestamp", "timestamps", "seconds", "t")
VALUES = ("values", "frames")


@dataclass(frozen=True)
class Source:
    """A modality of one clip.

    Attributes:
        title: how it is called in messages.
        open: reads it, or its outline.
        path: pictures or a video that can stay where they are; None = the values go into the store.
    """

    title: str
    open: Callable[[], Steps]
    path: Path | None = None


def found_in(sources: Sequence[Path], suffix: str, size: Size | None) -> dict[str, Source]:
    """Everything that is called after something, by that name.

    Args:
        sources: folders and files.
        suffix: removed from the end of names; names without it do not count.
        size: of pictures and videos that are read.

    Raises:
        UserError: a source is not there or is damaged, or two bear one name.
    """
    found: dict[str, Source] = {}
    for source in sources:
        if not source.exists():
            raise UserError(f"{source}: no such file or folder.")
        for name, item in _inside(source, size):
            if not name.endswith(suffix):
                continue
            name = name.removesuffix(suffix)
            if name in found:
                raise UserError(f"{item.title} and {found[name].title}: two sources for one clip.")
            found[name] = item
    return found


def _inside(source: Path, size: Size | None) -> Iterator[tuple[str, Source]]:
    if (source / "meta.json").is_file():
        return _joints(source)
    return _whole_file(source) if source.suffix == ".npz" else _files(source, size)


def _joints(path: Path) -> Iterator[tuple[str, Source]]:
    """The joints of another store ``(T, M, V, C)``, in pixels of a known picture from -1 to 1; missing ones are 0."""
    store = Store.open(path)
    persons = int(store.persons.max())
    for row, name in enumerate(store.names):
        yield name, Source(f"{path}: {name}", partial(_joints_of, store, row, persons))


def _joints_of(store: Store, row: int, persons: int) -> Steps:
    keypoints, score = store.row(row)
    side = store.image_sizes[row, ::-1]
    if keypoints.shape[-1] == 2 and np.isfinite(side).all():
        keypoints = np.where(score[..., None] > 0, 2 * keypoints / side - 1, 0)
    whole = np.zeros((keypoints.shape[1], persons, *keypoints.shape[2:]), np.float32)
    whole[:, : len(keypoints)] = keypoints.swapaxes(0, 1)
    return ArraySteps(whole, None, "sequence")


def _files(source: Path, size: Size | None) -> Iterator[tuple[str, Source]]:
    if source.is_dir():
        inside = sorted(source.iterdir())
        if any(item.suffix.lower() in PICTURES for item in inside):
            yield source.name, Source(str(source), lambda: open_steps(source, size=size), source)
            return
        for item in inside:
            yield from _files(item, size)
    elif source.suffix.lower() in TABLES:
        yield source.stem, Source(str(source), lambda: read_table(source))
    elif source.suffix.lower() in VIDEOS:
        yield source.stem, Source(str(source), lambda: open_steps(source, size=size), source)
    elif source.suffix.lower() in ARRAYS:
        yield source.stem, Source(str(source), lambda: open_steps(source))


def _whole_file(path: Path) -> Iterator[tuple[str, Source]]:
    """Clips of an .npz: one after another with ``offsets`` and ``names``, or an array for each."""
    try:
        file = np.load(path, allow_pickle=False)
        keys = set(file.files)
        values = next((key for key in VALUES if key in keys), None)
        if values is None or not {"offsets", "names"} <= keys:
            for key in file.files:
                yield key, Source(f"{path}: {key}", _array(file[key]))
            return
        steps, offsets, names = file[values], file["offsets"], file["names"]
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise UserError(f"{path}: damaged or no plain arrays ({error}).") from None
    if offsets.shape != (len(names) + 1,) or offsets.dtype.kind not in "iu" or (np.diff(offsets) < 0).any():
        raise UserError(f"{path}: 'offsets' must be {len(names) + 1} numbers that go up, one more than 'names'.")
    for place, name in enumerate(names):
        part = steps[offsets[place] : offsets[place + 1]]
        yield str(name), Source(f"{path}: {name}", _array(part))


def _array(values: np.ndarray) -> Callable[[], Steps]:
    def opened() -> Steps:
        if values.ndim < 1 or not values.size or values.dtype.kind not in "fiu":
            raise UserError(f"{values.dtype} of shape {values.shape}, no steps of numbers.")
        return ArraySteps(values)

    return opened


def read_table(path: Path) -> Steps:
    """A table with a step in each row; a column called time, timestamp or seconds tells when.

    The first row may name the columns. An empty cell is missing, and so is then its step.

    Raises:
        UserError: damaged, empty, or something in it is no number; names the column.
    """
    import pyarrow as pa
    from pyarrow import csv

    try:
        with open(path, encoding="utf-8-sig") as file:
            mark = "\t" if path.suffix.lower() == ".tsv" else ","
            named = not all(map(_is_number, file.readline().strip().split(mark)))
        table = csv.read_csv(
            path, csv.ReadOptions(autogenerate_column_names=not named), csv.ParseOptions(delimiter=mark)
        )
    except (OSError, UnicodeDecodeError, pa.ArrowInvalid) as error:
        raise UserError(f"{path}: no table ({str(error).splitlines()[0]}).") from None
    if not table.num_rows:
        raise UserError(f"{path}: has no row.")
    columns = {}
    for name in table.column_names:
        try:
            columns[name.strip().lower()] = table[name].cast(pa.float64()).to_numpy()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise UserError(f"{path}: column '{name}' is not all numbers.") from None
    times = next((columns.pop(key) for key in TIME if key in columns), None)
    if not columns:
        raise UserError(f"{path}: has no column beside the time.")
    return ArraySteps(np.stack(list(columns.values()), axis=1).astype(np.float32), times, "sequence")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.strip() == ""
    return True
