"""Clips boiled down to some hundred bytes each, by which copies are found without comparing all pairs.

Exact copies have equal hashes. Clips that share frames (one cut out of the other, or overlapping windows of one
recording) share some of the smallest hashes of their frames (a bottom-k sketch: Broder, "On the resemblance and
containment of documents", 1997). Clips that are nearly equal (resampled, rounded, moved or scaled as a whole) are near
each other after a random projection of some poses (Johnson and Lindenstrauss, 1984).
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

import numpy as np

SMALLEST = 16
POSES = 8
PROJECTED = 32
PERSONS = 2


class Sketches:
    """The sketches of all clips.

    Attributes:
        whole: (N,) uint64, equal for clips with the same numbers; 0 where nobody is seen.
        frames: (N, 16) uint64, the smallest hashes of frames; the largest number where there are fewer.
        poses: (N, 32) float32; distances are root mean squares over joints, in body sizes. NaN without motion.
    """

    def __init__(self, clips: int, joints: int, dims: int) -> None:
        self.whole = np.zeros(clips, dtype=np.uint64)
        self.frames = np.full((clips, SMALLEST), np.iinfo(np.uint64).max, dtype=np.uint64)
        self.poses = np.full((clips, PROJECTED), np.nan, dtype=np.float32)
        directions = np.random.default_rng(0).standard_normal((PERSONS * POSES * joints * dims, PROJECTED))
        # Scaled so that a distance between projections is a root mean square over joints and poses.
        self._directions = (directions / np.sqrt(PROJECTED * POSES * joints)).astype(np.float32)

    def add(self, index: int, points: np.ndarray, seen: np.ndarray) -> None:
        """Enter a clip: points (M, T, V, C), seen (M, T, V) bool."""
        hashes = frame_hashes(points, seen)
        if not len(hashes):
            return
        digest = blake2b(hashes.tobytes(), digest_size=8).digest()
        self.whole[index] = np.frombuffer(digest, dtype=np.uint64)[0] | np.uint64(1)
        smallest = np.unique(hashes)[:SMALLEST]
        self.frames[index, : len(smallest)] = smallest
        if points.shape[1] > 2:
            poses = resampled(points, seen, POSES)
            if poses is not None:
                flat = np.zeros(len(self._directions), dtype=np.float32)
                shown = poses[:PERSONS].ravel()
                flat[: len(shown)] = shown
                self.poses[index] = flat @ self._directions


def frame_hashes(points: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(T',) uint64, one for each frame in which anybody is seen; equal frames have equal hashes."""
    shown = np.ascontiguousarray(points.transpose(1, 0, 2, 3)[seen.any((0, 2))], dtype=np.float32) + np.float32(0)
    words = shown.reshape(len(shown), int(np.prod(shown.shape[1:]))).view(np.uint32).astype(np.uint64)
    return words @ _factors(words.shape[1])


@lru_cache(maxsize=64)
def _factors(count: int) -> np.ndarray:
    """Random odd numbers, the first ones always the same, so that a person who is never seen changes no hash."""
    return np.random.default_rng(1).integers(1, 2**63, count, dtype=np.uint64) | np.uint64(1)


def resampled(points: np.ndarray, seen: np.ndarray, frames: int) -> np.ndarray | None:
    """Poses (M', frames, V, C) at even times, the clip's mean at the origin, in body sizes (four times its spread).

    A missing joint is put on the straight way between the places where it was seen before and after; one that is never
    seen is at the origin. None where all points fall together. Persons never seen are left out.
    """
    there = seen.any((1, 2))
    points, seen = points[there].astype(np.float64), seen[there]
    if not seen.all():
        points = _filled(points, seen)
    at = np.linspace(0, points.shape[1] - 1, frames)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, points.shape[1] - 1)
    share = (at - low)[None, :, None, None]
    poses = points[:, low] * (1 - share) + points[:, high] * share
    shown = np.asarray(seen.any(1))[:, None, :, None]
    count = frames * int(shown.sum())
    if not count:
        return None
    poses = np.where(shown, poses - np.where(shown, poses, 0).sum((0, 1, 2)) / count, 0)
    spread = float(np.sqrt(np.square(poses).sum() / count))
    return poses / (4 * spread) if spread > 0 else None


def _filled(points: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Points (M, T, V, C) with every joint that is ever seen in every frame."""
    count = points.shape[1]
    own = np.arange(count)[None, :, None]
    before = np.maximum.accumulate(np.where(seen, own, -1), axis=1)
    after = np.minimum.accumulate(np.where(seen, own, count)[:, ::-1], axis=1)[:, ::-1]
    before, after = np.where(before < 0, after, before), np.where(after >= count, before, after)
    before, after = before.clip(0, count - 1), after.clip(0, count - 1)
    share = (own - before) / np.maximum(after - before, 1)
    first, last = (np.take_along_axis(points, place[..., None], axis=1) for place in (before, after))
    return first + (last - first) * share[..., None]
