"""MediaPipe: results of Tasks in Python's and JavaScript's spelling, arrays, Kaggle's tables; what is damaged."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from skelgraph.data import Store, import_data
from skelgraph.errors import UserError
from skelgraph.topology import Topology

WIDTH, HEIGHT = 640, 480
BODY = Topology.load("mediapipe33")
SHARES = np.random.default_rng(0).uniform(0.1, 0.9, (5, 75, 3))
"""Five frames of pose, left and right hand: x, y, z."""


def landmarks(points: np.ndarray, visibility: float | None = 0.75) -> list[dict[str, Any]]:
    extra = {} if visibility is None else {"visibility": visibility, "presence": 1.0}
    return [{"x": x, "y": y, "z": z, **extra} for x, y, z in points.tolist()]


def pose(frame: int, **more: Any) -> dict[str, Any]:
    return {"pose_landmarks": [landmarks(SHARES[frame, :33])], **more}


def save(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def read(tmp_path: Path, src: Path, **options: Any) -> Store:
    import_data("mediapipe", src, tmp_path / "s", strict=True, progress=False, overwrite=True, **options)
    return Store.open(tmp_path / "s")


def test_tasks_json(tmp_path: Path) -> None:
    frames = [pose(t, timestamp_ms=40 * t) for t in range(5)]
    frames[3]["pose_landmarks"] = []
    save(tmp_path / "in/wave/a.json", {"width": WIDTH, "height": HEIGHT, "frames": frames})
    save(tmp_path / "in/nod/b10.json", frames)
    save(tmp_path / "in/nod/b9.json", frames)
    store = read(tmp_path, tmp_path / "in", image=f"{WIDTH}x{HEIGHT}")
    assert (store.names, store.classes) == (("nod/b9", "nod/b10", "wave/a"), ("nod", "wave"))
    assert (store.topology.name, store.meta.dims, store.meta.units, store.meta.up) == ("mediapipe33", 2, "pixels", "-y")
    clip = store[2]
    np.testing.assert_allclose(clip.keypoints[0, 1], SHARES[1, :33, :2] * (WIDTH, HEIGHT), rtol=1e-5)
    assert (clip.label, clip.image_size, clip.fps) == (1, (HEIGHT, WIDTH), None)
    np.testing.assert_allclose(clip.timestamps, [0, 0.04, 0.08, 0.12, 0.16])
    assert clip.score[0].max(-1).tolist() == [0.75, 0.75, 0.75, 0, 0.75]


def test_the_size_of_the_picture_is_asked_for(tmp_path: Path) -> None:
    path = save(tmp_path / "a.json", [pose(0), pose(1)])
    with pytest.raises(UserError, match=r"a.json: .*shares of the picture.*-o image=1280x720"):
        read(tmp_path, path)
    with pytest.raises(UserError, match="width and height of the picture in pixels"):
        read(tmp_path, path, image="640")
    raw = read(tmp_path, path, image="pixels", fps=25)[0]
    np.testing.assert_allclose(raw.keypoints[0, 0], SHARES[0, :33, :2], rtol=1e-5)
    assert (raw.image_size, raw.fps) == (None, 25.0)
    deep = read(tmp_path, path, image="640x480", z=True, min_score=0.8)
    assert (deep.meta.dims, deep[0].score.any()) == (3, False)


def test_javascript_and_world_landmarks(tmp_path: Path) -> None:
    frames = [
        {"landmarks": [landmarks(SHARES[t, :33])], "worldLandmarks": [landmarks(SHARES[t, :33] - 0.5)]}
        for t in range(2)
    ]
    path = save(tmp_path / "a.json", frames)
    store = read(tmp_path, path, landmarks="world")
    assert (store.meta.dims, store.meta.units, store[0].image_size) == (3, "metres", None)
    np.testing.assert_allclose(store[0].keypoints[0], SHARES[:2, :33] - 0.5, rtol=1e-4)
    lines = tmp_path / "b.jsonl"
    lines.write_text("\n".join(json.dumps(frame) for frame in frames), encoding="utf-8")
    np.testing.assert_array_equal(read(tmp_path, lines, landmarks="world")[0].keypoints, store[0].keypoints)


def test_mirrored_selfies(tmp_path: Path) -> None:
    path = save(tmp_path / "a.json", [pose(0)])
    plain, turned = (read(tmp_path, path, image="640x480", mirrored=flag)[0].keypoints[0, 0] for flag in (False, True))
    left, right = BODY.index("left_wrist"), BODY.index("right_wrist")
    np.testing.assert_allclose(turned[left], (WIDTH - plain[right, 0], plain[right, 1]), rtol=1e-5)
    np.testing.assert_allclose(turned[BODY.index("nose"), 0], WIDTH - plain[BODY.index("nose"), 0], rtol=1e-5)


def test_holistic_with_a_hand_that_comes_and_goes(tmp_path: Path) -> None:
    hand = landmarks(SHARES[0, 33:54] - 0.5, None)
    frames = [
        {"poseWorldLandmarks": [landmarks(SHARES[0, :33])], "leftHandWorldLandmarks": [hand] if t else []}
        for t in range(2)
    ]
    store = read(tmp_path, save(tmp_path / "a.json", frames), landmarks="world")
    clip, layout = store[0], store.topology
    assert layout.name == "mediapipe_holistic"
    root, wrist = layout.index("left_hand_root"), layout.index("left_wrist")
    assert clip.score[0, :, root].tolist() == [0, 1]
    assert not clip.score[0, :, layout.index("right_hand_root")].any()
    np.testing.assert_allclose(clip.keypoints[0, 1, root], clip.keypoints[0, 1, wrist], rtol=1e-5)


def test_two_hands_are_two_persons(tmp_path: Path) -> None:
    side = {"Left": [{"category_name": "Left", "score": 0.9}], "Right": [{"categoryName": "Right", "score": 0.8}]}
    both = [landmarks(SHARES[0, 33:54], None), landmarks(SHARES[0, 54:], None)]
    frames = [
        {"hand_landmarks": both, "handedness": [side["Left"], side["Right"]]},
        {"hand_landmarks": both[1:], "handedness": [side["Right"]]},
    ]
    clip = read(tmp_path, save(tmp_path / "a.json", frames), image="640x480")[0]
    assert clip.keypoints.shape == (2, 2, 21, 2)
    assert clip.score.any(-1).tolist() == [[True, False], [True, True]]
    np.testing.assert_allclose(clip.keypoints[1, 1], SHARES[0, 54:, :2] * (WIDTH, HEIGHT), rtol=1e-5)


def test_two_people(tmp_path: Path) -> None:
    near, far = SHARES[0, :33] * 0.5, SHARES[0, :33] * 0.3 + 0.6
    order = [[near, far], [far, near], [far], [near, far]]
    frames = [{"pose_landmarks": [landmarks(person) for person in people]} for people in order]
    path = save(tmp_path / "a.json", frames)
    clip = read(tmp_path, path, image="640x480")[0]
    assert clip.score.any(-1).tolist() == [[True, True, False, True], [True] * 4]
    np.testing.assert_allclose(clip.keypoints[1, 1], far[:, :2] * (WIDTH, HEIGHT), rtol=1e-5)
    assert read(tmp_path, path, image="640x480", persons=1)[0].persons == 1


@pytest.mark.parametrize("form", ["543", "1662", "258", "75", "files"])
def test_holistic_arrays(tmp_path: Path, form: str) -> None:
    values = SHARES.copy()
    values[2, 54:] = np.nan if form != "1662" else 0
    left, right = values[:, 33:54], values[:, 54:]
    flat = np.concatenate([values[:, :33], np.full((5, 33, 1), 0.5)], 2).reshape(5, -1)
    hands = np.concatenate([left, right], 1).reshape(5, -1)
    arrays = {
        "543": np.concatenate([np.ones((5, 468, 3)), left, values[:, :33], right], 1),
        "1662": np.concatenate([flat, np.ones((5, 1404)), hands], 1),
        "258": np.concatenate([flat, hands], 1),
        "75": values.astype(np.float32),
    }
    folder = tmp_path / "in" / "wave"
    folder.mkdir(parents=True)
    if form == "files":
        (folder / "0").mkdir()
        for t in range(5):
            np.save(folder / "0" / f"{t}.npy", values[t])
    else:
        np.save(folder / "0.npy", arrays[form])
    store = read(tmp_path, tmp_path / "in", image="640x480")
    clip = store[0]
    assert (store.names, store.classes, store.topology.name) == (("wave/0",), ("wave",), "mediapipe_holistic")
    seen = np.isfinite(values[:, :, 0]) & ~((np.arange(5)[:, None] == 2) & (np.arange(75) >= 54))
    np.testing.assert_array_equal(clip.score[0] > 0, seen)
    expected = np.where(seen[..., None], values[..., :2] * (WIDTH, HEIGHT), 0)
    np.testing.assert_allclose(clip.keypoints[0], expected, rtol=1e-5)
    assert clip.score[0, 0, 0] == (0.5 if form in ("1662", "258") else 1)


def kaggle(path: Path, kind: str) -> None:
    """Two forms of Kaggle's sign data: a row a landmark, and a row a frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = {"pose": SHARES[:, :33], "left_hand": SHARES[:, 33:54], "right_hand": np.full((5, 21, 3), np.nan)}
    columns: dict[str, Any] = {}
    if kind == "wide":
        columns["sequence_id"] = [7, 7, 7, 8, 8]
        for part, points in parts.items():
            for number in range(points.shape[1]):
                columns |= {f"{axis}_{part}_{number}": points[:, number, a] for a, axis in enumerate("xyz")}
        columns["x_face_0"] = np.ones(5)
    else:
        rows = [
            (20 + t, part, number, *points[t, number])
            for t in range(5)
            for part, points in [*parts.items(), ("face", np.ones((5, 2, 3)))]
            for number in range(points.shape[1])
        ]
        names = ("frame", "type", "landmark_index", "x", "y", "z")
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    parquet.write_table(pa.table(columns), path)


