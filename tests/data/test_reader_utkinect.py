"""UTKinect-Action3D: takes cut into actions, damaged files, and the real set whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skelgraph.data import Store, import_data
from skelgraph.data.readers.utkinect import TRAIN_SUBJECTS, UtKinect
from skelgraph.errors import UserError
from skelgraph.topology import Topology

ROWS = (10, 12, 12, 14, 20, 22, 24, 30)
LABELS = ["s01_e02", "walk: 10 14 ", "sitDown: 13 24", "carry:  NaN NaN", ""]


def row(number: int, value: float = 1.0) -> str:
    return f"{number}   " + "  ".join(f"{value + joint:.6f}" for joint in range(60))


def write(folder: Path, rows: list[str] | None = None, labels: list[str] | None = None) -> Path:
    (folder / "joints").mkdir(parents=True)
    lines = [row(number, place) for place, number in enumerate(ROWS)] if rows is None else rows
    path = folder / "joints" / "joints_s01_e02.txt"
    path.write_text("\n".join(lines) + "\n")
    (folder / "joints" / "actionLabel.txt").write_text("\n".join(LABELS if labels is None else labels))
    return path


def test_takes_are_cut_and_repeated_frames_dropped(tmp_path: Path) -> None:
    write(tmp_path / "src")
    store = Store.open(import_data("utkinect", tmp_path / "src", tmp_path / "s", strict=True, progress=False).path)
    clips = {clip.name: clip for clip in (store[0], store[1])}
    walk, sit = clips["s01_e02_walk"], clips["s01_e02_sitDown"]
    assert [store.classes[clip.label] for clip in (walk, sit)] == ["walk", "sitDown"]
    assert walk.keypoints[0, :, 0, 0].tolist() == [0, 1, 3]
    assert sit.keypoints[0, :, 0, 0].tolist() == [3, 4, 5, 6]
    assert sit.timestamps is not None
    np.testing.assert_allclose(sit.timestamps, np.array([0, 6, 8, 10]) / 30)
    assert (walk.subject, walk.group) == ("s01", "s01_e02")
    assert {name: [len(store.protocol(name)[part]) for part in ("train", "test")] for name in
            ("split1", "split7", "leave_out_s01_e02")} == {
        "split1": [0, 2], "split7": [2, 0], "leave_out_s01_e02": [0, 2],
    }  # fmt: skip
    takes = Store.open(
        import_data("utkinect", tmp_path / "src", tmp_path / "t", cut=False, strict=True, progress=False).path
    )
    assert (takes.names[0], takes[0].frames, takes[0].label, takes[0].segments) == (
        "s01_e02", 7, None, ((0, 3, 0), (2, 6, 1)),
    )  # fmt: skip


SOUND = [row(number) for number in ROWS]


@pytest.mark.parametrize(
    ("rows", "labels", "message"),
    [
        ([*SOUND[:2], "14 1 2 3"], None, "joints_s01_e02.txt:3: 4 numbers, a frame has 61"),
        ([*SOUND[:2], SOUND[2].replace("3.000000", "3,0", 1)], None, "joints_s01_e02.txt:3: '3,0' is not a number"),
        ([*SOUND[:2], SOUND[2].replace("3.000000", "inf", 1)], None, "joints_s01_e02.txt:3: 'inf' is not a finite"),
        ([*SOUND, SOUND[0]], None, "joints_s01_e02.txt:9: frame 10 follows frame 30"),
        ([""], None, "joints_s01_e02.txt: empty, no frame in it"),
        (None, ["s01_e01"], "joints_s01_e02.txt: actionLabel.txt does not name this take"),
        (None, ["s01_e02", "walk: 15 19"], "actionLabel.txt:2: no frame from 15 to 19 in joints_s01_e02.txt"),
        (None, ["s01_e02", "walk: 10"], "actionLabel.txt:2: 'walk: 10' is neither a take"),
        (None, ["s01_e02", "jump: 10 12"], "actionLabel.txt:2: 'jump: 10 12' is neither"),
        (None, ["walk: 10 12"], "actionLabel.txt:1: 'walk: 10 12' is neither"),
        (None, ["s01_e02", "walk: 10 12", "walk: 12 14"], "actionLabel.txt:3: 'walk' stands there twice"),
        (None, ["s01_e02", "s01_e02"], "actionLabel.txt:2: take s01_e02 stands there twice"),
    ],
)
def test_damage_is_named_with_its_line(
    tmp_path: Path, rows: list[str] | None, labels: list[str] | None, message: str
) -> None:
    write(tmp_path / "src", rows, labels)
    with pytest.raises(UserError) as error:
        import_data("utkinect", tmp_path / "src", tmp_path / "s", strict=True, progress=False)
    assert message in str(error.value)


def test_source_without_labels(tmp_path: Path) -> None:
    (tmp_path / "joints").mkdir()
    with pytest.raises(UserError, match=r"neither actionLabel_modified\.txt nor"):
        import_data("utkinect", tmp_path, tmp_path / "s", progress=False)


@pytest.fixture(scope="module")
def real(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Store]:
    made = []
    for cut in (True, False):
        path = tmp_path_factory.mktemp("utkinect") / "s"
        report = import_data("utkinect", shared("utkinect"), path, cut=cut, strict=True, progress=False)
        assert report.skipped == ()
        made.append(Store.open(path))
    return made[0], made[1]


def test_real_counts(real: tuple[Store, Store], shared: Callable[[str], Path]) -> None:
    clips, takes = real
    assert (len(clips), clips.frames.min(), clips.frames.max()) == (199, 5, 110)
    assert list(clips.info()["classes"].values()) == [20, 20, 20, 20, 19, 20, 20, 20, 20, 20]
    assert (len(takes), len(set(clips.groups))) == (20, 20)
    rows = [line.split()[0] for path in sorted(shared("utkinect").glob("joints/joints_*.txt"))
            for line in path.read_text().splitlines()]  # fmt: skip
    assert len(rows) == 15860  # the README's 16302 counts the lines of the two label files as well
    assert takes.frames.sum() == 15318
    assert sum(len(takes[index].segments or ()) for index in range(20)) == 199
    assert {len(clips.protocol(f"split{number}")["train"]) for number in range(1, 11)} <= {99, 100}
    parts = clips.protocol("split1")
    assert (len(parts["train"]), len(parts["test"])) == (100, 99)
    assert len(clips.protocol("leave_out_s10_e02")["test"]) == 9
    joint = Topology.load("kinect20").joints.index
    points = np.concatenate([takes.row(index)[0][0] for index in range(20)])
    assert (points[:, joint("head"), 1] > points[:, joint("left_foot"), 1]).mean() > 0.99


def test_real_splits_and_limits_are_those_of_the_files_beside(
    real: tuple[Store, Store], shared: Callable[[str], Path]
) -> None:
    loadmat = pytest.importorskip("scipy.io").loadmat
    splits = loadmat(shared("utkinect") / "tr_te_splits.mat")
    assert [tuple(row) for row in splits["tr_subjects"].tolist()] == list(TRAIN_SUBJECTS)
    limits = loadmat(shared("utkinect") / "joints" / "frame_indices.mat")["frame_indices"]
    reader = UtKinect(shared("utkinect"))
    for take, actions in reader._actions.items():
        listed = limits[int(take[1:3]) - 1, int(take[5:7]) - 1]
        assert all(listed[action.label].tolist() == [action.first, action.last] for action in actions)
