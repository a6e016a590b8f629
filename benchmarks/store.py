"""Measures the store: 100 000 clips opened, read whole by `Store.row`, and what memory that takes.

    python benchmarks/store.py [clips]

Prints the opening time, the growth of anonymous memory (RssAnon; mapped pages belong to the page cache) and clips a
second in stored and in random order. Needs about 600 MB of disk in the temporary folder.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from skelgraph.data import Clip, Store, StoreWriter


def anonymous_megabytes() -> float:
    """RssAnon of this process; not a number where the system has no /proc."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return float("nan")
    line = next(line for line in status.read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def write(path: Path, clips: int) -> None:
    """Random clips of 20 to 40 frames, 17 joints, one person."""
    chance = np.random.default_rng(0)
    noise = chance.random((1, 40, 17, 2)).astype(np.float32) + 1
    score = np.ones((1, 40, 17), np.float32)
    with StoreWriter(path, topology="coco17", dims=2, classes=("a", "b")) as writer:
        names = [f"clip_{number:06d}" for number in range(clips)]
        for number, frames in enumerate(chance.integers(20, 41, clips).tolist()):
            writer.write(
                Clip(names[number], noise[:, :frames], score[:, :frames], number % 2, group=names[number // 3])
            )
        writer.protocols = {"half": {"train": names[::2], "test": names[1::2]}}


def read(store: Store, order: np.ndarray) -> float:
    """Touch every number of the clips in ``order``; clips a second."""
    start, total = time.perf_counter(), 0.0
    for index in order.tolist():
        keypoints, score = store.row(index)
        total += (
            float(keypoints[0, 0, 0, 0]) + float(score.sum(dtype=np.float32)) + float(keypoints.sum(dtype=np.float32))
        )
    assert total > 0
    return len(order) / (time.perf_counter() - start)


def slice_only(store: Store, order: np.ndarray) -> float:
    """Microseconds for the views of one clip."""
    start = time.perf_counter()
    for index in order.tolist():
        store.row(index)
    return (time.perf_counter() - start) / len(order) * 1e6


def measure(path: Path, clips: int) -> None:
    """Print the figures of a store."""
    start = time.perf_counter()
    store = Store.open(path)
    opened = time.perf_counter()
    store.row(0)
    first = time.perf_counter()
    print(f"open {1e3 * (opened - start):.1f} ms, first clip {1e3 * (first - opened):.1f} ms, {len(store)} clips")
    before = anonymous_megabytes()
    print(f"read in order: {read(store, np.arange(clips)):,.0f} clips/s")
    print(f"read at random: {read(store, np.random.default_rng(1).permutation(clips)):,.0f} clips/s")
    print(f"row alone: {slice_only(store, np.random.default_rng(2).permutation(clips)):.2f} us")
    print(f"RssAnon growth: {anonymous_megabytes() - before:.1f} MB")
    start = time.perf_counter()
    store.protocol("half")
    print(f"a protocol's rows: {1e3 * (time.perf_counter() - start):.0f} ms")
    print(f"all columns: RssAnon {anonymous_megabytes() - before:.1f} MB above the start, groups {len(store.groups)}")


def batches(path: Path, frames: int = 64, batch: int = 128) -> None:
    """Print clips a second from the store to training batches of 64 frames, one epoch after a short warm-up."""
    from skelgraph.data import sampling
    from skelgraph.data.loader import BatchReader, EpochBatches

    store = Store.open(path)
    reader = BatchReader(store, frames, 1, sampling.create("uniform"))
    order = EpochBatches(np.arange(len(store)), batch, 0, lambda: 0)
    reader[next(iter(order))]
    before, start, clips = anonymous_megabytes(), time.perf_counter(), 0
    for draws in order:
        clips += len(reader[draws])
    rate, growth = clips / (time.perf_counter() - start), anonymous_megabytes() - before
    print(f"store to batch, T = {frames}: {rate:,.0f} clips/s, RssAnon growth {growth:.1f} MB")


def main() -> None:
    """Write, measure, clean up."""
    clips = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        start = time.perf_counter()
        write(path, clips)
        size = sum(item.stat().st_size for item in path.iterdir()) / 2**20
        print(f"wrote {clips} clips, {size:.0f} MB, in {time.perf_counter() - start:.1f} s (process {os.getpid()})")
        measure(path, clips)
        batches(path)


if __name__ == "__main__":
    main()
