"""A live recogniser: a camera, a pose estimator (rtmlib, pip install 'skelgraph[pose]'), a run on coco17 in 2-D.

python examples/webcam.py runs/mine                  # camera 0
python examples/webcam.py runs/mine --camera take.mp4
python examples/webcam.py runs/mine --recorded take.jsonl
python examples/webcam.py --poses                    # frames as lines of json, for: | skelgraph predict RUN -
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

Frame = tuple[np.ndarray | None, np.ndarray | None, tuple[int, int]]


def camera_frames(source: str) -> Iterator[Frame]:
    """Keypoints (M, 17, 2) in pixels, scores (M, 17) and (height, width) of every picture."""
    try:
        import cv2
        from rtmlib import Body, PoseTracker
    except ImportError:
        sys.exit("a camera needs rtmlib: pip install 'skelgraph[pose]'")
    body = PoseTracker(Body, det_frequency=10, mode="lightweight", backend="onnxruntime", device="cpu")
    camera: Any = cv2.VideoCapture(int(source) if source.isdigit() else source)
    while (read := camera.read())[0]:
        keypoints, score = body(read[1])
        people = (keypoints, score) if len(keypoints) else (None, None)
        yield *people, read[1].shape[:2]


def recorded_frames(path: str) -> Iterator[Frame]:
    """The same of a recorded stream, a line of json a frame."""
    from skelgraph.prediction.stream import read_frames

    with open(path, encoding="utf-8") as lines:
        for keypoints, score in read_frames(lines, path):
            yield keypoints, score, (480, 640)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?")
    parser.add_argument("--camera", default="0")
    parser.add_argument("--recorded")
    parser.add_argument("--window", default=48)
    parser.add_argument("--poses", action="store_true")
    given = parser.parse_args()
    if not given.run and not given.poses:
        return parser.print_help()
    stream = None
    for keypoints, score, size in recorded_frames(given.recorded) if given.recorded else camera_frames(given.camera):
        if given.poses:
            plain = None if keypoints is None else {"keypoints": keypoints.tolist(), "score": score.tolist()}
            print(json.dumps(plain), flush=True)
            continue
        if stream is None:
            import skelgraph as sg

            stream = sg.Predictor.load(given.run).stream(window=given.window, stride=3, image_size=size)
        start = time.perf_counter()
        moment = stream.push(keypoints, score)
        if moment is not None and moment.label:
            took = 1000 * (time.perf_counter() - start)
            print(f"frame {moment.frame}: {moment.label} ({took:.0f} ms)", flush=True)


if __name__ == "__main__":
    main()