def test_kaggle_tables(tmp_path: Path) -> None:
    kaggle(tmp_path / "in/files/26734/100.parquet", "long")
    (tmp_path / "in/train.csv").write_text(
        "path,participant_id,sequence_id,sign\nfiles/26734/100.parquet,26734,100,blow\n", encoding="utf-8"
    )
    store = read(tmp_path, tmp_path / "in", image="1x1", labels=str(tmp_path / "in/train.csv"))
    assert (store.names, store.classes, store[0].subject) == (("files/26734/100",), ("blow",), "26734")
    np.testing.assert_allclose(store[0].keypoints[0, :, :54], SHARES[:, :54, :2], rtol=1e-5)
    assert not store[0].score[0, :, 54:].any()
    kaggle(tmp_path / "wide/5.parquet", "wide")
    two = read(tmp_path, tmp_path / "wide", image="1x1")
    assert (two.names, two.frames.tolist()) == (("5/7", "5/8"), [3, 2])
    np.testing.assert_allclose(two[1].keypoints[0, :, :54], SHARES[3:, :54, :2], rtol=1e-5)


def test_a_table_gives_labels_subjects_and_parts(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        save(tmp_path / f"in/{name}.json", [pose(0)])
    table = tmp_path / "in/labels.csv"
    table.write_text("clip,label,subject,split\na.json,10,Ann,train\nb,9,Bob,test\n", encoding="utf-8")
    report = import_data("mediapipe", tmp_path / "in", tmp_path / "s", progress=False, image="9x9", labels=str(table))
    store = Store.open(tmp_path / "s")
    assert (store.classes, store.labels.tolist(), store.column("subject")) == (("9", "10"), [1, 0], ("Ann", "Bob"))
    assert {part: rows.tolist() for part, rows in store.protocol("own").items()} == {"train": [0], "test": [1]}
    assert len(report.skipped) == 1
    assert report.skipped[0].reason.endswith(f"{table}: has no row for clip 'c'.")
    table.unlink()
    assert read(tmp_path, tmp_path / "in", image="9x9").labels.tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label\nx\n", ":1: no column 'clip'"),
        ("clip,label\na,x\na.json,y\n", ":3: clip 'a' is listed twice"),
        ("clip,split\na,tset\n", ":2: split 'tset' is none of train, val, test"),
        ("clip\n", "has no rows"),
    ],
)
def test_damaged_tables_of_labels(tmp_path: Path, text: str, message: str) -> None:
    save(tmp_path / "in/a.json", [pose(0)])
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read(tmp_path, tmp_path / "in", image="9x9", labels=str(tmp_path / "labels.csv"))


