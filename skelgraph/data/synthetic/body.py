"""A body model: rigid segments with proportions of a subject, and named points that ride on them.

Segments are tapered capsules between their origins, so that pictures, depth and inertial signals can later be
rendered from the same motion: `Body.pose` gives every segment's rotation and origin, `SEGMENTS` its radius.

Angles are (flex, side, twist) in degrees, read the same way on both sides of the body: arms, legs, hands and feet flex
forward, go sideways away from the body and twist outward; knees flex backward; trunk and head flex forward, bend and
turn to the left. All lengths below are fractions of the body height.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from skelgraph.data.synthetic.kinematics import Array, chain, rotations

Pose = Mapping[str, Array]
"""Channel name -> (T, 3) degrees, or metres for ``root``; what is left out stays at rest."""

UP, LEFT, RIGHT = (1, -1, 1), (-1, 1, 1), (-1, -1, -1)
FINGERS = ("thumb", "index", "middle", "ring", "pinky")


@dataclass(frozen=True)
class Segment:
    """A rigid part.

    Attributes:
        parent: the segment it hangs on.
        offset: its origin in the parent's frame.
        channel: of a pose, whose angles turn it, by ``share``, with ``signs``.
        radius: thickness.
    """

    parent: str
    offset: tuple[float, float, float]
    channel: str
    signs: tuple[int, int, int]
    radius: float
    share: float = 1.0


def _side(point: tuple[float, float, float], side: str) -> tuple[float, float, float]:
    x, y, z = point
    return (x if side == "left" else -x, y, z)


def _limbs(side: str) -> dict[str, Segment]:
    """Arm and leg of one side."""
    sign = LEFT if side == "left" else RIGHT
    knee = (-sign[0], sign[1], sign[2])
    rows = {
        "clavicle": ("chest", (0.02, 0.145, 0.0), sign, 0.03),
        "arm": (f"{side}_clavicle", (0.09, 0.012, 0.0), sign, 0.027),
        "forearm": (f"{side}_arm", (0.0, -0.186, 0.0), sign, 0.022),
        "hand": (f"{side}_forearm", (0.0, -0.15, 0.0), sign, 0.02),
        "thigh": ("pelvis", (0.055, -0.005, 0.0), sign, 0.045),
        "shank": (f"{side}_thigh", (0.0, -0.245, 0.0), knee, 0.032),
        "foot": (f"{side}_shank", (0.0, -0.246, 0.0), sign, 0.022),
    }
    return {
        f"{side}_{name}": Segment(parent, _side(offset, side), f"{side}_{name}", signs, radius)
        for name, (parent, offset, signs, radius) in rows.items()
    }


def _hand(side: str) -> dict[str, Segment]:
    """Three segments a finger; fingers curl towards the palm, which faces the body at rest."""
    roots = {
        "thumb": (-0.006, -0.014, 0.013),
        "index": (0.0, -0.053, 0.015),
        "middle": (0.0, -0.055, 0.004),
        "ring": (0.0, -0.052, -0.007),
        "pinky": (0.0, -0.047, -0.017),
    }
    slant = {"thumb": (-0.2, 0.9), "index": (0, 0.12), "middle": (0, 0.02), "ring": (0, -0.08), "pinky": (0, -0.2)}
    lengths = {"thumb": 0.022, "index": 0.024, "middle": 0.027, "ring": 0.025, "pinky": 0.019}
    sign = LEFT if side == "left" else RIGHT
    segments = {}
    for finger in FINGERS:
        inward, forward = slant[finger]
        bone = np.array((inward, -1.0, forward)) / np.linalg.norm((inward, -1.0, forward)) * lengths[finger]
        for index, shrink in enumerate((1.0, 1.0, 0.65), start=1):
            parent = f"{side}_hand" if index == 1 else f"{side}_{finger}_{index - 1}"
            x, y, z = roots[finger] if index == 1 else tuple(bone * shrink)
            segments[f"{side}_{finger}_{index}"] = Segment(
                parent, _side((x, y, z), side), f"{side}_fingers", sign, 0.006, 0.5 if finger == "thumb" else 1.0
            )
    return segments


SEGMENTS: dict[str, Segment] = {
    "pelvis": Segment("pelvis", (0.0, 0.0, 0.0), "hips", UP, 0.07),
    "spine": Segment("pelvis", (0.0, 0.035, -0.004), "trunk", UP, 0.065, 0.5),
    "chest": Segment("spine", (0.0, 0.095, 0.0), "trunk", UP, 0.07, 0.5),
    "neck": Segment("chest", (0.0, 0.165, -0.004), "head", UP, 0.03, 0.4),
    "head": Segment("neck", (0.0, 0.05, 0.008), "head", UP, 0.055, 0.6),
    **_limbs("left"),
    **_limbs("right"),
    **_hand("left"),
    **_hand("right"),
}


@dataclass(frozen=True)
class Proportions:
    """Lengths of one subject: height in metres, the rest relative to the average body."""

    height: float = 1.72
    trunk: float = 1.0
    width: float = 1.0
    arm: float = 1.0
    leg: float = 1.0

    @classmethod
    def of(cls, rng: np.random.Generator) -> Proportions:
        """Proportions of a random grown-up."""
        trunk, width, arm, leg = rng.normal(1.0, (0.03, 0.07, 0.04, 0.035))
        return cls(float(np.clip(rng.normal(1.71, 0.1), 1.45, 2.0)), trunk, width, arm, leg)

    def scale(self, segment: str) -> Array:
        """(3,) metres per unit of the tables for what lies in the frame of a segment."""
        factors = {
            "trunk": (self.width, self.trunk, 1.0),
            "arm": (self.arm, self.arm, self.arm),
            "leg": (self.width, self.leg, self.leg),
        }
        return self.height * np.asarray(factors[_region(segment)])


def _region(segment: str) -> str:
    """Which proportions hold in a segment's frame."""
    if segment.endswith(("_thigh", "_shank", "_foot")):
        return "leg"
    if segment.startswith(("left_", "right_")) and not segment.endswith("_clavicle"):
        return "arm"
    return "trunk"


