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
    """Poses (M', frames, V, C) at even times, the clip's mean at the origin, in units of its spread.

    A missing joint is at the origin. None where all points fall together. Persons never seen are left out.
    """
    there = seen.any((1, 2))
    points, seen = points[there].astype(np.float64), seen[there]
    at = np.linspace(0, points.shape[1] - 1, frames)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, points.shape[1] - 1)
    weight = ((at - low)[None, :, None] * np.ones(seen[:, :1].shape))[..., None]
    left, right = seen[:, low, :, None], seen[:, high, :, None]
    weight = np.where(left & right, weight, np.where(right, 1.0, 0.0))
    poses = points[:, low] * (1 - weight) + points[:, high] * weight
    shown = (left | right)[..., 0]
    if not shown.any():
        return None
    poses = np.where(shown[..., None], poses - poses[shown].mean(0), 0)
    spread = float(np.sqrt(np.square(poses[shown]).sum(-1).mean()))
    return poses / (4 * spread) if spread > 0 else None
