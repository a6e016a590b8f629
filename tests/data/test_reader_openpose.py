"""OpenPose folders: layouts, several persons who leave and return, numbers left out; what is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelgraph.data import Store, import_data
from skelgraph.data.readers.tracks import MEMORY, Found, follow
from skelgraph.errors import UserError

BODY = np.random.default_rng(0).uniform(10, 90, (25, 2))


def person(points: np.ndarray = BODY, **more: Any) -> dict[str, Any]:
    flat = np.column_stack([points, np.full(len(points), 0.5)]).round(3).ravel().tolist()
    return {"person_id": [-1], "pose_keypoints_2d": flat, "hand_left_keypoints_2d": [], **more}


def save(folder: Path, frames: dict[int, list[dict[str, Any]]], prefix: str = "video_") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, people in frames.items():
        path = folder / f"{prefix}{number:012d}_keypoints.json"
        path.write_text(json.dumps({"version": 1.3, "people": people}), encoding="utf-8")
    return folder


def read(tmp_path: Path, src: Path, **options: Any) -> Store:
    import_data("openpose", src, tmp_path / "s", strict=True, progress=False, overwrite=True, **options)
    return Store.open(tmp_path / "s")


def test_folders_of_frames(tmp_path: Path) -> None:
    unseen = BODY.copy()
    unseen[4] = 0
    save(tmp_path / "in/wave/anna", {9: [person()], 10: [], 11: [person(unseen)], 13: [person()]})
    save(tmp_path / "in/bow/bob", {0: [person(BODY[:25])]})
    store = read(tmp_path, tmp_path / "in", fps=30, image="200x100")
    assert (store.names, store.classes) == (("bow/bob", "wave/anna"), ("bow", "wave"))
    assert (store.topology.name, store.meta.dims, store.meta.units) == ("openpose25", 2, "pixels")
    clip = store[1]
    assert (clip.fps, clip.image_size, clip.label) == (30.0, (100, 200), 1)
    assert clip.score[0].any(-1).tolist() == [True, False, True, False, True]
    np.testing.assert_allclose(clip.keypoints[0, 2, 5], BODY[5], atol=1e-3)
    assert clip.score[0, 2, :6].tolist() == [0.5] * 4 + [0, 0.5]


def test_several_clips_in_one_folder(tmp_path: Path) -> None:
    save(tmp_path / "in", {0: [person()], 1: [person()]}, "one_")
    save(tmp_path / "in", {0: [person()]}, "two_")
    store = read(tmp_path, tmp_path / "in")
    assert (store.names, store.frames.tolist(), store.labels.tolist()) == (("one", "two"), [2, 1], [-1, -1])


def test_body18_hands_and_shares(tmp_path: Path) -> None:
    save(tmp_path / "a", {0: [person(BODY[:18])]})
    assert read(tmp_path, tmp_path / "a").topology.name == "openpose18"
    hand = np.column_stack([BODY[:21], np.ones(21)]).ravel().tolist()
    save(tmp_path / "b", {0: [person(hand_right_keypoints_2d=hand)], 1: [person()]})
    store = read(tmp_path, tmp_path / "b")
    assert store.topology.name == "ntux67"
    assert (store[0].score[0, 0] > 0).tolist() == [True] * 25 + [False] * 21 + [True] * 21
    hands = read(tmp_path, tmp_path / "b", topology="hand21")
    assert hands[0].keypoints.shape == (1, 2, 21, 2)
    np.testing.assert_allclose(hands[0].keypoints[0, 0], BODY[:21], atol=1e-3)
    save(tmp_path / "c", {0: [person(BODY / 100)]})
    with pytest.raises(UserError, match=r"keypoint_scale 3.*-o image=1280x720"):
        read(tmp_path, tmp_path / "c")
    np.testing.assert_allclose(
        read(tmp_path, tmp_path / "c", image="200x100")[0].keypoints[0, 0], BODY * (2, 1), atol=0.2
    )


def test_person_ids_are_believed(tmp_path: Path) -> None:
    frames = {0: [person(person_id=[4])], 1: [person(BODY + 1, person_id=[5]), person(BODY, person_id=[4])]}
    clip = read(tmp_path, save(tmp_path / "in", frames), persons=0)[0]
    assert clip.score.any(-1).tolist() == [[True, True], [False, True]]


def standing(right: float, down: float = 0) -> Found:
    """A pose, moved by so many body sizes."""
    size = Found(BODY, np.ones(25)).size
    return Found(BODY + np.array([right * size, down * size]), np.ones(25))


def poses(*places: float | None) -> list[list[Found]]:
    """One pose a frame, moved to the right by so many body sizes; None = nobody."""
    return [[] if x is None else [standing(x)] for x in places]


def test_who_leaves_and_returns() -> None:
    near = follow(poses(0, None, 0.3, 0.4), 25, 2, 0)[1]
    assert near.any(-1).tolist() == [[True, False, True, True]]
    elsewhere = follow(poses(0, 0, None, 4), 25, 2, 0)[1]
    assert elsewhere.any(-1).tolist() == [[True, True, False, False], [False, False, False, True]]
    later = follow(poses(0, *[None] * (MEMORY + 1), 4), 25, 2, 0)[1]
    assert later.any(-1).sum(1).tolist() == [2]
    nobody, score = follow(poses(None, None), 25, 2, 2)
    assert (nobody.shape, score.any()) == ((1, 2, 25, 2), False)


def test_two_people_who_pass_each_other_and_a_passer_by() -> None:
    left = [standing(0.2 * t) for t in range(11)]
    right = [standing(2 - 0.2 * t, 0.8) for t in range(11)]
    frames = [[a, b] if t % 2 else [b, a] for t, (a, b) in enumerate(zip(left, right, strict=True))]
    frames[3].append(Found(standing(30).points * 0.2, np.ones(25)))
    keypoints, score = follow(frames, 25, 2, 2)
    assert score.any(-1).all()
    heights = keypoints[:, :, 0, 1]
    assert np.ptp(heights, axis=1).max() < 1e-3
    assert follow(frames, 25, 2, 0)[0].shape[0] == 3


@pytest.mark.parametrize(
    ("people", "message"),
    [
        (
            [{"pose_keypoints_2d": [1.0] * 45}],
            r"x_1_keypoints.json, person 0: pose_keypoints_2d has 45 numbers, 75 are",
        ),
        ([{"pose_keypoints_2d": ["a"] * 75}], "must hold numbers only"),
        ("nobody", "people must be a list, not a text"),
    ],
)
def test_damaged(tmp_path: Path, people: Any, message: str) -> None:
    save(tmp_path / "in/a/good", {0: [person()]})
    save(tmp_path / "in/a/bad", {0: [person()]}, "x_")
    (tmp_path / "in/a/bad/x_1_keypoints.json").write_text(json.dumps({"people": people}), encoding="utf-8")
    report = import_data("openpose", tmp_path / "in", tmp_path / "s", progress=False)
    assert report.clips == 1
    with pytest.raises(UserError, match=message):
        raise UserError(report.skipped[0].reason)


def test_numbers_that_are_no_frames(tmp_path: Path) -> None:
    save(tmp_path / "in/a", {0: [person()], 1: [person()], 20230101: [person()]})
    with pytest.raises(UserError, match="numbered 0 to 20230101, which cannot be frame numbers"):
        read(tmp_path, tmp_path / "in")
    with pytest.raises(UserError, match="for others use --map"):
        read(tmp_path, tmp_path / "in", topology="coco17")
    with pytest.raises(UserError, match="no such file or folder"):
        read(tmp_path, tmp_path / "nowhere")
