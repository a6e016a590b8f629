"""From a folder of MediaPipe recordings to a trained model and a prediction: python examples/own_data.py

The recordings are made here by the demo generator, in the form that MediaPipe's results have as json: replace them by
yours. What follows are five commands, which you may as well type (docs/own_data.md); the network is made small here, so
that they take seconds.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
import tempfile
from pathlib import Path

from skelgraph.cli.main import cli
from skelgraph.data.synthetic import Demo
from skelgraph.topology import Topology

COMMANDS = """
data import mediapipe recordings data/own -o labels=recordings/clips.csv -o image=1920x1080 --test-fraction 0.25
data info data/own
run own_data stages.train.model.width=8 data.frames=16 stages.train.steps={steps} --out runs/gestures
results runs/gestures
predict runs/gestures new/somebody.json
"""


def result(clip, frame: int) -> dict:
    """What MediaPipe Tasks finds in one picture: x and y as shares of its sides, a visibility for each landmark."""
    height, width = clip.image_size
    landmarks = [
        {"x": float(x) / width, "y": float(y) / height, "z": 0.0, "visibility": float(score)}
        for (x, y), score in zip(clip.keypoints[0, frame], clip.score[0, frame], strict=True)
    ]
    return {"timestamp_ms": round(frame * 1000 / clip.fps), "pose_landmarks": [landmarks]}


def record(folder: Path, clips: int) -> None:
    """Three gestures by twelve people: a json file a clip, and a table that says who does what."""
    demo = Demo(Topology.load("mediapipe33"), classes=3)
    rows = ["clip,label,subject"]
    for number in range(clips + 1):
        clip = demo.clip(number)
        path = folder / "recordings" / f"take_{number:03d}.json" if number < clips else folder / "new/somebody.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps([result(clip, frame) for frame in range(clip.frames)]))
        rows.append(f"{path.name},{demo.names[clip.label]},{clip.subject}")
    (folder / "recordings/clips.csv").write_text("\n".join(rows[:-1]))
    print(f"{clips} recordings of {', '.join(demo.names)}; new/somebody.json shows: {rows[-1].split(',')[1]}")


def main(clips: int = 72, steps: int = 60) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        record(Path(folder), clips)
        for command in COMMANDS.format(steps=steps).strip().splitlines():
            print(f"\n$ skelgraph {command}", flush=True)
            cli.main(shlex.split(command), standalone_mode=False)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
