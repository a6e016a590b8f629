"""Signs as MediaPipe landmarks: the documented npz, damaged ones, and the real set whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from skelgraph.cli.data import command
from skelgraph.data import Store, import_data
from skelgraph.errors import UserError
from skelgraph.topology import Topology

CLIPS = 12  # of each of the three classes: 8 train, 2 val, 2 test
POSE, LEFT, RIGHT = slice(0, 33), slice(33, 54), slice(54, 75)


def save(tmp_path: Path, **change: Any) -> Path:
    """Three classes in the order of the published file: by part, then class, then number."""
    parts = ((0, 8), (1, 2), (2, 2))
    rows = [(label, part, seq) for part, count in parts for label in range(3) for seq in range(count)]
    label, split, seq = (np.array(column) for column in zip(*rows, strict=True))
    points = np.random.default_rng(0).uniform(1, 400, (len(rows), 4, 79, 2)).astype(np.float32)
    points[:, :2, 58:] = 0
    points[label == 1] = 0
    data = {
        "keypoints": points, "label": label, "split": split.astype(np.int8), "seq": seq,
        "class_names": np.array(["apple", "empty", "yes"]), "split_names": np.array(["Train", "Valid", "Test"]),
        **change,
    }  # fmt: skip
    np.savez(tmp_path / "asl16.npz", **{key: value for key, value in data.items() if value is not None})
    return tmp_path / "asl16.npz"


def read(tmp_path: Path, path: Path, **options: Any) -> Store:
    import_data("mediapipe-signs", path, tmp_path / "s", strict=True, progress=False, overwrite=True, **options)
    return Store.open(tmp_path / "s")


def test_the_face_goes_and_missing_hands_are_missing(tmp_path: Path) -> None:
    path = save(tmp_path)
    store = read(tmp_path, path)
    row = store.names.index("yes_val_01")
    clip = store[row]
    source = np.load(path)
    place = np.flatnonzero((source["label"] == 2) & (source["split"] == 1) & (source["seq"] == 1)).item()
    np.testing.assert_array_equal(clip.keypoints[0], source["keypoints"][place, :, 4:])
    assert (clip.score[0, :, RIGHT].any(-1)).tolist() == [False, False, True, True]
    assert clip.score[0, :, : RIGHT.start].all()
    assert (clip.fps, clip.image_size, clip.subject) == (None, None, None)
    assert (store.meta.units, store.meta.up, store.meta.dims) == ("pixels", "-y", 2)
    assert {"name": "class left out", "class": "empty"} in store.meta.steps


def test_the_topology_has_mediapipes_order() -> None:
    joints = Topology.load("mediapipe_holistic").joints
    assert (len(joints), joints[0], joints[11], joints[16], joints[32]) == (
        75, "nose", "left_shoulder", "right_wrist", "right_big_toe",
    )  # fmt: skip
    fingers = ["hand_root", *(f"{finger}_{place}" for finger, places in (
        ("thumb", ("cmc", "mcp", "ip", "tip")), ("index", ("mcp", "pip", "dip", "tip")),
        ("middle", ("mcp", "pip", "dip", "tip")), ("ring", ("mcp", "pip", "dip", "tip")),
        ("pinky", ("mcp", "pip", "dip", "tip")),
    ) for place in places)]  # fmt: skip
    assert list(joints[LEFT]) == [f"left_{name}" for name in fingers]
    assert list(joints[RIGHT]) == [f"right_{name}" for name in fingers]


def test_nobody_in_view(tmp_path: Path) -> None:
    path = save(tmp_path)
    assert read(tmp_path, path).classes == ("apple", "yes")
    store = read(tmp_path, path.parent, empty=True)
    assert (len(store), store.classes) == (3 * CLIPS, ("apple", "empty", "yes"))
    unseen = [row for row in range(len(store)) if not store.row(row)[1].any()]
    assert [store.names[row] for row in unseen] == [name for name in store.names if name.startswith("empty_")]
    assert set(store.labels[unseen].tolist()) == {1}
    with pytest.raises(UserError, match="true or false, not 'maybe'"):
        read(tmp_path, path, empty="maybe")


def test_protocols(tmp_path: Path) -> None:
    store = read(tmp_path, save(tmp_path))
    assert {part: len(rows) for part, rows in store.protocol("authors").items()} == {"train": 16, "val": 4, "test": 4}
    assert all("_val_" in store.names[row] for row in store.protocol("authors")["val"])
    tested = [store.protocol(f"fold{number}")["test"].tolist() for number in range(1, 6)]
    assert sorted(row for rows in tested for row in rows) == list(range(2 * CLIPS))
    for number, rows in enumerate(tested, 1):
        parts = store.protocol(f"fold{number}")
        assert sorted([*parts["train"], *rows]) == list(range(2 * CLIPS))
        assert set(np.bincount(store.labels[rows], minlength=2)) <= {2, 3}
    assert [store.names[row] for row in tested[0] if store.labels[row] == 0] == [
        f"apple_train_{n:02d}" for n in (0, 1, 2)
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seq": None}, "no array 'seq'"),
        (
            {"keypoints": np.ones((36, 4, 75, 2))},
            r"keypoints have shape \(36, 4, 75, 2\), not \(clips, frames, 79, 2\)",
        ),
        ({"keypoints": np.ones((36, 79, 2))}, "keypoints have shape"),
        ({"label": np.zeros(35, int)}, "label must be one whole number for each of the 36 clips"),
        ({"label": np.zeros(36)}, "label must be one whole number"),
        ({"label": np.array([0] * 35 + [3])}, "label of clip 35 is 3, not 0 to 2"),
        ({"label": np.array([-1] + [0] * 35)}, "label of clip 0 is -1"),
        ({"split": np.full(36, 5)}, "split of clip 0 is 5"),
        ({"split_names": np.array(["Train", "Dev", "Test"])}, "split_names has 'Dev', expected Train, Valid, Test"),
        ({"seq": np.array([{}], dtype=object)}, "no npz file of plain arrays"),
        ({"label": np.ones(36, int)}, "no clip in it"),
    ],
)
def test_damaged_arrays_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = save(tmp_path, **change)
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, path)
    assert str(error.value).startswith(str(path))
    assert not (tmp_path / "s").exists()


def test_a_faulty_clip_is_skipped(tmp_path: Path) -> None:
    points = np.ones((36, 4, 79, 2))
    points[3, 1, 20, 0] = np.inf
    path = save(tmp_path, keypoints=points)
    report = import_data("mediapipe-signs", path, tmp_path / "s", progress=False)
    assert (report.clips, report.absent) == (23, 1)
    assert report.skipped[0].reason.startswith(f"{path}, clip 3: clip 'apple_train_03': not a finite number")


def test_cut_off_and_absent_files(tmp_path: Path) -> None:
    path = save(tmp_path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match="no npz file"):
        read(tmp_path, path)
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path, tmp_path / "nowhere")


@pytest.fixture(scope="module")
def real(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("signs") / "s"
    done = CliRunner().invoke(command, ["import", "mediapipe-signs", str(shared("asl16-mediapipe")), str(path)])
    assert (done.exit_code, done.output.strip()) == (0, f"750 clips written to {path}")
    return Store.open(path)


def test_real_counts(real: Store) -> None:
    assert set(real.frames.tolist()) == {30}
    assert set(real.info()["classes"].values()) == {50}
    assert len(real.classes) == 15
    sizes = {name: {part: len(rows) for part, rows in real.protocol(name).items()} for name in real.info()["protocols"]}
    assert sizes == {
        "authors": {"train": 600, "val": 75, "test": 75},
        **{f"fold{number}": {"train": 600, "test": 150} for number in range(1, 6)},
    }
    for number in range(1, 6):
        assert set(np.bincount(real.labels[real.protocol(f"fold{number}")["test"]])) == {10}


def test_real_joints_stand_in_the_order_of_the_topology(real: Store) -> None:
    """Hands hang on the wrists of their own side; a hand that was not found has no joint at all."""
    joint = Topology.load("mediapipe_holistic").joints.index
    points, score = (np.concatenate([real.row(row)[part][0] for row in range(len(real))]) for part in (0, 1))
    for side, other in (("left", "right"), ("right", "left")):
        root, seen = joint(f"{side}_hand_root"), score[:, joint(f"{side}_hand_root")] > 0
        near, far = (
            np.median(np.linalg.norm(points[seen, root] - points[seen, joint(f"{name}_wrist")], axis=-1))
            for name in (side, other)
        )
        assert near < 20 < 100 < far
    for part in (POSE, LEFT, RIGHT):
        found = (score[:, part] > 0).mean(-1)
        assert set(found.tolist()) == {0.0, 1.0}
    missing = [round(float((score[:, part] == 0).mean()), 2) for part in (LEFT, RIGHT)]
    assert missing == [0.19, 0.73]


def test_real_with_the_empty_class(shared: Callable[[str], Path], tmp_path: Path) -> None:
    arguments = ["import", "mediapipe-signs", str(shared("asl16-mediapipe")), str(tmp_path / "s"), "-o", "empty=true"]
    assert CliRunner().invoke(command, arguments).exit_code == 0
    store = Store.open(tmp_path / "s")
    assert (len(store), len(store.classes)) == (800, 16)
    assert sum(not store.row(row)[1].any() for row in range(len(store))) == 49
    assert {part: len(rows) for part, rows in store.protocol("authors").items()} == {
        "train": 640, "val": 80, "test": 80,
    }  # fmt: skip
