"""Tables of numbers from csv and parquet files, read by pyarrow; damage is named by line and column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from skelgraph.data.readers.declared import need_size
from skelgraph.errors import UserError

MOST_CELLS = 2_000_000_000
MISSING = ["", "nan", "NaN", "NAN", "NA", "null", "None"]
SUFFIXES = (".csv", ".parquet")


def load_table(path: Path) -> pa.Table:
    """A csv or parquet file, whole; an empty cell is null.

    Raises:
        UserError: unreadable, damaged, without rows, a column named twice, or more cells than memory should hold.
    """
    try:
        table = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({_first(error)}).") from None
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no sound {path.suffix[1:] or 'csv'} table ({_first(error)}).") from None
    names = [name.strip() for name in table.column_names]
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise UserError(f"{path}:1: the column '{twice}' is there twice.")
    if not table.num_rows:
        raise UserError(f"{path}: has no rows.")
    return table.rename_columns(names)


def floats(table: pa.Table, names: Sequence[str], path: Path) -> np.ndarray:
    """Columns side by side, ``(rows, len(names))`` float64; null is NaN.

    Raises:
        UserError: a cell that is no number; names line and column.
    """
    result = np.empty((table.num_rows, len(names)), np.float64)
    for place, name in enumerate(names):
        values = table[name]
        if pa.types.is_dictionary(values.type) or pa.types.is_string(values.type):
            values = _numbers(values, name, path)
        elif not (
            pa.types.is_floating(values.type) or pa.types.is_integer(values.type) or pa.types.is_null(values.type)
        ):
            raise UserError(f"{path}: column '{name}' holds {values.type}, no numbers.")
        result[:, place] = values.cast(pa.float64()).fill_null(float("nan")).to_numpy()
    return result


def texts(table: pa.Table, name: str) -> list[str]:
    """A column as texts; null is an empty one, and a number like 3.0 is '3'."""
    values = table[name].combine_chunks().to_pylist()
    return ["" if item is None else _text(item) for item in values]


def line(row: int, path: Path) -> str:
    """How a row is called in messages: its line in a csv file with one header line."""
    return f"{path}:{row + 2}" if path.suffix.lower() != ".parquet" else f"{path}, row {row}"


def _text(item: object) -> str:
    return str(int(item)) if isinstance(item, float) and item.is_integer() else str(item).strip()


def _numbers(values: pa.ChunkedArray, name: str, path: Path) -> pa.ChunkedArray:
    """Text as numbers, or an error at the first cell that is none."""
    plain = values.cast(pa.string())
    try:
        return plain.cast(pa.float64())
    except pa.ArrowInvalid:
        for row, text in enumerate(plain.to_pylist()):
            if text is not None and not _is_number(text):
                raise UserError(f"{line(row, path)}: column '{name}' holds '{text:.40}', no number.") from None
        return pc.utf8_trim_whitespace(plain).cast(pa.float64())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _csv(path: Path) -> pa.Table:
    convert = csv.ConvertOptions(null_values=MISSING, strings_can_be_null=True)
    return csv.read_csv(path, convert_options=convert)


def _parquet(path: Path) -> pa.Table:
    file = parquet.ParquetFile(path)
    cells = file.metadata.num_rows * file.metadata.num_columns
    if cells > MOST_CELLS:
        raise UserError(f"{path}: says it has {cells} cells; split it into several files.")
    need_size(path, 8 * cells, "the table")
    return file.read()


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
