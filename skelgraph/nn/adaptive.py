"""Adaptive graph convolution: a graph that is learnt, plus one that every clip has for itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skelgraph.nn.pointwise import Pointwise, fan_out_init
from skelgraph.nn.propagation import BLOCKS, propagate
from skelgraph.nn.spatial import SPATIAL, graph_subsets
from skelgraph.topology import Topology


@SPATIAL.register("adaptive")
class AdaptiveGraphConv(nn.Module):
    """``y_u = sum_k sum_v (A_k + B_k + C_k)[u, v] (W_k x_v + b_k)`` of 2s-AGCN.

    A is the topology's graph, B is learnt freely, and C is a graph of the clip: the softmax over v of the similarity
    of the embeddings theta(x_u) and phi(x_v) over all frames.

    Args:
        topology: its matrices are A.
        in_dim, out_dim: widths.
        graph: kind of A, see `Topology.adjacency`.
        reduction: the embeddings are ``out_dim / reduction`` wide.
        init: ``fan_out`` (as published) or ``torch``.
        backend: see `propagate`.

    Shapes:
        x (N, T, V, in_dim); out (N, T, V, out_dim).

    Source: Shi et al., CVPR 2019, eq. 3 and 4; the similarity is divided by its number of summands.
    """

    adjacency: Tensor

    def __init__(
        self,
        topology: Topology,
        in_dim: int,
        out_dim: int,
        *,
        graph: str = "spatial_rows",
        reduction: int = 4,
        init: str = "fan_out",
        backend: str | None = None,
    ) -> None:
        super().__init__()
        start = graph_subsets(topology, graph)
        self.subsets, self.topology, self.backend = len(start), topology, backend
        self.register_buffer("adjacency", start, persistent=False)
        self.learnt = nn.Parameter(torch.full_like(start, 1e-6))
        width = max(1, out_dim // reduction)
        self.theta = Pointwise(in_dim, self.subsets * width)
        self.phi = Pointwise(in_dim, self.subsets * width)
        self.value = Pointwise(in_dim, self.subsets * out_dim)
        if init == "fan_out":
            for layer in (self.theta, self.phi, self.value):
                fan_out_init(layer, self.subsets)

    def clip_graph(self, x: Tensor) -> Tensor:
        """C, ``(N, K, V, V)``."""
        theta = self.theta(x).unflatten(-1, (self.subsets, -1))
        phi = self.phi(x).unflatten(-1, (self.subsets, -1))
        similarity = torch.einsum("ntukc,ntvkc->nkuv", theta, phi)
        return torch.softmax(similarity / (theta.shape[1] * theta.shape[-1]), dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        values = self.value(x).unflatten(-1, (self.subsets, -1)).transpose(-3, -2)
        graph = self.adjacency + self.learnt + self.clip_graph(x)
        return propagate(values, graph, self.topology, self.backend, per_relation=True, all_pairs=True)


def _example(topology: Topology) -> tuple[nn.Module, Tensor]:
    return AdaptiveGraphConv(topology, 3, 8), torch.randn(2, 3, len(topology.joints), 3)


BLOCKS["adaptive"] = _example