@cache
def _closure(names: tuple[str, ...]) -> tuple[str, ...]:
    """The segments and all they hang on, parents first."""
    wanted: set[str] = set()
    for name in names:
        at = name
        while at not in wanted:
            wanted.add(at)
            at = SEGMENTS[at].parent
    return tuple(name for name in SEGMENTS if name in wanted)


@dataclass(frozen=True)
class Anchor:
    """A point that rides on a segment, ``offset`` (3,) in fractions of the body height in the segment's frame."""

    segment: str
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)


SOLES = tuple(
    Anchor(f"{side}_foot", _side(point, side))
    for side in ("left", "right")
    for point in ((0.0, -0.036, -0.03), (-0.01, -0.036, 0.11), (0.02, -0.036, 0.09))
)
KNEES = (Anchor("left_shank", (0.0, 0.0, 0.03)), Anchor("right_shank", (0.0, 0.0, 0.03)))


def _local(segments: Sequence[str], pose: Pose, frames: int) -> Array:
    """Local rotations (S, T, 3, 3) of the segments under a pose."""
    angles = np.zeros((len(segments), frames, 3))
    for row, name in enumerate(segments):
        segment = SEGMENTS[name]
        if segment.channel in pose:
            angles[row] = pose[segment.channel] * segment.share
    angles *= np.radians([SEGMENTS[name].signs for name in segments])[:, None, :]
    return rotations(angles[..., 0], angles[..., 1], angles[..., 2])


class Body:
    """One subject's body, reduced to the points somebody wants to see.

    Args:
        anchors: the points, in the order of the result.
        proportions: of the subject.
    """

    def __init__(self, anchors: Sequence[Anchor], proportions: Proportions) -> None:
        everything = (*SOLES, *KNEES, *anchors)
        self.segments = _closure(tuple(dict.fromkeys(anchor.segment for anchor in everything)))
        row = {name: index for index, name in enumerate(self.segments)}
        self._parents = [row[SEGMENTS[name].parent] for name in self.segments]
        self._offsets = np.array(
            [SEGMENTS[name].offset * proportions.scale(SEGMENTS[name].parent) for name in self.segments]
        )
        self._rows = np.array([row[anchor.segment] for anchor in everything])
        self._points = np.array([anchor.offset * proportions.scale(anchor.segment) for anchor in everything])

    def move(self, pose: Pose, frames: int, grounded: bool = True) -> Array:
        """Points (T, P, 3) in metres, the floor at y = 0, the first frame's pelvis over the origin.

        ``root`` in the pose lifts the body off the floor (y) and moves it (x, z); a grounded body is besides carried
        along by the foot it stands on, so feet do not slide.
        """
        turned, origins = chain(self._parents, self._offsets, _local(self.segments, pose, frames))
        points = (turned[self._rows] @ self._points[:, None, :, None])[..., 0] + origins[self._rows]
        ground = points[: len(SOLES) + len(KNEES)]
        shift = np.asarray(pose.get("root", np.zeros((frames, 3)))).copy()
        shift[:, 1] -= ground[:, :, 1].min(0)
        if grounded:
            shift[:, [0, 2]] += _stance(ground[: len(SOLES)])
        return np.ascontiguousarray((points[len(ground) :] + shift).transpose(1, 0, 2))


def _stance(soles: Array) -> Array:
    """Path (T, 2) on the floor of a pelvis whose lower foot stands still; soles (6, T, 3) against the pelvis."""
    feet = soles.reshape(2, 3, *soles.shape[1:]).mean(1)
    lower = np.clip((feet[1, :, 1] - feet[0, :, 1]) / 0.04, -1, 1) / 2 + 0.5
    step = np.diff(feet[:, :, [0, 2]], axis=1)
    weight = (lower[1:] + lower[:-1])[:, None] / 2
    path = -np.cumsum(weight * step[0] + (1 - weight) * step[1], axis=0)
    return np.concatenate([np.zeros((1, 2)), path])
