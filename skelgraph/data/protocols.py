"""Parts carved out of a training split: validation that separates no performance, and shares of the labels.

Everything is a function of the seed and of the clips, so that two runs and two machines carve alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from skelgraph.errors import UserError


def holdout(
    labels: np.ndarray, groups: Sequence[str | None], indices: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Carve a validation part out of a training part.

    Each class gives about ``fraction`` of its clips; unlabelled clips count as one more class. Clips of one group (one
    performance seen by several cameras) stay together, and no class loses its last training clip. Groups are visited
    in random order and taken where that fills more places than it oversteps; if every group is too large for that,
    the one that oversteps least is taken.

    Args:
        labels: (N,) class numbers of all clips, -1 = unlabelled.
        groups: (N,) names of recordings; a clip with None is a group of its own.
        indices: rows of the training part.
        fraction: share of the clips to carve out, between 0 and 1.
        seed: of the choice.

    Returns:
        rows of train and of validation, each sorted.

    Raises:
        UserError: a share outside (0, 1), or fewer than two groups.
    """
    if not 0 < fraction < 1:
        raise UserError(f"the validation share must lie between 0 and 1, got {fraction}.")
    indices = np.sort(np.asarray(indices, dtype=np.int64))
    members: dict[str | int, list[int]] = {}
    for row in indices.tolist():
        group = groups[row]
        members.setdefault(row if group is None else group, []).append(row)
    if len(members) < 2:
        raise UserError(
            f"{len(indices)} training clips of one recording cannot be split; set protocol.selection: none."
        )
    chance = np.random.default_rng(seed)
    order = [list(members.values())[place] for place in chance.permutation(len(members))]
    chosen = _choose(order, labels, _targets(labels[indices], fraction, chance))
    val = np.sort(np.array([row for rows in chosen for row in rows], dtype=np.int64))
    return np.setdiff1d(indices, val, assume_unique=True), val


def _targets(labels: np.ndarray, fraction: float, chance: np.random.Generator) -> tuple[Counter[int], Counter[int]]:
    """Clips of each class, and how many of them validation should get; the total is right to half a clip."""
    classes, counts = np.unique(labels, return_counts=True)
    exact = counts * fraction
    places = np.floor(exact).astype(np.int64)
    missing = max(1, round(len(labels) * fraction)) - int(places.sum())
    # Equal remainders are common (balanced classes); a random tie-break keeps them from favouring low class numbers.
    by_remainder = np.lexsort((chance.random(len(classes)), -(exact - places)))
    places[by_remainder[: max(0, missing)]] += 1
    numbers = classes.tolist()
    total = Counter(dict(zip(numbers, counts.tolist(), strict=True)))
    return total, Counter(dict(zip(numbers, places.tolist(), strict=True)))


def _choose(order: list[list[int]], labels: np.ndarray, targets: tuple[Counter[int], Counter[int]]) -> list[list[int]]:
    """The groups that go to validation."""
    total, wanted = targets
    taken: Counter[int] = Counter()
    chosen, refused = [], []
    for rows in order:
        content = Counter(labels[rows].tolist())
        gain = sum(min(number, max(0, wanted[label] - taken[label])) for label, number in content.items())
        keeps_train = all(taken[label] + number < total[label] for label, number in content.items())
        if keeps_train and 2 * gain > len(rows):
            chosen.append(rows)
            taken += content
        else:
            refused.append((keeps_train, 2 * gain - len(rows), rows))
    if not chosen:
        chosen.append(max(refused, key=lambda item: item[:2])[2])
    return chosen


def label_fraction(
    labels: np.ndarray, indices: np.ndarray, fraction: float, seed: int, draw: Literal["class", "global"] = "class"
) -> np.ndarray:
    """A share of the labelled clips, for semi-supervised studies.

    With the same seed a smaller share lies inside a larger one. Unlabelled clips are left out.

    Args:
        labels: (N,) class numbers of all clips, -1 = unlabelled.
        indices: rows to choose from.
        fraction: share to keep, above 0 up to 1.
        seed: of the choice.
        draw: ``class``: each class keeps ``fraction`` of its clips, rounded, and at least one. ``global``: that share
            of all clips without regard to their classes, some of which may be left without any (CMD, HaLP).

    Returns:
        the kept rows, sorted.

    Raises:
        UserError: a share outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise UserError(f"the share of labels must lie above 0 and up to 1, got {fraction}.")
    indices = np.sort(np.asarray(indices, dtype=np.int64))
    indices = indices[labels[indices] >= 0]
    if draw == "global":
        return _share(indices, fraction, [seed])
    classes = np.unique(labels[indices]).tolist()
    kept = [_share(indices[labels[indices] == label], fraction, [seed, label]) for label in classes]
    return np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *kept]))


def _share(rows: np.ndarray, fraction: float, seed: list[int]) -> np.ndarray:
    """A share of ``rows``, rounded, and at least one of them; sorted."""
    count = max(1, round(len(rows) * fraction))
    return np.sort(np.random.default_rng(seed).permutation(rows)[:count])


def check_groups(groups: Sequence[str | None], train: np.ndarray, val: np.ndarray) -> None:
    """Raise unless no recording has clips in both parts.

    Raises:
        UserError: names a recording that is in both.
    """
    named = {groups[row] for row in np.asarray(train).tolist()} - {None}
    shared = sorted(str(group) for group in named.intersection(groups[row] for row in np.asarray(val).tolist()))
    if shared:
        raise UserError(f"{len(shared)} recordings stand in train and in validation, e.g. '{shared[0]}'.")
