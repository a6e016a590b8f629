"""`propagate` by DGL: the same edges through ``dgl.ops``. DGL is dormant and an extra; imported only when asked for."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from skelgraph.errors import UserError

os.environ.setdefault("DGLBACKEND", "pytorch")
try:
    import dgl
except ImportError as error:
    raise UserError("the backend 'dgl' needs DGL: pip install 'skelgraph[dgl]'") from error


@lru_cache(maxsize=64)
def _graph(edges: tuple[tuple[int, ...], tuple[int, ...]], joints: int, device: str) -> Any:
    source, target = (torch.tensor(ends, dtype=torch.long) for ends in edges)
    return dgl.graph((source, target), num_nodes=joints).to(device)


def _graph_of(edge_index: Tensor, joints: int) -> Any:
    source, target = edge_index.tolist()
    return _graph((tuple(source), tuple(target)), joints, str(edge_index.device))


def weighted_sum(x: Tensor, weight: Tensor, edge_index: Tensor) -> Tensor:
    """Sum of weighted neighbours; x (..., V, C), weight (..., E, 1 or C), edge_index (2, E).

    DGL wants nodes and edges first and gives no gradient for broadcast leading axes of the weight, so these are
    expanded before they move behind the node axis.
    """
    lead = x.shape[:-2]
    nodes = x.reshape(-1, *x.shape[-2:]).transpose(0, 1).contiguous()
    values = weight.expand(*lead, *weight.shape[-2:]) if weight.dim() > 2 else weight
    if weight.dim() > 2:
        values = values.reshape(-1, *weight.shape[-2:]).transpose(0, 1).contiguous()
    else:
        values = weight.unsqueeze(1).expand(-1, nodes.shape[1], -1).contiguous()
    out = dgl.ops.u_mul_e_sum(_graph_of(edge_index, x.shape[-2]), nodes, values)
    return out.transpose(0, 1).contiguous().view(*lead, *x.shape[-2:])


def softmax(scores: Tensor, edge_index: Tensor, joints: int) -> Tensor:
    """Softmax of ``scores (..., E)`` over the edges that enter the same joint."""
    flat = scores.reshape(-1, scores.shape[-1]).t().contiguous()
    out: Tensor = dgl.ops.edge_softmax(_graph_of(edge_index, joints), flat)
    return out.t().reshape(scores.shape)
