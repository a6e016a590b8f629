"""What several checks ask of one clip, computed when first asked.

Letters: M persons, T frames, V joints, C coordinates, E edges.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from skelgraph.data.checks.skeleton import Skeleton
from skelgraph.data.clip import Clip

ASSUMED_FPS = 30.0
METRES = {
    "metres": 1.0, "metre": 1.0, "meters": 1.0, "meter": 1.0, "m": 1.0,
    "millimetres": 1e-3, "millimeters": 1e-3, "mm": 1e-3, "centimetres": 1e-2, "centimeters": 1e-2, "cm": 1e-2,
}  # fmt: skip


class ClipFacts:
    """One clip with its measures.

    Attributes:
        index, clip, name: row in the store, the clip, and its name.
        skeleton, classes: of the store; how many classes there are.
        fps, timed: frames a second, assumed where not known; whether it is known.
        metres: length of one unit of the coordinates in metres; None where the unit is no length.
        points: (M, T, V, C) float32.
        seen: (M, T, V) bool.
        present: (M, T) bool, persons of whom any joint is seen.
    """

    def __init__(
        self, index: int, clip: Clip, skeleton: Skeleton, units: str = "", classes: int = 0, fps: float = ASSUMED_FPS
    ) -> None:
        self.index, self.clip, self.name, self.skeleton, self.classes = index, clip, clip.name, skeleton, classes
        self.fps = clip.fps or fps
        self.timed = clip.fps is not None or clip.timestamps is not None
        self.metres = METRES.get(units.strip().lower())
        self.points, self.seen = clip.keypoints, clip.score > 0
        self.present = np.asarray(self.seen.any(-1))

    @cached_property
    def empty(self) -> bool:
        """Nobody is ever seen."""
        return not self.seen.any()

    @cached_property
    def seconds(self) -> np.ndarray:
        """(T - 1,) from each frame to the next; by ``fps`` where the times are not known."""
        if self.clip.timestamps is not None:
            return np.maximum(np.diff(np.asarray(self.clip.timestamps, dtype=np.float64)), 1e-6)
        return np.full(self.clip.frames - 1, 1 / self.fps)

    @cached_property
    def steps(self) -> np.ndarray:
        """(M, T - 1, V) way of each joint from a frame to the next; NaN unless it is seen in both."""
        moved = np.sqrt(np.square(np.diff(self.points, axis=1)).sum(-1))
        moved[~(self.seen[:, 1:] & self.seen[:, :-1])] = np.nan
        return moved

    @cached_property
    def same(self) -> np.ndarray:
        """(M, T - 1, V) bool: seen in both frames, at exactly the same place."""
        return self.steps == 0

    @cached_property
    def distinct(self) -> float:
        """Share of first coordinates that occur only once.

        Where it is small, coordinates are rounded or drawn by hand, and a joint at rest repeats its numbers.
        """
        values = self.points[..., 0][self.seen]
        return len(np.unique(values)) / max(1, len(values))

    @cached_property
    def lengths(self) -> np.ndarray:
        """(M, T, E) length of each edge; NaN unless both its joints are seen."""
        a, b = self.skeleton.edges.T
        found = np.sqrt(np.square(self.points[:, :, a] - self.points[:, :, b]).sum(-1))
        found[~(self.seen[:, :, a] & self.seen[:, :, b])] = np.nan
        return found

    @cached_property
    def typical_lengths(self) -> np.ndarray:
        """(M, E) median length of each edge; NaN where it is never seen."""
        return quantile(self.lengths, 0.5, axis=1)

    @cached_property
    def sizes(self) -> np.ndarray:
        """(M,) size of each person: the longest way along edges from one end of the skeleton to another.

        In an adult about 2 m, from a hand to the opposite foot; it does not change with the pose. In an image it is
        shortened as the person turns. NaN where no edge is seen.
        """
        typical = np.nan_to_num(self.typical_lengths)
        chains = typical @ self.skeleton.chains.T
        longest = chains.max(1, initial=0.0)
        return np.where(longest > 0, longest, np.nan)

    @cached_property
    def size(self) -> float:
        """The size of the largest person; NaN where unknown."""
        return float(np.nan_to_num(self.sizes).max(initial=0.0)) or float("nan")

    def limit(self, metres: float, sizes: float) -> np.ndarray:
        """(M,) a length in the clip's coordinates: ``metres`` where the unit is known, else ``sizes`` body sizes."""
        if self.metres is not None:
            return np.full(len(self.points), metres / self.metres)
        return np.where(np.isfinite(self.sizes), self.sizes * sizes, np.inf)

    def shown(self, length: float, person: int) -> str:
        """A length in words: metres, or body sizes where the unit is no length."""
        if self.metres is not None:
            return f"{length * self.metres:.2f} m"
        return f"{length / self.sizes[person]:.2f} body sizes"

    @property
    def pace(self) -> str:
        """Says where a speed rests on an assumption."""
        return "" if self.timed else f" if it has {self.fps:g} frames a second"


def quantile(values: np.ndarray, share: float, axis: int) -> np.ndarray:
    """A quantile along an axis over what is not NaN, without numpy's slow path; NaN where there is nothing.

    The value is one of those given: the lower of two in the middle.
    """
    ordered = np.sort(values, axis=axis)  # NaN come last
    count = np.isfinite(ordered).sum(axis, keepdims=True)
    place = np.floor((np.maximum(count, 1) - 1) * share).astype(np.int64)
    return np.take_along_axis(ordered, place, axis=axis).squeeze(axis)
