"""PKU-MMD as text, and the npy arrays of ST-GCN's descendants: files are written here in the documented form."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelgraph.data.readers import READERS, import_data
from skelgraph.data.readers.pku_mmd import PKU_CLASSES
from skelgraph.data.store import Store
from skelgraph.errors import UserError

TRAIN, TEST = ("A01N01-L", "A01N01-M"), ("A02N05-R",)


def video(seed: int, frames: int = 40, second: slice | None = None) -> np.ndarray:
    """(T, 2, 25, 3); the second body is only in some frames."""
    joints = np.random.default_rng(seed).normal(size=(frames, 2, 25, 3))
    away = np.ones(frames, dtype=bool)
    away[second or slice(0)] = False
    joints[away, 1] = 0
    return joints


def write_video(root: Path, name: str, joints: np.ndarray, rows: list[str]) -> None:
    for folder in ("skeleton", "label"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    lines = [" ".join(f"{value:.6f}" for value in frame.ravel()) for frame in joints]
    (root / "skeleton" / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="ascii")
    (root / "label" / f"{name}.txt").write_text("\n".join(rows) + "\n", encoding="ascii")


def write_splits(root: Path, lines: int = 4) -> None:
    for name in ("cross_subject_v2", "cross_view_v2"):
        text = ["Training videos:", ", ".join(TRAIN) + ",", "Validation videos:", ", ".join(TEST)]
        (root / f"{name}.txt").write_text("\n".join(text[:lines]) + "\n", encoding="ascii")


@pytest.fixture
def pku(tmp_path: Path) -> Path:
    root = tmp_path / "pku"
    write_video(root, "A01N01-L", video(0, second=slice(12, 18)), ["1,0,10,1", "51,10,20,0"])
    write_video(root, "A01N01-M", video(1), ["12,5,40,1"])
    write_video(root, "A02N05-R", video(2), ["33,30,39,1", "", "2,0,3"])
    write_splits(root)
    return root


def read(root: Path, out: Path, **options: Any) -> Store:
    report = import_data("pku-mmd", root, out, progress=False, strict=True, **options)
    assert not report.absent
    return Store.open(out)


def test_clips_are_cut_out_of_the_videos(pku: Path, tmp_path: Path) -> None:
    store = read(pku, tmp_path / "s")
    assert store.names == ("A01N01-L_001", "A01N01-L_002", "A01N01-M_001", "A02N05-R_001", "A02N05-R_003")
    assert store.labels.tolist() == [0, 50, 11, 32, 1]
    assert store.frames.tolist() == [10, 10, 35, 9, 3]
    assert store.persons.tolist() == [1, 2, 1, 1, 1]
    assert (store.topology.name, store.meta.dims, store.meta.up) == ("ntu25", 3, "+y")
    assert store.classes == PKU_CLASSES
    np.testing.assert_allclose(store[0].keypoints[0], video(0)[:10, 0], atol=1e-6)
    np.testing.assert_allclose(store[1].keypoints[1, 2:8], video(0, second=slice(0, 40))[12:18, 1], atol=1e-6)
    assert store[1].score[1].any(-1).tolist() == [False] * 2 + [True] * 6 + [False] * 2
    assert (store[0].camera, store[0].group, store[2].group, store[3].camera) == ("L", "A01N01", "A01N01", "R")


def test_fifty_one_classes_in_the_order_of_their_names() -> None:
    assert len(PKU_CLASSES) == len(set(PKU_CLASSES)) == 51
    named = {1: "bow", 8: "drink water", 11: "falling", 16: "hugging other person", 30: "reading", 51: "writing"}
    assert {number: PKU_CLASSES[number - 1] for number in named} == named


@pytest.mark.parametrize("lines", [2, 4])
def test_protocols(pku: Path, tmp_path: Path, lines: int) -> None:
    write_splits(pku, lines)
    store = read(pku, tmp_path / "s")
    assert store.protocols == ("xsub", "xview")
    for name in store.protocols:
        parts = store.protocol(name)
        assert {part: rows.tolist() for part, rows in parts.items()} == {"train": [0, 1, 2], "test": [3, 4]}


def test_long_clips_are_cut_and_may_be_kept_whole(pku: Path, tmp_path: Path) -> None:
    write_video(pku, "A01N01-M", video(3, 420), ["5,10,400,1", "6,310,500,1"])
    cut, whole = read(pku, tmp_path / "a"), read(pku, tmp_path / "b", longest=0)
    assert cut.frames.tolist()[2:4] == [300, 110]
    assert whole.frames.tolist()[2:4] == [390, 110]
    np.testing.assert_allclose(cut[2].keypoints, whole[2].keypoints[:, :300])
    with pytest.raises(UserError, match="'longest' is a number of frames"):
        read(pku, tmp_path / "c", longest=-1)


def test_normalised_clips_are_centred_and_upright(pku: Path, tmp_path: Path) -> None:
    store = read(pku, tmp_path / "s", normalise=True)
    assert store.meta.up == "+z"
    assert [step["name"] for step in store.meta.steps] == ["import", "cut", "drop persons never seen", "loop", "center",
                                                           "align"]  # fmt: skip
    base, mid, left, right = store.topology.indices(["spine_base", "spine_mid", "left_shoulder", "right_shoulder"])
    for clip in store:
        body = clip.keypoints[0]
        assert (clip.score == 1).all()
        assert not body[:, mid].any()
        across = body[0, right] - body[0, left]
        np.testing.assert_allclose(across / np.linalg.norm(across), [1, 0, 0], atol=1e-5)
        assert body[0, base].any()
    length = np.linalg.norm(np.diff(store[1].keypoints[1], axis=1), axis=-1)
    raw = np.linalg.norm(np.diff(video(0, second=slice(12, 18))[12:18, 1], axis=1), axis=-1)
    np.testing.assert_allclose(length, np.concatenate([raw, raw[:4]]), rtol=1e-4)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1,0,10,1", "1,0"], r"label/A01N01-L\.txt:2: '1,0' is not of the form class,start,end,confidence"),
        (["1,0,x,1"], r":1: 'x' is not a number"),
        (["1,0.5,9,1"], r":1: .* is not of the form"),
        (["52,0,9,1"], r":1: class 52, there are 1 to 51"),
        (["0,0,9,1"], r":1: class 0"),
        (["", "1,9,9,1"], r":2: frames 9 to 9 of 40 are no clip"),
        (["1,40,50,1"], r":1: frames 40 to 50 of 40"),
        (["1,-3,9,1"], r":1: frames -3 to 9"),
    ],
)
def test_damaged_labels_are_named_with_their_line(pku: Path, tmp_path: Path, rows: list[str], message: str) -> None:
    write_video(pku, "A01N01-L", video(0), rows)
    with pytest.raises(UserError, match=message):
        read(pku, tmp_path / "s")
    report = import_data("pku-mmd", pku, tmp_path / "s", progress=False)
    assert len(report.skipped) == 1
    assert report.clips == 3 + len([row for row in rows if row]) - 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 2 3", r"skeleton/A01N01-L\.txt:4: 3 numbers, a frame of two bodies has 150"),
        (" ".join(["0.5"] * 149 + ["0.5x"]), r"skeleton/A01N01-L\.txt:4: '0\.5x' is not a number"),
        (" ".join(["0.5"] * 149 + ["nan"]), r"skeleton/A01N01-L\.txt:4: 'nan' is not a finite number"),
        ("\u00e9", r"skeleton/A01N01-L\.txt: damaged"),
    ],
)
def test_damaged_joints_are_named_with_their_line(pku: Path, tmp_path: Path, line: str, message: str) -> None:
    path = pku / "skeleton" / "A01N01-L.txt"
    lines = path.read_text(encoding="ascii").splitlines()
    path.write_text("\n".join([*lines[:3], line, *lines[4:]]), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read(pku, tmp_path / "s")
    report = import_data("pku-mmd", pku, tmp_path / "s", progress=False)
    assert (report.clips, len(report.skipped)) == (3, 2)


def test_what_is_missing_is_said(pku: Path, tmp_path: Path) -> None:
    (pku / "skeleton" / "A02N05-R.txt").write_text("\n", encoding="ascii")
    with pytest.raises(UserError, match=r"A02N05-R\.txt: empty, no frame in it"):
        read(pku, tmp_path / "s")
    (pku / "skeleton" / "A02N05-R.txt").unlink()
    with pytest.raises(UserError, match=r"label/A02N05-R\.txt:1: no file A02N05-R\.txt in a folder called skeleton"):
        read(pku, tmp_path / "s")
    (pku / "cross_view_v2.txt").write_text("Training videos:\nB09N01-L\n", encoding="ascii")
    with pytest.raises(UserError, match=r"cross_view_v2\.txt:2: names no video that is here"):
        import_data("pku-mmd", pku, tmp_path / "s", progress=False)
    (pku / "cross_view.txt").write_text("", encoding="ascii")
    with pytest.raises(UserError, match="belong to two phases"):
        read(pku, tmp_path / "s")
    for name in ("cross_view", "cross_view_v2", "cross_subject_v2"):
        (pku / f"{name}.txt").unlink()
    with pytest.raises(UserError, match="neither cross_subject_v2"):
        read(pku, tmp_path / "s")
    with pytest.raises(UserError, match="no such folder"):
        read(tmp_path / "nowhere", tmp_path / "s")


# ---- arrays ---------------------------------------------------------------------------------------------------------


def write_arrays(folder: Path, names: dict[str, list[str]], labels: dict[str, Any], data: str = "data_joint") -> None:
    """Clips (3, 12, 25, 2) of 4, 5, 6 ... frames, of which every second has two persons."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, clips in names.items():
        joints = np.zeros((len(clips), 3, 12, 25, 2), np.float32)
        count = np.arange(len(clips)) + 4
        for row in range(len(clips)):
            persons = 1 + row % 2
            shape = (3, count[row], 25, persons)
            joints[row, :, : count[row], :, :persons] = np.random.default_rng(row).normal(size=shape)
        joints[:, :, :, 1] = 0
        np.save(folder / f"{part}_{data}.npy", joints)
        np.save(folder / f"{part}_num_frame.npy", np.where(count == 5, 900, count))
        (folder / f"{part}_label.pkl").write_bytes(pickle.dumps((clips, labels[part])))


