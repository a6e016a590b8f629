"""SHREC'17 and DHG-14/28: files in the documented layout, labels, splits, damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelgraph.data import Store, import_data
from skelgraph.errors import UserError

TRAIN = ["1 1 1 1 1 1 5", "1 2 1 1 1 2 5", "14 2 28 10 14 28 5"]
TEST = ["2\t1\t3\t4\t2\t3\t5"]
DHG = ["1 1 1 1 1 3", "1 2 1 1 0 5", "14 2 20 5 2 4"]


def joints(dims: int, seed: int = 0, frames: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 1, (frames, 22, dims))


def put(root: Path, row: str, name: str, frames: int = 5) -> None:
    gesture, finger, subject, essai = row.split()[:4]
    folder = root / f"gesture_{gesture}" / f"finger_{finger}" / f"subject_{subject}" / f"essai_{essai}"
    folder.mkdir(parents=True, exist_ok=True)
    for kind, dims in (("world", 3), ("image", 2)):
        lines = [" ".join(f"{value:.6f}" for value in frame.ravel()) + " \n" for frame in joints(dims, frames=frames)]
        (folder / f"{name}_{kind}.txt").write_text("".join(lines))


@pytest.fixture
def shrec(tmp_path: Path) -> Path:
    root = tmp_path / "src" / "HandGestureDataset_SHREC2017"
    for row in TRAIN + TEST:
        put(root, row, "skeletons")
    for part, rows in (("train", TRAIN), ("test", TEST)):
        (root / f"{part}_gestures.txt").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture
def dhg(tmp_path: Path) -> Path:
    root = tmp_path / "src"
    for row in DHG:
        put(root, row, "skeleton")
    (root / "informations_troncage_sequences.txt").write_text("\n".join(DHG))
    return root


def imported(format: str, tmp_path: Path, **options: Any) -> Store:
    report = import_data(
        format, tmp_path / "src", tmp_path / "s", strict=True, overwrite=True, progress=False, **options
    )
    return Store.open(report.path)


def names(store: Store, protocol: str) -> dict[str, list[str]]:
    return {part: [store.names[row] for row in rows] for part, rows in store.protocol(protocol).items()}


def test_shrec(shrec: Path, tmp_path: Path) -> None:
    store = imported("shrec17", tmp_path)
    assert names(store, "official") == {
        "train": ["g01_f1_s01_e01", "g01_f2_s01_e01", "g14_f2_s28_e10"], "test": ["g02_f1_s03_e04"],
    }  # fmt: skip
    assert (store.labels.tolist(), len(store.classes), store.classes[13]) == ([0, 0, 13, 1], 14, "gesture_14")
    clip = store[2]
    np.testing.assert_allclose(clip.keypoints[0], joints(3), atol=1e-6)
    assert (clip.subject, clip.fps, store.topology.name, store.meta.units) == ("s28", 30, "hand22", "metres")
    fine = imported("shrec17", tmp_path, classes=28, coordinates="image")
    assert (fine.labels.tolist(), fine.classes[:3]) == ([0, 1, 27, 2], ("gesture_1_finger_1", "gesture_1_finger_2",
                                                                       "gesture_2_finger_1"))  # fmt: skip
    np.testing.assert_allclose(fine[0].keypoints[0], joints(2), atol=1e-6)
    assert (fine[0].image_size, fine.meta.up) == ((480, 640), "-y")
    (tmp_path / "names.txt").write_text("\n".join(f"n{number}" for number in range(14)))
    assert imported("shrec17", tmp_path, class_names=str(tmp_path / "names.txt")).classes[1] == "n1"


def test_dhg(dhg: Path, tmp_path: Path) -> None:
    store = imported("dhg", tmp_path)
    assert (store.labels.tolist(), store.frames.tolist()) == ([0, 0, 13], [3, 5, 3])
    np.testing.assert_allclose(store[0].keypoints[0], joints(3)[1:4], atol=1e-6)
    assert names(store, "fold20") == {"train": ["g01_f1_s01_e01", "g01_f2_s01_e01"], "test": ["g14_f2_s20_e05"]}
    assert len(names(store, "fold2")["train"]) == 3
    whole = imported("dhg", tmp_path, classes=28, cut=False)
    assert (whole.labels.tolist(), whole.frames.tolist()) == ([0, 1, 27], [5, 5, 5])


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("train_gestures.txt", "1 1 1 1 1 1", "train_gestures.txt:1: 6 numbers, a frame has 7"),
        ("train_gestures.txt", "1 1 1 1 1 1 5\nx 1 1 1 1 1 5", "train_gestures.txt:2: 'x' is not a number"),
        ("train_gestures.txt", "1 1 1 1 1.5 1 5", "train_gestures.txt:1: 1.5 is no whole number"),
        ("train_gestures.txt", "1 1 1 1 15 1 5", "train_gestures.txt:1: label 15 for gesture_1, of 14 classes"),
        ("train_gestures.txt", "1 1 1 1 2 1 5", "test_gestures.txt:1: label 2 for gesture_2"),
        ("train_gestures.txt", "", "train_gestures.txt: empty"),
        ("gesture_1/finger_1/subject_1/essai_1/skeletons_world.txt", "1 2 3", "world.txt:1: 3 numbers, a frame has 66"),
        ("gesture_1/finger_1/subject_1/essai_1/skeletons_world.txt", "1 " * 65 + "nan", "'nan' is not a finite number"),
    ],
)
def test_damage_is_named_with_its_line(shrec: Path, tmp_path: Path, file: str, text: str, message: str) -> None:
    (shrec / file).write_text(text)
    with pytest.raises(UserError) as error:
        imported("shrec17", tmp_path)
    assert message in str(error.value)


def test_dhg_limits_and_options(dhg: Path, tmp_path: Path) -> None:
    for rows, message in ((["1 1 1 1 6 9"], "has 5 frames"), (["1 1 1 1 3 2"], "not of the form"),
                          (["15 1 1 1 0 2"], "not of the form"), (["1 1 9 1 0 2"], "cannot be read")):  # fmt: skip
        (dhg / "informations_troncage_sequences.txt").write_text("\n".join(rows))
        with pytest.raises(UserError, match=message):
            imported("dhg", tmp_path)
    for options, message in (({"classes": 15}, "14 or 28"), ({"coordinates": "depth"}, "unknown value")):
        with pytest.raises(UserError, match=message):
            imported("dhg", tmp_path, **options)
    (tmp_path / "names.txt").write_text("one")
    (dhg / "informations_troncage_sequences.txt").write_text("\n".join(DHG))
    with pytest.raises(UserError, match="1 names of classes, there are 14"):
        imported("dhg", tmp_path, class_names=str(tmp_path / "names.txt"))
