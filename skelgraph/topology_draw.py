"""Where to draw the joints of a topology, and its picture."""

from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skelgraph.errors import UserError

if TYPE_CHECKING:
    from skelgraph.topology import Floats, Topology


def coordinates(topology: Topology, dims: int = 2) -> Floats:
    """(V, dims) drawing coordinates; see `Topology.coordinates`.

    Raises:
        UserError: ``dims`` is neither 2 nor 3.
    """
    if dims not in (2, 3):
        raise UserError(f"a drawing has 2 or 3 dimensions, not {dims}.")
    if all(joint in topology.layout for joint in topology.joints):
        given = [(*topology.layout[joint], 0.0)[:3] for joint in topology.joints]
        return np.array(given, dtype=np.float32).reshape(-1, 3)[:, :dims]
    flat = _radial(topology)
    return np.concatenate([flat, np.zeros((len(flat), 1))], axis=1)[:, :dims].astype(np.float32)


def _radial(topology: Topology) -> NDArray[np.float64]:
    """The bone tree around its root: leaves at equal angles, a joint at the mean angle of its children."""
    children: dict[str, list[str]] = {joint: [] for joint in topology.joints}
    for child, parent in topology.bones:
        children[parent].append(child)
    tops = sorted(topology.roots, key=lambda joint: joint != topology.root)
    leaves = max(1, sum(not below for below in children.values()))
    angle: dict[str, float] = {}
    order = [joint for top in tops for joint in _depth_first(top, children)]
    count = 0
    for joint in order:
        if not children[joint]:
            angle[joint] = np.pi / 2 - 2 * np.pi * count / leaves
            count += 1
    for joint in reversed(order):
        if children[joint]:
            angle[joint] = float(np.mean([angle[child] for child in children[joint]]))
    radius = topology.depth + (len(tops) > 1)
    angles = np.array([angle.get(joint, 0.0) for joint in topology.joints])
    return radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _depth_first(top: str, children: dict[str, list[str]]) -> list[str]:
    order, stack = [], [top]
    while stack:
        order.append(stack.pop())
        stack.extend(reversed(children[order[-1]]))
    return order


SIDES = {"left": "#1f77b4", "right": "#d62728", "": "#444444"}
MOST_NAMES = 35


def draw(topology: Topology, path: str | os.PathLike[str]) -> None:
    """Draw a topology to a picture file; bones solid, links dotted, left blue, right red.

    Raises:
        UserError: matplotlib is missing, or the file's ending is no picture format.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise UserError("drawing needs matplotlib: pip install 'skelgraph[viz]'.") from None
    places = topology.coordinates(2)
    width, height = np.maximum(np.ptp(places, axis=0), 1e-3)
    figure = Figure(figsize=(float(np.clip(8 * width / height + 2, 5, 14)), 9), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _edges(axes, topology, places)
    _joints(axes, topology, places)
    axes.set_title(textwrap.fill(f"{topology.name}: {topology.title or topology.name}", 60), fontsize=10)
    axes.set_aspect("equal")
    axes.margins(0.18 if len(topology.joints) <= MOST_NAMES else 0.05)
    axes.axis("off")
    ending = os.path.splitext(path)[1][1:].lower()
    if ending not in canvas.get_supported_filetypes():
        raise UserError(f"{path}: '.{ending}' is no picture format; use .png, .svg or .pdf.")
    figure.savefig(path, dpi=110)


def _edges(axes: Any, topology: Topology, places: Floats) -> None:
    """Every bone solid, every edge that is no bone dotted."""
    bones = {frozenset(pair) for pair in topology.bones}
    edges = [(topology.joints[a], topology.joints[b]) for a, b in topology.edges.tolist()]
    for ends in [*topology.bones, *(pair for pair in edges if frozenset(pair) not in bones)]:
        solid = frozenset(ends) in bones
        side = _side(ends[0]) or _side(ends[1])
        style = {"linestyle": "-" if solid else ":", "linewidth": 2.5 if solid else 1.5, "color": SIDES[side]}
        axes.plot(*places[topology.indices(ends)].T, zorder=1, **style)


def _side(joint: str) -> str:
    return next((side for side in ("left", "right") if joint.startswith(side)), "")


def _joints(axes: Any, topology: Topology, places: Floats) -> None:
    """Dots, the root as a ring; names at the outer side where there is room."""
    named = len(topology.joints) <= MOST_NAMES
    middle = float(places[:, 0].mean())
    for joint, (x, y) in zip(topology.joints, places, strict=True):
        ring = {"facecolor": "white", "linewidth": 2} if joint == topology.root else {"facecolor": SIDES[_side(joint)]}
        axes.scatter(x, y, s=45 if named else 14, zorder=2, edgecolor=SIDES[_side(joint)], **ring)
        if named:
            right = x >= middle - 1e-6
            offset = {"xytext": (6 if right else -6, 2), "textcoords": "offset points"}
            axes.annotate(joint, (x, y), ha="left" if right else "right", fontsize=7, **offset)
