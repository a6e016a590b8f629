"""`propagate` by PyTorch Geometric: message passing on one static graph, every leading axis riding along."""

from __future__ import annotations

from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import softmax as segment_softmax


class WeightedSum(MessagePassing):
    """``out[v] = sum over edges (u, v) of w_uv x[u]``; x (..., V, C), weight (..., E, 1 or C)."""

    def __init__(self) -> None:
        super().__init__(aggr="add", node_dim=-2)

    def forward(self, x: Tensor, weight: Tensor, edge_index: Tensor) -> Tensor:
        out: Tensor = self.propagate(edge_index, x=x, weight=weight, size=(x.shape[-2], x.shape[-2]))
        return out

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        return x_j * weight


_layer = WeightedSum()


def weighted_sum(x: Tensor, weight: Tensor, edge_index: Tensor) -> Tensor:
    """Sum of weighted neighbours; x (..., V, C), weight (..., E, 1 or C), edge_index (2, E)."""
    out: Tensor = _layer(x, weight, edge_index)
    return out


def softmax(scores: Tensor, edge_index: Tensor, joints: int) -> Tensor:
    """Softmax of ``scores (..., E)`` over the edges that enter the same joint."""
    out: Tensor = segment_softmax(scores, edge_index[1], num_nodes=joints, dim=-1)
    return out
