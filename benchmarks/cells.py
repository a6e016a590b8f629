"""A study cell by cell: each cell is one run, its row appended to a csv at once; start again to go on.

Several processes may share the work by patterns of cell names; the table is locked while a row is added.
"""

from __future__ import annotations

import csv
import fcntl
import os
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import torch

import skelgraph as sg


class Cell(NamedTuple):
    """One run: its name, recipe, overrides and seed, and what makes the data it needs."""

    name: str
    recipe: str
    overrides: list[str]
    seed: int
    prepare: Callable[[], None] | None = None


def rows(table: Path) -> list[dict[str, str]]:
    """Rows of a table; none where there is no file."""
    if not table.is_file():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append(table: Path, row: dict[str, object]) -> None:
    """One more row; a column that is new is added to the table."""
    with (table.with_suffix(".lock")).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        old = rows(table)
        columns = list(dict.fromkeys([*(old[0] if old else ()), *row]))
        part = table.with_suffix(".part")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows([*old, row])
        os.replace(part, table)


def work_through(cells: Iterable[Cell], work: Path, patterns: list[str]) -> None:
    """Run every cell that matches a pattern and is not in ``work/cells.csv``; patterns in order of importance."""
    torch.set_num_threads(1)
    table, every = work / "cells.csv", list(cells)
    for pattern in patterns or ["*"]:
        for cell in (item for item in every if fnmatch(item.name, pattern)):
            if cell.name in {row["cell"] for row in rows(table)}:
                continue
            if cell.prepare is not None:
                cell.prepare()
            begin = time.time()
            done = sg.run(cell.recipe, cell.overrides, seed=cell.seed, out=work / "runs" / cell.name, resume=True)
            minutes = round((time.time() - begin) / 60, 2)
            append(table, {"cell": cell.name, "seed": cell.seed, "minutes": minutes, **done.metrics})


def arguments() -> tuple[Path, list[str]]:
    """WORK and patterns of the command line; --help shows the head of the script."""
    parser = ArgumentParser(description=sys.modules["__main__"].__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK", help="folder of the stores, runs and cells.csv")
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="names of cells; by default all")
    given = parser.parse_args()
    if not given.work.is_dir():
        parser.error(f"{given.work}: no such folder.")
    return given.work, given.patterns
