"""Which clips an epoch visits, and how often, where classes are unequal; by name in `RESAMPLING`."""

from __future__ import annotations

import numpy as np
import torch

from skelgraph.errors import UserError
from skelgraph.registry import Registry

RESAMPLING: Registry = Registry("oversampling")


def repeated_draws(labels: np.ndarray, times: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The shuffled sequence of an epoch in which each clip of class c stands ``times[c]`` times on average.

    Every clip of class c is listed floor(times[c]) times, and floor(frac(times[c]) n_c) of them, drawn without
    replacement, once more. Whatever the epoch, the length is the same.

    Args:
        labels: (N,) class numbers of the training part.
        times: (K,) from 0.
        seed, epoch: of a torch generator: one permutation of each class, in order of first appearance, then one of
            the whole.

    Returns:
        positions in ``labels``, int64.

    Source: BRL (arXiv 2308.14024), rebalanced sampling; the draws are those of its released code.
    """
    chance = torch.Generator().manual_seed(seed + epoch)
    parts = [np.zeros(0, dtype=np.int64)]
    values, first = np.unique(labels, return_index=True)
    for label in values[np.argsort(first)].tolist():
        rows = np.flatnonzero(labels == label)
        order = torch.randperm(len(rows), generator=chance).numpy()
        whole = int(times[label])
        more = int((times[label] - whole) * len(rows))
        parts += [np.tile(rows, whole), rows[order[:more]]]
    sequence = np.concatenate(parts)
    return sequence[torch.randperm(len(sequence), generator=chance).numpy()]


def tail_classes(counts: np.ndarray, by_number: bool = False) -> np.ndarray:
    """The last third of the classes: K - 2 floor(K / 3) of them.

    Args:
        counts: (K,); the largest classes come first, of two equal ones the lower number.
        by_number: order classes by their numbers instead.
    """
    order = np.arange(len(counts)) if by_number else np.argsort(-counts, kind="stable")
    return np.sort(order[2 * (len(counts) // 3) :])


@RESAMPLING.register("tail")
class TailOversampling:
    """Clips of the tail third are drawn so often that each of its classes counts as much as the largest one.

    m_c = n_max / n_c for the tail, 1 for the others. The middle third then is the rarest.

    Args:
        repeat: how often an epoch goes through the clips; 5 in BRL's runs.
        official: the tail is the last third of the class numbers, whatever their sizes.
    """

    def __init__(self, *, repeat: int = 1, official: bool = False) -> None:
        self.repeat, self.official = _checked(repeat), official

    def __call__(self, labels: np.ndarray, counts: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """Positions of an epoch."""
        tail = tail_classes(counts, by_number=self.official)
        multiplier = np.ones(len(counts))
        multiplier[tail] = counts.max() / counts[tail]
        return repeated_draws(labels, self.repeat * multiplier, seed, epoch)


@RESAMPLING.register("balanced")
class BalancedSampling:
    """Every class is drawn as often as the largest one.

    Args:
        repeat: as in `TailOversampling`.
    """

    def __init__(self, *, repeat: int = 1) -> None:
        self.repeat = _checked(repeat)

    def __call__(self, labels: np.ndarray, counts: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """Positions of an epoch."""
        return repeated_draws(labels, self.repeat * counts.max() / counts, seed, epoch)


def _checked(repeat: int) -> int:
    if repeat < 1:
        raise UserError(f"oversample: 'repeat' is a whole number from 1, got {repeat}.")
    return repeat
