"""A graph network of your own, composed of blocks: python examples/compose_gcn.py

The same network without Python is my_gcn.yaml beside this file. In another recipe: ``plugins: [compose_gcn.py]``, then
``model: {name: hop_net, reach: 3}``, or your block in any network: ``{name: graph_stack, spatial: hops}``.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

import skelgraph as sg
from skelgraph.models import MODELS
from skelgraph.models.graph_stack import GraphStack
from skelgraph.nn import SPATIAL, propagate


@SPATIAL.register("hops")
class HopConv(nn.Module):
    """Neighbours 0, 1, ... hops away, each distance through a linear map of its own, every edge with a weight."""

    def __init__(self, topology: sg.Topology, in_dim: int, out_dim: int, *, reach: int = 2) -> None:
        super().__init__()
        self.register_buffer("near", torch.as_tensor(topology.adjacency(f"khop:{reach}")), persistent=False)
        self.topology, self.learnt = topology, nn.Parameter(torch.ones_like(self.near))
        self.value = nn.Linear(in_dim, len(self.near) * out_dim)

    def forward(self, x: Tensor) -> Tensor:  # (N, T, V, in_dim) to (N, T, V, out_dim)
        values = self.value(x).unflatten(-1, (len(self.near), -1)).transpose(-3, -2)
        return propagate(values, self.near * self.learnt, self.topology, per_relation=True)


@MODELS.register("hop_net")
def hop_net(spec: sg.ClipSpec, *, reach: int = 2, width: int = 32) -> GraphStack:
    """Joints and the motion of bones, four layers."""
    time = {"name": "multi_scale", "kernel": 3, "dilations": [1, 3]}
    return GraphStack(spec, spatial={"name": "hops", "reach": reach}, temporal=time,
                      inputs=["joint", "bone_motion"], width=width, depth=4)  # fmt: skip


if __name__ == "__main__":
    recipe = Path(__file__).resolve().with_name("my_gcn.yaml")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        run = sg.run(recipe, ["stages.train.model={name: hop_net, width: 16}"], demo=True)
        print(f"{run.metrics} (demo data)")
