"""Graph convolutions over the joints of one frame, by name; this file holds those whose graph no input changes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skelgraph.errors import unknown
from skelgraph.nn.pointwise import Pointwise, fan_out_init
from skelgraph.nn.propagation import BLOCKS, propagate
from skelgraph.registry import Registry
from skelgraph.topology import Topology

SPATIAL: Registry = Registry("spatial block")
LEARN = ("none", "mask", "free", "offset")


@SPATIAL.register("static")
class StaticGraphConv(nn.Module):
    """``y_u = sum_k sum_v G_k[u, v] (W_k x_v + b_k)`` with a graph G that is the same for all clips.

    Args:
        topology: its matrices A are where G starts.
        in_dim, out_dim: widths.
        graph: kind of A, see `Topology.adjacency`.
        learn: what is learnt of the graph. ``none``: G = A. ``mask``: G = A M, M starts at one (edge importance of
            ST-GCN, Yan et al., AAAI 2018). ``free``: G starts at A and is learnt without constraint (ST-GCN++, Duan
            et al., ACM MM 2022). ``offset``: G = A + B, B starts at 1e-6 (2s-AGCN, Shi et al., CVPR 2019).
        init: ``torch`` or ``fan_out`` (see `fan_out_init`).
        backend: see `propagate`.

    Shapes:
        x (N, T, V, in_dim); out (N, T, V, out_dim).

    Raises:
        UserError: unknown kind of graph or of learning.
    """

    adjacency: Tensor

    def __init__(
        self,
        topology: Topology,
        in_dim: int,
        out_dim: int,
        *,
        graph: str = "spatial_rows",
        learn: str = "free",
        init: str = "torch",
        backend: str | None = None,
    ) -> None:
        super().__init__()
        if learn not in LEARN:
            raise unknown("learn", learn, LEARN)
        start = graph_subsets(topology, graph)
        self.subsets, self.topology, self.learn, self.backend = len(start), topology, learn, backend
        self.learnt: nn.Parameter | None = None
        if learn == "free":
            self.adjacency = nn.Parameter(start)
        else:
            self.register_buffer("adjacency", start, persistent=False)
        if learn in ("mask", "offset"):
            self.learnt = nn.Parameter(torch.ones_like(start) if learn == "mask" else torch.full_like(start, 1e-6))
        self.value = Pointwise(in_dim, self.subsets * out_dim)
        if init == "fan_out":
            fan_out_init(self.value, self.subsets)

    def graph(self) -> Tensor:
        """G, ``(K, V, V)``."""
        if self.learnt is None:
            return self.adjacency
        return self.adjacency * self.learnt if self.learn == "mask" else self.adjacency + self.learnt

    def forward(self, x: Tensor) -> Tensor:
        values = self.value(x).unflatten(-1, (self.subsets, -1)).transpose(-3, -2)
        free = self.learn in ("free", "offset")
        return propagate(values, self.graph(), self.topology, self.backend, per_relation=True, all_pairs=free)


def graph_subsets(topology: Topology, kind: str) -> Tensor:
    """Matrices ``(K, V, V)`` of a topology; a kind that is one matrix gives K = 1."""
    matrices = torch.as_tensor(topology.adjacency(kind))
    return matrices if matrices.dim() == 3 else matrices.unsqueeze(0)


def _example(learn: str):  # type: ignore[no-untyped-def]
    def make(topology: Topology) -> tuple[nn.Module, Tensor]:
        return StaticGraphConv(topology, 3, 4, learn=learn), torch.randn(2, 3, len(topology.joints), 3)

    return make


BLOCKS.update({f"static_{learn}": _example(learn) for learn in LEARN})
