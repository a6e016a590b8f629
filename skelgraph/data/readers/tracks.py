"""From the people found in each frame to people over time.

Where the files give ids, they are believed. Otherwise a person is who stands nearest to where somebody stood before:
pairs of a found pose and a known person are taken by growing distance, up to one body size. Who leaves and returns
within `MEMORY` frames must return near that place; later, a newcomer takes the free place of whoever left, so that the
number of persons is the number of people seen at the same time, not of appearances. Who that is cannot be known without
ids. Persons are ordered by size and length of their presence, so that person 0 is the one the clip is about.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

MEMORY = 30
REACH = 1.0
STEP = {"name": "order persons", "by": "size times score, summed over frames, largest first"}


@dataclass(frozen=True, eq=False)
class Found:
    """One pose in one frame.

    Attributes:
        points: (V, C).
        score: (V,), 0 = missing.
        identity: where the file tells who it is.
    """

    points: np.ndarray
    score: np.ndarray
    identity: Hashable | None = None

    @property
    def size(self) -> float:
        """Diagonal of the box around the seen joints."""
        seen = self.points[self.score > 0]
        return float(np.linalg.norm(np.ptp(seen.astype(np.float64), axis=0))) if len(seen) else 0.0


@dataclass(eq=False)
class _Person:
    """Somebody known: the poses by frame, the last of them at hand."""

    poses: dict[int, Found]
    last: Found
    frame: int


def follow(frames: Sequence[Sequence[Found]], joints: int, dims: int, persons: int) -> tuple[np.ndarray, np.ndarray]:
    """People over time.

    Args:
        frames: the poses of each frame.
        joints, dims: V and C.
        persons: keep so many, the largest and longest seen; 0 = all.

    Returns:
        keypoints (M, T, V, C) and score (M, T, V); M is at least 1, also where nobody is seen.
    """
    known: dict[Hashable, _Person] = {}
    free: list[_Person] = []
    for frame, found in enumerate(frames):
        seen = [pose for pose in found if (pose.score > 0).any()]
        for pose in seen:
            if pose.identity is not None:
                person = known.setdefault(pose.identity, _Person({}, pose, frame))
                _add(person, pose, frame)
        _match([pose for pose in seen if pose.identity is None], free, frame)
    people = sorted([*known.values(), *free], key=_presence, reverse=True)
    people = people[:persons] if persons else people
    keypoints = np.zeros((max(1, len(people)), len(frames), joints, dims), np.float32)
    score = np.zeros(keypoints.shape[:-1], np.float32)
    for row, person in enumerate(people):
        for frame, pose in person.poses.items():
            keypoints[row, frame], score[row, frame] = pose.points, pose.score
    return keypoints, score


def _add(person: _Person, pose: Found, frame: int) -> None:
    person.poses[frame], person.last, person.frame = pose, pose, frame


def _match(poses: list[Found], people: list[_Person], frame: int) -> None:
    """Give each pose to a person, or make a new one of it."""
    pairs = []
    for place, pose in enumerate(poses):
        for who, person in enumerate(people):
            gone = frame - person.frame > MEMORY
            far = _distance(pose, person.last)
            if gone or far <= REACH:
                pairs.append((gone, far, place, who))
    taken_poses: set[int] = set()
    taken_people: set[int] = set()
    for _, _, place, who in sorted(pairs):
        if place not in taken_poses and who not in taken_people:
            _add(people[who], poses[place], frame)
            taken_poses.add(place)
            taken_people.add(who)
    people.extend(_Person({frame: pose}, pose, frame) for i, pose in enumerate(poses) if i not in taken_poses)


def _distance(one: Found, other: Found) -> float:
    """Mean distance of the joints seen in both, in body sizes; of the middles where they share none."""
    both = (one.score > 0) & (other.score > 0)
    if both.any():
        between = np.subtract(one.points[both], other.points[both], dtype=np.float64)
        far = float(np.linalg.norm(between, axis=-1).mean())
    else:
        middles = [pose.points[pose.score > 0].mean(0, dtype=np.float64) for pose in (one, other)]
        far = float(np.linalg.norm(middles[0] - middles[1]))
    return far / max(one.size, other.size, 1e-6)


def _presence(person: _Person) -> float:
    return sum(pose.size * float(pose.score.mean()) for pose in person.poses.values())
