"""Joints that are not there, or there and never moving."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from skelgraph.data.checks.base import CLIP_CHECKS, Finding, Severity
from skelgraph.data.checks.clip_facts import ClipFacts
from skelgraph.errors import UserError


@CLIP_CHECKS.register("invalid")
def invalid(clip: ClipFacts) -> Iterator[Finding]:
    """Numbers or labels that no clip may have."""
    try:
        clip.clip.check(clip.skeleton.topology, clip.points.shape[-1], clip.classes)
    except UserError as error:
        message = str(error).removeprefix(f"clip '{clip.name}': ").rstrip(".")
        yield Finding("invalid", Severity.ERROR, message, "Mend the source and import it again.", clip=clip.name)


@CLIP_CHECKS.register("empty")
def empty(clip: ClipFacts) -> Iterator[Finding]:
    """Nobody is seen in the whole clip."""
    if clip.empty:
        advice = "Leave it out, or keep it as a clip of nobody; a model can only guess its class."
        yield Finding("empty", Severity.WARNING, f"no joint is seen in {clip.clip.frames} frames", advice, clip.name)


@CLIP_CHECKS.register("short")
def short(clip: ClipFacts, *, frames: int = 2) -> Iterator[Finding]:
    """Too few frames to show motion."""
    if clip.clip.frames < frames:
        number = "1 frame" if clip.clip.frames == 1 else f"{clip.clip.frames} frames"
        advice = "Look whether the recording was cut off; it says nothing about motion."
        yield Finding("short", Severity.WARNING, f"it has {number}", advice, clip.name, frame=0)


@CLIP_CHECKS.register("absent_person")
def absent_person(clip: ClipFacts) -> Iterator[Finding]:
    """A person of whom no joint is ever seen beside one who is."""
    if clip.empty:
        return
    for person in np.flatnonzero(~clip.present.any(1)).tolist():
        advice = "Nothing to do if clips are filled up to a fixed number of persons; otherwise look at the source."
        yield Finding("absent_person", Severity.NOTE, "a person without any joint", advice, clip.name, person)


@CLIP_CHECKS.register("missing")
def missing(clip: ClipFacts, *, share: float = 0.5) -> Iterator[Finding]:
    """A joint is missing in most frames of its person."""
    frames = clip.present.sum(1)
    seen = (clip.seen & clip.present[..., None]).sum(1)
    lost = 1 - seen / np.maximum(frames, 1)[:, None]
    for person, joint in np.argwhere((lost > share) & (frames > 0)[:, None]).tolist():
        gone = int(frames[person] - seen[person, joint])
        message = f"missing in {gone} of the {frames[person]} frames in which the person is seen"
        first = int(np.flatnonzero(clip.present[person] & ~clip.seen[person, :, joint])[0])
        advice = "Normal where a part is out of view; otherwise look at the detector, or map to a layout without it."
        yield Finding("missing", Severity.NOTE, message, advice, clip.name, person, clip.skeleton.joints[joint], first,
                      weight=float(lost[person, joint]))  # fmt: skip


@CLIP_CHECKS.register("sparse")
def sparse(clip: ClipFacts, *, share: float = 0.6) -> Iterator[Finding]:
    """Most of a clip's joints are missing."""
    lost = 1 - float(clip.seen.mean())
    if share < lost < 1:
        message = f"{100 * lost:.0f} % of its joints are missing"
        advice = "Look at the clip; leave it out if the action cannot be recognised."
        yield Finding("sparse", Severity.WARNING, message, advice, clip.name, weight=lost)


@CLIP_CHECKS.register("frozen")
def frozen(
    clip: ClipFacts, *, seconds: float = 0.5, frames: int = 10, others: float = 0.05, distinct: float = 0.8,
    bone: float = 0.1,
) -> Iterator[Finding]:  # fmt: skip
    """A joint stays at exactly the same place while the body moves away from it."""
    if clip.clip.frames < frames:
        return
    least = max(frames, round(seconds / float(np.median(clip.seconds))))
    candidates = np.argwhere(clip.same.sum(1) >= least - 1)
    if not len(candidates) or clip.distinct <= distinct:
        return
    for person, joint in candidates.tolist():
        start, length = longest_run(clip.same[person, :, joint])
        if length + 1 < least:
            continue
        run = _Run(clip, person, joint, start, start + length)
        moved = run.moved()
        if moved > others * clip.sizes[person] and run.stretch() > bone:
            message = (
                f"exactly the same place for {length + 1} frames, while the body moves {clip.shown(moved, person)}"
            )
            advice = (
                "A tracker that has lost the joint repeats it: give these frames the score 0, so that it is missing."
            )
            yield Finding("frozen", Severity.WARNING, message, advice, clip.name, person, clip.skeleton.joints[joint],
                          start, weight=length * moved / clip.sizes[person])  # fmt: skip


class _Run(NamedTuple):
    """Frames ``start`` to ``end``, both included, in which a joint stays where it is."""

    clip: ClipFacts
    person: int
    joint: int
    start: int
    end: int

    def moved(self) -> float:
        """How far the other joints get from where they were, in the median of those seen."""
        points = self.clip.points[self.person, self.start : self.end + 1]
        seen = self.clip.seen[self.person, self.start : self.end + 1]
        way = np.sqrt(np.square(points - points[:1]).sum(-1))
        way[~(seen & seen[:1])] = 0
        other = np.delete(way.max(0), self.joint)[np.delete(seen.sum(0) > 1, self.joint)]
        return float(np.median(other)) if len(other) else 0.0

    def stretch(self) -> float:
        """Change of the joint's bones in relation to their length; of several the least."""
        own = (self.clip.skeleton.edges == self.joint).any(1)
        lengths = self.clip.lengths[self.person, self.start : self.end + 1][:, own]
        lengths = lengths[:, np.isfinite(lengths).any(0)]
        if not lengths.size:
            return 0.0
        return float(np.min((np.nanmax(lengths, 0) - np.nanmin(lengths, 0)) / np.nanmax(lengths, 0)))


@CLIP_CHECKS.register("still")
def still(clip: ClipFacts) -> Iterator[Finding]:
    """All joints stay at exactly the same place in the whole clip."""
    both = np.isfinite(clip.steps)
    if clip.clip.frames > 2 and both.any() and clip.same[both].all():
        advice = "Look whether one frame was repeated; without motion only the pose can be learned."
        yield Finding("still", Severity.WARNING, f"nothing moves in {clip.clip.frames} frames", advice, clip.name)


def longest_run(flags: np.ndarray) -> tuple[int, int]:
    """First place and length of the longest run of true values; length 0 where there is none."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    if not len(edges):
        return 0, 0
    starts, ends = edges[::2], edges[1::2]
    best = int(np.argmax(ends - starts))
    return int(starts[best]), int(ends[best] - starts[best])
