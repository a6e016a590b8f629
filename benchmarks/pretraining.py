"""The SkeletonMAE study of docs/results.md, cell by cell: pre-training against scratch, all labels and 10 %, two sets.

    python benchmarks/pretraining.py WORK [PATTERN ...]

WORK holds the stores ``pennaction`` and ``jhmdb`` (skelgraph data import ...) and receives ``runs/`` and
``cells.csv``, one row a finished cell. Start it again to go on; several processes may share the work by patterns.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import torch

import skelgraph as sg

FEW_STEPS = 500
TRANSFER_SUBSETS = 2
SCRATCH = ["stages.pretrain=null", "stages.finetune.from=null"]


class Cell(NamedTuple):
    """One run: its name, recipe, overrides, seed, and the run its encoder comes from."""

    name: str
    recipe: str
    overrides: list[str]
    seed: int
    encoder: str | None = None


def cells() -> Iterator[Cell]:
    """All cells; those that others take their encoder from stand first."""
    for seed in range(3):
        yield Cell(f"penn_all_pretrained_s{seed}", "skeletonmae_pennaction", [], seed)
        yield Cell(f"penn_all_scratch_s{seed}", "skeletonmae_pennaction", SCRATCH, seed)
        yield Cell(f"jhmdb_same_s{seed}", "skeletonmae_jhmdb", [], seed)
        yield Cell(f"jhmdb_scratch_s{seed}", "skeletonmae_jhmdb", SCRATCH, seed)
        mapped = ["topology=penn13"]
        yield Cell(f"jhmdb_in_penn13_scratch_s{seed}", "skeletonmae_jhmdb", [*mapped, *SCRATCH], seed)
        yield Cell(f"jhmdb_from_penn_s{seed}", "skeletonmae_jhmdb", mapped, seed, f"penn_all_pretrained_s{seed}")
        for subset in range(5):
            few = ["data.label_fraction=0.1", f"data.label_seed={subset}", f"stages.finetune.steps={FEW_STEPS}"]
            yield Cell(f"penn_10_scratch_k{subset}_s{seed}", "skeletonmae_pennaction", [*few, *SCRATCH], seed)
            yield Cell(f"penn_10_pretrained_k{subset}_s{seed}", "skeletonmae_pennaction", few, seed,
                       f"penn_all_pretrained_s{seed}")  # fmt: skip
            yield from probes(subset, seed, few)
            if subset >= TRANSFER_SUBSETS:
                continue
            inside = [*few, "topology=jhmdb15"]
            yield Cell(f"penn_10_in_jhmdb15_scratch_k{subset}_s{seed}", "skeletonmae_pennaction",
                       [*inside, *SCRATCH], seed)  # fmt: skip
            yield Cell(f"penn_10_from_jhmdb_k{subset}_s{seed}", "skeletonmae_pennaction", inside, seed,
                       f"jhmdb_same_s{seed}")  # fmt: skip


def probes(subset: int, seed: int, few: list[str]) -> Iterator[Cell]:
    """Why pre-training helps or not: the encoder frozen, and a fine-tuning rate that keeps it nearer to its start."""
    frozen = [*few, "stages.finetune.model.freeze_encoder=true"]
    slow = [*few, "stages.finetune.optimizer.lr=5e-4"]
    for kind, overrides in (("frozen", frozen), ("slow", slow)):
        yield Cell(f"probe_{kind}_random_k{subset}_s{seed}", "skeletonmae_pennaction", [*overrides, *SCRATCH], seed)
        yield Cell(f"probe_{kind}_pretrained_k{subset}_s{seed}", "skeletonmae_pennaction", overrides, seed,
                   f"penn_all_pretrained_s{seed}")  # fmt: skip

    # With a fixed mask the encoder never sees the hidden joints before fine-tuning; with random parts it does.
    hidden = [*few, "stages.pretrain.mask_parts=random", "stages.pretrain.parts_max=3"] if subset == 0 else few
    yield Cell(f"probe_mask_pretrained_k{subset}_s{seed}", "skeletonmae_pennaction", hidden, seed,
               f"probe_mask_pretrained_k0_s{seed}" if subset else None)  # fmt: skip


def run(cell: Cell, work: Path) -> dict[str, object]:
    """Run one cell and return its row."""
    overrides = [f"data.store={work / ('jhmdb' if 'jhmdb' in cell.recipe else 'pennaction')}", *cell.overrides]
    if cell.encoder is not None:
        overrides += ["stages.pretrain=null", f"stages.finetune.from={work / 'runs' / cell.encoder}:pretrain"]
    begin = time.time()
    done = sg.run(cell.recipe, overrides, seed=cell.seed, out=work / "runs" / cell.name, resume=True)
    return {"cell": cell.name, "seed": cell.seed, "minutes": round((time.time() - begin) / 60, 2), **done.metrics}


def finished(work: Path) -> set[str]:
    """Names of the cells in the table."""
    table = work / "cells.csv"
    if not table.is_file():
        return set()
    with table.open(newline="") as file:
        return {row["cell"] for row in csv.DictReader(file)}


def append(work: Path, row: dict[str, object]) -> None:
    """One more row of the table."""
    new = not (work / "cells.csv").is_file()
    with (work / "cells.csv").open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
    work, patterns = Path(sys.argv[1]), sys.argv[2:] or ["*"]
    torch.set_num_threads(1)
    todo = [cell for cell in cells() if any(fnmatch(cell.name, pattern) for pattern in patterns)]
    while todo:
        ready = [cell for cell in todo if cell.encoder is None or cell.encoder in finished(work)]
        if not ready:
            time.sleep(20)
            continue
        cell = ready[0]
        todo.remove(cell)
        if cell.name not in finished(work):
            append(work, run(cell, work))


if __name__ == "__main__":
    main()
