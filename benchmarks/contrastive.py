"""The contrastive study of docs/results.md: MoCo, HaLP and a random encoder on NW-UCLA and UTD-MHAD.

    python benchmarks/contrastive.py WORK [PATTERN ...]
    python benchmarks/contrastive_table.py WORK

WORK holds the stores ``nwucla`` and ``utdmhad`` (skelgraph data import ...) and receives ``runs/`` and ``cells.csv``.
A cell ``DATA_pre_sS`` trains MoCo; the cells ``DATA_moco_sS`` (MoCo continued), ``DATA_halpL_sS`` (HaLP with hardness
L / 100) and ``DATA_mu2_sS`` (HaLP with the paper's weight 2) go on from it for equal steps, in the same order of clips
and with the same augmentations, and ``to_...`` test them on the other set. So the pattern of a cell must not come
before that of its ``pre``.
``DATA_random_sS`` is an encoder that was never trained; ``gcn_...`` the same with half-width ST-GCN++ in the place of
the recurrent encoder.
MoCo continued is HaLP with weight 0, whose gradient is that of MoCo. ``turn_``, ``long_`` and ``queue_`` look for the
reason of what is found on NW-UCLA: clips turned about the vertical by up to 90 degrees, both stages three times as
long, a queue of 128 keys. Turned clips have since become part of the recipe; all other cells are without, as published.

Every cell is tested by kNN, by a linear probe, and by fine-tuning with 10 % of the labels, drawn by the seed.

What can be found was reckoned before any cell was run (two-sided 5 %, power 80 %, 5 seeds, HaLP against MoCo
continued): a fifth of the test clips is taken to change sides between two methods, in half of them independently from
seed to seed, and the seeds' own gains to spread by 2 points. That finds 5.5 points on NW-UCLA (516 test clips), 5.8 on
UTD-MHAD (430), and 7.7 with 3 seeds. Less may be there and stay unseen. The table prints the same from the
measured spread.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cells import Cell, arguments, work_through

DATA = {"nwucla": "v23_v1", "utdmhad": "cross_subject"}
HARDNESS = (0.0, 0.2, 0.5, 0.8, 1.0)
DEFAULT = 0.8
SEEDS, FEWER = range(5), range(3)
GRAPH = "{name: stgcnpp, width: 32}"
AS_PUBLISHED = "data.transforms.random_rotation=null"
REASONS = {
    "turn": [],
    "long": [AS_PUBLISHED, "stages.pretrain.steps=3000", "stages.halp.steps=3000"],
    "queue": [AS_PUBLISHED, "stages.pretrain.queue=128", "stages.halp.newest=128"],
}
NO_HALP = ["stages.halp=null"]
NO_TRAINING = ["stages.pretrain=null", *NO_HALP]
FEW = (
    "stages.few={method: supervised, model: '${stages.pretrain.model}', steps: 400, batch: 32, "
    "optimizer: {name: adamw, lr: 1e-3, weight_decay: 1e-4}, schedule: {name: cosine, warmup: 20}, "
    "data: {label_fraction: 0.1, transforms: {one_of: null}}}"
)


def probes(source: str | None, seed: int) -> list[str]:
    """Overrides that test ``source`` in all ways; None is a random encoder, which a probe leaves behind as it was."""
    at = "null" if source is None else source
    return [
        "stages.knn=null", f"stages.linear.from={at}", FEW, f"stages.few.from={at}",
        "stages.few_test={evaluate: [top1, mean_class], from: few}",
        f"stages.near={{evaluate: [top1, mean_class], by: knn, from: {'linear' if source is None else source}}}",
        f"data.label_seed={seed}",
    ]  # fmt: skip


def arms(
    work: Path, data: str, prefix: str, seed: int, extra: list[str], hardness: tuple[float, ...]
) -> Iterator[Cell]:
    """The cells of one encoder on one set with one seed, those first that others start from."""
    recipe, store = f"halp_{data}", [f"data.store={work / data}", *extra]
    before = work / "runs" / f"{prefix}_pre_s{seed}"
    yield Cell(f"{prefix}_random_s{seed}", recipe, [*store, *probes(None, seed), *NO_TRAINING], seed)
    yield Cell(before.name, recipe, [*store, *probes("pretrain", seed), *NO_HALP], seed)
    onwards = [*store, *probes("halp", seed), "stages.pretrain=null", f"stages.halp.from={before}:pretrain"]
    yield Cell(f"{prefix}_moco_s{seed}", recipe, [*onwards, "stages.halp.weight=0"], seed)
    for value in hardness:
        name = f"{prefix}_halp{100 * value:.0f}_s{seed}"
        yield Cell(name, recipe, [*onwards, f"stages.halp.hardness={value}"], seed)
    yield Cell(f"{prefix}_mu2_s{seed}", recipe, [*onwards, "stages.halp.weight=2"], seed)


def transfers(work: Path, data: str, seed: int) -> Iterator[Cell]:
    """What was trained on the other set, tested on this one in the other's topology."""
    (other,) = set(DATA) - {data}
    recipe = f"halp_{other}"
    here = [f"data.store={work / data}", f"data.protocol={DATA[data]}", AS_PUBLISHED]
    yield Cell(f"to_{data}_random_s{seed}", recipe, [*here, *probes(None, seed), *NO_TRAINING], seed)
    for arm in ("moco", f"halp{100 * DEFAULT:.0f}"):
        source = f"{work / 'runs' / f'{other}_{arm}_s{seed}'}:halp"
        yield Cell(f"to_{data}_{arm}_s{seed}", recipe, [*here, *probes(source, seed), *NO_TRAINING], seed)


def cells(work: Path) -> Iterator[Cell]:
    """All cells: the comparison itself, then transfer, the graph encoder, reasons, the other hardnesses."""
    for seed in SEEDS:
        for data in DATA:
            yield from arms(work, data, data, seed, [AS_PUBLISHED], (DEFAULT,))
    for seed in SEEDS:
        for data in DATA:
            yield from transfers(work, data, seed)
    for seed in FEWER:
        graph = [AS_PUBLISHED, f"stages.pretrain.model={GRAPH}"]
        yield from arms(work, "nwucla", "gcn_nwucla", seed, graph, (DEFAULT,))
        for name, change in REASONS.items():
            yield from arms(work, "nwucla", f"{name}_nwucla", seed, change, (DEFAULT,))
    for seed in SEEDS:
        for data in DATA:
            for cell in arms(work, data, data, seed, [AS_PUBLISHED], HARDNESS):
                if "_halp" in cell.name and f"_halp{100 * DEFAULT:.0f}_" not in cell.name:
                    yield cell


if __name__ == "__main__":
    folder, wanted = arguments()
    work_through(cells(folder.resolve()), folder.resolve(), wanted)
