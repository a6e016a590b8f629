"""Channel-wise topology refinement: a graph of its own for every clip and channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skelgraph.nn.pointwise import Pointwise, fan_out_init
from skelgraph.nn.propagation import BLOCKS, propagate
from skelgraph.nn.spatial import SPATIAL, graph_subsets
from skelgraph.topology import Topology

NARROW = 9


@SPATIAL.register("channelwise")
class ChannelwiseGraphConv(nn.Module):
    """CTR-GC, which PSUMNet calls SAMG: ``y_u = sum_k sum_v W_k[u, v] * (value_k x_v)`` with one map for each channel.

    ``W_k[u, v, c] = alpha * relate_k(tanh(q_k[u] - s_k[v]))[c] + A_k[u, v]``; q and s are linear maps of x averaged
    over time, A starts at the topology's graph and is learnt, alpha is one scalar that starts at 0.

    Args:
        topology: its matrices are where A starts.
        in_dim, out_dim: widths.
        graph: kind of A, see `Topology.adjacency`.
        relation_min: least width of q and s. Their width is 8 for raw coordinates (up to 9 channels) and in_dim / 8
            else, as published; so a 12-channel input has width 1 unless this says more.
        mean_first: average over time before q and s; the same function, fewer products than the published order.
        init: ``fan_out`` (as published) or ``torch``.
        backend: see `propagate`.

    Shapes:
        x (N, T, V, in_dim); out (N, T, V, out_dim).

    Source: Chen et al., ICCV 2021; Trivedi and Sarvadevabhatla, ECCV Workshops 2022.
    """

    def __init__(
        self,
        topology: Topology,
        in_dim: int,
        out_dim: int,
        *,
        graph: str = "spatial",
        relation_min: int = 1,
        mean_first: bool = True,
        init: str = "fan_out",
        backend: str | None = None,
    ) -> None:
        super().__init__()
        start = graph_subsets(topology, graph)
        width = max(relation_min, 8 if in_dim <= NARROW else in_dim // 8)
        self.subsets, self.topology, self.mean_first, self.backend = len(start), topology, mean_first, backend
        self.adjacency = nn.Parameter(start)
        self.alpha = nn.Parameter(torch.zeros(1))
        self.query = Pointwise(in_dim, self.subsets * width)
        self.key = Pointwise(in_dim, self.subsets * width)
        self.value = Pointwise(in_dim, self.subsets * out_dim)
        relate = [Pointwise(width, out_dim) for _ in range(self.subsets)]
        self.relate = nn.ModuleList(relate)
        if init == "fan_out":
            for layer in (self.query, self.key, self.value):
                fan_out_init(layer, self.subsets)
            for layer in relate:
                fan_out_init(layer)

    def maps(self, x: Tensor) -> Tensor:
        """W, ``(N, K, V, V, C)``."""
        if self.mean_first:
            mean = x.mean(1)
            query, key = self.query(mean), self.key(mean)
        else:
            query, key = self.query(x).mean(1), self.key(x).mean(1)
        relation = torch.tanh(query.unsqueeze(2) - key.unsqueeze(1))
        maps = [layer(part) for layer, part in zip(self.relate, relation.chunk(self.subsets, -1), strict=True)]
        return torch.stack(maps, 1) * self.alpha + self.adjacency.unsqueeze(-1)

    def forward(self, x: Tensor) -> Tensor:
        values = self.value(x).unflatten(-1, (self.subsets, -1)).transpose(-3, -2)
        return propagate(values, self.maps(x), self.topology, self.backend, per_relation=True, all_pairs=True)


def _example(topology: Topology) -> tuple[nn.Module, Tensor]:
    block = ChannelwiseGraphConv(topology, 3, 4)
    nn.init.constant_(block.alpha, 0.7)
    return block, torch.randn(2, 3, len(topology.joints), 3)


BLOCKS["channelwise"] = _example
