"""The supervised study of docs/results.md: ST-GCN++, CTR-GCN and PSUMNet on NW-UCLA, ST-GCN++ on five more sets.

    python benchmarks/supervised.py WORK [PATTERN ...]

WORK holds the stores ``nwucla sbu utdmhad jhmdb pennaction signs`` (skelgraph data import ...) and receives ``runs/``
and ``cells.csv``. With one core a cell takes 5 to 30 minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cells import Cell, arguments, work_through

FOUR = "{name: multi_stream, base: {name: ctrgcn, width: 32}, streams: [joint, bone, joint_motion, bone_motion]}"
CLEAN = "stages.test_clean={evaluate: [top1, mean_class], data: {test_part: test_clean}}"


def cells(work: Path) -> Iterator[Cell]:
    """All cells."""
    ucla = [f"data.store={work / 'nwucla'}"]
    for seed in range(3):
        for split, chosen in (("v23_v1", []), ("v12_v3", ["data.protocol=v12_v3", CLEAN])):
            for network in ("stgcnpp", "ctrgcn", "psumnet"):
                yield Cell(f"{network}_{split}_s{seed}", f"{network}_nwucla", [*ucla, *chosen], seed)
            four = [*ucla, *chosen, f"stages.train.model={FOUR}"]
            yield Cell(f"ctrgcn4_{split}_s{seed}", "ctrgcn_nwucla", four, seed)
            local = [*ucla, *chosen, "stages.train.model.frame=local"]
            yield Cell(f"psumnet_local_{split}_s{seed}", "psumnet_nwucla", local, seed)
        for name in ("utdmhad", "jhmdb", "pennaction"):
            yield Cell(f"stgcnpp_{name}_s{seed}", f"stgcnpp_{name}", [f"data.store={work / name}"], seed)
        for name in ("sbu", "signs"):
            for fold in range(1, 6):
                overrides = [f"data.store={work / name}", f"data.protocol=fold{fold}"]
                yield Cell(f"stgcnpp_{name}_fold{fold}_s{seed}", f"stgcnpp_{name}", overrides, seed)


if __name__ == "__main__":
    folder, wanted = arguments()
    work_through(cells(folder), folder, wanted)
