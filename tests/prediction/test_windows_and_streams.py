"""The numpy half of prediction: inputs, windows, persons, streams, files; with a predictor whose answers are known."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import LeftOrRight, standing

from skelgraph.data.clip import Clip
from skelgraph.errors import UserError
from skelgraph.prediction import page, tables
from skelgraph.prediction.base import in_frames
from skelgraph.prediction.inputs import InputSpec, as_clips
from skelgraph.prediction.results import Timeline
from skelgraph.prediction.sources import open_input
from skelgraph.prediction.stream import clip_of_frames, parse_frame, serve
from skelgraph.topology import Topology

ROOT = Path(__file__).resolve().parents[2]


def test_the_package_needs_no_torch() -> None:
    code = (
        "import sys\nfrom skelgraph.prediction import base, inputs, page, results, sources, stream, tables\n"
        "import skelgraph.data.store\nsys.exit(bool({'torch', 'lightning', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_what_a_user_has_becomes_clips() -> None:
    frames = np.ones((5, 17, 2))
    assert [clip.keypoints.shape for clip in as_clips(frames)] == [(1, 5, 17, 2)]
    assert [clip.persons for clip in as_clips(np.ones((3, 2, 5, 17, 2)))] == [2, 2, 2]
    mixed = as_clips([frames, standing([1.0])], fps=25)
    assert [clip.name for clip in mixed] == ["clip_000000", "walk"]
    assert [clip.fps for clip in mixed] == [25, 25]
    assert as_clips(frames.tolist())[0].keypoints.shape == (1, 5, 17, 2)
    frames[2, 3] = (np.nan, 7)
    clip = as_clips(frames, score=np.full((5, 17), 0.5))[0]
    assert clip.score[0, 2, 3] == 0
    assert clip.score.sum() == 0.5 * (5 * 17 - 1)
    assert not clip.keypoints[0, 2, 3].any()


def test_a_spec_survives_json(spec: InputSpec) -> None:
    whole = replace(spec, steps=({"name": "frame rate", "fps": 10.0},), missing=("nose",), views=3)
    again = InputSpec.from_dict(json.loads(json.dumps(whole.to_dict())), "here")
    assert again.to_dict() == whole.to_dict()
    assert again.topology == spec.topology


def test_fewer_persons_are_absent_and_of_more_the_first_are_taken(spec: InputSpec) -> None:
    two = replace(spec, persons=2)
    arrays = two.adapter(None).arrays([standing([1.0] * 5), standing([2.0] * 5, persons=3)])
    assert arrays.keypoints.shape == (2, 2, 4, 17, 2)
    assert (arrays.score > 0).any((2, 3)).tolist() == [[True, False], [True, True]]
    crowd = LeftOrRight(spec).predict([standing([1.0] * 5, persons=2), standing([1.0] * 5)])
    assert crowd.notes == (
        f"1 of 2 clips (first {crowd.names[0]}): more than 1 person, of whom the first are taken; --per-person answers "
        "for each.",
    )


def test_joints_of_another_topology_are_taken_by_name(oracle: LeftOrRight, spec: InputSpec) -> None:
    mediapipe = Topology.load("mediapipe33")
    clip = standing([3.0] * 6)
    points = np.full((1, 6, 33, 2), 99.0, np.float32)
    for place, joint in enumerate(spec.topology.joints):
        points[:, :, mediapipe.index(joint)] = clip.keypoints[:, :, place]
    oracle.predict([clip])
    oracle.predict(points, topology="mediapipe33")
    np.testing.assert_array_equal(oracle.asked[0].keypoints, oracle.asked[1].keypoints)
    kinect = np.ones((1, 6, 20, 2))
    with pytest.raises(UserError, match=r"do not cover .* no partner for nose|left_eye.*--allow-missing"):
        oracle.predict(kinect, topology="kinect20")
    oracle.predict(kinect, topology="kinect20", allow_missing=True)
    assert 0 < (oracle.asked[-1].score > 0).mean() < 1
    trained_so = replace(spec, missing=tuple(j for j in spec.topology.joints if "e" in j.split("_")[-1]))
    assert trained_so.adapter(Topology.load("kinect20")).mapping is not None
    with pytest.raises(UserError, match=r"33 joints, the run \('coco17'\) has 17; say which layout"):
        oracle.predict(points)


def test_other_dimensions_are_refused(oracle: LeftOrRight) -> None:
    with pytest.raises(UserError, match="3-D joints, the run takes 2-D ones; no axis is dropped by itself"):
        oracle.predict(np.ones((5, 17, 3)))
    with pytest.raises(UserError, match="2-D joints, the run takes 3-D ones; depth is not guessed"):
        LeftOrRight(replace(oracle.spec, channels=3)).predict(np.ones((5, 17, 2)))


def test_the_frame_rate_of_the_import_is_made_again(spec: InputSpec) -> None:
    slow = replace(spec, steps=({"name": "frame rate", "fps": 10.0},))
    adapter = slow.adapter(None)
    assert adapter.clip(standing([1.0] * 61, fps=30.0)).frames == 21
    assert adapter.clip(standing([1.0] * 61)).frames == 61, "an unknown rate counts as that of the training"
    assert slow.adapter(None, stored=True).steps == ()
    assert [spec.window(rate) for rate in (None, 10.0, 30.0)] == [6, 6, 18]
    timeline = LeftOrRight(slow).timeline(standing([-9.0] * 30 + [9.0] * 30, fps=30.0), window="0.2s", stride="0.1s")[0]
    assert (len(timeline.probabilities), timeline.window, timeline.stride, timeline.fps) == (60, 6, 3, 30.0)
    assert [(part.label, abs(part.start - at) <= 3) for part, at in zip(timeline.segments, (0, 30), strict=True)] == [
        ("left", True), ("right", True)
    ]  # fmt: skip


def test_a_window_slides_and_equal_frames_are_merged(oracle: LeftOrRight) -> None:
    clip = standing([-9.0] * 20 + [None] * 12 + [9.0] * 20, fps=10.0)
    timeline = oracle.timeline(clip, window=4, stride=1)[0]
    assert [(part.start, part.end, part.label) for part in timeline.segments] == [(0, 23, "left"), (29, 52, "right")]
    assert all(part.probability > 0.99 for part in timeline.segments)
    assert np.isnan(timeline.probabilities[23:29]).all()
    np.testing.assert_allclose(timeline.probabilities[:20].sum(1), 1, atol=1e-6)
    short = oracle.timeline(standing([9.0] * 3), window=40)[0]
    assert [(part.start, part.end, part.label) for part in short.segments] == [(0, 3, "right")]


def test_every_person_has_a_timeline_of_their_own(oracle: LeftOrRight) -> None:
    points = standing([-9.0] * 20, persons=3).keypoints.copy()
    points[1] *= (-1, 1)
    points[2] = 0
    clip = Clip.of("pair", points)
    found = oracle.timeline(clip, window=4, per_person=True)
    assert [(item.person, [part.label for part in item.segments]) for item in found] == [(0, ["left"]), (1, ["right"])]
    answers = oracle.predict(clip, per_person=True)
    assert (answers.names, answers.persons, answers.labels) == (("pair", "pair"), (0, 1), ("left", "right"))
    with pytest.raises(UserError, match="nobody is seen"):
        oracle.predict(standing([None] * 4), per_person=True)


def test_lengths() -> None:
    assert [in_frames(value, 30.0, "window") for value in (48, "48", "1.5s", "2 s")] == [48, 48, 45, 60]
    for value, message in (("2s", "frame rate is not known"), ("2.5", "seconds are written 2.5s"), ("0", "too few"),
                           ("soon", "write frames"), ("nans", "write frames")):  # fmt: skip
        with pytest.raises(UserError, match=message):
            in_frames(value, None if value == "2s" else 30.0, "window")


def test_a_stream_says_what_predict_says_of_the_last_window(oracle: LeftOrRight) -> None:
    places = np.linspace(-2, 2, 25).tolist()
    stream = oracle.stream(window=7, stride=3)
    moments = [stream.push(frame) for frame in standing(places).keypoints[0]]
    assert [frame for frame, moment in enumerate(moments) if moment is not None] == [6, 9, 12, 15, 18, 21, 24]
    for frame in (6, 9, 24):
        whole = oracle.predict(standing(places[frame - 6 : frame + 1]))
        np.testing.assert_allclose(moments[frame].probabilities[None], whole.probabilities[0], rtol=1e-6)
    assert (moments[6].label, moments[24].label) == ("left", "right")
    assert stream.finish() is None
    short = oracle.stream(window=100)
    short.push(standing([5.0]).keypoints[0, 0])
    assert short.finish().label == "right"


def test_a_stream_takes_persons_as_they_come(oracle: LeftOrRight) -> None:
    stream = oracle.stream(window=2, per_person=True)
    one, two = standing([5.0]).keypoints[:, 0], standing([-5.0], persons=2).keypoints[:, 0] * [[[1, 1]], [[-1, 1]]]
    assert stream.push(None) is None
    assert {key: row.argmax() for key, row in stream.push(one).probabilities.items()} == {0: 1}
    assert {key: row.argmax() for key, row in stream.push(two).probabilities.items()} == {0: 0, 1: 1}
    assert stream.push(None).to_dict()["persons"][1]["label"] == "right"
    assert stream.push(None).to_dict() == {"frame": 4, "persons": []}
    with pytest.raises(UserError, match=r"frame 5: \(18, 2\) joints and coordinates"):
        stream.push(np.ones((18, 2)))


def test_lines_of_json(oracle: LeftOrRight) -> None:
    lines = ["null", "", json.dumps(standing([4.0]).keypoints[0, 0].tolist()),
             json.dumps({"keypoints": standing([4.0], persons=2).keypoints[:, 0].tolist(), "score": [[1] * 17] * 2}),
             json.dumps({"keypoints": [[None, None]] * 17})]  # fmt: skip
    said: list[str] = []
    serve(oracle.stream(window=2), lines, said.append)
    answers = [json.loads(text) for text in said]
    assert [answer["frame"] for answer in answers] == [0, 1, 2, 3]
    assert [answer["label"] for answer in answers] == [None, "right", "right", "right"]
    assert answers[1]["top"] == {"right": pytest.approx(0.982, abs=1e-3), "left": pytest.approx(0.018, abs=1e-3)}
    ending: list[str] = []
    serve(oracle.stream(window=9), lines, ending.append)
    assert [json.loads(text).get("end", False) for text in ending] == [False] * 4 + [True]
    clip = clip_of_frames(lines, "take", "take.jsonl", fps=30.0)
    assert clip.keypoints.shape == (2, 4, 17, 2)
    assert (clip.score > 0).any(2).tolist() == [[False, True, True, False], [False, False, True, False]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1, 2", "line 3: not valid json"),
        pytest.param("9" * 6000, "a number too long", id="endless number"),
        pytest.param("[" * 100_000, "nested too deep", id="deep"),
        pytest.param(f"[[{'9' * 400}, 1]]", "no regular array", id="number beyond float"),
        ("{}", "needs the key 'keypoints'; it has none"),
        ('{"points": []}', "it has points"),
        ("[1, 2]", r"keypoints have shape \(2,\)"),
        ("[[1, 2], [3]]", "no regular array"),
        ('{"keypoints": [[1, 2]], "score": [1, 1]}', r"score has shape \(1, 2\)"),
        ('"wave"', "no regular array"),
    ],
)
def test_a_bad_line_is_named(line: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_frame(line, "stdin, line 3")


def test_what_is_written(oracle: LeftOrRight) -> None:
    clip = standing([-9.0] * 8 + [9.0] * 8, name="a <b>", fps=4.0)
    found, slid = oracle.predict([clip, standing([9.0] * 5)]), oracle.timeline(clip, window=2, stride=1)
    rows = list(csv.DictReader(io.StringIO(tables.clip_csv(found))))
    assert [(row["clip"], row["person"], row["label"]) for row in rows][1] == ("walk", "", "right")
    assert float(rows[1]["right"]) == pytest.approx(found.probabilities[1, 1], abs=1e-6)
    plain = json.loads(tables.clip_json(found, "runs/x"))
    assert plain["clips"][1]["probabilities"]["right"] == pytest.approx(float(found.probabilities[1, 1]))
    rows = list(csv.DictReader(io.StringIO(tables.timeline_csv(slid))))
    assert [(row["start"], row["end_seconds"], row["label"]) for row in rows] == [
        ("0", "2.0", "left"),
        ("8", "4.0", "right"),
    ]
    parts = json.loads(tables.timeline_json(slid, "runs/x"))["recordings"][0]["segments"]
    assert [(part["start"], part["end"]) for part in parts] == [(0, 8), (8, 16)]
    assert "0.00-2.00 s" in tables.timeline_lines(slid)[1]
    for text in (page.clip_page(found, "runs/x", "in.npz"), page.timeline_page(slid, "runs/x", "in.npz")):
        assert "a &lt;b&gt;" in text
        assert "a <b>" not in text
        assert "http:" not in text
        assert len(text) < 200_000
    nobody = Timeline("empty", None, ("left", "right"), np.full((5, 2), np.nan), None, 2, 1)
    assert "Nobody is seen" in page.timeline_page([nobody], "runs/x", "in.npz")


def test_inputs_are_recognised(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(5, 1, (12, 20, 3)).astype(np.float32)
    (tmp_path / "take.json").write_text(json.dumps({"skeletons": points.tolist()}), encoding="utf-8")
    np.save(tmp_path / "take.npy", points)
    np.savez(tmp_path / "two.npz", keypoints=points[None, None], topology="kinect20", names=["x"])
    (tmp_path / "take.jsonl").write_text("\n".join(json.dumps(p) for p in points.tolist()), encoding="utf-8")
    (tmp_path / "note.txt").write_text("hello", encoding="utf-8")
    (tmp_path / "broken.json").write_text('{"skeletons":\n[[', encoding="utf-8")
    for name, kind in (("take.json", "nw-ucla"), ("take.npy", "npy"), ("two.npz", "npz"), ("take.jsonl", "jsonl")):
        source = open_input(tmp_path / name)
        assert source.format == kind
        np.testing.assert_allclose(next(source.clips()).keypoints[0], points, rtol=1e-6)
    for arguments, message in (
        ((tmp_path / "absent",), "no such file or folder"),
        ((tmp_path / "note.txt",), "no pose format that is known by itself; name it with --format"),
        ((tmp_path / "broken.json",), r"broken\.json:2: not valid json"),
        ((tmp_path / "take.json", "nwucla"), "Did you mean 'nw-ucla'"),
        ((tmp_path / "take.json", "npz"), "no npz file"),
    ):
        with pytest.raises(UserError, match=message):
            open_input(*arguments)
    (tmp_path / "poses").mkdir()
    (tmp_path / "poses" / "good.json").write_text((tmp_path / "take.json").read_text(), encoding="utf-8")
    (tmp_path / "poses" / "hurt.json").write_text("{", encoding="utf-8")
    folder = open_input(tmp_path / "poses")
    assert [clip.name for clip in folder.clips()] == ["good"]
    assert "hurt.json:1: not valid json" in folder.skipped[0]


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("nw-ucla/all_sqe/a01_s01_e00_v01.json", "nw-ucla"),
        ("sbu-interaction/s01s02/01/001/skeleton_pos.txt", "sbu"),
        ("penn-action/labels/0001.mat", "penn-action"),
        ("asl16-mediapipe/asl16.npz", "mediapipe-signs"),
        ("jhmdb/jhmdb_gt_pose.npz", "jhmdb"),
    ],
)
def test_real_files_are_recognised(name: str, format: str, shared_file: object) -> None:
    source = open_input(shared_file(name))
    assert source.format == format
    clip = next(source.clips())
    assert clip.keypoints.shape[2] == len(source.topology)
    assert (clip.score > 0).any()