NTU = {
    "train": [f"S001C002P003R002A{number:03d}.skeleton" for number in (1, 7, 60)],
    "val": [f"S001C001P003R002A{number:03d}.skeleton" for number in (1, 7)],
}
LABELS = {"train": [0, 6, 59], "val": [0, 6]}


def test_arrays_of_ntu(tmp_path: Path) -> None:
    write_arrays(tmp_path / "npy", NTU, LABELS)
    import_data("stgcn-npy", tmp_path / "npy", tmp_path / "s", progress=False, strict=True, protocol="xsub")
    store = Store.open(tmp_path / "s")
    assert store.names[0] == "S001C002P003R002A001"
    assert store.labels.tolist() == [0, 6, 59, 0, 6]
    assert store.frames.tolist() == [4, 12, 6, 4, 12]
    assert store.persons.tolist() == [1, 2, 1, 1, 2]
    assert store.classes[59] == "walking apart"
    assert len(store.classes) == 60
    assert {part: rows.tolist() for part, rows in store.protocol("xsub").items()} == {
        "train": [0, 1, 2],
        "test": [3, 4],
    }
    clip, raw = store[1], np.load(tmp_path / "npy" / "train_data_joint.npy")[1]
    assert np.array_equal(clip.keypoints, raw.transpose(3, 1, 2, 0))
    assert (clip.group, clip.camera) == ("S001P003R002A007", "C002")
    assert (clip.score[:, :5] == 1).all()
    assert not clip.score[:, 5:].any()


