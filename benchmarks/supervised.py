"""The supervised study of docs/results.md: ST-GCN++, CTR-GCN and PSUMNet on NW-UCLA, ST-GCN++ on five more sets.

    python benchmarks/supervised.py WORK [PATTERN ...]

WORK holds the stores ``nwucla sbu utdmhad jhmdb pennaction signs`` (skelgraph data import ...) and receives ``runs/``
and ``cells.csv``. With one core a cell takes 5 to 30 minutes. ``ctrgcn4_...`` adds up four finished runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cells import Cell, arguments, work_through

STREAMS = ("bone", "joint_motion", "bone_motion")
CLEAN = "stages.test_clean={evaluate: [top1, mean_class], data: {test_part: test_clean}}"


def four_streams(runs: Path, ucla: list[str], split: str, seed: int) -> Cell:
    """The logits of CTR-GCN on joints, bones and the motion of both, added up."""
    names = ["ctrgcn", *(f"ctrgcn_{stream}" for stream in STREAMS)]
    stages = []
    for stage in ("test",) if split == "v23_v1" else ("test", "test_clean"):
        found = ", ".join(f"'{runs / f'{name}_{split}_s{seed}'}:{stage}'" for name in names)
        stages.append(f"stages.{stage}={{fuse: [{found}]}}")
    protocol = [] if split == "v23_v1" else [f"data.protocol={split}"]
    fused = ["stages.train=null", "stages.test=null", *stages]
    return Cell(f"ctrgcn4_{split}_s{seed}", "ctrgcn_nwucla", [*ucla, *protocol, *fused], seed)


def cells(work: Path) -> Iterator[Cell]:
    """All cells."""
    ucla = [f"data.store={work / 'nwucla'}"]
    for seed in range(3):
        for split, chosen in (("v23_v1", []), ("v12_v3", ["data.protocol=v12_v3", CLEAN])):
            for network in ("stgcnpp", "ctrgcn", "psumnet"):
                yield Cell(f"{network}_{split}_s{seed}", f"{network}_nwucla", [*ucla, *chosen], seed)
            for stream in STREAMS:
                single = [*ucla, *chosen, f"stages.train.model.inputs=[{stream}]"]
                yield Cell(f"ctrgcn_{stream}_{split}_s{seed}", "ctrgcn_nwucla", single, seed)
            yield four_streams(work / "runs", ucla, split, seed)
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
