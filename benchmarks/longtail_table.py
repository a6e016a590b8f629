"""The rows of docs/results.md out of the finished cells of benchmarks/longtail.py.

    python benchmarks/longtail_table.py WORK

Mean and sample standard deviation over seeds; the seed is the order of the classes, too. Differences are paired by test
clip and by seed, with 95 % intervals (`skelgraph.engine.intervals.paired_difference`), beside the smallest difference
that this many seeds would find with a power of 80 %, from the measured spread.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from skelgraph.engine.intervals import Answers, detectable, figure, paired_difference
from skelgraph.engine.run_folder import Run

SHOWN = {"top1": "top-1 %", "mean_class": "mean class %", "head_third": "head third %", "tail_third": "tail third %"}
COMPARED = ("top1", "head_third", "tail_third")
BASELINES = ("cross-entropy", "class-balanced", "logit adjustment")
Rows = Sequence[tuple[str, str, str]]
MAIN: Rows = (
    ("cross-entropy", "posthoc", "test"),
    ("class-balanced", "cb", "test"),
    ("focal", "focal", "test"),
    ("LDAM-DRW", "ldam", "test"),
    ("balanced softmax", "balsoftmax", "test"),
    ("Remix", "remix", "test"),
    ("logit adjustment", "posthoc", "adjusted"),
    ("τ-norm", "posthoc", "normalized"),
    ("cRT", "posthoc", "retrained"),
    ("tail over-sampling", "oversampling", "test"),
    ("… + mixing", "mixing", "test"),
    ("… + loss = BRL", "brl", "test"),
)


def three(prefix: str, stage: str = "test") -> Rows:
    """Cross-entropy, class-balanced and BRL of one setting."""
    named = (("cross-entropy", "ce"), ("class-balanced", "cb"), ("BRL", "brl"))
    return tuple((title, f"{prefix}_{method}", stage) for title, method in named)


STUDIES: Mapping[str, Rows] = {
    "NW-UCLA v23_v1, factor 10, joint stream": MAIN,
    "NW-UCLA v23_v1, factor 10, six streams 2:2:2:1:1:1": three("six", "six"),
    "NW-UCLA v23_v1, factor 50": three("factor50"),
    "NW-UCLA v23_v1, factor 10, CTR-GCN": three("ctrgcn"),
    "Penn Action, factor 10": three("penn"),
    "NW-UCLA v12_v3, the list (class 0 is the largest)": three("listed"),
    "the same, without test clips that are copies of training clips": three("listed", "test_clean"),
}


def answers(work: Path, cell: str, stage: str) -> dict[int, Answers]:
    """Seed -> answers of the finished runs of a cell."""
    found = {}
    for path in sorted((work / "runs").glob(f"{cell}_s[0-9]*")):
        kept = Answers.read(Run(path).stage(stage))
        if kept is not None:
            found[int(path.name.rpartition("_s")[2])] = kept
    return found


def value(run: Answers, metric: str) -> float:
    """A figure of one run."""
    return float(figure(run, metric, np.ones((1, len(run.names)), np.float32))[0])


def spread(runs: Mapping[int, Answers], metric: str) -> str:
    """Mean ± sample standard deviation."""
    values = [value(run, metric) for run in runs.values()]
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


def gain(runs: Mapping[int, Answers], base: Mapping[int, Answers], metric: str) -> str:
    """Difference to another method over the seeds that both have, its interval, and what would have been found."""
    seeds = sorted(set(runs) & set(base))
    one, other = [runs[seed] for seed in seeds], [base[seed] for seed in seeds]
    if not seeds:
        return "–"
    mean = statistics.mean(value(a, metric) - value(b, metric) for a, b in zip(one, other, strict=True))
    low, high = paired_difference(one, other, metric)
    least = f"; finds {detectable(one, other, metric):.1f}" if len(seeds) > 1 else ""
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f}{least})"


def main() -> None:
    work = Path(sys.argv[1])
    for title, rows in STUDIES.items():
        found = {name: answers(work, cell, stage) for name, cell, stage in rows}
        if not any(found.values()):
            continue
        print(f"\n### {title}\n")
        print("| method | seeds | " + " | ".join(SHOWN.values()) + " |\n|---|---|" + "---|" * len(SHOWN))
        for name, runs in found.items():
            if runs:
                print(f"| {name} | {len(runs)} | " + " | ".join(spread(runs, metric) for metric in SHOWN) + " |")
        for baseline in BASELINES:
            others = {name: runs for name, runs in found.items() if runs and name != baseline}
            if not found.get(baseline) or not others:
                continue
            print(f"\n| − {baseline} | " + " | ".join(SHOWN[metric] for metric in COMPARED) + " |\n|---|---|---|---|")
            for name, runs in others.items():
                print(f"| {name} | " + " | ".join(gain(runs, found[baseline], metric) for metric in COMPARED) + " |")


if __name__ == "__main__":
    main()
