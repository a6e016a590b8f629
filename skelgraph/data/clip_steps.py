"""What an import may do to every clip of any format: fill gaps, map joints, change the frame rate.

A step is a small picklable object from clip to clip, named in the store's ``steps`` with all its settings, so that
`recorded` can make it again for a file that comes later.

Letters: M persons, T frames, V joints, C coordinates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args

import numpy as np

from skelgraph.data.clip import Clip
from skelgraph.data.sampling import FrameIndex, take_frames
from skelgraph.errors import UserError, unknown
from skelgraph.topology import Topology
from skelgraph.topology_map import TopologyMap

Gaps = Literal["mask", "hold", "interpolate"]
MOST_FRAMES = 1_000_000


class ClipStep(Protocol):
    """A change of every clip."""

    @property
    def record(self) -> dict[str, Any]:
        """Name and settings, for the store's ``steps``."""

    def bind(self, topology: Topology) -> tuple[ClipStep, Topology]:
        """The step for clips of ``topology``, and the topology of what comes out.

        Raises:
            UserError: the step does not go with this topology.
        """

    def __call__(self, clip: Clip) -> Clip:
        """The changed clip.

        Raises:
            UserError: the clip lacks what the step needs; names it.
        """


def bind(steps: Sequence[ClipStep], topology: Topology) -> tuple[list[ClipStep], Topology]:
    """Steps in order for clips of ``topology``, and the topology that the last one leaves.

    Raises:
        UserError: a step does not go with the topology that reaches it.
    """
    bound = []
    for step in steps:
        ready, topology = step.bind(topology)
        bound.append(ready)
    return bound, topology


def apply(steps: Iterable[ClipStep], clip: Clip) -> Clip:
    """The clip after all steps."""
    for step in steps:
        clip = step(clip)
    return clip


def recorded(steps: Iterable[Mapping[str, Any]]) -> list[ClipStep]:
    """The clip steps among the ``steps`` of a store's ``meta.json``, in order; all other entries are passed over.

    They are not bound yet.
    """
    made: list[ClipStep] = []
    for step in steps:
        if step.get("name") == FillGaps.name:
            made.append(FillGaps(step["how"], step["longest"]))
        elif step.get("name") == MapJoints.name:
            made.append(MapJoints(step["to"], step["from"]))
        elif step.get("name") == FrameRate.name:
            made.append(FrameRate(step["fps"]))
    return made


def named_steps(nan: str | None = None, to: str | None = None, fps: float | None = None) -> list[ClipStep]:
    """The steps of an import in their order: gaps, joints, frame rate.

    Args:
        nan: as `parse_gaps`.
        to: as `parse_map`.
        fps: as `FrameRate`.

    Raises:
        UserError: a text that is no such setting.
    """
    gaps = [parse_gaps(nan)] if nan is not None else []
    joints = [parse_map(to)] if to is not None else []
    rate = [FrameRate(float(fps))] if fps is not None else []
    return [*gaps, *joints, *rate]


