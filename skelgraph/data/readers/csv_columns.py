"""Which columns of a table of joints mean what.

Wide, a row a frame: a column for each coordinate of each joint, ``left_wrist_x`` or ``x_left_wrist``, also with a point
or blank between, and perhaps ``left_wrist_score`` (or ``_visibility``, ``_likelihood``, ``_confidence``, ``_c``).
Long, a row a joint: the columns ``joint``, ``x``, ``y``, perhaps ``z`` and ``score``. Joints are called by the names of
their topology or by their numbers from 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from skelgraph import assets
from skelgraph.data.readers.labels import COLUMNS as CLIP_COLUMNS
from skelgraph.errors import UserError, unknown
from skelgraph.topology import Topology

FRAME, TIME, PERSON, JOINT = "frame", "time", "person", "joint"
OTHERS = (*CLIP_COLUMNS, FRAME, TIME, PERSON)
SCORES = ("score", "visibility", "likelihood", "confidence", "conf", "c")
AFTER = re.compile(r"(.+?)[_. ]?(x|y|z|" + "|".join(SCORES) + ")")
BEFORE = re.compile(r"(x|y|z|" + "|".join(SCORES) + r")[_. ]?(.+)")


@dataclass(frozen=True)
class Columns:
    """Columns of a table of joints.

    Attributes:
        topology: the layout its joints belong to.
        axes: x, y and perhaps z.
        wide: column by (joint, axis or ``score``); empty for a long table.
        score: of a long table, the column of the score.
    """

    topology: Topology
    axes: tuple[str, ...]
    wide: dict[tuple[int, str], str]
    score: str | None = None


def find_columns(names: Sequence[str], joints: Iterable[str] | None, topology: str | None, path: Path) -> Columns:
    """What the columns of a table are.

    Args:
        names: of the columns.
        joints: what stands in the column ``joint`` of a long table; None for a wide one.
        topology: the layout, or None to find the one that has just these joints.
        path: for messages.

    Raises:
        UserError: no x and y, a joint that the layout does not have, or no layout that fits.
    """
    if joints is not None:
        axes = tuple(axis for axis in "xyz" if axis in names)
        if axes[:2] != ("x", "y"):
            raise UserError(f"{path}:1: a row a joint needs the columns joint, x and y; it has {', '.join(names)}.")
        score = next((name for name in SCORES if name in names), None)
        return Columns(_topology(list(dict.fromkeys(joints)), topology, path), axes, {}, score)
    found = _wide(names)
    by_joint: dict[str, set[str]] = {}
    for joint, kind in found:
        by_joint.setdefault(joint, set()).add(kind)
    real = [joint for joint, kinds in by_joint.items() if {"x", "y"} <= kinds]
    if not real:
        raise UserError(
            f"{path}:1: no columns of joints; a row a frame needs columns like left_wrist_x and left_wrist_y, a row a "
            f"joint the columns joint, x and y. It has {', '.join(names[:12])}."
        )
    layout = _topology(real, topology, path)
    axes = ("x", "y", "z") if any("z" in by_joint[joint] for joint in real) else ("x", "y")
    places = _places(real, layout, path)
    wide = {(places[joint], kind): name for (joint, kind), name in found.items() if joint in places}
    return Columns(layout, axes, wide)


def _wide(names: Sequence[str]) -> dict[tuple[str, str], str]:
    """Column by joint and axis (or ``score``)."""
    found = {}
    for name in names:
        plain = name.strip().lower()
        if plain in OTHERS:
            continue
        after, before = AFTER.fullmatch(plain), BEFORE.fullmatch(plain)
        if after is not None and (after[1].isdigit() or plain[len(after[1])] in "_. "):
            joint, kind = after[1], after[2]
        elif before is not None and (before[2].isdigit() or plain[len(before[1])] in "_. "):
            joint, kind = before[2], before[1]
        else:
            continue
        found[joint.strip("_. "), "score" if kind in SCORES else kind] = name
    return found


def _places(joints: Sequence[str], topology: Topology, path: Path) -> dict[str, int]:
    """Row of each joint in its layout."""
    lowered = {joint.lower(): place for place, joint in enumerate(topology.joints)}
    places = {}
    for joint in joints:
        place = int(joint) if joint.isdigit() else lowered.get(joint.lower())
        if place is None or place >= len(lowered):
            raise unknown(f"joint of topology '{topology.name}'", joint, topology.joints, str(path))
        places[joint] = place
    return places


def joint_places(joints: Sequence[str], columns: Columns, path: Path) -> dict[str, int]:
    """Row in the layout of every name that stands in the column ``joint``.

    Raises:
        UserError: the layout has no such joint.
    """
    return _places(list(dict.fromkeys(joints)), columns.topology, path)


def _topology(joints: Sequence[str], topology: str | None, path: Path) -> Topology:
    """The layout that is named, or the shipped one with just these joints."""
    if topology is not None:
        layout = Topology.load(topology)
        _places(joints, layout, path)
        return layout
    names = {joint.lower() for joint in joints}
    for name in sorted(assets.names("topologies"), key=len):
        layout = Topology.load(name)
        if {joint.lower() for joint in layout.joints} == names:
            return layout
    raise UserError(f"{path}: no known topology has just these {len(joints)} joints; say which with --topology.")
