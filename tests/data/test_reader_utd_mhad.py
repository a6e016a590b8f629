"""UTD-MHAD skeletons: the documented MATLAB format, damaged files, and the real set whole."""

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

scipy_io = pytest.importorskip("scipy.io")


def write(folder: Path, name: str, values: Any = None, key: str = "d_skel") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).normal(size=(20, 3, 5)) if values is None else values
    scipy_io.savemat(folder / f"{name}_skeleton.mat", {key: values})
    return folder / f"{name}_skeleton.mat"


def test_clips_and_protocol(tmp_path: Path) -> None:
    points = np.arange(20 * 3 * 4.0).reshape(20, 3, 4) + 1
    for name in ("a1_s1_t1", "a27_s2_t4", "a10_s7_t2", "a2_s8_t1"):
        write(tmp_path / "src" / "Skeleton", name, points)
    import_data("utd-mhad", tmp_path / "src", tmp_path / "s", strict=True, progress=False)
    store = Store.open(tmp_path / "s")
    row = store.names.index("a27_s2_t4")
    clip = store[row]
    np.testing.assert_array_equal(clip.keypoints[0], points.transpose(2, 0, 1))
    assert (store.classes[clip.label], clip.subject, clip.fps) == ("squat", "s2", 30)
    assert store.classes[store[store.names.index("a10_s7_t2")].label] == "draw circle (counter clockwise)"
    parts = {part: sorted(store.names[row] for row in rows) for part, rows in store.protocol("cross_subject").items()}
    assert parts == {"train": ["a10_s7_t2", "a1_s1_t1"], "test": ["a27_s2_t4", "a2_s8_t1"]}


def test_the_folder_itself_will_do(tmp_path: Path) -> None:
    write(tmp_path / "Skeleton", "a1_s1_t1")
    report = import_data("utd-mhad", tmp_path / "Skeleton", tmp_path / "s", progress=False)
    assert report.clips == 1


def test_damaged_files_are_skipped_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "Skeleton"
    sound = write(folder, "a1_s1_t1")
    nan = np.ones((20, 3, 5))
    nan[3, 1, 2] = np.nan
    bad = {
        write(folder, "a1_s1_t2", np.ones((25, 3, 5))): "d_skel is float64 of shape (25, 3, 5)",
        write(folder, "a1_s1_t3", np.ones((20, 3))): "d_skel is float64 of shape (20, 3)",
        write(folder, "a1_s1_t4", np.ones((20, 3, 5)) * 1j): "d_skel is complex128",
        write(folder, "a1_s2_t1", key="d_iner"): "has no variable 'd_skel'",
        write(folder, "a1_s2_t2", nan): "not a finite number at person 0, frame 2, joint 3",
        write(folder, "a28_s1_t1"): "the name is not of the form",
        write(folder, "a1_s9_t1"): "the name is not of the form",
        write(folder, "a0_s1_t1"): "the name is not of the form",
    }
    cut, empty = folder / "a2_s1_t1_skeleton.mat", folder / "a2_s1_t2_skeleton.mat"
    cut.write_bytes(sound.read_bytes()[:300])
    empty.write_bytes(b"")
    bad |= {cut: "damaged MATLAB file", empty: "damaged MATLAB file"}
    report = import_data("utd-mhad", tmp_path, tmp_path / "s", progress=False)
    assert report.clips == 1
    reasons = {item.item: item.reason for item in report.skipped}
    assert set(reasons) == {str(path) for path in bad}
    for path, message in bad.items():
        assert reasons[str(path)].startswith(str(path))
        assert message in reasons[str(path)]


def test_source_without_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no \*_skeleton\.mat file"):
        import_data("utd-mhad", tmp_path, tmp_path / "s", progress=False)


def test_real_files(shared: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "s"
    done = CliRunner().invoke(command, ["import", "utd-mhad", str(shared("utd-mhad")), str(path)])
    assert (done.exit_code, done.output.strip()) == (0, f"861 clips written to {path}")
    store = Store.open(path)
    assert (store.frames.sum(), store.frames.min(), np.median(store.frames), store.frames.max()) == (58299, 41, 67, 125)
    assert {part: len(rows) for part, rows in store.protocol("cross_subject").items()} == {"train": 431, "test": 430}
    counts = list(store.info()["classes"].values())
    assert [number + 1 for number, count in enumerate(counts) if count != 32] == [8, 23, 27]
    assert sorted(set(counts)) == [31, 32]
    first = scipy_io.loadmat(shared("utd-mhad") / "Skeleton" / f"{store.names[9]}_skeleton.mat")["d_skel"]
    np.testing.assert_array_equal(store[9].keypoints[0], first.transpose(2, 0, 1).astype(np.float32))


def test_real_joints_stand_in_the_order_of_the_topology(shared: Callable[[str], Path], tmp_path: Path) -> None:
    """People stand upright and face the camera: the heights of the joints tell the order, x tells left from right."""
    import_data("utd-mhad", shared("utd-mhad"), tmp_path / "s", progress=False)
    store = Store.open(tmp_path / "s")
    points = np.concatenate([store.row(row)[0][0] for row in range(0, len(store), 7)])
    middle = dict(zip(Topology.load("kinect20_utd").joints, np.median(points, axis=0), strict=True))
    for names in (
        ("head", "spine_shoulder", "spine_mid", "spine_base", "left_knee", "left_ankle", "left_foot"),
        ("right_hip", "right_knee", "right_ankle", "right_foot"),
        ("left_shoulder", "left_elbow", "left_hip"),
    ):
        heights = [middle[name][1] for name in names]
        assert heights == sorted(heights, reverse=True)
    assert all(middle[f"left_{name}"][0] < middle[f"right_{name}"][0] for name in ("shoulder", "elbow", "hip", "foot"))