BROKEN = pose(0)["pose_landmarks"][0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('[{"pose_landmarks":\n [[}]', "x.json:2: not valid json"),
        ([[1, 2]], "x.json, frame 0: a result must be an object, not a list"),
        ([{"pose_landmarks": [BROKEN[:5]]}], "x.json, frame 0: pose_landmarks has 5 landmarks, a pose has 33"),
        ([pose(0), {"pose_landmarks": [[{**BROKEN[0], "x": "a"}]]}], "frame 1: pose_landmarks, landmark 0: x, y, z"),
        ([pose(0, timestamp_ms=5), pose(1, timestamp_ms=5)], "frame 1: timestamp_ms does not rise"),
        ({"frames": [pose(0)], "width": "9", "height": 9}, "width must be a number above 0"),
        ([{"keypoints": []}], "no result of MediaPipe.*it has keypoints"),
        ([{"hand_landmarks": [BROKEN[:21]], "handedness": []}], "1 hands in hand_landmarks, but the handedness of 0"),
        ("[" * 100_000, "nested too deep"),
        ([], "has no frames"),
    ],
)
def test_damaged_json(tmp_path: Path, value: Any, message: str) -> None:
    save(tmp_path / "in/a.json", [pose(0)])
    path = save(tmp_path / "in/x.json", value)
    if isinstance(value, str):
        path.write_text(value, encoding="utf-8")
    report = import_data("mediapipe", tmp_path / "in", tmp_path / "s", progress=False, image="9x9")
    assert report.clips == 1
    with pytest.raises(UserError, match=message):
        raise UserError(report.skipped[0].reason)


