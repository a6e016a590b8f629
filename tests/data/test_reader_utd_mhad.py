"""UTD-MHAD: the documented MATLAB format, damaged files, sensors beside the skeleton, and the real set whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from skelgraph.cli.data import command
from skelgraph.data import Store, import_data
from skelgraph.data.modalities import Clock, align
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
        write(folder, "a1_s1_t4", np.ones((20, 3, 5)) * 1j): "'d_skel' holds complex numbers",
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


def test_sensors_beside_the_skeleton(tmp_path: Path) -> None:
    source, signal = tmp_path / "src", np.arange(54.0).reshape(9, 6)
    for name in ("a1_s1_t1", "a1_s2_t1", "a1_s3_t1"):
        write(source / "Skeleton", name)
    for name, values in (("a1_s1_t1", signal), ("a1_s2_t1", np.ones((9, 5)))):
        (source / "Inertial").mkdir(exist_ok=True)
        scipy_io.savemat(source / "Inertial" / f"{name}_inertial.mat", {"d_iner": values})
    depth = np.zeros((240, 320, 5), np.uint16)
    depth[100:140, 50:70] = 2000
    depth[100:140, 60:70] = 3000
    (source / "Depth").mkdir()
    scipy_io.savemat(source / "Depth" / "a1_s1_t1_depth.mat", {"d_depth": depth})
    options = {"modalities": ["inertial", "depth"]}
    report = import_data("utd-mhad", source, tmp_path / "s", progress=False, **options)
    assert [item.item for item in report.skipped] == [str(source / "Skeleton" / "a1_s2_t1_skeleton.mat")]
    assert "d_iner is float64 of shape (9, 5)" in report.skipped[0].reason
    store = Store.open(tmp_path / "s")
    first, other = store[store.names.index("a1_s1_t1")], store[store.names.index("a1_s3_t1")]
    np.testing.assert_array_equal(first.modalities["inertial"], signal)
    assert not other.modalities
    small = first.modalities["depth"]
    assert (small.shape, small.dtype) == ((5, 48, 48), np.uint16)
    # The square has 1.2 times 40 pixels, one a cell: the person is 40 cells high and stands four from the border.
    assert np.flatnonzero(small[0].any(1)).tolist() == list(range(4, 44))
    assert np.unique(small, return_counts=True)[1].tolist() == [5 * (48 * 48 - 800), 5 * 400, 5 * 400]
    assert {name: facts.lag for name, facts in store.meta.modality_facts.items()} == {"inertial": 0, "depth": 2}
    for wrong, message in (
        ({"modalities": ["sound"]}, "unknown modality 'sound'"),
        ({"modalities": "depth"}, "write a list"),
    ):
        with pytest.raises(UserError, match=message):
            import_data("utd-mhad", source, tmp_path / "t", progress=False, **wrong)
    write(tmp_path / "bare" / "Skeleton", "a1_s1_t1")
    for name, message in (("inertial", r"no \*_inertial\.mat file"), ("depth", r"neither Depth/\*_depth\.mat nor")):
        with pytest.raises(UserError, match=message):
            import_data("utd-mhad", tmp_path / "bare", tmp_path / "t", progress=False, modalities=[name])


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


@pytest.fixture(scope="module")
def sensed(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The real set with its sensors."""
    path = tmp_path_factory.mktemp("utd") / "s"
    import_data("utd-mhad", shared("utd-mhad"), path, progress=False, modalities=["inertial", "depth"])
    return Store.open(path)


def test_real_sensor_turns_when_the_limb_does(sensed: Store) -> None:
    """From end to end, that is; by the nominal rates of 50 and 30 a second it would not."""
    store = sensed
    assert store.has_modality("inertial").sum() == store.has_modality("depth").sum() == len(store) == 861
    joint = store.topology.index
    turning: list[tuple[float, float]] = []
    for row in range(0, len(store), 8):
        clip = store[row]
        assert len(clip.modalities["depth"]) == clip.frames
        wrist = clip.label is not None and clip.label < 21
        upper, lower = ("right_elbow", "right_wrist") if wrist else ("right_hip", "right_knee")
        limb = clip.keypoints[0, :, joint(lower)] - clip.keypoints[0, :, joint(upper)]
        limb /= np.linalg.norm(limb, axis=1, keepdims=True)
        speed = smooth(np.linalg.norm(np.gradient(limb, axis=0), axis=1), 5)
        gyroscope = smooth(np.linalg.norm(clip.modalities["inertial"][:, 3:], axis=1), 9)
        place, facts = np.arange(clip.frames, dtype=float), store.meta.modality_facts["inertial"]
        rated = facts.model_copy(update={"spans": False, "rate": 50.0})
        found = []
        for how in (facts, rated):
            step = align(place, Clock(clip.frames, 30.0), len(gyroscope), None, how)
            inside = step < len(gyroscope)
            among = np.interp(step[inside], np.arange(len(gyroscope)), gyroscope)
            found.append(np.corrcoef(speed[inside], among)[0, 1])
        turning.append((found[0], found[1]))
    end_to_end, by_rates = np.mean(turning, axis=0)
    assert end_to_end > 0.7
    assert by_rates < 0.4


def smooth(values: np.ndarray, width: int) -> np.ndarray:
    return np.convolve(values, np.ones(width) / width, "same")


def test_real_depth_is_two_frames_late(shared: Callable[[str], Path], sensed: Store) -> None:
    """Of the hands, projected by the camera's nominal numbers, most fall on the person at a lag of 2."""
    with np.load(shared("utd-mhad") / "depth" / "depth48_odd.npz") as file:
        boxes = dict(zip(file["names"].tolist(), file["box"], strict=True))
    store = sensed
    hands = store.topology.indices(["left_hand", "right_hand"])
    hit = np.zeros(5)
    for row in [row for row, name in enumerate(store.names) if name in boxes][::6]:
        points, depth = store.row(row)[0][0][:, hands], store.modality("depth", row).content
        x0, y0, side = boxes[store.names[row]]
        columns = (160.5 + 285.6 * points[..., 0] / points[..., 2] - x0) / side * 48
        rows = (120.5 - 285.6 * points[..., 1] / points[..., 2] - y0) / side * 48
        inside = [np.clip(values.astype(int), 0, 47) for values in (rows, columns)]
        for lag in range(5):
            late = depth[lag:]
            time = np.arange(len(late))[:, None]
            hit[lag] += (late[time, inside[0][: len(late)], inside[1][: len(late)]] > 0).mean()
    assert hit.argmax() == store.meta.modality_facts["depth"].lag == 2
