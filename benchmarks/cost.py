"""Parameters, multiply-accumulates, size and relative time of models on one clip shape.

    python benchmarks/cost.py pretraining|supervised

Times are ratios to the first row, measured alternately in this process on one thread: median of 9 rounds of 32 clips.
Milliseconds a clip are those of this machine, for the order of magnitude.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from skelgraph.batch import ClipSpec
from skelgraph.models import Model, create
from skelgraph.topology import Topology

ROUNDS, CLIPS, FRAMES = 9, 32, 32
FOUR = ["joint", "bone", "joint_motion", "bone_motion"]


class Table(NamedTuple):
    """Networks on one kind of clip."""

    topology: str
    channels: int
    classes: int
    rows: tuple[tuple[str, dict[str, Any]], ...]


TABLES = {
    "pretraining": Table("penn13", 2, 15, (
        ("strl", {}), ("strl", {"joint_pe": True}), ("strl", {"conv": "gcn"}), ("strl", {"conv": "gat"}),
        ("skeletonmae", {}), ("spacetime_gnn", {}),
    )),
    "supervised": Table("kinect20", 3, 10, (
        ("stgcnpp", {"width": 32}), ("stgcn", {"width": 32}), ("agcn", {"width": 32}), ("ctrgcn", {"width": 32}),
        ("multi_stream", {"base": {"name": "ctrgcn", "width": 32}, "streams": FOUR}),
        *(("psumnet", {"width": 32, "streams": [part]}) for part in ("body", "hands", "legs")),
        ("psumnet", {"width": 32}),
    )),
}  # fmt: skip


def seconds(model: Model, clips: torch.Tensor) -> float:
    """One inference pass."""
    begin = time.perf_counter()
    with torch.inference_mode():
        model(clips)
    return time.perf_counter() - begin


def main() -> None:
    torch.set_num_threads(1)
    table = TABLES[sys.argv[1]]
    spec = ClipSpec(Topology.load(table.topology), table.channels, 1, FRAMES, tuple(map(str, range(table.classes))))
    clips = torch.randn(CLIPS, 1, FRAMES, spec.joints, table.channels)
    models = [create(name, spec, **settings).eval() for name, settings in table.rows]
    times = [[seconds(model, clips) for model in models] for _ in range(ROUNDS + 1)][1:]
    print("model | parameters | MB | MAC a clip (M) | time, relative | ms a clip")
    for column, ((name, settings), model) in enumerate(zip(table.rows, models, strict=True)):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            model(clips[:1])
        ratio = statistics.median(row[column] / row[0] for row in times)
        each = 1e3 * statistics.median(row[column] for row in times) / CLIPS
        state = sum(t.numel() * t.element_size() for t in model.state_dict().values()) / 1e6
        size = sum(p.numel() for p in model.parameters())
        macs = counter.get_total_flops() / 2e6
        print(f"{name} {settings or ''} | {size:,} | {state:.2f} | {macs:.1f} | {ratio:.2f} | {each:.1f}")


if __name__ == "__main__":
    main()
