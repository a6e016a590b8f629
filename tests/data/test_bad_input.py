"""Damaged files and faulty clips: named, skipped and listed; with strict they stop the import."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from sample_clips import annotation, random_clip

from skelgraph.cli.data import command
from skelgraph.data import Clip, Store, StoreWriter, import_data
from skelgraph.data.readers import READERS, Reader
from skelgraph.errors import UserError
from skelgraph.topology import Topology

COCO = Topology.load("coco17")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joints": 13}, "13 joints, but topology 'coco17' has 17"),
        ({"dims": 3}, "3 coordinates a joint, expected 2"),
        ({"frames": 0}, "empty"),
        ({"persons": 0}, "empty"),
        ({"label": 5}, "label 5 out of range"),
        ({"label": -1}, "label -1 out of range"),
        ({"fps": 0.0}, "frames a second"),
        ({"timestamps": np.zeros(2)}, "2 timestamps for 6 frames"),
        ({"segments": ((0, 7, 0),)}, "segment 0-7"),
        ({"segments": ((0, 3, 9),)}, "segment label 9"),
    ],
)
def test_faulty_clips_are_named(change: dict[str, Any], message: str) -> None:
    frames = change.get("frames", 6)
    safe = {key: value for key, value in change.items() if key not in ("frames", "persons")}
    clip = random_clip("walk_7", **safe)
    if "frames" in change or "persons" in change:
        shape = (change.get("persons", 1), frames, 17)
        clip = Clip("walk_7", np.zeros((*shape, 2), np.float32), np.zeros(shape, np.float32), 0)
    with pytest.raises(UserError, match=message) as error:
        clip.check(COCO, 2, 3, "takes/a.txt")
    assert str(error.value).startswith("takes/a.txt: clip 'walk_7': ")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_of_seen_joints_must_be_finite(value: float) -> None:
    points = np.ones((1, 4, 17, 2), np.float32)
    points[0, 2, 5, 1] = value
    with pytest.raises(UserError, match="person 0, frame 2, joint 5"):
        Clip.of("c", points).check(COCO, 2, 1)
    score = np.ones((1, 4, 17))
    score[0, 2, 5] = 0
    clip = Clip.of("c", points, score, label=0)
    clip.check(COCO, 2, 1)
    assert not clip.keypoints[0, 2, 5].any()


def test_missing_joints_carry_no_coordinates() -> None:
    clip = Clip("c", np.ones((1, 2, 17, 2), np.float32), np.zeros((1, 2, 17), np.float32))
    with pytest.raises(UserError, match=r"Clip\.of"):
        clip.check(COCO, 2, 1)


@pytest.mark.parametrize("points", [[[1, 2], [3]], "text", np.zeros((2, 2))])
def test_arrays_of_no_sense(points: Any) -> None:
    with pytest.raises(UserError, match="clip 'c'"):
        Clip.of("c", points)


def write_ucla(folder: Path, name: str, **change: Any) -> Path:
    data = {"file_name": name, "skeletons": np.ones((3, 20, 3)).tolist(), "label": int(name[1:3]), **change}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(data))
    return path


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Two sound files, six bad ones."""
    folder = tmp_path / "src"
    folder.mkdir()
    write_ucla(folder, "a01_s01_e00_v01")
    write_ucla(folder, "a01_s06_e00_v01")
    broken = write_ucla(folder, "a02_s01_e00_v01")
    broken.write_text("{\n" + broken.read_text()[1:60])
    write_ucla(folder, "a02_s02_e00_v01", label=1)
    write_ucla(folder, "a02_s03_e00_v01", skeletons=np.ones((3, 19, 3)).tolist())
    write_ucla(folder, "a02_s04_e00_v01", skeletons=[])
    write_ucla(folder, "a02_s05_e00_v01", skeletons=[[[float("nan")] * 3] * 20])
    write_ucla(folder, "a02_s06_e00").rename(folder / "notes.json")
    return folder


def test_damaged_files_are_skipped_and_listed(damaged: Path, tmp_path: Path) -> None:
    report = import_data("nw-ucla", damaged, tmp_path / "s", progress=False)
    assert (report.clips, len(report.skipped)) == (2, 6)
    with open(tmp_path / "s" / "skipped.csv", newline="") as file:
        rows = {Path(row["item"]).name: row["reason"] for row in csv.DictReader(file)}
    assert "a02_s01_e00_v01.json:2: not valid json" in rows["a02_s01_e00_v01.json"]
    assert "label 1 does not belong" in rows["a02_s02_e00_v01.json"]
    assert "19 joints" in rows["a02_s03_e00_v01.json"]
    assert "not (persons" in rows["a02_s04_e00_v01.json"]
    assert "not a finite number" in rows["a02_s05_e00_v01.json"]
    assert "not of the form" in rows["notes.json"]
    assert all(name in reason or "clip '" in reason for name, reason in rows.items())
    np.testing.assert_array_equal(Store.open(tmp_path / "s").protocol("cross_subject")["test"], [1])


