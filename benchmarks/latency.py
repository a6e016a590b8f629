"""Measures a live stream: milliseconds from a frame to its answer, on one core.

    OMP_NUM_THREADS=1 python benchmarks/latency.py RUN [RUN...] [--frames 200] [--window 48] [--threads 1]

Every RUN (folder, folder:stage, or the .onnx file of ``skelgraph export``) answers every frame of a random walk of its
own joints, window by window. Printed are the median, the 5th and the 95th percentile over the frames after the first
twenty, the median of the processor's time (on a busy machine the clock on the wall counts the work of others too), the
share that numpy takes (resampling and checks; the rest is transforms and network), and the time to the first answer.
Runs take turns, so that other load on the machine falls on all of them alike.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from skelgraph.prediction.base import ClipPredictor
from skelgraph.prediction.inputs import ClipArrays
from skelgraph.prediction.onnx import OnnxPredictor
from skelgraph.predictor import Predictor

WARM = 20


class Timed(ClipPredictor):
    """Keeps the seconds its network took.

    Args:
        inner: does the work.
    """

    network = 0.0

    def __init__(self, inner: ClipPredictor) -> None:
        super().__init__(inner.spec, inner.classes)
        self.inner = inner

    def scores(self, arrays: ClipArrays) -> np.ndarray:
        start = time.perf_counter()
        result = self.inner.scores(arrays)
        self.network = time.perf_counter() - start
        return result


def load(run: str, threads: int) -> Timed:
    """A run, or an exported file."""
    if run.endswith(".onnx"):
        return Timed(OnnxPredictor.load(run, threads=threads))
    return Timed(Predictor.load(run, device="cpu"))


def walk(predictor: ClipPredictor, frames: int) -> np.ndarray:
    """(frames, M, V, C): every joint drifts about a place of its own."""
    spec, chance = predictor.spec, np.random.default_rng(0)
    shape = (frames, spec.persons, len(spec.topology), spec.channels)
    drift = chance.normal(0, 0.02, shape).cumsum(0)
    return (chance.normal(2, 0.3, shape[1:]) + drift).astype(np.float32)


def measure(
    runs: list[str], frames: int, window: int | None, threads: int
) -> dict[str, list[tuple[float, float, float]]]:
    """For every run and frame the seconds in all, of the processor, and those of transforms and network."""
    predictors = {run: load(run, threads) for run in runs}
    streams = {run: item.stream(window=window, image_size=(480, 640)) for run, item in predictors.items()}
    walks = {run: walk(item, frames + streams[run].window) for run, item in predictors.items()}
    for run, stream in streams.items():
        for points in walks[run][: stream.window - 1]:
            stream.push(points)
    times: dict[str, list[tuple[float, float, float]]] = {run: [] for run in runs}
    for frame in range(frames):
        for run, stream in streams.items():
            start, busy = time.perf_counter(), time.process_time()
            stream.push(walks[run][stream.window - 1 + frame])
            took = time.perf_counter() - start, time.process_time() - busy
            times[run].append((*took, predictors[run].network))
    return times


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--window", type=int)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    heads = ("median ms", "p5", "p95", "cpu ms", "numpy ms", "first ms")
    print(f"{'run':<40} " + " ".join(f"{head:>9}" for head in heads))
    for run, rows in measure(given.runs, given.frames, given.window, given.threads).items():
        whole, busy, network = 1e3 * np.array(rows).T
        low, middle, high = np.percentile(whole[WARM:], [5, 50, 95])
        columns = [middle, low, high, np.median(busy[WARM:]), np.median((whole - network)[WARM:]), whole[0]]
        print(f"{run[-40:]:<40} " + " ".join(f"{value:>9.2f}" for value in columns))


if __name__ == "__main__":
    main()
