"""``examples/webcam.py`` on a recorded stream, and on a camera and a pose estimator that are played."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from skelgraph.cli import main as entry
from skelgraph.data import Store
from skelgraph.engine.run_folder import Run
from skelgraph.predictor import Predictor

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def webcam() -> ModuleType:
    spec = importlib.util.spec_from_file_location("webcam", ROOT / "examples" / "webcam.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def recording(demo_clips: Path, tmp_path: Path) -> Path:
    """The first clip of the demo data, a line of json a frame, nobody in the fourth."""
    clip = Store.open(demo_clips)[0]
    frames = [
        {"keypoints": points.tolist(), "score": score.tolist()}
        for points, score in zip(clip.keypoints.swapaxes(0, 1), clip.score.swapaxes(0, 1), strict=True)
    ]
    frames[3] = None
    (tmp_path / "take.jsonl").write_text("\n".join(map(json.dumps, frames)), encoding="utf-8")
    return tmp_path / "take.jsonl"


def test_a_recorded_stream(
    webcam: ModuleType,
    recording: Path,
    demo_run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["webcam.py", str(demo_run.path), "--recorded", str(recording), "--window", "10"]
    monkeypatch.setattr(sys, "argv", words)
    webcam.main()
    said = re.findall(r"frame (\d+): (.+) \(\d+ ms\)", capsys.readouterr().out)
    stream = Predictor.load(demo_run).stream(window=10, stride=3, image_size=(480, 640))
    moments = [stream.push(points, score) for points, score, _ in webcam.recorded_frames(str(recording))]
    assert said == [(str(moment.frame), moment.label) for moment in moments if moment is not None]
    assert len(said) > 3


def test_a_camera_piped_into_predict(
    webcam: ModuleType,
    recording: Path,
    demo_run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    taken = list(webcam.recorded_frames(str(recording)))
    played = iter(taken)

    class Camera:
        def __init__(self, source: int) -> None:
            self.left = len(taken)

        def read(self) -> tuple[bool, np.ndarray | None]:
            self.left -= 1
            return (True, np.zeros((480, 640, 3), np.uint8)) if self.left >= 0 else (False, None)

    class Tracker:
        def __init__(self, solution: type, **settings: object) -> None:
            assert settings["backend"] == "onnxruntime"

        def __call__(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            points, score, _ = next(played)
            return (np.zeros((0, 17, 2)), np.zeros((0, 17))) if points is None else (points, score)

    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(VideoCapture=Camera))
    monkeypatch.setitem(sys.modules, "rtmlib", SimpleNamespace(Body=object, PoseTracker=Tracker))
    monkeypatch.setattr(sys, "argv", ["webcam.py", "--poses"])
    webcam.main()
    poses = capsys.readouterr().out
    assert len(poses.splitlines()) == len(taken)
    monkeypatch.setattr(sys, "stdin", io.StringIO(poses))
    monkeypatch.setattr(sys, "argv", ["skelgraph", "predict", str(demo_run.path), "-", "--window", "10"])
    entry.main()
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["frame"] for answer in answers] == list(range(len(taken)))
    assert [answer["label"] is None for answer in answers] == [frame < 9 for frame in range(len(taken))]


def test_without_rtmlib_it_says_what_to_install(webcam: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rtmlib", None)
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace())
    with pytest.raises(SystemExit, match=r"pip install 'skelgraph\[pose\]'"):
        next(webcam.camera_frames("0"))
