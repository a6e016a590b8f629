"""The solid figure that pictures show, and where the inertial sensor sits: points that ride along with the joints."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from skelgraph.data.synthetic.body import SEGMENTS, Anchor
from skelgraph.data.synthetic.bones import HEIGHT
from skelgraph.data.synthetic.kinematics import Array
from skelgraph.topology import Topology

Index = NDArray[np.intp]
PAINTS = ("skin", "shirt", "trousers", "shoes")
STATURE = 1.71
ARM = 0.05
"""Distance in the units of the segment between the sensor and the points that say how it is turned."""


@dataclass(frozen=True)
class Figure:
    """A body as capsules.

    Attributes:
        riders: points that move along with the joints and are numbered after them.
        limbs: (K, 2) numbers of the points at both ends of each capsule.
        radius: (K,) metres.
        paint: (K,) place in `PAINTS`.
        sensor: (3,) the sensor's own place, a point on its x axis, one on its z axis.
    """

    riders: tuple[Anchor, ...]
    limbs: Index
    radius: Array
    paint: Index
    sensor: Index


def _rows() -> list[tuple[Anchor, Anchor, float, str]]:
    """Ends, radius over the body height and paint of every capsule of a person."""
    rows = [
        (Anchor("head", (0.0, 0.015, 0.01)), Anchor("head", (0.0, 0.07, 0.01)), SEGMENTS["head"].radius, "skin"),
        (Anchor("neck"), Anchor("head"), SEGMENTS["neck"].radius, "skin"),
        (Anchor("spine"), Anchor("chest", (0.0, 0.11, 0.0)), SEGMENTS["chest"].radius, "shirt"),
        (Anchor("left_arm"), Anchor("right_arm"), 0.04, "shirt"),
        (Anchor("pelvis"), Anchor("spine"), SEGMENTS["pelvis"].radius, "shirt"),
        (Anchor("left_thigh"), Anchor("right_thigh"), 0.06, "trousers"),
    ]
    for side in ("left", "right"):
        arm = [Anchor(f"{side}_{name}") for name in ("arm", "forearm", "hand")]
        leg = [Anchor(f"{side}_{name}") for name in ("thigh", "shank", "foot")]
        arm.append(Anchor(f"{side}_hand", (0.0, -0.075, 0.0)))
        for ends, paints in ((arm, ("shirt", "skin", "skin")), (leg, ("trousers", "trousers"))):
            for (start, end), paint in zip(pairwise(ends), paints, strict=True):
                rows.append((start, end, SEGMENTS[start.segment].radius, paint))
        foot = f"{side}_foot"
        rows.append((Anchor(foot, (0.0, -0.02, -0.02)), Anchor(foot, (0.0, -0.024, 0.1)), 0.022, "shoes"))
    return rows


def _sensor(segment: str, place: tuple[float, float, float]) -> tuple[Anchor, ...]:
    x, y, z = place
    return Anchor(segment, place), Anchor(segment, (x + ARM, y, z)), Anchor(segment, (x, y, z + ARM))


def of_person(joints: int) -> Figure:
    """The figure of the body model; the sensor is strapped to the right forearm beside the wrist, y along it upwards.

    Args:
        joints: how many points stand before the riders.
    """
    rows = _rows()
    ends = [end for start, stop, _, _ in rows for end in (start, stop)]
    riders = (*ends, *_sensor("right_forearm", SEGMENTS["right_hand"].offset))
    return Figure(
        riders,
        joints + np.arange(len(ends)).reshape(-1, 2),
        STATURE * np.array([radius for _, _, radius, _ in rows]),
        np.array([PAINTS.index(paint) for _, _, _, paint in rows]),
        joints + len(ends) + np.arange(3),
    )


def of_tree(topology: Topology) -> Figure:
    """The figure of any bone tree: its bones; the sensor sits at the joint farthest from the root."""
    parents, depth = np.asarray(topology.parents), np.asarray(topology.depth)
    children = np.flatnonzero(parents != np.arange(len(parents)))
    tip = topology.joints[int(depth.argmax())]
    return Figure(
        _sensor(tip, (0.0, 0.0, 0.0)),
        np.stack([parents[children], children], axis=1),
        np.full(len(children), 0.022 * HEIGHT),
        depth[children] % len(PAINTS),
        len(parents) + np.arange(3),
    )
