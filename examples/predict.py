"""A trained run labels new poses: an array, joints of another layout, and frame by frame.

python examples/predict.py              # trains a tiny run on demo data first
python examples/predict.py runs/mine    # or takes yours (coco17, 2-D)
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

import skelgraph as sg

RECIPE = """
name: tiny
topology: coco17
data: {store: demo, protocol: demo, frames: 8, transforms: {image: {}, center: {}, scale: {}}}
stages:
  train: {method: supervised, model: {name: stgcnpp, width: 8}, steps: 4, batch: 8}
  test: {evaluate: [top1]}
"""


def demo_run(folder: Path) -> Path:
    """A few steps on demo data: enough to show the calls, too few for good answers."""
    from skelgraph.data.synthetic import write_demo

    write_demo(folder / "demo", clips=24, classes=4)
    (folder / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
    with contextlib.chdir(folder), contextlib.redirect_stderr(open(os.devnull, "w")):
        return folder / sg.run("tiny.yaml").path


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        predictor = sg.Predictor.load(sys.argv[1] if len(sys.argv) > 1 else demo_run(Path(folder)))
    keypoints = np.random.default_rng(0).uniform(100, 500, (60, 17, 2))  # (frames, joints, x and y) in pixels
    result = predictor.predict(keypoints, image_size=(1080, 1920))
    print("an array:", result.labels[0], {name: round(value, 3) for name, value in result.best(0).items()})

    mediapipe = np.random.default_rng(1).uniform(100, 500, (60, 33, 2))
    result = predictor.predict(mediapipe, image_size=(1080, 1920), topology="mediapipe33")
    print("33 joints of MediaPipe, by name:", result.labels[0])

    stream = predictor.stream(window=30, stride=10, image_size=(1080, 1920))
    for frame in keypoints:
        moment = stream.push(frame)
        if moment is not None:
            print(f"frame {moment.frame}: {moment.label}")


if __name__ == "__main__":
    main()
