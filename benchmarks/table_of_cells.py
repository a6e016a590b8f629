"""The rows of docs/results.md out of the finished cells of benchmarks/pretraining.py.

    python benchmarks/table_of_cells.py WORK

Mean and sample standard deviation over cells (seeds, and label subsets where there are some); differences are paired:
same seed, same subset, same steps.
"""

from __future__ import annotations

import csv
import re
import statistics
import sys
from pathlib import Path

ARMS = (
    ("Penn, all labels", "penn_all_scratch", "penn_all_pretrained"),
    ("Penn, 10 %", "penn_10_scratch", "penn_10_pretrained"),
    ("Penn, 10 %, random parts masked", "penn_10_scratch", "probe_mask_pretrained"),
    ("Penn, 10 %, in jhmdb15", "penn_10_in_jhmdb15_scratch", "penn_10_from_jhmdb"),
    ("Penn, 10 %, encoder frozen", "probe_frozen_random", "probe_frozen_pretrained"),
    ("Penn, 10 %, rate 5e-4", "probe_slow_random", "probe_slow_pretrained"),
    ("J-HMDB, own pre-training", "jhmdb_scratch", "jhmdb_same"),
    ("J-HMDB, in penn13", "jhmdb_in_penn13_scratch", "jhmdb_from_penn"),
)


def spread(values: list[float]) -> str:
    """Mean ± sample standard deviation."""
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


def main() -> None:
    with (Path(sys.argv[1]) / "cells.csv").open(newline="") as file:
        rows = {row["cell"]: float(row["test/top1"]) for row in csv.DictReader(file)}
    print("| | scratch, top-1 % | pre-trained, top-1 % | paired difference | pairs |\n|---|---|---|---|---|")
    for title, base, other in ARMS:
        pairs = []
        for name, value in rows.items():
            match = re.fullmatch(rf"{base}((_k\d+)?_s\d+)", name)
            if match and f"{other}{match[1]}" in rows:
                pairs.append((value, rows[f"{other}{match[1]}"]))
        if pairs:
            first, second = (list(column) for column in zip(*pairs, strict=True))
            gain = [b - a for a, b in pairs]
            print(f"| {title} | {spread(first)} | {spread(second)} | {spread(gain)} | {len(pairs)} |")


if __name__ == "__main__":
    main()
