"""Moving skeletons of a page: the joints of a clip as small whole numbers for the page's script."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelgraph.data.clip import Clip
from skelgraph.pages.svg import svg
from skelgraph.topology import Topology

FRAMES = 32
PERSONS = 4
BOX = 1000
SIDES = ("mid", "left", "right")
RING = "M{x} {y}m-38 0a38 38 0 1 0 76 0a38 38 0 1 0 -76 0z"  # as in page.js


@dataclass(frozen=True)
class Drawing:
    """Joints of a clip in a square of 1000 units, y downwards; -1 = not seen.

    Attributes:
        frames: (F, M * V, 2) whole numbers.
        milliseconds: between two frames.
        mark: a point to draw a ring around, and the frame that counts, shown where nothing moves.
    """

    frames: NDArray[np.int64]
    milliseconds: int
    mark: int | None = None
    frame: int | None = None


def sides(topology: Topology) -> list[list[int]]:
    """Edges as ``[joint, joint, side]`` with side 0 middle, 1 left, 2 right."""
    left = {a for a, _ in topology.mirror}
    right = {b for _, b in topology.mirror}
    result = []
    for a, b in topology.edges.tolist():
        names = {topology.joints[a], topology.joints[b]}
        crossing = bool(names & left) == bool(names & right)
        result.append([a, b, 0 if crossing else 1 if names & left else 2])
    return result


def draw(
    clip: Clip, up: str | None, frame: int | None = None, person: int | None = None, joint: int | None = None
) -> Drawing:
    """Choose frames, look from the front, and fit the whole motion into the square.

    Args:
        clip: its first four persons are drawn.
        up: the axis that points up; None: y.
        frame: show the frames around this one, each of them; None: even ones of the whole clip.
        person, joint: draw a ring around this joint, of the first person where none is named.
    """
    which = _frames(clip.frames, frame)
    persons = np.flatnonzero((clip.score > 0).any((1, 2)))[:PERSONS]
    flat = _front(clip.keypoints[persons][:, which].astype(np.float64), clip.score[persons][:, which] > 0, up)
    seen = (clip.score[persons][:, which] > 0) & np.isfinite(flat).all(-1)
    visible = flat[seen]
    low, high = np.quantile(visible, [0.005, 0.995], axis=0) if len(visible) else (np.zeros(2), np.ones(2))
    scale = 0.86 * BOX / max(float((high - low).max()), 1e-9)
    placed = (np.where(seen[..., None], flat, 0) - (low + high) / 2) * scale + BOX / 2
    whole = np.where(seen[..., None], placed.clip(0, BOX).round(), -1).astype(np.int64)
    seconds = 1 / (clip.fps or 12) if frame is not None else _pace(clip, len(which))
    order = np.flatnonzero(persons == (person or 0))
    mark = None if joint is None or not len(order) else int(order[0]) * clip.keypoints.shape[2] + joint
    shown = None if frame is None else int(np.argmin(np.abs(which - frame)))
    points = whole.transpose(1, 0, 2, 3).reshape(len(which), -1, 2)
    return Drawing(points, int(np.clip(1000 * seconds, 40, 160)), mark, shown)


def _frames(count: int, frame: int | None) -> NDArray[np.int64]:
    """Places of the frames to draw."""
    if frame is None:
        return np.linspace(0, count - 1, min(FRAMES, count)).round().astype(np.int64)
    first = max(0, min(frame - FRAMES // 2, count - FRAMES))
    return np.arange(first, min(count, first + FRAMES))


def _pace(clip: Clip, shown: int) -> float:
    """Seconds between two drawn frames of a whole clip."""
    return (clip.frames / clip.fps if clip.fps else shown / 12) / shown


def _front(points: NDArray[np.float64], seen: NDArray[np.bool_], up: str | None) -> NDArray[np.float64]:
    """``(..., C)`` to ``(..., 2)`` with y downwards; of the two level axes the wider one is drawn."""
    dims = points.shape[-1]
    sign, axis = (up[0], "xyz".index(up[-1])) if up else ("-" if dims == 2 else "+", 1)
    level = [i for i in range(dims) if i != axis]
    if len(level) == 2 and seen.any():
        spread = points[seen].std(0)
        across = level[0] if spread[level[0]] >= 0.6 * spread[level[1]] else level[1]
    else:
        across = level[0]
    return np.stack([points[..., across], points[..., axis] * (-1 if sign == "+" else 1)], axis=-1)


def still(drawing: Drawing, edges: list[list[int]], joints: int, label: str) -> str:
    """One frame as SVG, the marked or the middle one: what is seen without script, on paper, before the clip moves."""
    points = drawing.frames[len(drawing.frames) // 2 if drawing.frame is None else drawing.frame]
    paths = ["", "", ""]
    for start in range(0, len(points), joints):
        for a, b, side in edges:
            (x, y), (u, v) = points[start + a], points[start + b]
            if x >= 0 and u >= 0:
                paths[side] += f"M{x} {y}L{u} {v}"
    content = "".join(f'<path class="{name}" d="{path}"/>' for name, path in zip(SIDES, paths, strict=True))
    if drawing.mark is not None:
        x, y = points[drawing.mark]
        content += f'<path class="ring" d="{RING.format(x=x, y=y) if x >= 0 else ""}"/>'
    return svg(BOX, BOX, label, content, "skeleton")


def script_data(drawings: list[Drawing], edges: list[list[int]], joints: int) -> str:
    """The clips of one section as JSON the page's script reads; ``<`` is written so that it cannot end the element."""
    data: dict[str, Any] = {
        "edges": edges,
        "joints": joints,
        "clips": [
            {"ms": item.milliseconds, "frames": item.frames.reshape(len(item.frames), -1).tolist(), "mark": item.mark}
            for item in drawings
        ],
    }
    plain = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" class="motion">{plain}</script>'


def section(title: str, cards: str, data: str, note: str) -> str:
    """Cards that move, with a button that stops them and the key of their colours.

    Args:
        title: a few words, HTML.
        cards: the figures, each with a `still`, in the order of the drawings in ``data``.
        data: what `script_data` gives.
        note: HTML below the cards.
    """
    return (
        f'<div class="clips"><div class="bar-title"><h4>{title}</h4>'
        f'<button type="button" class="play" hidden>Pause</button></div>{cards}{data}'
        '<p class="note"><span class="key left">left</span>'
        '<span class="key right">right</span><span class="key mid">middle</span></p>'
        f'<p class="note">{note}</p></div>'
    )
