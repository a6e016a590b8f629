"""Figures of the report as inline SVG: small functions from numbers to text, coloured by the page's CSS classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skelgraph.pages.svg import svg, text

LABELLED_CLASSES = 40
LEVELS = 10
HUES = 8
MARKERS = (
    "M{x} {y}m-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0 -6.8 0z",
    "M{x} {y}m-3 -3h6v6h-6z",
    "M{x} {y}m0 -4l3.9 6.8h-7.8z",
    "M{x} {y}m0 -4.4l4.4 4.4l-4.4 4.4l-4.4 -4.4z",
    "M{x} {y}m0 4l3.9 -6.8h-7.8z",
)


@dataclass(frozen=True)
class Line:
    """One curve: its name, its CSS class (``c-train``, ``c-val``), and its points."""

    name: str
    style: str
    x: Sequence[float]
    y: Sequence[float]


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from at most ``low`` to at least ``high``."""
    span = high - low or abs(high) or 1.0
    rough = span / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * i, 12) for i in range(first, max(last, first + 1) + 1)]


def extent(values: Sequence[float]) -> tuple[float, float, float | None]:
    """Lowest and highest value to show, and the peak where showing it would press all the rest flat."""
    low, high, usual = min(values), max(values), 8 * float(np.quantile(values, 0.9))
    if low < 0 or high <= usual:
        return low, high, None
    return low, max(value for value in values if value <= usual), high


