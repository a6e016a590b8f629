"""Text files of numbers, one frame a line, for the readers of data sets that come so."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from skelgraph.errors import UserError


def read_lines(path: Path) -> list[str]:
    """The lines of a text file.

    Raises:
        UserError: it cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({type(error).__name__}: {str(error)[:80]}).") from None


def number_rows(path: Path, width: int) -> tuple[np.ndarray, list[int]]:
    """A file with the same count of blank-separated numbers in every line; empty lines are passed over.

    Args:
        path: the file.
        width: how many numbers a line has.

    Returns:
        ``(rows, width)`` float64, and the line of each row, counted from 1.

    Raises:
        UserError: no such file, no row, a line with another count or with something that is no finite number; names
            the line.
    """
    rows, places = [], []
    for number, line in enumerate(read_lines(path), 1):
        fields = line.split()
        if fields:
            if len(fields) != width:
                raise UserError(f"{path}:{number}: {len(fields)} numbers, a frame has {width}.")
            rows.append([_number(field, f"{path}:{number}") for field in fields])
            places.append(number)
    if not rows:
        raise UserError(f"{path}: empty, no frame in it.")
    return np.array(rows), places


def whole_rows(path: Path, width: int) -> list[tuple[int, list[int]]]:
    """A list with the same count of whole numbers in every line, as (line, numbers).

    Raises:
        UserError: as `number_rows`, or a number that is not whole.
    """
    values, places = number_rows(path, width)
    for row, place in zip(values, places, strict=True):
        if (row != np.rint(row)).any():
            raise UserError(f"{path}:{place}: {row[row != np.rint(row)][0]:g} is no whole number.")
    return [(place, [int(value) for value in row]) for row, place in zip(values, places, strict=True)]


def _number(field: str, where: str) -> float:
    try:
        value = float(field)
    except ValueError:
        raise UserError(f"{where}: '{field[:30]}' is not a number.") from None
    if not math.isfinite(value):
        raise UserError(f"{where}: '{field[:30]}' is not a finite number.")
    return value
