"""McNemar's test: do two classifiers err on different clips of one test, more than chance explains.

Letters: N clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skelgraph.engine.intervals import Answers
from skelgraph.errors import UserError


@dataclass(frozen=True)
class McNemar:
    """Clips by who is right, and the exact two-sided p.

    Attributes:
        both, first, second, neither: numbers of clips that both, only the first, only the second, neither got right.
        p: of such a split of the clips that only one of them got right, if each were as likely to be the one.
    """

    both: int
    first: int
    second: int
    neither: int
    p: float


def mcnemar(one: Answers, other: Answers) -> McNemar:
    """The exact (binomial) form, which holds for any number of clips.

    Args:
        one, other: of the same clips.

    Raises:
        UserError: they answered other clips.

    Source: McNemar, Psychometrika 1947; recommended for two classifiers by Dietterich, Neural Computation 1998.
    """
    if not one.same_test(other):
        raise UserError("McNemar's test needs two classifiers that answered the same clips.")
    a, b = one.answer == one.label, other.answer == other.label
    first, second = int((a & ~b).sum()), int((b & ~a).sum())
    return McNemar(int((a & b).sum()), first, second, int((~a & ~b).sum()), two_sided(first, second))


def two_sided(first: int, second: int) -> float:
    """Twice the smaller tail of the binomial with probability 1/2, at most 1; in whole numbers, so exact."""
    number, term, tail = first + second, 1, 0
    for count in range(min(first, second) + 1):
        tail += term
        term = term * (number - count) // (count + 1)
    return min(1.0, 2 * tail / 2**number)


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for their number.

    Source: Holm, Scandinavian Journal of Statistics 1979.
    """
    order = np.argsort(p, kind="stable")
    raised = np.array([min(1.0, (len(p) - place) * p[i]) for place, i in enumerate(order)])
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(raised)
    return [float(value) for value in corrected]
