"""A store of a million clips: made, imported, opened and trained on within fixed memory.

    python benchmarks/million.py [clips] [--workers N] [--memory GIB] [--folder DIR]

1. writes arrays in the form of ST-GCN (T = 16, 17 joints, 2-D; 2.2 KB a clip) piece by piece,
2. imports them by ``skelgraph data import stgcn-npy``, once killed on the way and gone on with,
3. opens the store, looks up a protocol, reads 100 000 clips in random order,
4. trains an ST-GCN++ for 200 steps of 32 clips on all of it, without a test.

Steps 2 to 4 run in processes of their own, each of which may have ``--memory`` GiB of data (RLIMIT_DATA; mapped files
belong to the page cache and do not count). Prints seconds, clips a second and the largest RssAnon of every step.
Needs 7 KB of disk a clip.
"""

from __future__ import annotations

import argparse
import json
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

FRAMES, JOINTS, CLASSES, STEPS, BATCH = 16, 17, 20, 200, 32
BLOCK = 20_000
RECIPE = f"""
extends: base/gcn_small.yaml
name: million
topology: coco17
data: {{store: STORE, protocol: official, frames: {FRAMES}, workers: 2}}
stages:
  train: {{model: {{name: stgcnpp, width: 16}}, steps: {STEPS}, batch: {BATCH}}}
  test: null
"""


def generate(folder: Path, clips: int) -> None:
    """Arrays of moving random poses, one class each, never whole in memory."""
    folder.mkdir()
    chance = np.random.default_rng(0)
    rest = chance.uniform(0.2, 0.8, (CLASSES, 2, 1, JOINTS, 1)).astype(np.float32)
    pace = chance.normal(0, 0.02, (CLASSES, 2, 1, JOINTS, 1)).astype(np.float32)
    time_ = np.arange(FRAMES, dtype=np.float32)[None, :, None, None]
    counts = {"train": clips - clips // 10, "val": clips // 10}
    for part, count in counts.items():
        shape = (count, 2, FRAMES, JOINTS, 1)
        joints = np.lib.format.open_memmap(folder / f"{part}_data_joint.npy", "w+", np.float32, shape)
        labels = chance.integers(0, CLASSES, count)
        for start in range(0, count, BLOCK):
            some = labels[start : start + BLOCK]
            noise = chance.normal(0, 0.01, (len(some), *shape[1:])).astype(np.float32)
            joints[start : start + BLOCK] = rest[some] + pace[some] * time_ + noise
        joints.flush()
        names = [f"{part}{number:08d}" for number in range(count)]
        (folder / f"{part}_label.pkl").write_bytes(pickle.dumps((names, labels.tolist())))


class Peak:
    """Largest RssAnon, in MB, of a process and its children while they run."""

    def __init__(self, process: int) -> None:
        self.largest, self._process, self._going = 0.0, process, True
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """The figure."""
        self._going = False
        self._thread.join()
        return self.largest

    def _watch(self) -> None:
        while self._going:
            self.largest = max(self.largest, sum(_anonymous(one) for one in _family(self._process)))
            time.sleep(0.2)


def _family(process: int) -> list[int]:
    members = [process]
    for one in members:
        try:
            members += [int(child) for child in Path(f"/proc/{one}/task/{one}/children").read_text().split()]
        except OSError:
            continue
    return members


def _anonymous(process: int) -> float:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("RssAnon")), 0.0)


def step(name: str, command: list[str], memory: float, kill_after: float | None = None) -> None:
    """Run a command under the limit and print what it took."""
    limit = int(memory * 2**30)
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )  # fmt: skip
    peak = Peak(process.pid)
    if kill_after is not None:
        time.sleep(kill_after)
        process.send_signal(signal.SIGKILL)
    out, errors = process.communicate()
    seconds, largest = time.perf_counter() - begin, peak.stop()
    print(f"{name}: {seconds:.1f} s, RssAnon of all its processes at most {largest:.0f} MB", flush=True)
    for line in out.splitlines():
        print(f"    {line}", flush=True)
    if process.returncode and kill_after is None:
        sys.exit(f"{name} failed:\n{errors[-3000:]}")


def read(path: Path) -> None:
    """Open, protocol, 100 000 random clips."""
    from skelgraph.data import Store

    begin = time.perf_counter()
    store = Store.open(path)
    store.row(0)
    print(f"opened with its first clip in {1e3 * (time.perf_counter() - begin):.0f} ms: {len(store)} clips")
    begin = time.perf_counter()
    parts = store.protocol("official")
    print(f"protocol in {time.perf_counter() - begin:.2f} s: " + ", ".join(f"{k} {len(v)}" for k, v in parts.items()))
    order = np.random.default_rng(0).integers(0, len(store), min(100_000, len(store)))
    begin, total = time.perf_counter(), 0.0
    for row in order.tolist():
        keypoints, score = store.row(row)
        total += float(keypoints.sum()) + float(score.sum())
    assert total > 0
    print(f"{len(order) / (time.perf_counter() - begin):,.0f} clips/s in random order")


def train(path: Path, out: Path) -> None:
    """The recipe, from Python."""
    import skelgraph as sg

    recipe = out.parent / "million.yaml"
    recipe.write_text(RECIPE.replace("STORE", json.dumps(str(path))))
    begin = time.perf_counter()
    sg.run(recipe, out=out)
    print(f"{STEPS} steps of {BATCH} clips, start to end {time.perf_counter() - begin:.1f} s")


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser()
    parser.add_argument("clips", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--memory", type=float, default=4.0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", choices=["read", "train"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only == "read":
        return read(args.folder / "store")
    if args.only == "train":
        return train(args.folder / "store", args.folder / "run")
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        begin = time.perf_counter()
        generate(folder / "source", args.clips)
        print(f"{args.clips} clips generated in {time.perf_counter() - begin:.1f} s", flush=True)
        go_in = [sys.executable, "-m", "skelgraph.cli.main", "data", "import", "stgcn-npy", str(folder / "source"),
                 str(folder / "store"), "--workers", str(args.workers)]  # fmt: skip
        step("import, killed", go_in, args.memory, kill_after=10 + args.clips / 50_000)
        step("import, gone on with", go_in, args.memory)
        for part in ("read", "train"):
            command = [sys.executable, __file__, "--only", part, "--folder", str(folder)]
            step(part, command, args.memory)


if __name__ == "__main__":
    main()
