"""Where to draw the joints of a topology, and its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
