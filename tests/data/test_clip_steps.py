"""Steps of an import: gaps, joints, frame rate; and the random split of own data."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from skelgraph.cli.data import command
from skelgraph.data import Clip, Store, import_data
from skelgraph.data.clip_steps import FrameRate, apply, bind, named_steps, parse_gaps, recorded
from skelgraph.data.own_split import add_split
from skelgraph.errors import UserError
from skelgraph.topology import Topology


def line_clip(frames: int = 7, **fields: Any) -> Clip:
    """One person, one joint that moves by (1, 2) a frame from (1, 2)."""
    points = np.arange(1, frames + 1)[None, :, None, None] * np.array([1.0, 2.0])
    return Clip.of("line", points, **fields)


def with_gap(*frames: int, value: float = np.nan) -> Clip:
    """Two joints; the first is away in some frames, the second is always there."""
    points = np.repeat(line_clip().keypoints, 2, axis=2)
    points[0, list(frames), 0] = value
    return Clip(name="gap", keypoints=points, score=np.ones(points.shape[:3], np.float32))


def test_gaps() -> None:
    masked = parse_gaps("mask")(with_gap(2, 3))
    assert masked.score[0, :, 0].tolist() == [1, 1, 0, 0, 1, 1, 1]
    assert not masked.keypoints[0, 2:4, 0].any()
    held = parse_gaps("hold")(with_gap(0, 2, 3, value=np.inf))
    assert held.keypoints[0, :, 0, 0].tolist() == [2, 2, 2, 2, 5, 6, 7]
    filled = parse_gaps("interpolate")(with_gap(0, 2, 3, 6))
    np.testing.assert_allclose(filled.keypoints[0, :, 0, 0], [2, 2, 3, 4, 5, 6, 6])
    assert filled.score.all()
    short = parse_gaps("interpolate:1")(with_gap(1, 3, 4))
    assert short.score[0, :, 0].tolist() == [1, 1, 1, 0, 0, 1, 1]


def test_who_is_away_is_not_invented() -> None:
    points = with_gap().keypoints.copy()
    points[0, 3:5] = np.nan
    filled = parse_gaps("interpolate")(Clip(name="away", keypoints=points, score=np.ones(points.shape[:3], np.float32)))
    assert filled.score[0].any(-1).tolist() == [True] * 3 + [False] * 2 + [True] * 2
    filled.check(Topology.from_dict({"name": "two", "joints": ["a", "b"], "bones": {"b": "a"}}), 2, 1)


def test_frame_rate() -> None:
    half = FrameRate(15)(line_clip(fps=30.0, segments=((0, 3, 0), (3, 7, 1))))
    assert (half.fps, half.segments) == (15.0, ((0, 2, 0), (2, 4, 1)))
    np.testing.assert_allclose(half.keypoints[0, :, 0, 0], [1, 3, 5, 7])
    double = FrameRate(60)(line_clip(fps=30.0))
    np.testing.assert_allclose(double.keypoints[0, :, 0, 0], np.arange(1, 7.5, 0.5))
    uneven = FrameRate(10)(line_clip(4, timestamps=np.array([5.0, 5.1, 5.3, 5.4])))
    np.testing.assert_allclose(uneven.keypoints[0, :, 0, 0], [1, 2, 2.5, 3, 4])
    assert uneven.timestamps is None
    same = line_clip(fps=30.0)
    assert FrameRate(30)(same) is same
    with pytest.raises(UserError, match="frame rate is not known"):
        FrameRate(30)(line_clip())
    with pytest.raises(UserError, match="do not rise"):
        FrameRate(30)(line_clip(3, timestamps=np.array([0, 2.0, 1])))
    with pytest.raises(UserError, match="100000000001 frames"):
        FrameRate(100)(line_clip(2, timestamps=np.array([0, 1e9])))


def test_a_missing_end_is_ignored_by_the_frame_rate() -> None:
    score = np.ones((1, 3, 1))
    score[0, 1] = 0
    made = FrameRate(40)(line_clip(3, fps=10.0, score=score))
    assert made.keypoints[0, :, 0, 0].tolist() == [1, 1, 1, 1, 0, 3, 3, 3, 3]
    assert (made.score[0, :, 0] > 0).tolist() == [True] * 4 + [False] + [True] * 4


def test_steps_are_bound_pickled_recorded_and_made_again() -> None:
    source = Topology.load("mediapipe33")
    steps, topology = bind(named_steps("hold:3", "mediapipe33:coco17", 25), source)
    assert topology.name == "coco17"
    points = np.random.default_rng(0).uniform(1, 9, (2, 5, 33, 2))
    clip = Clip.of("body", points, fps=50.0)
    made = apply(pickle.loads(pickle.dumps(steps)), clip)
    assert (made.keypoints.shape, made.fps) == ((2, 3, 17, 2), 25.0)
    wrist = "left_wrist"
    np.testing.assert_allclose(
        made.keypoints[:, :, topology.index(wrist)], clip.keypoints[:, ::2, source.index(wrist)], rtol=1e-6
    )
    again, _ = bind(recorded([{"name": "import"}, *(step.record for step in steps)]), source)
    np.testing.assert_array_equal(apply(again, clip).keypoints, made.keypoints)
    with pytest.raises(UserError, match="write --map mediapipe33:hand21"):
        bind(named_steps(to="coco17:hand21"), source)
    with pytest.raises(UserError, match="no joint of 'hand21' has a partner"):
        bind(named_steps(to="coco17:hand21"), Topology.load("coco17"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nan": "holds"}, "Did you mean 'hold'"),
        ({"nan": "hold:x"}, "longest gap in frames"),
        ({"to": "coco17:"}, "write SOURCE:TARGET"),
        ({"fps": 0}, "number of frames a second"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        named_steps(**settings)


def save(tmp_path: Path, clips: int = 24, **change: Any) -> Path:
    """Own arrays of coco17: two classes, six subjects, a NaN in clip 0."""
    points = np.random.default_rng(0).uniform(1, 9, (clips, 1, 6, 17, 2))
    points[0, 0, 2, 5] = np.nan
    data = {
        "keypoints": points, "label": np.arange(clips) % 2, "classes": np.array(["a", "b"]), "fps": np.array(20.0),
        "subject": np.array([f"p{number // 2 % 6}" for number in range(clips)]), "topology": np.array("coco17"),
        **change,
    }  # fmt: skip
    np.savez(tmp_path / "mine.npz", **{key: value for key, value in data.items() if value is not None})
    return tmp_path / "mine.npz"


def test_the_command_does_all_of_it(tmp_path: Path) -> None:
    store, path = tmp_path / "s", save(tmp_path)
    words = ["import", "npz", path, store, "--nan", "interpolate", "--map", "coco17:penn13", "--fps", "10",
             "--test-fraction", "0.3", "--strict"]  # fmt: skip
    done = CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)
    assert "protocol 'own': train 16, test 8, split by subject (6)" in done.output
    made = Store.open(store)
    assert (made.topology.name, made[0].frames, made[0].fps) == ("penn13", 3, 10.0)
    named = [step["name"] for step in made.meta.steps]
    assert named == ["import", "missing joints", "map joints", "frame rate", "random split"]
    parts, subjects = made.protocol("own"), made.column("subject")
    assert not {subjects[row] for row in parts["train"]} & {subjects[row] for row in parts["test"]}
    with pytest.raises(UserError, match="needs the whole store"):
        CliRunner().invoke(command, [*map(str, words), "--shard", "0/2"], catch_exceptions=False)


def test_without_a_policy_nan_is_an_error_of_the_clip(tmp_path: Path) -> None:
    report = import_data("npz", save(tmp_path), tmp_path / "s", progress=False)
    assert (report.clips, len(report.skipped)) == (23, 1)
    assert "not a finite number" in report.skipped[0].reason


def test_split(tmp_path: Path) -> None:
    path = save(tmp_path, subject=None, label=np.array([0, 1] * 11 + [-1, -1]))
    import_data("npz", path, tmp_path / "s", progress=False)
    made = add_split(tmp_path / "s", 0.25, seed=3)
    assert (made.by, made.train + made.test, made.left_out, made.untested) == ("clip", 21, 2, ())
    assert any("same people may be" in line for line in made.lines())
    assert add_split(tmp_path / "s", 0.25, seed=3) == made
    with pytest.raises(UserError, match="another protocol 'own'"):
        add_split(tmp_path / "s", 0.5)
    assert add_split(tmp_path / "s", 0.5, overwrite=True).test in (10, 11)
    with pytest.raises(UserError, match="the subject of clip 'mine_000001' is not known; say --split-by clip"):
        add_split(tmp_path / "s", 0.5, by="subject", name="other")
    with pytest.raises(UserError, match="between 0 and 1"):
        add_split(tmp_path / "s", 1.5)
