"""COCO keypoints: lists of results, annotations with pictures and tracks; what is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelgraph.data import Store, import_data
from skelgraph.errors import UserError
from skelgraph.topology import Topology

NAMES = Topology.load("coco17").joints
BODY = np.random.default_rng(0).uniform(10, 90, (17, 2))


def flat(points: np.ndarray = BODY, third: float = 0.5) -> list[float]:
    return np.column_stack([points, np.full(len(points), third)]).round(3).ravel().tolist()


def save(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def read(tmp_path: Path, src: Path, **options: Any) -> Store:
    import_data("coco", src, tmp_path / "s", strict=True, progress=False, overwrite=True, **options)
    return Store.open(tmp_path / "s")


def test_a_list_of_results(tmp_path: Path) -> None:
    other = BODY * 0.5
    results = [
        {"image_id": "000010.jpg", "category_id": 1, "keypoints": flat(third=3.2), "score": 2.8},
        {"image_id": "000007.jpg", "category_id": 1, "keypoints": flat(), "score": 0.9},
        {"image_id": "000007.jpg", "category_id": 1, "keypoints": flat(other), "score": 0.9},
    ]
    save(tmp_path / "in/run/a.json", results)
    save(tmp_path / "in/sit/b.json", [{**entry, "idx": place} for place, entry in enumerate(results)])
    store = read(tmp_path, tmp_path / "in", fps=25)
    assert (store.names, store.classes, store.frames.tolist()) == (("run/a", "sit/b"), ("run", "sit"), [2, 2])
    assert (store.topology.name, store[0].fps) == ("coco17", 25.0)
    np.testing.assert_allclose(store[0].keypoints[0], np.stack([BODY, BODY]), atol=1e-3)
    assert store[0].score[0, :, 0].tolist() == [0.5, 1.0]
    assert store[1].score.any(-1).sum() == 2
    everybody = read(tmp_path, tmp_path / "in", persons=0)
    assert everybody.persons.tolist() == [2, 3]


def annotations(**change: Any) -> dict[str, Any]:
    """Two videos of two and one pictures in the form of PoseTrack, the joints in another order."""
    shuffled = list(reversed(NAMES))
    images = [
        {"id": 12, "file_name": "v1/0002.jpg", "vid_id": "v1", "frame_id": 2, "width": 200, "height": 100},
        {"id": 11, "file_name": "v1/0001.jpg", "vid_id": "v1", "frame_id": 1, "width": 200, "height": 100},
        {"id": 21, "file_name": "v2/0001.jpg", "vid_id": "v2", "frame_id": 1, "width": 64, "height": 64},
    ]
    first = flat(BODY[::-1], 2)
    first[3:6] = [5.0, 6.0, 1]
    first[6:9] = [5.0, 6.0, 0]
    people = [
        {"id": 1, "image_id": 12, "track_id": 3, "keypoints": first},
        {"id": 2, "image_id": 11, "track_id": 8, "keypoints": flat(BODY[::-1], 2)},
        {"id": 3, "image_id": 21, "track_id": 0, "keypoints": flat(BODY[::-1], 2)},
    ]
    return {"images": images, "annotations": people, "categories": [{"id": 1, "keypoints": shuffled}], **change}


def test_annotations_with_tracks(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("clip,label\nv1,run\nv2,sit\n", encoding="utf-8")
    store = read(tmp_path, save(tmp_path / "a.json", annotations()), labels=str(table), persons=0)
    assert (store.names, store.classes, store.labels.tolist()) == (("v1", "v2"), ("run", "sit"), [0, 1])
    clip = store[0]
    assert (clip.image_size, clip.persons, clip.frames) == ((100, 200), 2, 2)
    assert sorted(clip.score.any(-1).tolist()) == [[False, True], [True, False]]
    late = int(clip.score[:, 1].any(-1).argmax())
    np.testing.assert_allclose(clip.keypoints[late, 1, :14], BODY[:14], atol=1e-3)
    assert clip.score[late, 1, [14, 15, 16]].tolist() == [0, 0.5, 1]


def test_layouts(tmp_path: Path) -> None:
    whole = {"foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21}
    parts = {key: flat(np.full((count, 2), 7.0), 2) for key, count in whole.items()}
    people = [{"image_id": 11, "keypoints": flat(third=2), **parts}]
    value = {"images": [{"id": 11, "file_name": "1.jpg"}], "annotations": people}
    wide = read(tmp_path, save(tmp_path / "a.json", value), topology="coco_wholebody133")
    assert wide[0].score.all()
    path = save(tmp_path / "b.json", [{"image_id": 1, "keypoints": flat(np.ones((5, 2)))}])
    with pytest.raises(UserError, match="no known layout has these 5 joints; say which with --topology"):
        read(tmp_path, path)
    with pytest.raises(UserError, match="has 5 joints, but topology 'coco17' has 17"):
        read(tmp_path, path, topology="coco17")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([{"image_id": 1, "keypoints": flat()[:-1]}], "x.json, result 0: keypoints has 50 numbers, 51 are wanted"),
        ([{"keypoints": flat()}], "x.json, result 0: image_id must be a number or a text"),
        ([3], "result 0: a result must be an object"),
        ({"annotations": [{"image_id": 5, "keypoints": flat()}], "images": []}, "annotation 0: its image_id is the id"),
        ({"images": []}, "neither a list of results nor"),
        ([{"image_id": t, "keypoints": flat()} for t in (1, 2, 10**9)], "cannot be frame numbers"),
        ("{", "x.json:1: not valid json"),
    ],
)
def test_damaged(tmp_path: Path, value: Any, message: str) -> None:
    save(tmp_path / "in/a.json", [{"image_id": 1, "keypoints": flat()}])
    path = save(tmp_path / "in/x.json", value)
    if isinstance(value, str):
        path.write_text(value, encoding="utf-8")
    report = import_data("coco", tmp_path / "in", tmp_path / "s", progress=False)
    assert report.clips == 1
    with pytest.raises(UserError, match=message):
        raise UserError(report.skipped[0].reason)
