"""Joints of COCO entries: which layout, in which order, seen how well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skelgraph import assets
from skelgraph.data.readers.json_file import numbers
from skelgraph.errors import UserError
from skelgraph.topology import Topology

BY_COUNT = {17: "coco17", 133: "coco_wholebody133", 21: "hand21", 68: "face68"}
WHOLE = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
OCCLUDED = 0.5


@dataclass(frozen=True)
class Joints:
    """How the numbers of an entry become joints.

    Attributes:
        topology: name of the layout.
        count: V.
        order: place in the layout of each joint of an entry.
        flags: the third number is COCO's flag and no confidence.
    """

    topology: str
    count: int
    order: tuple[int, ...]
    flags: bool

    def of(self, entry: Mapping[str, Any], where: str) -> tuple[np.ndarray, np.ndarray]:
        """Points (V, 2) and score (V,) of one person.

        Raises:
            UserError: a wrong number of numbers.
        """
        values = numbers(entry.get("keypoints"), where, "keypoints")
        if len(values) != 3 * len(self.order) and entry.get(WHOLE[1]):
            values = np.concatenate([numbers(entry.get(key), where, key) for key in WHOLE])
        if len(values) != 3 * len(self.order):
            wanted = f"{3 * len(self.order)} are wanted ({len(self.order)} joints of x, y and score)"
            raise UserError(f"{where}: keypoints has {len(values)} numbers, {wanted}.")
        rows = np.zeros((self.count, 3))
        rows[list(self.order)] = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).reshape(-1, 3)
        score = np.where(rows[:, 2] >= 2, 1.0, OCCLUDED * (rows[:, 2] > 0)) if self.flags else rows[:, 2].clip(0, 1)
        score = np.where(rows[:, :2].any(1), score, 0)
        points = np.where(score[:, None] > 0, rows[:, :2], 0)
        return points.astype(np.float32), score.astype(np.float32)


def find_joints(count: int, names: Sequence[str] | None, flags: bool, topology: str | None, where: str) -> Joints:
    """The layout of entries.

    Args:
        count: numbers of the first entry, three a joint.
        names: of the joints, where the file has them.
        flags: see `Joints`.
        topology: what the user asks for.
        where: of the first entry.

    Raises:
        UserError: no layout with so many joints.
    """
    joints, rest = divmod(count, 3)
    if rest:
        raise UserError(f"{where}: keypoints has {count} numbers, not three a joint.")
    plain = [name.strip().lower().replace(" ", "_") for name in names or ()]
    if topology is None:
        topology = _by_names(plain) or BY_COUNT.get(joints)
    if topology is None:
        raise UserError(f"{where}: no known layout has these {joints} joints; say which with --topology.")
    layout = Topology.load(topology)
    if len(plain) == joints and set(plain) <= set(layout.joints):
        order = tuple(layout.indices(plain))
    else:
        order = tuple(range(len(layout.joints)))
        whole = topology == BY_COUNT[133] and joints == 17
        if joints != len(order) and not whole:
            raise UserError(f"{where}: has {joints} joints, but topology '{topology}' has {len(order)}.")
    return Joints(topology, len(layout.joints), order, flags)


def _by_names(names: Sequence[str]) -> str | None:
    """The shipped layout that has just these joints, the one with the shortest name."""
    fitting = (name for name in sorted(assets.names("topologies"), key=len))
    return next((name for name in fitting if names and set(Topology.load(name).joints) == set(names)), None)