def line_chart(
    lines: Sequence[Line], label: str, unit: str, mark: tuple[float, str] | None = None, axis: str = "training steps"
) -> str:
    """Curves over training steps, or over what ``axis`` says.

    Args:
        lines: at least one, none of them empty.
        label: what is shown, for readers that do not see it.
        unit: of the vertical axis.
        mark: a step to point at, and the word beside it.
        axis: name and unit of the horizontal axis.
    """
    width, height, right, top, bottom = 460, 256, 12, 32, 40
    low, high, peak = extent([y for line in lines for y in line.y])
    end = max(max(line.x) for line in lines) or 1.0
    xs, ys = ticks(0, end, 4), ticks(low, high)
    left = max(44.0, 14 + 7.4 * max(len(f"{y:g}") for y in ys))

    def at(x: float, y: float) -> tuple[float, float]:
        across = left + (width - left - right) * x / end
        return across, height - bottom - (height - top - bottom) * (min(y, ys[-1]) - ys[0]) / (ys[-1] - ys[0])

    parts = [text(0, 12, unit if peak is None else f"{unit}; cut off above, peak {peak:.3g}", "axis")]
    for y in ys:
        _, down = at(0, y)
        parts.append(f'<path class="grid" d="M{left:.1f} {down:.1f}H{width - right}"/>')
        parts.append(text(left - 7, down + 4, f"{y:g}", "tick", "end"))
    for x in (x for x in xs if x <= end):
        parts.append(text(at(x, ys[0])[0], height - bottom + 17, f"{x:g}", "tick", "middle"))
    parts.append(text(width - right, height - 5, axis, "axis", "end"))
    if mark is not None:
        across, side = at(mark[0], ys[0])[0], "end" if mark[0] > end / 2 else "start"
        parts.append(f'<path class="mark" d="M{across:.1f} {top}V{height - bottom}"/>')
        parts.append(text(across + (-5 if side == "end" else 5), top - 5, mark[1], "tick", side))
    for line in lines:
        points = [at(x, y) for x, y in zip(line.x, line.y, strict=True)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(f'<path class="line {line.style}" d="M{path}"><title>{escape(line.name)}</title></path>')
        if len(points) == 1:
            parts.append(f'<circle class="dot {line.style}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3"/>')
    return svg(width, height, label, "".join(parts))


class Mark(NamedTuple):
    """One class of `frequency_chart`: its place, its group (0 head, 1 medium, 2 tail), and words for the pointer."""

    x: float
    y: float
    kind: int
    words: str


def frequency_chart(marks: Sequence[Mark], means: Sequence[float], label: str) -> str:
    """Per cent figures of classes against how many clips they had, on a logarithmic axis.

    Args:
        marks: at least one; x from 0 (drawn at 1).
        means: of each group, drawn as a line over the width of the group; nan draws none.
        label: what is shown, for readers that do not see it.
    """
    width, height, left, right, top, bottom = 560, 300, 44, 16, 26, 40
    values = [max(mark.x, 1.0) for mark in marks]
    low, high = min(values) / 1.25, max(values) * 1.25

    def at(x: float, y: float) -> tuple[float, float]:
        across = left + (width - left - right) * math.log(max(x, 1.0) / low) / math.log(high / low)
        return across, height - bottom - (height - top - bottom) * y / 100

    parts = [text(0, 12, "recall, %", "axis"), text(width - right, height - 5, "training clips", "axis", "end")]
    for y in (0, 25, 50, 75, 100):
        down = at(1, y)[1]
        parts.append(f'<path class="grid" d="M{left} {down:.1f}H{width - right}"/>')
        parts.append(text(left - 7, down + 4, y, "tick", "end"))
    for x in (m * 10**power for power in range(7) for m in (1, 2, 5)):
        if low <= x <= high:
            parts.append(text(at(x, 0)[0], height - bottom + 17, x, "tick", "middle"))
    for kind, mean in enumerate(means):
        own = [at(mark.x, mean)[0] for mark in marks if mark.kind == kind]
        if own:
            ends = f"M{min(own) - 8:.1f} {at(1, mean)[1]:.1f}H{max(own) + 8:.1f}"
            parts.append(f'<path class="mean" d="{ends}"><title>mean {mean:.1f} %</title></path>')
    for mark in marks:
        path = marker(*at(mark.x, mark.y), 0)
        parts.append(f'<path class="h{mark.kind % HUES}" d="{path}"><title>{escape(mark.words)}</title></path>')
    return svg(width, height, label, "".join(parts), "figure scatter")


def range_mark(
    value: float, limits: tuple[float, float] | None, chance: float | None, published: float | None, label: str
) -> str:
    """A per cent figure on the scale 0 to 100, with its interval, chance and the published figure."""
    width, height, pad, middle = 240, 30, 8, 15

    def at(per_cent: float) -> float:
        return pad + (width - 2 * pad) * min(max(per_cent, 0), 100) / 100

    parts = [f'<path class="track" d="M{pad} {middle}H{width - pad}"/>']
    parts += [f'<path class="grid" d="M{at(x):g} {middle - 4}v8"/>' for x in (0, 25, 50, 75, 100)]
    if limits is not None:
        low, high = at(limits[0]), at(limits[1])
        parts.append(f'<path class="band" d="M{low:.1f} {middle}H{max(high, low + 0.5):.1f}"/>')
    if chance is not None:
        parts.append(f'<path class="chance" d="M{at(chance):.1f} {middle - 9}v18"/>')
    if published is not None:
        parts.append(f'<path class="published" d="M{at(published):.1f} {middle - 7}l7 7l-7 7l-7 -7z"/>')
    parts.append(f'<circle class="value" cx="{at(value):.1f}" cy="{middle}" r="5"/>')
    return svg(width, height, label, "".join(parts), "range")


def shorten(name: str, length: int = 22) -> str:
    """A name cut to a length, with an ellipsis."""
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"


def heat_map(counts: NDArray[np.int64], classes: Sequence[str], label: str) -> str:
    """A confusion matrix: a row for each true class, shaded by its share of that row."""
    number = len(classes)
    labelled = number <= LABELLED_CLASSES
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    cell = max(17, min(34, 560 // number)) if labelled else max(1.0, 600 / number)
    longest = max(len(shorten(name)) for name in classes)
    left = 12 + 6.3 * longest if labelled else 26
    top = 14 + 4.6 * longest if labelled else 22
    side = cell * number
    right = 4.6 * longest if labelled else 4
    parts = [_cells(counts, shares, classes, cell, left, top) if labelled else _shades(shares, cell, left, top)]
    parts.append(f'<rect class="frame" x="{left:g}" y="{top:g}" width="{side:g}" height="{side:g}"/>')
    if labelled:
        for i, name in enumerate(classes):
            place = (i + 0.5) * cell
            parts.append(text(left - 7, top + place + 4, shorten(name), "name", "end"))
            x, y = left + place + 3, top - 7
            parts.append(text(x, y, shorten(name), "name", extra=f' transform="rotate(-45 {x:.5g} {y:.5g})"'))
    else:
        parts.append(text(left, 14, "predicted class, in the order of the store", "axis"))
        parts.append(text(14, top + side, "true class", "axis", extra=f' transform="rotate(-90 14 {top + side:g})"'))
    width, height = left + side + right, top + side + 4
    smallest = f' style="min-width:{width * (0.9 if labelled else 0.5):.0f}px;max-width:{width:.0f}px"'
    return svg(width, height, label, "".join(parts), "figure heat", smallest)


def _cells(
    counts: NDArray[np.int64], shares: NDArray[np.float64], classes: Sequence[str], cell: float, left: float, top: float
) -> str:
    parts = []
    for row, column in np.argwhere(counts > 0).tolist():
        share, count = shares[row, column], counts[row, column]
        x, y, kind = left + column * cell, top + row * cell, "hit" if row == column else "miss"
        parts.append(
            f"<g><title>{escape(classes[row])} → {escape(classes[column])}: {count} of {counts[row].sum()} clips "
            f'({100 * share:.0f} %)</title><rect class="{kind}" x="{x:.5g}" y="{y:.5g}" width="{cell:g}" '
            f'height="{cell:g}" fill-opacity="{0.12 + 0.88 * share:.2f}"/>'
        )
        if cell >= 20:
            style = "count strong" if share > 0.5 else "count"
            parts.append(text(x + cell / 2, y + cell / 2 + 4, count, style, "middle"))
        parts.append("</g>")
    return "".join(parts)


def _shades(shares: NDArray[np.float64], cell: float, left: float, top: float) -> str:
    """Many classes: one path a shade, so that the page stays small."""
    levels = np.ceil(shares * LEVELS).astype(int)
    diagonal = np.eye(len(shares), dtype=bool)
    parts = []
    for level in range(1, LEVELS + 1):
        for kind, where in (("hit", diagonal), ("miss", ~diagonal)):
            cells = np.argwhere((levels == level) & where).tolist()
            if cells:
                size = f"{cell:.2f}"
                path = "".join(f"M{left + c * cell:.1f} {top + r * cell:.1f}h{size}v{size}h-{size}z" for r, c in cells)
                parts.append(f'<path class="{kind}" fill-opacity="{0.12 + 0.088 * level:.2f}" d="{path}"/>')
    return "".join(parts)


def marker(x: float, y: float, kind: int) -> str:
    """The path of a small marker around a point."""
    return MARKERS[kind % len(MARKERS)].format(x=f"{x:.1f}", y=f"{y:.1f}")


def swatch(kind: int) -> str:
    """The marker of class ``kind`` for a legend."""
    path = marker(6, 6, kind // HUES)
    return f'<svg class="swatch" viewBox="0 0 12 12" aria-hidden="true"><path class="h{kind % HUES}" d="{path}"/></svg>'


def scatter(
    points: NDArray[np.float32], kinds: NDArray[np.int64], names: Sequence[str], axes: tuple[str, str], label: str
) -> str:
    """Points in the plane, a marker for each kind; kind -1 is drawn in grey behind the others."""
    width, height, pad = 560, 400, 18
    low, high = points.min(0), points.max(0)
    scale = min((width - 2 * pad) / max(high[0] - low[0], 1e-9), (height - 30 - 2 * pad) / max(high[1] - low[1], 1e-9))
    centre = (low + high) / 2
    placed = (points - centre) * scale * [1, -1] + [width / 2, (height - 24) / 2]
    parts = [f'<rect class="frame" x="0.5" y="0.5" width="{width - 1}" height="{height - 24}"/>']
    for kind in sorted(set(kinds.tolist())):
        path = "".join(marker(x, y, max(kind, 0) // HUES) for x, y in placed[kinds == kind].tolist())
        title = f"<title>{escape(names[kind])}</title>" if kind >= 0 else "<title>other classes</title>"
        parts.append(f'<path class="{f"h{kind % HUES}" if kind >= 0 else "rest"}" d="{path}">{title}</path>')
    parts.append(text(width - 2, height - 6, axes[0], "axis", "end"))
    parts.append(text(2, height - 6, axes[1], "axis"))
    return svg(width, height, label, "".join(parts), "figure scatter")


def binned(x: Sequence[float], y: Sequence[float], most: int = 240) -> tuple[list[float], list[float]]:
    """Means of neighbouring points, at most ``most`` of them."""
    if len(x) <= most:
        return list(x), list(y)
    edges = np.linspace(0, len(x), most + 1).astype(int)
    return tuple([float(np.mean(v[a:b])) for a, b in pairwise(edges)] for v in (x, y))  # type: ignore[return-value]
