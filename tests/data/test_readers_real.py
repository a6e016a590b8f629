"""The real data sets, read whole; counts are those of their README files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skelgraph.data import Store, import_data
from skelgraph.data.protocols import check_groups, holdout
from skelgraph.data.readers.nw_ucla import is_copy

Shared = Callable[[str], Path]


def sizes(store: Store, protocol: str) -> dict[str, int]:
    return {part: len(rows) for part, rows in store.protocol(protocol).items()}


def lengths(store: Store) -> tuple[float, ...]:
    """Frames in all, and of the shortest, the median and the longest clip."""
    return store.frames.sum(), store.frames.min(), np.median(store.frames), store.frames.max()


@pytest.fixture(scope="module")
def ucla(shared: Shared, tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("ucla") / "s"
    report = import_data("nw-ucla", shared("nw-ucla"), path, progress=False)
    assert (report.clips, report.skipped) == (1484, ())
    return Store.open(path)


def test_penn_action(shared: Shared, tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    report = import_data("penn-action", shared("penn-action"), tmp_path / "s", progress=False)
    store = Store.open(tmp_path / "s")
    assert (report.clips, report.skipped, report.absent) == (2326, (), 0)
    assert (store.frames.sum(), store.frames.min(), np.median(store.frames), store.frames.max()) == (
        163841,
        18,
        56,
        663,
    )
    assert sizes(store, "official") == {"train": 1258, "test": 1068}
    counts = store.info()["classes"]
    assert (counts["squat"], counts["bowl"], counts["jump_rope"]) == (231, 220, 82)
    missing = sum(int((store.row(index)[1] == 0).sum()) for index in range(len(store)))
    assert round(missing / (163841 * 13), 2) == 0.22
    clip = store[0]
    assert not clip.keypoints[clip.score == 0].any()
    assert (clip.name, clip.image_size, clip.fps) == ("0001", (360, 480), None)


def test_penn_action_with_guessed_joints(shared: Shared, tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    import_data("penn-action", shared("penn-action"), tmp_path / "s", occluded="guess", progress=False)
    store = Store.open(tmp_path / "s")
    scores = np.concatenate([store.row(index)[1].ravel() for index in range(len(store))])
    guessed, missing = (scores == 0.5).mean(), (scores == 0).mean()
    assert 0.1 < guessed < 0.2
    assert 0.05 < missing < 0.12
    assert any(step.get("become") == "guess" for step in store.meta.steps)


def test_nw_ucla(shared: Shared, ucla: Store) -> None:
    store = ucla
    assert lengths(store) == (58534, 1, 31, 201)
    assert sizes(store, "v12_v3") == {"train": 1020, "test": 464, "test_clean": 369}
    assert sizes(store, "v23_v1") == {"train": 873, "test": 516}
    assert sizes(store, "cross_subject") == {"train": 703, "test": 686}
    assert sum(int((store.row(index)[1] == 0).sum()) for index in range(len(store))) == 12
    assert np.isnan(store.fps).all()
    first = json.loads((shared("nw-ucla") / "all_sqe" / f"{store.names[7]}.json").read_text())
    np.testing.assert_array_equal(store[7].keypoints[0], np.array(first["skeletons"], np.float32))


def test_nw_ucla_copies_are_just_those_of_the_rule(ucla: Store) -> None:
    store = ucla
    content = {name: store.row(index)[0].tobytes() for index, name in enumerate(store.names)}
    copies = [name for name in store.names if is_copy(name)]
    assert len(copies) == 95
    assert all(content[name] == content[name[:-1] + "2"] for name in copies)
    others = [text for name, text in content.items() if not is_copy(name)]
    assert len(set(others)) == len(others)


def test_nw_ucla_validation_separates_no_performance(ucla: Store) -> None:
    store = ucla
    train = store.protocol("v23_v1")["train"]
    kept, val = holdout(store.labels, store.groups, train, 0.1, seed=0)
    check_groups(store.groups, kept, val)
    assert 0.08 < len(val) / len(train) < 0.12
    assert len(np.unique(store.labels[val])) == 10


def test_jhmdb(shared: Shared, tmp_path: Path) -> None:
    report = import_data("jhmdb", shared("jhmdb"), tmp_path / "s", progress=False)
    store = Store.open(tmp_path / "s")
    assert (report.clips, report.skipped, store.frames.sum()) == (609, (), 21126)
    assert (len(store.classes), store.frames.min(), store.frames.max()) == (14, 15, 40)
    assert [sizes(store, f"split{n}") for n in (1, 2, 3)] == [
        {"train": 433, "test": 176}, {"train": 433, "test": 176}, {"train": 434, "test": 175},
    ]  # fmt: skip