@pytest.mark.parametrize(
    ("array", "message"),
    [(np.ones((4, 34, 3)), r"shape \(4, 34, 3\)"), (np.array([{}]), "no npy file"), (np.ones((0, 75, 3)), "no frames")],
)
def test_damaged_arrays(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match=message):
        read(tmp_path, tmp_path / "x.npy", image="9x9")


def test_the_real_signs(shared: Callable[[str], Path], tmp_path: Path) -> None:
    """The json files of a published project, whose first 4 of 79 points are no landmarks of pose or hands."""
    folder = shared("asl16-mediapipe")
    with zipfile.ZipFile(folder / "MP_Data_Test_json.zip") as archive:
        for sign in ("apple", "yes"):
            frames = [json.loads(archive.read(f"MP_Data/Test/{sign}/0/{t}.json")) for t in range(30)]
            (tmp_path / "in" / sign).mkdir(parents=True)
            np.save(tmp_path / "in" / sign / "0.npy", np.array(frames).reshape(30, 79, 2)[:, 4:])
    store = read(tmp_path, tmp_path / "in", image="pixels")
    import_data("mediapipe-signs", folder, tmp_path / "all", progress=False)
    published = Store.open(tmp_path / "all")
    for row, sign in enumerate(("apple", "yes")):
        clip = published[published.names.index(f"{sign}_test_00")]
        np.testing.assert_allclose(store[row].keypoints, clip.keypoints, rtol=1e-5)
        np.testing.assert_array_equal(store[row].score, clip.score)
