"""Kinetics-skeleton json: the documented form, persons by score, labels, damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelgraph.data import Store, import_data
from skelgraph.errors import UserError


def person(value: float, score: float) -> dict[str, Any]:
    return {"pose": [value, value / 2] * 18, "score": [score] * 18}


def clip(people: dict[int, list[dict[str, Any]]], label: int = 1) -> dict[str, Any]:
    frames = [{"frame_index": index, "skeleton": found} for index, found in people.items()]
    return {"data": frames, "label": f"class {label}", "label_index": label}


SOUND = clip({1: [person(0.2, 0.3), person(0.4, 0.9), person(0.6, 0.5)], 2: [], 4: [person(0.8, 0.7)]})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "src"
    labels = {"has_skeleton": True, "label": "class 1", "label_index": 1}
    parts = {"train": ("kinetics", {"a-1": SOUND, "b_2": clip({1: [person(0.1, 1)]}, 0), "nobody": clip({1: []})}),
             "val": ("keintics", {"c": clip({0: [person(0.5, 0.5)], 1: []})})}  # fmt: skip
    for part, (word, clips) in parts.items():
        (root / f"kinetics_{part}").mkdir(parents=True)
        notes = {name: labels | {"label_index": data["label_index"], "label": data["label"]}
                 for name, data in clips.items()}  # fmt: skip
        if part == "train":
            notes["nobody"]["has_skeleton"] = False
        (root / f"{word}_{part}_label.json").write_text(json.dumps(notes))
        for name, data in clips.items():
            (root / f"kinetics_{part}" / f"{name}.json").write_text(json.dumps(data))
    return root


def imported(source: Path, **options: Any) -> Store:
    report = import_data("kinetics-skeleton", source, source.parent / "s", strict=True, overwrite=True, progress=False,
                         **options)  # fmt: skip
    return Store.open(report.path)


def test_clips_as_documented(source: Path) -> None:
    store = imported(source)
    assert (store.names, store.classes, store.labels.tolist()) == (
        ("a-1", "b_2", "c"),
        ("class 0", "class 1"),
        [1, 0, 1],
    )
    assert {part: len(rows) for part, rows in store.protocol("official").items()} == {"train": 2, "test": 1}
    first = store[0]
    assert (first.persons, first.frames, first.fps, first.image_size) == (2, 4, 30, (256, 340))
    np.testing.assert_allclose(first.keypoints[:, 0, 5], [[0.4 * 340, 0.2 * 256], [0.6 * 340, 0.3 * 256]], rtol=1e-6)
    np.testing.assert_allclose(first.score[:, :, 0], [[0.9, 0, 0, 0.7], [0.5, 0, 0, 0]])
    assert (store[2].frames, store[2].score[0, 0, 0]) == (2, 0.5)
    assert imported(source, persons=5)[0].persons == 3
    everything = imported(source, empty=True, width=100, height=50)
    assert everything.names == ("a-1", "b_2", "nobody", "c")
    assert not everything[2].score.any()
    np.testing.assert_allclose(everything[0].keypoints[0, 0, 0], [40, 10], rtol=1e-6)


def damaged(**change: Any) -> str:
    return json.dumps(json.loads(json.dumps(SOUND)) | change)


FRAME = {"frame_index": 1, "skeleton": [person(0.2, 0.3)]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (damaged()[:-40], "a-1.json:1: not valid json"),
        ("[1]", "a-1.json: the clip must be an object, not a list"),
        ("[" * 100_000, "a-1.json"),
        (damaged(label_index=0), "a-1.json: label_index 0, but kinetics_train_label.json says 1"),
        (damaged(data=None), "a-1.json: has no list 'data' of frames"),
        (damaged(data=[FRAME, {}]), r"data[1] has no frame_index from 0"),
        (damaged(data=[FRAME, FRAME | {"frame_index": 10**9}]), "data[1] has no frame_index"),
        (damaged(data=[FRAME, FRAME]), "a-1.json: frame_index 1 stands there twice"),
        (damaged(data=[FRAME | {"skeleton": [{"pose": [1.0] * 35, "score": [1.0] * 18}]}]), "data[0].skeleton is no"),
        (damaged(data=[FRAME | {"skeleton": [{"pose": ["x"] * 36, "score": [1.0] * 18}]}]), "data[0].skeleton is no"),
        (damaged(data=[FRAME | {"skeleton": 3}]), "data[0].skeleton is no"),
        (damaged(data=[FRAME | {"skeleton": [{"pose": [float("nan")] * 36, "score": [1.0] * 18}]}]), "not a finite"),
        (damaged(data=[]), "a-1.json: nobody in it"),
    ],
)
def test_damaged_clips_are_named(source: Path, text: str, message: str) -> None:
    (source / "kinetics_train" / "a-1.json").write_text(text)
    report = import_data("kinetics-skeleton", source, source.parent / "s", progress=False)
    assert report.clips == 2
    assert [message in item.reason for item in report.skipped] == [True], report.skipped


def test_labels_and_clips_that_do_not_agree(source: Path) -> None:
    (source / "kinetics_train" / "b_2.json").rename(source / "kinetics_train" / "z.json")
    report = import_data("kinetics-skeleton", source, source.parent / "s", progress=False)
    assert sorted(item.reason.split(": ", 1)[1] for item in report.skipped) == [
        "kinetics_train_label.json does not name this clip.", "there is no file for its clip 'b_2'.",
    ]  # fmt: skip
    labels = source / "kinetics_train_label.json"
    for text, message in (("{", "label.json:1: not valid json"), ('{"a": {}}', "clip 'a' has no label_index"),
                          ('{"a": {"label_index": 1, "label": "x"}}', "class 1 is called 'class 1' and 'x'"),
                          ('{"a": {"label_index": 99999999}}', "has no label_index")):  # fmt: skip
        labels.write_text(text)
        with pytest.raises(UserError) as error:
            imported(source)
        assert message in str(error.value)
    with pytest.raises(UserError, match="no file such as kinetics_train_label"):
        imported(source / "kinetics_train")
    with pytest.raises(UserError, match="'persons' must be above 0"):
        imported(source, persons=0)
