"""Measures the import of raw NTU RGB+D text: files of about 100 frames with one or two bodies, in the real format.

    python benchmarks/import_speed.py [files]

Writes the files (2000 by default, about 0.8 GB) into the temporary folder, reads them three times, and prints megabytes
of text a second: of the reader alone in this process, and of `import_data` with one and two processes that read, store
included.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from skelgraph.data import import_data
from skelgraph.data.readers import READERS

FRAMES, JOINTS, DIFFERENT = (80, 121), 25, 16


def text(chance: np.random.Generator) -> str:
    """One recording: people who stand about 3 m away and move a little, seen by the colour and depth camera."""
    frames, people = int(chance.integers(*FRAMES)), int(chance.integers(1, 3))
    rest = chance.normal(size=(people, JOINTS, 3)) * [0.2, 0.5, 0.1] + [0, 0, 3]
    lines = [f"{frames}"]
    for _ in range(frames):
        lines.append(f"{people}")
        for person in range(people):
            lines += [f"{72057594037931101 + person} 0 1 1 1 1 0 0.02764709 0.05745083 2", f"{JOINTS}"]
            joints = rest[person] + chance.normal(size=(JOINTS, 3)) * 0.02
            images = np.concatenate([joints[:, :2] * 120 + 200, joints[:, :2] * 360 + 600], axis=1)
            turns = chance.normal(size=(JOINTS, 4)) / 2
            for row in np.concatenate([joints, images, turns], axis=1).astype(np.float32):
                lines.append(" ".join(f"{value:.7g}" for value in row) + " 2")
    return "\r\n".join(lines) + "\r\n"


def write(folder: Path, files: int) -> float:
    """Write the recordings; megabytes of text."""
    chance = np.random.default_rng(0)
    some = [text(chance).encode() for _ in range(DIFFERENT)]
    size = 0
    for number in range(files):
        performance, camera = divmod(number, 3)
        subject, action = divmod(performance, 60)
        name = f"S001C{camera + 1:03d}P{subject + 1:03d}R001A{action + 1:03d}"
        size += (folder / f"{name}.skeleton").write_bytes(some[number % DIFFERENT])
    return size / 1e6


def main() -> None:
    """Write, measure, clean up."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "skeletons"
        folder.mkdir()
        size = write(folder, files)
        reader = READERS.create("ntu", folder)
        start, cpu = time.perf_counter(), time.process_time()
        clips = sum(1 for item in reader.items() for _ in reader.read(item))
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        print(f"{clips} clips, {size:.0f} MB of text")
        print(f"reader alone: {size / wall:.1f} MB/s, {size / cpu:.1f} MB a second of processor")
        for workers in (1, 2):
            start = time.perf_counter()
            report = import_data("ntu", folder, Path(place) / f"store{workers}", workers=workers, progress=False)
            rate = size / (time.perf_counter() - start)
            print(f"import_data, {workers} processes that read: {rate:.1f} MB/s, {report.clips} clips")


if __name__ == "__main__":
    main()