# ---- missing values -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FillGaps:
    """What becomes of joints that are missing, by NaN, infinity or score 0.

    ``mask`` marks NaN and infinity as missing and changes nothing else. ``hold`` gives a missing joint its last seen
    place (before the first: the first), ``interpolate`` goes linearly from the last to the next seen place and holds at
    the ends; the score is taken over in the same way, so that the joint counts as seen from then on. Frames in which a
    person is not seen at all stay without them: who left the picture is not invented.

    Args:
        how: ``mask``, ``hold`` or ``interpolate``.
        longest: a gap of more frames than this stays missing; None = any.
    """

    how: Gaps
    longest: int | None = None
    name = "missing joints"

    def __post_init__(self) -> None:
        if self.how not in get_args(Gaps):
            raise unknown("way to treat missing joints", self.how, get_args(Gaps), "--nan")

    @property
    def record(self) -> dict[str, Any]:
        return {"name": self.name, "how": self.how, "longest": self.longest}

    def bind(self, topology: Topology) -> tuple[ClipStep, Topology]:
        return self, topology

    def __call__(self, clip: Clip) -> Clip:
        seen = (clip.score > 0) & np.isfinite(clip.keypoints).all(-1)
        keypoints = np.where(seen[..., None], clip.keypoints, np.float32(0))
        score = np.where(seen, clip.score, np.float32(0))
        if self.how != "mask":
            keypoints, score = self._filled(keypoints, score, seen)
        return replace(clip, keypoints=keypoints, score=score)

    def _filled(self, points: np.ndarray, score: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        frames = seen.shape[1]
        time = np.arange(frames)[None, :, None]
        last = np.maximum.accumulate(np.where(seen, time, -1), axis=1)
        after = np.minimum.accumulate(np.where(seen, time, frames)[:, ::-1], axis=1)[:, ::-1]
        gap = after - last - 1 if self.longest is not None else np.zeros_like(last)
        fill = ~seen & seen.any(-1, keepdims=True) & seen.any(1, keepdims=True) & (gap <= (self.longest or 0))
        left = np.where(last < 0, after, last).clip(0, frames - 1)
        right = left if self.how == "hold" else np.where(after >= frames, last, after).clip(0, frames - 1)
        share = ((time - left) / np.maximum(right - left, 1)).clip(0, 1).astype(np.float32)
        start, end = np.take_along_axis(score, left, 1), np.take_along_axis(score, right, 1)
        new_score = np.where(fill, (1 - share) * start + share * end, score)
        where = left[..., None], right[..., None], share[..., None]
        start, end = np.take_along_axis(points, where[0], 1), np.take_along_axis(points, where[1], 1)
        return np.where(fill[..., None], (1 - where[2]) * start + where[2] * end, points), new_score


def parse_gaps(text: str) -> FillGaps:
    """``mask``, ``hold``, ``interpolate``, or with the longest gap in frames ``interpolate:10``.

    Raises:
        UserError: no such way, or no whole number behind the colon.
    """
    how, colon, longest = text.partition(":")
    if colon and not (longest.isdigit() and int(longest) > 0):
        raise UserError(f"--nan {text}: behind the colon stands the longest gap in frames, e.g. interpolate:10.")
    return FillGaps(how, int(longest) if colon else None)  # type: ignore[arg-type]


# ---- joints -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class MapJoints:
    """Joints of another topology, by their names (`TopologyMap`); what has no partner is missing.

    Args:
        target: name or file of the topology wanted.
        source: of the clips; None = whatever they have. A name that is not theirs is an error.
        mapping: once bound.
    """

    target: str
    source: str | None = None
    mapping: TopologyMap | None = None
    name = "map joints"

    @property
    def record(self) -> dict[str, Any]:
        assert self.mapping is not None
        return {
            "name": self.name,
            "from": self.mapping.source.name,
            "to": self.target,
            "missing": list(self.mapping.missing),
        }

    def bind(self, topology: Topology) -> tuple[ClipStep, Topology]:
        if self.source is not None and Topology.load(self.source).joints != topology.joints:
            raise UserError(
                f"--map {self.source}:{self.target}: the clips have the joints of '{topology.name}'; "
                f"write --map {topology.name}:{self.target}."
            )
        target = Topology.load(self.target)
        mapping = TopologyMap.between(topology, target)
        if len(mapping.missing) == len(target.joints):
            raise UserError(f"--map: no joint of '{target.name}' has a partner in '{topology.name}'.")
        return replace(self, mapping=mapping), target

    def __call__(self, clip: Clip) -> Clip:
        assert self.mapping is not None
        keypoints, score = self.mapping.apply(clip.keypoints, clip.score)
        return replace(clip, keypoints=keypoints, score=score)


def parse_map(text: str) -> MapJoints:
    """``SOURCE:TARGET`` or ``TARGET``; a file may have a colon in its name only before a drive's backslash."""
    source, colon, target = text.rpartition(":")
    if not target or (colon and not source):
        raise UserError(f"--map {text}: write SOURCE:TARGET, e.g. mediapipe33:coco17.")
    return MapJoints(target, source or None)


# ---- time ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FrameRate:
    """Frames at even times, so many a second, by linear interpolation between those that there are.

    A joint seen at one end only takes the place it has there. Segments move with the frames; time stamps become even
    and are dropped; further modalities keep their own rate.

    Args:
        fps: frames a second wanted.
    """

    fps: float
    name = "frame rate"

    def __post_init__(self) -> None:
        if not 0 < self.fps <= 10_000:
            raise UserError(f"--fps {self.fps:g}: a number of frames a second is wanted, e.g. 30.")

    @property
    def record(self) -> dict[str, Any]:
        return {"name": self.name, "fps": self.fps}

    def bind(self, topology: Topology) -> tuple[ClipStep, Topology]:
        return self, topology

    def __call__(self, clip: Clip) -> Clip:
        if clip.timestamps is None and clip.fps == self.fps:
            return clip
        times = self._times(clip)
        frames = int((times[-1] + 1e-6) * self.fps) + 1
        if frames > MOST_FRAMES:
            raise UserError(f"clip '{clip.name}': lasts {times[-1]:.0f} s, which is {frames} frames at {self.fps:g}.")
        place = np.interp(np.arange(frames) / self.fps, times, np.arange(clip.frames))
        first = np.minimum(place.astype(np.int64), clip.frames - 1)
        second = np.minimum(first + 1, clip.frames - 1)
        index = FrameIndex(first, second, (place - first).astype(np.float32))
        keypoints, score = take_frames(clip.keypoints, clip.score, index)
        return replace(
            clip, keypoints=np.where(score[..., None] > 0, keypoints, np.float32(0)).astype(np.float32),
            score=score.astype(np.float32), fps=float(self.fps), timestamps=None, segments=self._segments(clip, times),
        )  # fmt: skip

    def _times(self, clip: Clip) -> np.ndarray:
        """Seconds of each frame since the first."""
        if clip.timestamps is not None:
            times = np.asarray(clip.timestamps, np.float64)
            if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
                raise UserError(f"clip '{clip.name}': its time stamps do not rise, so it cannot be given another rate.")
            return times - times[0]
        if not clip.fps:
            raise UserError(
                f"clip '{clip.name}': its frame rate is not known, so it cannot be given another; leave --fps out or "
                "say the rate by an option of the format."
            )
        return np.arange(clip.frames) / clip.fps

    def _segments(self, clip: Clip, times: np.ndarray) -> tuple[tuple[int, int, int], ...] | None:
        if clip.segments is None:
            return None
        edges = np.append(times, 2 * times[-1] - times[-2] if len(times) > 1 else 1 / self.fps)
        last = int((times[-1] + 1e-6) * self.fps) + 1
        moved = []
        for start, end, label in clip.segments:
            begin = min(round(edges[start] * self.fps), last - 1)
            moved.append((begin, min(max(round(edges[end] * self.fps), begin + 1), last), label))
        return tuple(moved)
