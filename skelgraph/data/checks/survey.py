"""Small rows about all clips, for the checks of a store as a whole: some 0.4 kB a clip, joints are not kept.

Letters: N clips, C coordinates, V joints.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from skelgraph.data.checks.clip_facts import METRES, ClipFacts, quantile
from skelgraph.data.checks.copies import Copies, find_copies, identical
from skelgraph.data.checks.skeleton import Skeleton
from skelgraph.data.checks.sketches import Sketches
from skelgraph.data.longtail import LEFT_OUT
from skelgraph.data.store import Store

MIN_FRAMES = 3


class Survey:
    """What is remembered of each clip.

    Attributes:
        store, skeleton: of the clips.
        protocols: the splits to look at.
        metres: length of one unit of the coordinates; None where the unit is no length.
        empty: (N,) bool, nobody is seen.
        timed: (N,) bool, the frame rate or the time of each frame is known.
        sizes: (N,) body size, NaN where unknown.
        whole: (N,) share of the edges that are ever seen.
        low, high: (N, C) 1 % and 99 % quantiles of the coordinates; NaN where nobody is seen.
        up: (N, C) mean direction upwards by the topology; NaN where unknown.
        turn: (N,) 1 where left is on the left of whoever looks forward, -1 where it is on the right, 0 undecided.
        speed: (N,) fast motion of joints, the 90 % quantile, in body sizes a second; NaN where unknown.
        seen: (V,) in how many clips each joint is ever seen.
        sketches: for the search of copies.
    """

    def __init__(self, store: Store, skeleton: Skeleton, protocols: tuple[str, ...]) -> None:
        count, dims, joints = len(store), store.meta.dims, len(skeleton.joints)
        self.store, self.skeleton, self.protocols = store, skeleton, protocols
        self.metres = METRES.get(store.meta.units.strip().lower())
        self.empty, self.timed = np.ones(count, dtype=bool), np.zeros(count, dtype=bool)
        self.sizes, self.speed = (np.full(count, np.nan, dtype=np.float32) for _ in range(2))
        self.whole, self.turn = (np.zeros(count, dtype=np.float32) for _ in range(2))
        self.low, self.high, self.up = (np.full((count, dims), np.nan, dtype=np.float32) for _ in range(3))
        self.seen = np.zeros(joints, dtype=np.int64)
        self.sketches = Sketches(count, joints, dims)
        self._found: dict[tuple[float, ...], Copies] = {}

    def add(self, clip: ClipFacts) -> None:
        """Remember a clip."""
        row = clip.index
        self.empty[row], self.timed[row] = clip.empty, clip.timed
        if clip.empty or not np.isfinite(clip.points).all():
            return
        self.seen += clip.seen.any((0, 1))
        self.sizes[row] = clip.size
        self.whole[row] = np.isfinite(clip.typical_lengths).any(0).mean() if len(self.skeleton.edges) else 0
        places = clip.points[clip.seen]
        self.low[row], self.high[row] = quantile(places, 0.01, axis=0), quantile(places, 0.99, axis=0)
        if clip.clip.frames >= MIN_FRAMES:
            rate = (clip.steps / clip.seconds[:, None] / clip.sizes[:, None, None]).ravel()
            self.speed[row] = quantile(rate, 0.9, axis=0)
        self._directions(clip, row)
        self.sketches.add(row, clip.points, clip.seen)

    def _directions(self, clip: ClipFacts, row: int) -> None:
        if self.skeleton.up is None:
            return
        up = _mean_way(clip, *self.skeleton.up)
        self.up[row] = up
        if self.skeleton.across is None or not len(self.skeleton.forward) or len(up) < 3:
            return
        across = _mean_way(clip, *self.skeleton.across)
        forward = np.nan_to_num([_mean_way(clip, a, b) for a, b in self.skeleton.forward.tolist()]).sum(0)
        volume = float(np.dot(np.cross(up, forward), across))
        scale = float(np.linalg.norm(up) * np.linalg.norm(forward) * np.linalg.norm(across))
        if scale > 0 and abs(volume) > 0.3 * scale:
            self.turn[row] = np.sign(volume)

    # ---- splits ---------------------------------------------------------------------------------------------------

    @cached_property
    def parts(self) -> dict[str, dict[str, np.ndarray]]:
        """Rows of each part of each protocol that is looked at."""
        return {name: self.store.protocol(name) for name in self.protocols}

    def separated(self, protocol: str) -> list[tuple[str, str]]:
        """Pairs of parts that must not share anything: what is learned from, and what is measured on."""
        names = list(self.parts[protocol])
        pairs = [("train", name) for name in names if "train" in names and name not in ("train", LEFT_OUT)]
        return pairs + [("val", name) for name in names if "val" in names and name.startswith("test")]

    @cached_property
    def exact(self) -> Copies:
        """Clips with the same numbers."""
        return Copies(identical(self.store, self.sketches.whole))

    def copies(self, overlap: float, distance: float, motion: float) -> Copies:
        """Clips that hold the same motion; searched once for the same thresholds."""
        key = (overlap, distance, motion)
        if key not in self._found:
            self._found[key] = find_copies(
                self.store, self.sketches, self.exact.same, overlap=overlap, distance=distance, motion=motion
            )  # fmt: skip
        return self._found[key]


def _mean_way(clip: ClipFacts, start: int, end: int) -> np.ndarray:
    """(C,) from one joint to another, the mean over frames and persons that show both; NaN where none does."""
    both = clip.seen[..., start] & clip.seen[..., end]
    if not both.any():
        return np.full(clip.points.shape[-1], np.nan)
    return (clip.points[..., end, :][both] - clip.points[..., start, :][both]).mean(0, dtype=np.float64)
