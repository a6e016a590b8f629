"""Own recordings from a file to a prediction, and what happens where depth is wanted and not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import skelgraph as sg
from skelgraph.cli.main import cli
from skelgraph.data.synthetic import Demo
from skelgraph.errors import UserError
from skelgraph.topology import Topology

HAND = Topology.load("hand21")
TINY = [
    "topology=hand21", "data.frames=8", "stages.train.model.width=8", "stages.train.steps=2", "stages.test.views=1",
    "stages.train.schedule.warmup=0", "data.store=own",
]  # fmt: skip


def record(path: Path, dims: int, number: int) -> None:
    """A moving hand as a table with a row a frame."""
    clip = Demo(HAND, classes=2, frames=(10, 14), dims=dims).clip(number)
    head = ",".join(f"{joint}_{axis}" for joint in HAND.joints for axis in "xyz"[:dims])
    points = np.where(clip.score[0, ..., None] > 0, clip.keypoints[0], np.nan).reshape(clip.frames, -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, points, fmt="%.5f", delimiter=",", header=head, comments="")


def skelgraph(*words: object) -> str:
    """A command as typed; its errors are raised."""
    done = CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.output


@pytest.fixture
def recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of two gestures in three dimensions, of the same in two, and a new recording of each."""
    monkeypatch.chdir(tmp_path)
    for dims in (2, 3):
        for number in range(12):
            record(tmp_path / f"in{dims}/gesture{number % 2}/take{number}.csv", dims, number)
        record(tmp_path / f"new{dims}.csv", dims, 12)
    return tmp_path


def test_from_recordings_to_a_prediction(recordings: Path) -> None:
    options = ["-o", "fps=30", "-o", "units=metres", "-o", "up=+y"]
    words = skelgraph("data", "import", "csv", "in3", "own", *options, "--test-fraction", "0.25", "--fps", "20")
    assert "protocol 'own': train 9, test 3, split by clip (12)" in words
    run = sg.run("own_data", TINY, out="run")
    assert run.metrics["test/top1"] >= 0
    words = skelgraph("predict", "run", "new3.csv")
    assert words.startswith("new3")
    assert "gesture" in words
    with pytest.raises(UserError, match="2-D"):
        skelgraph("predict", "run", "new2.csv")


def test_two_dimensions_where_depth_is_wanted(recordings: Path) -> None:
    skelgraph("data", "import", "csv", "in2", "own", "--test-fraction", "0.25")
    with pytest.raises(UserError, match="holds 2-D joints, the recipe wants 3-D"):
        sg.run("own_data", [*TINY, "data.channels=3"], out="a")
    with pytest.raises(UserError, match="'align' needs 3-D joints"):
        sg.run("own_data", [*TINY, "topology=mediapipe33", "data.transforms.align={}"], out="b")
    assert sg.recipe.load("finetune_own").recipe.data.channels == 3