def test_strict_stops_and_leaves_nothing(damaged: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a02_s01"):
        import_data("nw-ucla", damaged, tmp_path / "s", strict=True, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src"]


def test_a_faulty_clip_does_not_spoil_its_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Several(Reader):
        """Three clips in one file, the second one faulty."""

        topology, classes = "coco17", ("a",)

        def items(self) -> list[str]:
            return ["file"]

        def read(self, item: str) -> Iterator[Clip]:
            for name, label in (("x", 0), ("y", 4), ("z", 0)):
                yield random_clip(name, label=label)

    monkeypatch.setitem(READERS._factories, "several", Several)
    report = import_data("several", tmp_path, tmp_path / "s", progress=False)
    assert Store.open(report.path).names == ("x", "z")
    assert [(item.item, item.clip) for item in report.skipped] == [("file", "y")]


def test_pickle_annotations_fail_one_by_one(tmp_path: Path, save_pickle: Callable[..., Path]) -> None:
    notes: list[Any] = [annotation(f"c{number}", label=1) for number in range(8)]
    del notes[1]["keypoint"]
    notes[2]["total_frames"] = 3
    notes[3]["label"] = 200
    notes[4]["keypoint"] = notes[4]["keypoint"][..., 0]
    notes[5]["img_shape"] = (0, 5)
    notes[6] = "nothing"
    notes[7]["frame_dir"] = "c0"
    report = import_data("finegym", save_pickle(notes), tmp_path / "s", progress=False)
    assert report.clips == 1
    reasons = [item.reason for item in report.skipped]
    words = ["'keypoint'", "total_frames is 3", "out of range", "persons, frames", "height, width", "dict", "before"]
    assert all(word in reason for word, reason in zip(words, reasons, strict=True))
    assert all("poses_4.pkl, annotation" in reason for reason in reasons)


def test_damaged_mat(tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    labels = tmp_path / "labels"
    labels.mkdir()
    sound = {
        "x": np.ones((4, 13)), "y": np.ones((4, 13)), "visibility": np.ones((4, 13)), "action": "bowl", "pose": "left",
        "train": 1, "dimensions": [[270, 480, 4]],
    }  # fmt: skip
    savemat(labels / "0001.mat", sound)
    savemat(labels / "0002.mat", {**sound, "action": "chess"})
    savemat(labels / "0003.mat", {**sound, "y": np.ones((3, 13))})
    savemat(labels / "0004.mat", {key: value for key, value in sound.items() if key != "pose"})
    (labels / "0005.mat").write_bytes((labels / "0001.mat").read_bytes()[:300])
    (labels / "0006.mat").write_bytes(b"")
    report = import_data("penn-action", tmp_path, tmp_path / "s", progress=False)
    assert report.clips == 1
    assert all(f"000{number}.mat" in item.reason for number, item in zip(range(2, 7), report.skipped, strict=True))


class TestNpz:
    def save(self, tmp_path: Path, **change: Any) -> Path:
        chance = np.random.default_rng(0)
        data = {
            "keypoints": chance.normal(size=(4, 2, 5, 17, 3)), "frames": np.array([5, 3, 4, 5]),
            "label": np.array([0, 1, -1, 1]), "classes": np.array(["run", "jump"]), "fps": 30.0,
            "names": np.array(list("abcd")), "group": np.array([1, 1, 2, 2]), "topology": "coco17",
            "split_mine": np.array(["train", "test", "", "val"]), **change,
        }  # fmt: skip
        np.savez(tmp_path / "own.npz", **{key: value for key, value in data.items() if value is not None})
        return tmp_path / "own.npz"

    def test_padded(self, tmp_path: Path) -> None:
        import_data("npz", self.save(tmp_path), tmp_path / "s", progress=False, units="metres", up="+z")
        store = Store.open(tmp_path / "s")
        np.testing.assert_array_equal(store.frames, [5, 3, 4, 5])
        np.testing.assert_array_equal(store.labels, [0, 1, -1, 1])
        assert (store.meta.units, store.meta.up, store.groups[2]) == ("metres", "+z", "2")
        assert {part: rows.tolist() for part, rows in store.protocol("mine").items()} == {
            "train": [0], "test": [1], "val": [3],
        }  # fmt: skip

    def test_ragged(self, tmp_path: Path) -> None:
        points = np.random.default_rng(0).normal(size=(9, 17, 2)).astype(np.float32)
        score = np.full((9, 17), 0.5)
        offsets = np.array([0, 2, 3, 7, 9])
        path = self.save(tmp_path, keypoints=points, score=score, offsets=offsets, frames=None)
        import_data("npz", path, tmp_path / "s", progress=False)
        store = Store.open(tmp_path / "s")
        np.testing.assert_array_equal(store.frames, [2, 1, 4, 2])
        np.testing.assert_array_equal(store[2].keypoints[0], points[3:7])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"keypoints": None}, "no array 'keypoints'"),
            ({"keypoints": np.zeros((4, 5, 17, 3))}, "do not fit the layout"),
            ({"keypoints": np.array([{}], dtype=object)}, "no npz file of plain arrays"),
            ({"label": np.zeros(3, int)}, r"label has shape \(3,\), there are 4 clips"),
            ({"label": np.zeros(4)}, "whole numbers"),
            ({"offsets": np.array([0, 3])}, "do not fit|offsets must rise"),
            ({"score": np.zeros((4, 2))}, "score has shape"),
            ({"topology": None}, "--topology"),
            ({"topology": "kraken"}, "kraken"),
        ],
    )
    def test_refused(self, tmp_path: Path, change: dict[str, Any], message: str) -> None:
        with pytest.raises(UserError, match=message):
            import_data("npz", self.save(tmp_path, **change), tmp_path / "s", progress=False)
        assert not (tmp_path / "s").exists()

    def test_no_npz(self, tmp_path: Path) -> None:
        path = self.save(tmp_path)
        path.write_bytes(path.read_bytes()[:500])
        with pytest.raises(UserError, match="no npz file"):
            import_data("npz", path, tmp_path / "s", progress=False)


