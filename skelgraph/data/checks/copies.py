"""Finds clips that hold the same motion: exactly, in part, or nearly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations, pairwise

import numpy as np

from skelgraph.data.checks.sketches import Sketches, frame_hashes, resampled
from skelgraph.data.store import Store

BLOCK = 1024
PAIRED = 16
COMPARED = 16


@dataclass(frozen=True)
class Likeness:
    """Two clips that are not the same numbers, and yet hold the same motion.

    Attributes:
        a, b: rows of the store, each the first of its identical clips.
        words: in what way they are alike.
        weight: the larger, the more alike.
    """

    a: int
    b: int
    words: str
    weight: float


@dataclass
class Copies:
    """What was found.

    Attributes:
        same: (N,) row of the first clip with the same numbers; its own row where it is the first or the only one.
        alike: further pairs, of such first rows.
    """

    same: np.ndarray
    alike: list[Likeness] = field(default_factory=list)

    def members(self) -> dict[int, list[int]]:
        """Rows by the first clip with their numbers."""
        groups: dict[int, list[int]] = {}
        for row, first in enumerate(self.same.tolist()):
            groups.setdefault(first, []).append(row)
        return groups


def find_copies(
    store: Store, sketches: Sketches, same: np.ndarray, *, overlap: float, distance: float, motion: float
) -> Copies:
    """Search a store.

    Args:
        store: where candidates are compared.
        sketches: of all its clips.
        same: what `identical` gives.
        overlap: share of the shorter clip's frames that two clips must have in common.
        distance: largest root mean square distance of joints, in body sizes, of nearly equal clips.
        motion: largest share of the motion of the clip (how far joints get from their mean place) in that distance.
    """
    found = Copies(same)
    first = np.flatnonzero((found.same == np.arange(len(store))) & (sketches.whole > 0))
    pairs: set[tuple[int, int]] = set()
    for a, b in sorted(set(_sharing(sketches.frames, first))):
        share = _shared_frames(store, a, b)
        if share >= overlap:
            pairs.add((a, b))
            found.alike.append(
                Likeness(a, b, f"{100 * share:.0f} % of the frames of the shorter are in both", 1 + share)
            )
    for a, b in _near(sketches.poses, first, 2 * distance):
        apart = None if (a, b) in pairs else _apart(store, a, b)
        if apart is not None and apart[0] <= distance and apart[1] <= motion:
            words = f"after resampling the joints are {100 * apart[0]:.2f} % of a body size apart"
            found.alike.append(Likeness(a, b, words, 1 - apart[1]))
    return found


def identical(store: Store, whole: np.ndarray) -> np.ndarray:
    """(N,) the first row with the same numbers; the clip's own where there is none before it."""
    same = np.arange(len(whole))
    order = np.argsort(whole, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(whole[order])) + 1):
        rows = group.tolist()
        if len(rows) > 1 and whole[rows[0]] > 0:
            points = store.row(rows[0])[0]
            for row in rows[1:]:
                if np.array_equal(store.row(row)[0], points):
                    same[row] = rows[0]
    return same


def _sharing(frames: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of rows with a frame in common; of a frame in very many clips only pairs of neighbours."""
    hashes, owners = frames[rows].ravel(), np.repeat(rows, frames.shape[1])
    hashes, owners = (part[hashes < np.iinfo(np.uint64).max] for part in (hashes, owners))
    order = np.lexsort((owners, hashes))
    hashes, owners = hashes[order], owners[order]
    for group in np.split(owners, np.flatnonzero(np.diff(hashes)) + 1):
        if len(group) > 1:
            members = group.tolist()
            yield from combinations(members, 2) if len(members) <= PAIRED else pairwise(members)


def _shared_frames(store: Store, a: int, b: int) -> float:
    """Share of the shorter clip's frames that stand in the other, too."""
    one, other = (frame_hashes(points, score > 0) for points, score in (store.row(a), store.row(b)))
    short, long = (one, other) if len(one) <= len(other) else (other, one)
    return float(np.isin(short, long).mean())


def _near(poses: np.ndarray, rows: np.ndarray, radius: float) -> Iterator[tuple[int, int]]:
    """Pairs of rows whose projections are within ``radius``.

    Only clips near each other along the direction in which all differ most are compared, block by block.
    """
    rows = rows[np.isfinite(poses[rows, 0])]
    if len(rows) < 2:
        return
    places = poses[rows].astype(np.float64)
    places -= places.mean(0)
    along = places @ np.linalg.eigh(places.T @ places)[1][:, -1]
    order = np.argsort(along, kind="stable")
    rows, places, along = rows[order], places[order], along[order]
    squares = np.square(places).sum(1)
    for start in range(0, len(rows), BLOCK):
        stop = min(start + BLOCK, len(rows))
        for begin in range(start, int(np.searchsorted(along, along[stop - 1] + radius, side="right")), BLOCK):
            end = min(begin + BLOCK, len(rows))
            apart = squares[start:stop, None] + squares[begin:end] - 2 * places[start:stop] @ places[begin:end].T
            for i, j in np.argwhere(apart <= radius**2).tolist():
                if begin + j > start + i:
                    a, b = int(rows[start + i]), int(rows[begin + j])
                    yield min(a, b), max(a, b)


def _apart(store: Store, a: int, b: int) -> tuple[float, float] | None:
    """Root mean square distance of joints in body sizes, and in relation to the motion of the clip.

    None where the two do not have the same persons.
    """
    one, other = (resampled(points, score > 0, COMPARED) for points, score in (store.row(a), store.row(b)))
    if one is None or other is None or one.shape != other.shape:
        return None
    motion = float(np.sqrt(np.square(one - one.mean(1, keepdims=True)).sum(-1).mean()))
    apart = float(np.sqrt(np.square(one - other).sum(-1).mean()))
    return (apart, apart / motion) if motion > 0 else None
