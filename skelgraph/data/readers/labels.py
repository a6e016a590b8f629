"""Whose clip is which class: by the folder a file lies in, by a table, or not at all.

A table is a csv file with a row a clip. ``clip`` is the clip's name: its path below the source, with or without
suffix, or the last part of it where that is unique. Further columns are ``label``, ``subject``, ``camera``, ``setup``,
``group`` and ``split`` (``train``, ``val``, ``test``). Kaggle's sign tables are read as they are: ``path`` or
``sequence_id`` stands for ``clip``, ``sign`` for ``label``, ``participant_id`` for ``subject``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from skelgraph.errors import UserError

FACTS = ("subject", "camera", "setup", "group")
COLUMNS = ("clip", "label", *FACTS, "split")
ALIASES = {"path": "clip", "sequence_id": "clip", "name": "clip", "sign": "label", "participant_id": "subject"}
PARTS = ("train", "val", "test")
LONGEST_FIELD = 100_000


@dataclass(frozen=True)
class Row:
    """What a table says about one clip; None = nothing."""

    label: str | None = None
    split: str | None = None
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Labels:
    """Rows of a table by clip name.

    Attributes:
        path: the table.
        rows: by the name as it stands there, without suffix.
        short: by the last part of the name, where only one row has it.
    """

    path: Path
    rows: Mapping[str, Row]
    short: Mapping[str, Row]

    def of(self, name: str) -> Row:
        """What is said about a clip.

        Raises:
            UserError: nothing.
        """
        row = self.rows.get(name) or self.short.get(PurePosixPath(name).name)
        if row is None:
            raise UserError(f"{self.path}: has no row for clip '{name}'.")
        return row


def read_labels(path: Path) -> Labels:
    """Read a table of labels.

    Raises:
        UserError: no such file, no column ``clip``, a clip listed twice, or an unknown part; names file and line.
    """
    rows: dict[str, Row] = {}
    last: dict[str, list[str]] = {}
    for line, values in _lines(path):
        name = _plain(values.get("clip", ""))
        if not name:
            raise UserError(f"{path}:{line}: has no clip name.")
        if name in rows:
            raise UserError(f"{path}:{line}: clip '{name}' is listed twice.")
        rows[name] = row_of(values, f"{path}:{line}")
        last.setdefault(PurePosixPath(name).name, []).append(name)
    if not rows:
        raise UserError(f"{path}: has no rows.")
    return Labels(path, rows, {short: rows[names[0]] for short, names in last.items() if len(names) == 1})


def row_of(values: Mapping[str, str | None], where: str) -> Row:
    """Label, part and facts of a clip from named texts; an empty text is nothing.

    Raises:
        UserError: a part that is none of train, val and test.
    """
    split = values.get("split") or None
    if split is not None and split not in PARTS:
        raise UserError(f"{where}: split '{split}' is none of {', '.join(PARTS)}.")
    facts = tuple((key, str(values[key])) for key in FACTS if values.get(key))
    return Row(values.get("label") or None, split, facts)


def class_names(labels: Iterable[str | None]) -> tuple[str, ...]:
    """Classes of some labels, sorted: by number where all are whole numbers, else as text."""
    names = {label for label in labels if label is not None}
    numbers = all(name.isdigit() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name), name) if numbers else (0, name)))


def _lines(path: Path) -> Iterable[tuple[int, dict[str, str]]]:
    """Line number and the known columns of each row, stripped."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            keys = {column: ALIASES.get(column.strip(), column.strip()) for column in table.fieldnames or ()}
            chosen = {key: column for column, key in reversed(keys.items()) if key in COLUMNS}
            if "clip" not in chosen:
                raise UserError(f"{path}:1: no column 'clip' (or path); the columns are {', '.join(keys) or 'none'}.")
            for row in table:
                yield table.line_num, {key: (row[column] or "").strip() for key, column in chosen.items()}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: no csv text ({error}).") from None


def _plain(name: str) -> str:
    """A name with forward slashes and without the suffix of a data file."""
    path = PurePosixPath(name.replace("\\", "/"))
    known = path.suffix.lower() in (".json", ".jsonl", ".npy", ".csv", ".parquet")
    return str(path.with_suffix("") if known else path) if name else ""
