"""Motion that no body makes: jumps, sides that trade places, bones that grow."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from skelgraph.data.checks.base import CLIP_CHECKS, Finding, Severity
from skelgraph.data.checks.clip_facts import ClipFacts, quantile

JUMP_ADVICE = (
    "A false detection, or another person: give the frame the score 0 at this joint; "
    "where many clips jump, look at the frame rate and at the unit."
)
BODY_ADVICE = "The track has changed to somebody else, or frames are left out: cut the clip there, or track again."


@CLIP_CHECKS.register("jumping")
def jumping(
    clip: ClipFacts, *, speed: float = 20.0, sizes: float = 10.0, ratio: float = 4.0, body: float = 0.6
) -> Iterator[Finding]:
    """A joint moves faster than a human, and much faster than just before and after."""
    rate = clip.steps / clip.seconds[None, :, None]
    limit = clip.limit(speed, sizes)
    fast = rate > limit[:, None, None]
    if not fast.any():
        return
    seen = np.isfinite(rate).sum(-1)
    whole = (fast.sum(-1) > body * seen) & (seen > 1)
    for person in np.flatnonzero(whole.any(1)).tolist():
        typical = np.where(whole[person], quantile(rate[person], 0.5, axis=-1), 0)
        yield _jump(clip, typical, whole[person], person, None, limit)
    jumps = fast & (rate > ratio * _usual(rate)) & ~whole[..., None]
    for person, joint in np.argwhere(jumps.any(1)).tolist():
        yield _jump(clip, rate[person, :, joint], jumps[person, :, joint], person, joint, limit)


def _jump(
    clip: ClipFacts, rate: np.ndarray, jumps: np.ndarray, person: int, joint: int | None, limit: np.ndarray
) -> Finding:
    """The fastest of a joint's jumps, or of a body's (``joint`` None)."""
    frames = np.flatnonzero(jumps)
    worst = int(frames[np.argmax(rate[frames])])
    value = float(rate[worst])
    way, speed = (clip.shown(length, person) for length in (value * float(clip.seconds[worst]), value))
    more = f", and {len(frames) - 1} more times" if len(frames) > 1 else ""
    what = "the whole body moves " if joint is None else "moves "
    message = f"{what}{way} from frame {worst} to {worst + 1}, {speed}/s{clip.pace}{more}"
    name = None if joint is None else clip.skeleton.joints[joint]
    return Finding("jumping", Severity.WARNING, message, BODY_ADVICE if joint is None else JUMP_ADVICE, clip.name,
                   person, name, worst + 1, weight=value / float(limit[person]))  # fmt: skip


def _usual(rate: np.ndarray, frames: int = 5) -> np.ndarray:
    """Median speed of each joint over some frames around: out and back again are two of five."""
    half = frames // 2
    padded = np.pad(rate, ((0, 0), (half, half), (0, 0)), constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(padded, frames, axis=1)
    return quantile(around, 0.5, axis=-1)


@CLIP_CHECKS.register("swapped")
def swapped(
    clip: ClipFacts, *, ratio: float = 4.0, sizes: float = 0.07, sizes_2d: float = 0.1
) -> Iterator[Finding]:  # fmt: skip
    """A left joint and its right one trade places from one frame to the next."""
    left, right = clip.skeleton.mirror.T
    if clip.clip.frames < 2 or not len(left):
        return
    before, after = clip.points[:, :-1], clip.points[:, 1:]
    stay = _way(before, after, left, left) + _way(before, after, right, right)
    trade = _way(before, after, left, right) + _way(before, after, right, left)
    seen = clip.seen[:, :-1] & clip.seen[:, 1:]
    apart_by = sizes if clip.points.shape[-1] == 3 else sizes_2d
    far = np.nan_to_num(clip.sizes, nan=np.inf)[:, None, None] * apart_by
    found = (stay > ratio * trade) & (stay > 2 * far) & seen[..., left] & seen[..., right]
    for person, pair in np.argwhere(found.any(1)).tolist():
        frames = np.flatnonzero(found[person, :, pair])
        frame = int(frames[0])
        apart = float(stay[person, frame, pair]) / 2
        a, b = (clip.skeleton.joints[int(side[pair])] for side in (left, right))
        more = f", and {len(frames) - 1} more times" if len(frames) > 1 else ""
        message = f"trades places with {b}, {clip.shown(apart, person)} away, from frame {frame} to {frame + 1}{more}"
        advice = "The detector has mistaken left for right: swap the sides in one of the two stretches."
        yield Finding("swapped", Severity.WARNING, message, advice, clip.name, person, a, frame + 1,
                      weight=len(frames) + apart / float(clip.sizes[person]))  # fmt: skip


def _way(before: np.ndarray, after: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(M, T - 1, K) from joints ``start`` of a frame to joints ``end`` of the next."""
    return np.sqrt(np.square(after[:, :, end] - before[:, :, start]).sum(-1))


@CLIP_CHECKS.register("bone_length")
def bone_length(clip: ClipFacts, *, drift: float = 0.5, sizes: float = 0.05) -> Iterator[Finding]:
    """A bone has another length at the end of a clip than at its beginning; 3-D only."""
    third = clip.clip.frames // 3
    if clip.points.shape[-1] < 3 or third < 2:
        return
    first, last = (quantile(part, 0.5, axis=1) for part in (clip.lengths[:, :third], clip.lengths[:, -third:]))
    change = np.abs(last - first)
    shorter = np.minimum(first, last)
    with np.errstate(invalid="ignore"):
        found = (change > drift * shorter) & (change > sizes * clip.sizes[:, None]) & clip.skeleton.bones
    for person, edge in np.argwhere(found).tolist():
        a, b = (clip.skeleton.joints[int(joint)] for joint in clip.skeleton.edges[edge])
        values = [clip.shown(float(part[person, edge]), person) for part in (first, last)]
        message = f"its bone to {b} is {values[0]} long in the first third of the clip and {values[1]} in the last"
        advice = "One of its ends is lost or guessed: look at the clip; leave the joint out if it is so in many."
        yield Finding("bone_length", Severity.WARNING, message, advice, clip.name, person, a,
                      weight=float(change[person, edge] / clip.sizes[person]))  # fmt: skip
