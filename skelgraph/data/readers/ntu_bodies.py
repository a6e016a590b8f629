"""Which of the bodies in a recording of NTU RGB+D are people: the rules of published preprocessing, as plain steps.

A Kinect takes furniture for bodies, and gives one person a new tracking id whenever it loses sight of them. Published
work drops bodies by three rules (length, spread, motion) and makes two actors of what is left.

Source: SGN (Zhang et al., CVPR 2020), whose preparation CTR-GCN and PSUMNet share, for `DENOISE` and `actors`; 2s-AGCN
(Shi et al., CVPR 2019) for `most_energetic`. Thresholds as in their code; spec psumnet §4.1, halp §4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from skelgraph.data.readers.ntu_skeleton import Recording

SHORTEST = 12
SPREAD, NOISY = 0.8, 0.69754
LITTLE_MOTION, MUCH_MOTION = 0.089925, 2.0
SLOTS, ACTORS = 4, 2


@dataclass(frozen=True, eq=False)
class Body:
    """One tracking id.

    Attributes:
        rows: (R,) its rows of the recording.
        frames: (R,) the frames they belong in.
        motion: sum over x, y, z of the variance over joints and frames, in square metres.
    """

    rows: np.ndarray
    frames: np.ndarray
    motion: float

    @property
    def interval(self) -> tuple[int, int]:
        """First and last frame."""
        return int(self.frames[0]), int(self.frames[-1])


def bodies(recording: Recording, frames: np.ndarray, *, close_gaps: bool) -> list[Body]:
    """One `Body` for each tracking id, in order of first appearance.

    Args:
        recording: the file.
        frames: (R,) the frame to put each row in.
        close_gaps: a body that vanishes and returns goes on right where it left, as in the published code; otherwise
            it keeps its frames.
    """
    found = []
    for number in range(int(recording.body.max()) + 1):
        rows = np.flatnonzero(recording.body == number)
        places = frames[rows[0]] + np.arange(len(rows)) if close_gaps else frames[rows]
        found.append(Body(rows, places, _motion(recording.joints[rows])))
    return found


def _motion(joints: np.ndarray) -> float:
    return float(joints.reshape(-1, 3).var(axis=0, dtype=np.float64).sum())


def by_length(found: Sequence[Body], recording: Recording) -> list[Body]:
    """Bodies seen in more than 11 frames."""
    return [body for body in found if len(body.rows) >= SHORTEST]


def by_spread(found: Sequence[Body], recording: Recording) -> list[Body]:
    """Bodies that are narrow enough: x spans at most 0.8 of what y does, in more than 30.246 % of the frames.

    The motion of a body that stays is at most that of its narrow frames.
    """
    kept = list(found)
    for body in found:
        if len(kept) == 1:
            break
        joints = recording.joints[body.rows]
        width, height = (np.ptp(joints[..., axis], axis=1) for axis in (0, 1))
        narrow = width <= SPREAD * height
        place = kept.index(body)
        if (~narrow).mean() >= NOISY:
            del kept[place]
        elif not narrow.all():
            kept[place] = replace(body, motion=min(body.motion, _motion(joints[narrow])))
    return kept


def by_motion(found: Sequence[Body], recording: Recording) -> list[Body]:
    """The body that moves most, and those that move neither hardly nor wildly."""
    most = max(found, key=lambda body: body.motion)
    return [body for body in found if body is most or LITTLE_MOTION <= body.motion <= MUCH_MOTION]


DENOISE: Mapping[str, tuple[Callable[[Sequence[Body], Recording], list[Body]], Mapping[str, float]]] = {
    "length": (by_length, {"frames": SHORTEST}),
    "spread": (by_spread, {"x_of_y": SPREAD, "share_of_frames": NOISY}),
    "motion": (by_motion, {"least": LITTLE_MOTION, "most": MUCH_MOTION}),
}


def denoise(found: list[Body], recording: Recording, steps: Sequence[str]) -> list[Body]:
    """Apply rules of `DENOISE`, in their own order, while there is more than one body.

    A rule that would leave nobody is passed over; the published code fails on such files.
    """
    for name, (rule, _) in DENOISE.items():
        if name in steps and len(found) > 1:
            found = rule(found, recording) or found
    return found


def actors(found: Sequence[Body]) -> list[list[Body]]:
    """At most two actors, each made of bodies that follow one another; who moves most comes first.

    Bodies are taken in order of falling motion. One joins the first actor if their intervals do not overlap, otherwise
    the second; what overlaps with both goes.
    """
    teams: list[list[Body]] = [[], []]
    ends: list[tuple[int, int]] = [(0, 0), (0, 0)]
    for body in sorted(found, key=lambda item: -item.motion):
        start, end = body.interval
        for team, (first, last) in enumerate(ends):
            if not teams[team] or min(last, end) - max(first, start) <= 0:
                ends[team] = (min(first, start), max(last, end)) if teams[team] else (start, end)
                teams[team].append(body)
                break
    return [team for team in teams if team]


def most_energetic(recording: Recording, frames: np.ndarray) -> list[list[Body]]:
    """The two of the first four places in a frame where most happens, whatever tracking ids stand there.

    Energy is the sum over x, y, z of the standard deviation over joints and frames.
    """
    places = []
    for slot in range(min(SLOTS, int(recording.slot.max()) + 1)):
        rows = np.flatnonzero(recording.slot == slot)
        energy = recording.joints[rows].reshape(-1, 3).std(axis=0, dtype=np.float64).sum()
        places.append(Body(rows, frames[rows], float(energy)))
    return [[body] for body in sorted(places, key=lambda item: -item.motion)[:ACTORS]]
