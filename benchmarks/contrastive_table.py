"""The rows of docs/results.md out of the finished cells of benchmarks/contrastive.py.

    python benchmarks/contrastive_table.py WORK

Mean and sample standard deviation over seeds; differences to MoCo continued are paired by test clip and by seed, with
95 % intervals, beside the smallest difference that this many seeds would find with a power of 80 %, from the measured
spread.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from contrastive import DATA, DEFAULT, HARDNESS, REASONS
from longtail_table import answers, gain, spread

PROBES = {"near": "kNN", "test": "linear", "few_test": "10 % of labels"}
HALP = f"halp{100 * DEFAULT:.0f}"
MAIN = {"random": "random encoder", "pre": "MoCo, half the steps", "moco": "MoCo", HALP: "MoCo, then HaLP"}
CURVE = {"moco": "MoCo"} | {f"halp{100 * value:.0f}": f"HaLP, λ = {value:g}" for value in HARDNESS}
NAMES = {"nwucla": "NW-UCLA v23_v1", "utdmhad": "UTD-MHAD"}
STUDIES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    **{NAMES[data]: (data, MAIN) for data in DATA},
    **{f"{NAMES[data]}, trained on the other set": (f"to_{data}", MAIN) for data in DATA},
    "NW-UCLA v23_v1, half-width ST-GCN++": ("gcn_nwucla", MAIN),
    **{f"NW-UCLA v23_v1, {name}": (f"{name}_nwucla", MAIN) for name in REASONS},
    **{f"{NAMES[data]}, hardness": (data, CURVE) for data in DATA},
}


def main() -> None:
    work = Path(sys.argv[1])
    for title, (prefix, rows) in STUDIES.items():
        found = {
            name: {stage: answers(work, f"{prefix}_{arm}", stage) for stage in PROBES} for arm, name in rows.items()
        }
        there = {name: runs for name, runs in found.items() if any(runs.values())}
        if len(there) < 2:
            continue
        print(f"\n### {title}\n\n| top-1 % | seeds | {' | '.join(PROBES.values())} |\n|---|---|{'---|' * len(PROBES)}")
        for name, runs in there.items():
            shown = [spread(runs[stage], "top1") if runs[stage] else "–" for stage in PROBES]
            print(f"| {name} | {max(map(len, runs.values()))} | {' | '.join(shown)} |")
        if "MoCo" not in there:
            continue
        print(f"\n| − MoCo | {' | '.join(PROBES.values())} |\n|---|{'---|' * len(PROBES)}")
        for name, runs in there.items():
            if name != "MoCo":
                gains = [gain(runs[stage], found["MoCo"][stage], "top1") for stage in PROBES]
                print(f"| {name} | {' | '.join(gains)} |")


if __name__ == "__main__":
    main()