@pytest.mark.parametrize("format", ["nw-ucla", "penn-action", "jhmdb", "npz", "finegym"])
def test_missing_source(tmp_path: Path, format: str) -> None:
    with pytest.raises(UserError, match="no such"):
        import_data(format, tmp_path / "nowhere", tmp_path / "s", progress=False)
    assert not list(tmp_path.iterdir())


def test_empty_source(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no \*\.json file"):
        import_data("nw-ucla", tmp_path, tmp_path / "s", progress=False)


def test_unknown_format_and_option(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown format 'penn-acton'\. Did you mean 'penn-action'"):
        import_data("penn-acton", tmp_path, tmp_path / "s")
    with pytest.raises(UserError, match="unknown key of format 'npz' 'unit'"):
        import_data("npz", tmp_path, tmp_path / "s", unit="m")


def use(path: Path) -> None:
    """Open a store, look up its protocol, read a clip."""
    store = Store.open(path)
    store.protocol("p")
    store.row(0)


@pytest.mark.parametrize("victim", ["meta.json", "classes.json", "splits.json", "clips-00000.arrow"])
@pytest.mark.parametrize("damage", ["gone", "cut", "noise"])
def test_damaged_stores_are_named(tmp_path: Path, victim: str, damage: str) -> None:
    with StoreWriter(tmp_path / "s", topology="coco17", dims=2, classes=["a"]) as writer:
        writer.write(random_clip("c"))
        writer.protocols = {"p": {"train": ["c"]}}
    use(tmp_path / "s")
    path = tmp_path / "s" / victim
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"\x00noise\xff" * 9)
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "s"))):
        use(tmp_path / "s")


def test_a_later_schema_is_refused(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", topology="coco17", dims=2, classes=["a"]) as writer:
        writer.write(random_clip("c"))
    path = tmp_path / "s" / "meta.json"
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 9'))
    with pytest.raises(UserError, match="later skelgraph"):
        Store.open(tmp_path / "s")


def test_verbs(damaged: Path, tmp_path: Path) -> None:
    run = CliRunner()
    done = run.invoke(command, ["import", "nw-ucla", str(damaged), str(tmp_path / "s")], catch_exceptions=False)
    assert done.exit_code == 0
    assert "2 clips written" in done.output
    assert "6 skipped" in done.output
    shown = run.invoke(command, ["info", str(tmp_path / "s")], catch_exceptions=False).output
    assert "kinect20, 20 joints" in shown
    assert "cross_subject: train 1, test 1" in " ".join(shown.split())
    assert "nw-ucla" in run.invoke(command, ["import", "--help"]).output
    bad = run.invoke(command, ["import", "npz", str(damaged), str(tmp_path / "t"), "-o", "units"])
    assert isinstance(bad.exception, UserError)
