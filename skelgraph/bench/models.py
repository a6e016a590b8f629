"""All models of the toolkit on one kind of clip: parameters, MACs, time, size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from skelgraph import models
from skelgraph.batch import Batch, ClipSpec, Modality, ModalitySpec
from skelgraph.bench import cost
from skelgraph.bench.table import QUARTILES, Cell, Table, busy, clip_words, machine
from skelgraph.bench.timing import CASES, Spread, Step, Timing, alternate
from skelgraph.errors import UserError
from skelgraph.models import MODELS, Model
from skelgraph.topology import Topology

FOUR = ["joint", "bone", "joint_motion", "bone_motion"]
# What a model cannot do without; all else is its default.
NEEDED: dict[str, dict[str, Any]] = {
    "multi_stream": {"base": {"name": "ctrgcn"}, "streams": FOUR},
    "mmixer": {"modalities": {"skeleton": {"name": "graph", "model": "stgcnpp"}, "inertial": "identity"}},
}
MODALITIES: dict[str, Mapping[str, ModalitySpec]] = {"mmixer": {"inertial": ModalitySpec("sequence", 64, (6,))}}
REMARKS = {
    "deformable3d": "poses alone, without a lattice of frames.",
    "graph_stack": "the frame of the graph networks, with its default blocks.",
    "mmixer": "skeleton, and an inertial sensor of 64 x 6 values.",
    "multi_stream": f"four CTR-GCN: {', '.join(FOUR)}.",
}


@CASES.register("models")
def models_table(
    timing: Timing, *, only: str = "*", topology: str = "ntu25", channels: int = 3, persons: int = 2,
    frames: int = 64, classes: int = 60, batch: int = 4,
) -> Table:  # fmt: skip
    """Every registered model with its default settings: inference in turns, on one thread unless another number is
    asked for.

    Raises:
        UserError: no model of that name, or none that goes with the clips.
    """
    timing.start(threads=1)
    names = MODELS.names(only)
    if not names:
        raise UserError(f"only: no model is called '{only}'; there are {', '.join(MODELS.names())}.")
    shape = ClipSpec(Topology.load(topology), channels, persons, frames, tuple(map(str, range(classes))))
    built, left_out = _built(names, shape)
    if not built:
        raise UserError(f"no model goes with these clips: {'; '.join(left_out)}")
    given = {name: _clips(model.spec, batch).to(timing.device) for name, model in built.items()}
    rows = _rows(built, given, batch, timing)
    title = f"inference: {clip_words(shape)}, {classes} classes; {batch} at once, fp32, eager"
    notes = [f"{name}: {text}" for name, text in REMARKS.items() if name in built]
    notes += [f"left out: {reason}" for reason in left_out]
    return Table(title, machine(timing), rows, [*notes, QUARTILES, "1 MAC is 2 FLOPs.", *busy()])


def _built(names: list[str], shape: ClipSpec) -> tuple[dict[str, Model], list[str]]:
    """Models, and why others do not go with these clips."""
    built, left_out = {}, []
    for name in names:
        spec = replace(shape, modalities=MODALITIES.get(name, {}))
        try:
            built[name] = models.create(name, spec, **NEEDED.get(name, {})).eval()
        except UserError as error:
            left_out.append(f"{name}: {error}")
    return built, left_out


def _clips(spec: ClipSpec, count: int) -> Batch:
    """Clips of noise with everything that the model wants."""
    batch = Batch.of(torch.randn(count, spec.persons, spec.frames, spec.joints, spec.channels))
    items = {
        name: Modality(torch.randn(count, item.steps, *item.shape), torch.ones(count, item.steps, dtype=torch.bool))
        for name, item in spec.modalities.items()
    }
    return batch.with_(modalities=items)


def _rows(built: dict[str, Model], given: dict[str, Batch], batch: int, timing: Timing) -> list[dict[str, Cell]]:
    def answering(name: str) -> Step:
        model = built[name].to(timing.device)

        def step() -> None:
            with torch.inference_mode():
                model(given[name])

        return step

    sizes = {name: (cost.size(model), cost.forward_flops(model, given[name][:1].to("cpu")))
             for name, model in built.items()}  # fmt: skip
    times = alternate({name: answering(name) for name in built}, timing)
    rows: list[dict[str, Cell]] = []
    for name, (size, flops) in sizes.items():
        each = Spread(*(1e3 * value / batch for value in times[name].calls))
        row: dict[str, Cell] = {"model": name, "parameters": size.parameters, "MB": size.megabytes}
        rows.append({**row, "MACs a clip (M)": flops / 2e6, "FLOPs a clip (M)": flops / 1e6, "ms a clip": each})
    return rows