def test_arrays_of_pku_have_float_labels_and_no_known_names(tmp_path: Path) -> None:
    names, labels = {"train": ["0001", "0002"], "val": ["0003"]}, {"train": [0.0, 50.0], "val": np.array([3.0])}
    write_arrays(tmp_path / "npy", names, labels, data="data")
    for part in names:
        (tmp_path / "npy" / f"{part}_num_frame.npy").unlink()
    import_data("stgcn-npy", tmp_path / "npy", tmp_path / "s", progress=False, strict=True, up="+z")
    store = Store.open(tmp_path / "s")
    assert store.classes == tuple(str(number) for number in range(51))
    assert store.labels.tolist() == [0, 50, 3]
    assert store.frames.tolist() == [4, 5, 4]
    assert store.meta.up == "+z"
    named = READERS.create("stgcn-npy", tmp_path / "npy", classes="pku-mmd")
    assert named.classes == PKU_CLASSES
    with pytest.raises(UserError, match="unknown value of 'classes'"):
        READERS.create("stgcn-npy", tmp_path / "npy", classes="pku")


def test_arrays_are_not_loaded_whole(tmp_path: Path) -> None:
    write_arrays(tmp_path / "npy", NTU, LABELS)
    reader = READERS.create("stgcn-npy", tmp_path / "npy")
    assert isinstance(reader._parts["train"].joints, np.memmap)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train_label.pkl", pickle.dumps([["a"], [0], [1]]), "not a pair"),
        ("train_label.pkl", pickle.dumps((["a", "b", "c"], [0, 1])), "3 names need as many whole numbers"),
        ("train_label.pkl", pickle.dumps((["a", "b", "c"], [0, 1, 0.5])), "as many whole numbers"),
        ("train_label.pkl", pickle.dumps((["a", "b", "c"], [0, 1, float("nan")])), "as many whole numbers"),
        ("train_label.pkl", pickle.dumps((["a", "b", "c"], ["x", "y", "z"])), "labels are no numbers"),
        ("train_label.pkl", pickle.dumps((["a", "b"], [0, 1])), "the labels name 2"),
        ("train_label.pkl", b"cos\nsystem\n(S'true'\ntR.", "refused, the pickle contains"),
        ("train_data_joint.npy", b"\x93NUMPY\x01\x00", "no npy file of plain numbers, or cut off"),
        ("train_num_frame.npy", pickle.dumps([4, 5, 6]), "no npy file of plain numbers"),
    ],
)
def test_damaged_arrays(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    write_arrays(tmp_path / "npy", NTU, LABELS)
    (tmp_path / "npy" / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        import_data("stgcn-npy", tmp_path / "npy", tmp_path / "s", progress=False)


def test_arrays_that_do_not_fit(tmp_path: Path) -> None:
    write_arrays(tmp_path / "npy", NTU, LABELS)
    np.save(tmp_path / "npy" / "train_data_joint.npy", np.zeros((3, 12, 25, 2)))
    with pytest.raises(UserError, match=r"expected numbers \(clips, C, T, V, M\)"):
        READERS.create("stgcn-npy", tmp_path / "npy")
    np.save(tmp_path / "npy" / "train_data_joint.npy", np.zeros((3, 3, 12, 18, 2)))
    with pytest.raises(UserError, match="its parts differ"):
        READERS.create("stgcn-npy", tmp_path / "npy")
    (tmp_path / "npy" / "train_data_joint.npy").unlink()
    with pytest.raises(UserError, match=r"train_data_joint\.npy is not"):
        READERS.create("stgcn-npy", tmp_path / "npy")
    with pytest.raises(UserError, match=r"no train_label\.pkl"):
        READERS.create("stgcn-npy", tmp_path)
