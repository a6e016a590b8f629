"""What a run says at its end, in the terminal."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from skelgraph.engine.results import console_table
from skelgraph.engine.run_folder import Run, StageFolder, read_figures

BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH = 40


def ending(runs: Sequence[Run]) -> str:
    """Loss curves, the table of figures, what the paper published, and where the reports are."""
    lines = [line for run in runs[:1] for folder in run.stages() for line in _curve(folder)]
    lines += [console_table([run.path for run in runs])]
    published = runs[0].recipe.get("published") or {}
    if published:
        figures = ", ".join(f"{name} {value:g}" for name, value in published.items())
        remark = " (real data: nothing to compare these demo figures with)" if runs[0].about["demo"] else ""
        lines.append(f"published by the paper on its data: {figures}{remark}")
    lines += [f"report: {run.report}" for run in runs]
    return "\n".join(lines)


def _curve(folder: StageFolder) -> list[str]:
    """The training loss of a stage as one line of blocks."""
    found = read_figures(folder.path / "metrics.csv")
    values = [value for _, figure, value in found if figure == "train_loss"]
    if not values:
        return []
    few = _means(values, min(WIDTH, len(values)))
    low, high = min(few), max(few)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    bars = "".join(BLOCKS[round((value - low) * scale)] for value in few)
    return [f"{folder.name} loss  {few[0]:.4g} {bars} {few[-1]:.4g}"]


def _means(values: list[float], parts: int) -> list[float]:
    """Means of ``parts`` stretches of nearly equal length."""
    bounds = [i * len(values) // parts for i in range(parts + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(bounds)]
