"""What a measurement found, for people and as JSON."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from skelgraph.batch import ClipSpec
from skelgraph.bench.timing import Spread, Times, Timing
from skelgraph.engine.run_folder import write_json
from skelgraph.engine.runner import environment
from skelgraph.errors import UserError

Cell = float | int | str | Spread | None
BUSY = 1.5
WIDTH = 120
QUARTILES = "Times: median (lower to upper quartile)."
RATIO = "time / first"
FIRST = "first call (s)"


@dataclass(frozen=True)
class Table:
    """Facts that hold for all rows, and rows; names of columns carry their units.

    Attributes:
        title: what was measured.
        facts: by name.
        rows: all with the same columns.
        notes: what must be read with it.
    """

    title: str
    facts: Mapping[str, Cell]
    rows: list[dict[str, Cell]]
    notes: list[str] = field(default_factory=list)

    def data(self) -> dict[str, Any]:
        """As plain data for JSON, with the machine it was measured on."""

        def plain(cell: Cell) -> Any:
            return cell._asdict() if isinstance(cell, Spread) else cell

        return {
            "title": self.title,
            "facts": {name: plain(cell) for name, cell in self.facts.items()},
            "rows": [{name: plain(cell) for name, cell in row.items()} for row in self.rows],
            "notes": self.notes,
            "environment": {**environment(), "load": list(os.getloadavg())},
        }

    def text(self) -> str:
        """For a terminal."""
        from rich import box
        from rich.console import Console
        from rich.table import Table as Grid

        out = io.StringIO()
        screen = Console(file=out, width=max(WIDTH, Console().width), highlight=False, markup=False)
        screen.print(self.title, "")
        facts = Grid(box=None, show_header=False, pad_edge=False)
        for name, cell in self.facts.items():
            facts.add_row(name, shown(cell))
        screen.print(facts)
        columns = list(self.rows[0])
        grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in columns:
            grid.add_column(name, justify="left" if name == columns[0] else "right", no_wrap=True)
        for row in self.rows:
            grid.add_row(*(shown(row[name]) for name in columns))
        screen.print(grid)
        for note in self.notes:
            screen.print(note)
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n")


def shown(cell: Cell) -> str:
    """A cell as text: whole numbers in full, others with three digits."""
    if cell is None:
        return "–"
    if isinstance(cell, Spread):
        same = cell.low == cell.high
        return shown(cell.median) if same else f"{shown(cell.median)} ({shown(cell.low)}–{shown(cell.high)})"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def machine(timing: Timing) -> dict[str, Cell]:
    """The facts of every table: where it ran."""
    if timing.device.type == "cuda":
        return {"device": torch.cuda.get_device_name(timing.device), "torch": torch.__version__}
    kind = torch.backends.cpu.get_cpu_capability()
    return {"device": f"CPU ({kind}), {_counted(torch.get_num_threads(), 'thread')}", "torch": torch.__version__}


def clip_words(spec: ClipSpec) -> str:
    """The shape of a clip in words."""
    joints = f"{spec.joints} joints ({spec.topology.name})"
    return f"{_counted(spec.persons, 'person')}, {spec.frames} frames, {joints}, {spec.channels}-D"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def timed(times: Times, unit: str, scale: float) -> dict[str, Cell]:
    """Columns of a step: its time in ``unit`` (``scale`` of them are a second), its ratio, its first call."""
    scaled = Spread(*(value * scale for value in times.calls))
    return {unit: scaled, RATIO: times.ratio, FIRST: times.first}


def busy() -> list[str]:
    """A remark where other programs take the machine's time."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load < BUSY * max(1, cores):
        return []
    return [f"Other programs were running (load {load:.1f} on {_counted(cores, 'core')}): trust no time here."]


def write(table: Table, path: Path) -> None:
    """Write a table as JSON.

    Raises:
        UserError: the place cannot be written.
    """
    try:
        write_json(path, table.data())
    except OSError as error:
        raise UserError(f"--json {path}: cannot be written ({error.strerror}).") from None
