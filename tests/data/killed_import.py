"""Imports again and again, killed at random moments, and compares each store with that of an unbroken import.

    python tests/data/killed_import.py SRC FOLDER TRIALS WORKERS SEED

Prints a json list: of each trial the number of kills, how many clips had survived the last one, and whether the store
has the same bytes. A trial is killed once at least, then goes on with chance 1/2 of another kill.
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


def run(src: Path, dst: Path, workers: int, delay: float | None) -> int | None:
    """Import in a process of its own; None if it was killed, else the clips that had survived earlier kills."""
    reader, sender = os.pipe()
    child = os.fork()
    if not child:
        os.setsid()
        report = import_data("nw-ucla", src, dst, workers=workers, progress=False)
        os.write(sender, str(report.resumed).encode())
        os._exit(0)
    os.close(sender)
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with open(reader) as pipe:
        text = pipe.read()
    return int(text) if text else None


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
            delay = chance.uniform(0, lasts) if not kills or chance.random() < 0.5 else None
            resumed = run(src, dst, workers, delay)
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
