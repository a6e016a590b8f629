"""What is answered: labels of clips, and what happens when in a long recording.

Letters: N clips, T frames, K classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def best(probabilities: np.ndarray, classes: Sequence[str], count: int) -> dict[str, float]:
    """The ``count`` most probable of ``classes``, the first one first; 0 = all."""
    order = np.argsort(-probabilities, kind="stable")[: count or None]
    return {classes[place]: float(probabilities[place]) for place in order}


@dataclass(frozen=True, eq=False)
class Prediction:
    """The classes of clips.

    Attributes:
        classes: K names.
        probabilities: (N, K) float32, the mean over the views of a clip.
        names: of the clips.
        persons: place in the list of persons, for answers of one person each; else None.
        seen: (N,) share of the joints that are seen, over the frames and persons taken.
        notes: what a user should know of these answers, in plain sentences.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray
    names: tuple[str, ...]
    persons: tuple[int | None, ...]
    seen: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The most probable class of every clip."""
        return tuple(self.classes[place] for place in self.probabilities.argmax(1))

    def __len__(self) -> int:
        return len(self.names)

    def best(self, row: int, count: int = 3) -> dict[str, float]:
        """The most probable classes of a clip, the first one first; 0 = all."""
        return best(self.probabilities[row], self.classes, count)


@dataclass(frozen=True)
class Segment:
    """Frames ``start`` to ``end`` (not included) with one label, and the mean probability of that label in them."""

    start: int
    end: int
    label: str
    probability: float


@dataclass(frozen=True, eq=False)
class Timeline:
    """What happens when in a recording.

    Attributes:
        name: of the clip.
        person: place in the list of persons, where this is the answer of one; else None.
        classes: K names.
        probabilities: (T, K), the mean over the windows around a frame; NaN where nobody is seen.
        fps: frames a second, None = unknown.
        window, stride: in frames.
    """

    name: str
    person: int | None
    classes: tuple[str, ...]
    probabilities: np.ndarray
    fps: float | None
    window: int
    stride: int

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Stretches of frames with the same most probable class, in order; frames without anybody lie between them."""
        there = ~np.isnan(self.probabilities[:, 0])
        choice = np.where(there, np.nan_to_num(self.probabilities).argmax(1), -1)
        edges = [0, *(np.flatnonzero(np.diff(choice)) + 1).tolist(), len(choice)]
        return tuple(
            Segment(start, end, self.classes[choice[start]], float(self.probabilities[start:end, choice[start]].mean()))
            for start, end in itertools.pairwise(edges)
            if end > start and choice[start] >= 0
        )


def over_windows(starts: Sequence[int], window: int, scores: np.ndarray, frames: int) -> np.ndarray:
    """Mean probabilities (T, K) of the windows that cover each frame; NaN where none does.

    Args:
        starts: first frame of each window.
        window: frames of a window.
        scores: (windows, K).
        frames: T.
    """
    total, count = np.zeros((frames, scores.shape[1])), np.zeros((frames, 1))
    for start, row in zip(starts, scores, strict=True):
        total[start : start + window] += row
        count[start : start + window] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
