"""The rows of docs/results.md out of the finished cells of benchmarks/crossmodal.py.

    python benchmarks/crossmodal_table.py WORK

Mean and sample standard deviation over seeds; differences are paired by test clip and by seed, with 95 % intervals,
beside the smallest difference that this many seeds would find with a power of 80 %, from the measured spread.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from crossmodal import DEFORMABLE, MODALITIES, SETS
from longtail_table import answers, gain, spread

from skelgraph.engine.intervals import Answers

TITLES = {"all": "27 actions", "wrist": "21 actions, sensor on the wrist"}
ALONE = {f"alone_{name}": f"{name} alone" for name in MODALITIES}
FUSED = {
    "sum": "the three added up",
    "concat": "one GRU on all, as many weights",
    "late": "late fusion, trained together",
    "v1": "M-Mixer v1 (mean)",
    "cfem": "M-Mixer (CFEM)",
}
LACKING = {f"no_{name}": f"half without {name}" for name in MODALITIES}
NAMES = {
    "full": "depth and poses", "pose": "poses alone", "depth": "depth alone",
    "frame": "depth alone, frame norm", "grid": "no offsets",
    "strides1": "joint and temporal strides 1", "cut": "no road between them",
}  # fmt: skip
Runs = Mapping[int, Answers]


def mixer(work: Path, prefix: str, alone: Mapping[str, str], fused: Mapping[str, str]) -> None:
    """One set: a row for each method; then what the M-Mixers gain on the others."""
    stages = {"test": "all there", **LACKING}
    found = {arm: {stage: answers(work, f"{prefix}_{arm}", stage) for stage in stages} for arm in (*alone, *fused)}
    if not any(runs["test"] for runs in found.values()):
        return
    print(f"\n| top-1 % | seeds | {' | '.join(stages.values())} |\n|---|---|{'---|' * len(stages)}")
    for arm, name in {**alone, **fused}.items():
        if found[arm]["test"]:
            shown = [spread(runs, "top1") if runs else "–" for runs in found[arm].values()]
            print(f"| {name} | {len(found[arm]['test'])} | {' | '.join(shown)} |")
    for arm in ("v1", "cfem"):
        bases = {base: name for base, name in {**alone, **fused}.items() if base != arm and found[base]["test"]}
        if not found[arm]["test"] or not bases:
            continue
        print(f"\n| {FUSED[arm]} − | {' | '.join(stages.values())} |\n|---|{'---|' * len(stages)}")
        for base, name in bases.items():
            gains = [gain(found[arm][stage], found[base][stage], "top1") for stage in stages]
            print(f"| {name} | {' | '.join(gains)} |")


def deformable(work: Path) -> None:
    """The 3D deformable transformer and its controls."""
    found: dict[str, Runs] = {arm: answers(work, f"def_{arm}", "test") for arm in DEFORMABLE}
    if not any(found.values()):
        return
    print("\n### 3D deformable transformer\n\n| | seeds | top-1 % | mean class % | full − |\n|---|---|---|---|---|")
    for arm, runs in found.items():
        if runs:
            less = gain(found["full"], runs, "top1") if arm != "full" else ""
            print(f"| {NAMES[arm]} | {len(runs)} | {spread(runs, 'top1')} | {spread(runs, 'mean_class')} | {less} |")


def main() -> None:
    work = Path(sys.argv[1])
    for prefix in SETS:
        print(f"\n## {TITLES[prefix]}")
        mixer(work, prefix, ALONE, FUSED)
    joint = {arm: name for arm, name in FUSED.items() if arm != "sum"}
    print("\n## 27 actions, end to end")
    mixer(work, "all_joint", {}, joint)
    deformable(work)


if __name__ == "__main__":
    main()
