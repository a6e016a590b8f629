"""Validation parts and label shares: stratified, deterministic, no performance separated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skelgraph.data.protocols import check_groups, holdout, label_fraction
from skelgraph.errors import UserError


def views(performances: int, classes: int, cameras: int = 3) -> tuple[np.ndarray, list[str | None]]:
    """Labels and groups of performances seen by several cameras."""
    numbers = np.repeat(np.arange(performances), cameras)
    return numbers % classes, [f"g{number}" for number in numbers]


def test_holdout_is_stratified_whole_and_repeatable() -> None:
    labels, groups = views(200, 10)
    rows = np.arange(0, 600)[labels != 9]
    train, val = holdout(labels, groups, rows, 0.2, seed=3)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, val])), rows)
    check_groups(groups, train, val)
    assert abs(len(val) - 0.2 * len(rows)) <= 10
    assert set(np.bincount(labels[val])[:9].tolist()) <= {12}
    again = holdout(labels, groups, rows, 0.2, seed=3)
    np.testing.assert_array_equal(val, again[1])
    assert not np.array_equal(val, holdout(labels, groups, rows, 0.2, seed=4)[1])


def test_holdout_without_groups_meets_the_share() -> None:
    labels = np.repeat(np.arange(4), [100, 50, 10, 1])
    train, val = holdout(labels, [None] * 161, np.arange(161), 0.1, seed=0)
    np.testing.assert_array_equal(np.bincount(labels[val], minlength=4), [10, 5, 1, 0])
    assert 3 in labels[train]


def test_large_groups_of_many_classes_still_give_a_validation_part() -> None:
    labels, groups = np.arange(60) % 10, [f"subject{row // 20}" for row in range(60)]
    train, val = holdout(labels, groups, np.arange(60), 0.1, seed=0)
    assert len(val) == 20
    check_groups(groups, train, val)


def test_holdout_cannot_split_one_recording() -> None:
    with pytest.raises(UserError, match="cannot be split"):
        holdout(np.zeros(5, int), ["g"] * 5, np.arange(5), 0.2, 0)
    with pytest.raises(UserError, match="between 0 and 1"):
        holdout(np.zeros(5, int), [None] * 5, np.arange(5), 1.0, 0)


@given(
    labels=st.lists(st.integers(-1, 4), min_size=2, max_size=60),
    sizes=st.integers(1, 4),
    fraction=st.floats(0.05, 0.6),
    seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_holdout_always_parts_the_rows(labels: list[int], sizes: int, fraction: float, seed: int) -> None:
    groups = [f"g{row // sizes}" for row in range(len(labels))]
    if len(set(groups)) < 2:
        return
    train, val = holdout(np.array(labels), groups, np.arange(len(labels)), fraction, seed)
    assert len(train)
    assert len(val)
    assert sorted([*train, *val]) == list(range(len(labels)))
    check_groups(groups, train, val)


def test_label_fraction_is_stratified_and_nested() -> None:
    labels = np.repeat([0, 1, 2, -1], [100, 20, 1, 50])
    rows = np.arange(len(labels))
    small, large = label_fraction(labels, rows, 0.1, 7), label_fraction(labels, rows, 0.5, 7)
    np.testing.assert_array_equal(np.bincount(labels[small]), [10, 2, 1])
    np.testing.assert_array_equal(np.bincount(labels[large]), [50, 10, 1])
    assert set(small.tolist()) < set(large.tolist())
    np.testing.assert_array_equal(label_fraction(labels, rows, 1, 7), rows[labels >= 0])
    with pytest.raises(UserError, match="share of labels"):
        label_fraction(labels, rows, 0, 7)


def test_check_groups_names_the_recording() -> None:
    with pytest.raises(UserError, match=r"e\.g\. 'b'"):
        check_groups(["a", "b", "b", None], np.array([0, 1, 3]), np.array([2, 3]))
