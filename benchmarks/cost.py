"""Parameters, multiply-accumulates and relative time of models on one clip shape.

    python benchmarks/cost.py [TOPOLOGY]

Times are ratios to the first row, measured alternately in this process on one thread: median of 9 rounds of 32 clips.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from skelgraph.batch import ClipSpec
from skelgraph.models import Model, create
from skelgraph.topology import Topology

ROUNDS, CLIPS = 9, 32
MODELS = (
    ("strl", {}),
    ("strl", {"joint_pe": True}),
    ("strl", {"conv": "gcn"}),
    ("strl", {"conv": "gat"}),
    ("skeletonmae", {}),
    ("spacetime_gnn", {}),
)


def seconds(model: Model, clips: torch.Tensor) -> float:
    """One inference pass."""
    begin = time.perf_counter()
    with torch.inference_mode():
        model(clips)
    return time.perf_counter() - begin


def main() -> None:
    torch.set_num_threads(1)
    topology = Topology.load(sys.argv[1] if len(sys.argv) > 1 else "penn13")
    spec = ClipSpec(topology, 2, 1, 32, tuple(str(number) for number in range(15)))
    clips = torch.randn(CLIPS, 1, 32, len(topology.joints), 2)
    models = [create(name, spec, **settings).eval() for name, settings in MODELS]
    times = [[seconds(model, clips) for model in models] for _ in range(ROUNDS + 1)][1:]
    print("model | parameters | MAC a clip (M) | time, relative")
    for column, ((name, settings), model) in enumerate(zip(MODELS, models, strict=True)):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            model(clips[:1])
        ratio = statistics.median(row[column] / row[0] for row in times)
        size = sum(p.numel() for p in model.parameters())
        print(f"{name} {settings or ''} | {size:,} | {counter.get_total_flops() / 2e6:.1f} | {ratio:.2f}")


if __name__ == "__main__":
    main()
