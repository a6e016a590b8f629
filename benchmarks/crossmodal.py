"""The cross-modal study of docs/results.md: M-Mixer and the 3D deformable transformer on UTD-MHAD.

    python benchmarks/crossmodal.py WORK [PATTERN ...]
    python benchmarks/crossmodal_table.py WORK

WORK holds the store ``utdmhad`` (skeleton, inertial, depth: see recipes/mmixer_utdmhad.yaml) and receives ``runs/``,
``stores/`` and ``cells.csv``. ``all_`` are the 27 actions, ``wrist_`` the 21 whose inertial sensor sat on the wrist:
where it sat tells the others apart by itself.

``all_alone_MODALITY_sS`` trains one modality: its extractor, then the recurrent unit. ``all_sum_sS`` adds up the
probabilities of the three. From their extractors the features of all clips are computed once (a store of its own for
each seed), and ``concat`` (one GRU on all of them, of as many weights), ``late`` (M-Mixer without content: a sum over
the modalities), ``v1`` (mean content) and ``cfem`` (M-Mixer) are trained on these, equally long and in the same order
of clips. So the pattern of a cell must not come before those of ``alone``. ``joint_...`` are the same four trained end
to end from nothing, extractors included; ``joint_keys`` is M-Mixer once more, with a key for every joint.

Each of the fused is tested with all modalities, and with one of them missing in half of the test clips. All are trained
with a chance of 0.1 that a modality of a clip is left out; the GRU then reads zeros.

``def_ARM_sS`` is the 3D deformable transformer on depth and poses: ``full``; ``pose`` and ``depth`` alone; ``frame``,
depth alone with a stem that normalises every frame by itself; ``grid``, without offsets; ``strides1``, joint and
temporal strides 1; ``cut``, with no road between the modalities.

What can be found was reckoned before any cell was run (two-sided 5 %, power 80 %, 5 seeds, two arms on the same
features): a tenth of the 430 test clips is taken to change sides between two methods, in half of them independently
from seed to seed, and the seeds' own gains to spread by 1.5 points. That finds about 4 points; the table prints the
same from the measured spread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from cells import Cell, arguments, work_through
from crossmodal_stores import FEATURES, feature_store, lacking, wrist_store

MODALITIES = ("skeleton", "inertial", "depth")
SETS = ("all", "wrist")
SEEDS, FEWER = range(5), range(3)
# As many weights as M-Mixer with CFEM at D = 64: 3 H (3 D + H) + 6 H in the GRU for 3 (8 D^2 + 9 D) + 12 D^2 + 20 D.
HIDDEN = 148
ARMS = {
    "concat": ["stages.train.model.unit=gru", f"stages.train.model.hidden={HIDDEN}"],
    "late": ["stages.train.model.content=none"],
    "v1": ["stages.train.model.content=mean"],
    "cfem": [],
}
DEFORMABLE = {
    "full": [],
    "pose": ["stages.train.model.lattices=[]"],
    "depth": ["stages.train.model.pose=false"],
    "frame": ["stages.train.model.pose=false", "stages.train.model.stem.norm=frame"],
    "grid": ["stages.train.model.offsets=false"],
    "strides1": ["stages.train.model.joint_stride=1", "stages.train.model.temporal_strides=[1]"],
    "cut": ["stages.train.model.cross_modal=false"],
}
EXTRACTORS = {
    "skeleton": "{name: graph, model: {name: stgcnpp, width: 16, depth: 6}}",
    "inertial": "{name: identity, norm: true}",
    "depth": "{name: frame2d, width: 8}",
}


def only(models: dict[str, str]) -> list[str]:
    """Overrides that give M-Mixer these modalities and no others."""
    listing = ", ".join(f"{name}: {settings}" for name, settings in models.items())
    return ["stages.train.model.modalities=null", f"stages.train.model.modalities={{{listing}}}"]


def alone(store: Path, prefix: str, modality: str, seed: int, prepare: Callable[[], None] | None) -> Cell:
    """One modality: extractor and recurrent unit."""
    unread = [f"data.modalities.{name}=null" for name in MODALITIES[1:] if name != modality]
    own = [*only({modality: EXTRACTORS[modality]}), "stages.train.model.modality_dropout=0"]
    name = f"{prefix}_alone_{modality}_s{seed}"
    return Cell(name, "mmixer_utdmhad", [f"data.store={store}", *unread, *own], seed, prepare)


def summed(runs: Path, store: Path, prefix: str, seed: int) -> Cell:
    """The probabilities of the three added up."""
    tests = ", ".join(f"'{runs / f'{prefix}_alone_{name}_s{seed}'}:test'" for name in MODALITIES)
    stages = ["stages.train=null", "stages.test=null", f"stages.test={{fuse: [{tests}], score: prob}}"]
    return Cell(f"{prefix}_sum_s{seed}", "mmixer_utdmhad", [f"data.store={store}", *stages], seed)


def lacks(folder: Path, names: tuple[str, ...]) -> list[str]:
    """Overrides that test with one modality missing in half of the clips."""
    tests = []
    for name in names:
        tests.append(f"stages.no_{name}={{evaluate: [top1, mean_class], data: {{store: {folder}_no_{name}}}}}")
    return tests


def fused(work: Path, prefix: str, seed: int) -> Iterator[Cell]:
    """The four networks on cached features."""
    folder = work / "stores" / f"{prefix}_features_s{seed}"
    runs = [work / "runs" / f"{prefix}_alone_{name}_s{seed}" for name in MODALITIES]
    prepare = partial(feature_store, dict(zip(MODALITIES, runs, strict=True)), folder)
    read = [f"data.modalities.{name}=null" for name in MODALITIES[1:]]
    read += [f"data.modalities.{FEATURES[name]}={{steps: {64 if name == 'inertial' else 16}}}" for name in MODALITIES]
    model = only({FEATURES[name]: "{name: identity, norm: true}" for name in MODALITIES})
    tests = lacks(folder, MODALITIES)
    for arm, settings in ARMS.items():
        overrides = [f"data.store={folder}", *read, *model, *settings, *tests, "stages.train.steps=1000"]
        yield Cell(f"{prefix}_{arm}_s{seed}", "mmixer_utdmhad", overrides, seed, prepare)


def joint(store: Path, prefix: str, seed: int) -> Iterator[Cell]:
    """The four networks trained end to end."""
    prepare = partial(lacking, store, MODALITIES)
    for arm, settings in {**ARMS, "keys": ["stages.train.model.cfem_keys=joint"]}.items():
        overrides = [f"data.store={store}", *settings, *lacks(store, MODALITIES), "stages.train.steps=1000"]
        yield Cell(f"{prefix}_joint_{arm}_s{seed}", "mmixer_utdmhad", overrides, seed, prepare)


def cells(work: Path) -> Iterator[Cell]:
    """All cells, the comparison itself first."""
    stores = {"all": work / "utdmhad", "wrist": work / "stores" / "wrist"}
    makers = {"all": None, "wrist": partial(wrist_store, stores["all"], stores["wrist"])}
    for seed in SEEDS:
        for prefix in SETS:
            for modality in MODALITIES:
                yield alone(stores[prefix], prefix, modality, seed, makers[prefix])
            yield summed(work / "runs", stores[prefix], prefix, seed)
            yield from fused(work, prefix, seed)
    for seed in FEWER:
        for arm, settings in DEFORMABLE.items():
            overrides = [f"data.store={stores['all']}", *settings]
            yield Cell(f"def_{arm}_s{seed}", "deformable3d_utdmhad", overrides, seed)
    for seed in SEEDS:
        yield from joint(stores["all"], "all", seed)


if __name__ == "__main__":
    folder, wanted = arguments()
    work_through(cells(folder.resolve()), folder.resolve(), wanted)
