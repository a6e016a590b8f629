"""Imports again and again, killed at random moments, and compares each store with that of an unbroken import.

    python tests/data/killed_import.py SRC FOLDER TRIALS WORKERS SEED

Three trials of four are killed once the first clips are safe, the others at any time. A trial is killed once at least,
then goes on with chance 1/2 of another kill. Prints a json list: of each trial the number of kills, how many clips had
survived the last one, and whether the store has the same bytes.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from skelgraph.data import import_data, writer

writer.BATCH_BYTES, writer.SHARD_BYTES = 6_000, 40_000
os.fsync = lambda file: None  # a kill, unlike a power cut, loses nothing that was written


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def run(src: Path, dst: Path, workers: int, delay: float | None, late: bool = False) -> int | None:
    """Import in a process of its own; None if it was killed, else the clips that had survived earlier kills.

    The delay of the kill counts from the start, or if ``late`` from the first clips that are safe.
    """
    journal = dst.parent / f".{dst.name}.partial" / "journal.json"
    before = journal.stat().st_mtime_ns if journal.exists() else None
    reader, sender = os.pipe()
    child = os.fork()
    if not child:
        os.setsid()
        report = import_data("nw-ucla", src, dst, workers=workers, progress=False)
        os.write(sender, str(report.resumed).encode())
        os._exit(0)
    os.close(sender)
    if delay is not None:
        while late and not _changed(journal, before) and not _ended(child):
            time.sleep(0.002)
        time.sleep(delay)
        if not _ended(child):
            os.kill(child, signal.SIGKILL)
    _ended(child, wait=True)
    with open(reader) as pipe:
        text = pipe.read()
    return int(text) if text else None


def _changed(path: Path, before: int | None) -> bool:
    try:
        return path.stat().st_mtime_ns != before
    except OSError:
        return False


def _ended(child: int, wait: bool = False) -> bool:
    """Whether a child has ended; its remains stay until ``wait``."""
    options = os.WEXITED | (0 if wait else os.WNOHANG | os.WNOWAIT)
    return os.waitid(os.P_PID, child, options) is not None


def main() -> None:
    """See above."""
    src, folder, trials, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    chance = random.Random(sys.argv[5])
    whole = folder / "whole"
    start = time.perf_counter()
    run(src, whole, workers, None)
    lasts, expected, results = time.perf_counter() - start, content(whole), []
    for trial in range(trials):
        dst = folder / f"trial{trial}" / "store"
        dst.parent.mkdir()
        kills, resumed = 0, None
        while resumed is None:
            late = trial % 4 != 0
            delay = chance.uniform(0, lasts / 5 if late else lasts) if not kills or chance.random() < 0.5 else None
            resumed = run(src, dst, workers, delay, late)
            kills += resumed is None
            if not kills:  # it was faster than the first one
                shutil.rmtree(dst)
                lasts, resumed = 0.7 * lasts, None
        alone = [path.name for path in dst.parent.iterdir()] == ["store"]
        results.append({"kills": kills, "resumed": resumed, "same": content(dst) == expected and alone})
        shutil.rmtree(dst.parent)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
