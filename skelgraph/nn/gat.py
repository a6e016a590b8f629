"""Graph attention (Velickovic et al., ICLR 2018) with the outer norm and activation of a masked autoencoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.errors import UserError
from skelgraph.nn.norm import PReLU, RowNorm
from skelgraph.nn.propagation import BLOCKS, edge_softmax, propagate
from skelgraph.topology import Topology


class GATLayer(nn.Module):
    """``h'_v = act(bn(concat over heads of sum_u softmax_u(leaky(a . W h_u + b . W h_v)) W h_u + bias))``.

    Attention runs over the neighbours and the joint itself.

    Args:
        adjacency: plain A (V, V), no self-loops.
        in_dim, hidden, out_dim: widths; ``hidden`` is not used, the layer has one linear map.
        eps: not used.
        norm, outer_norm, outer_act: as in `GINLayer`.
        backend: see `propagate`.
        heads: attention heads, each of width ``out_dim / heads``.

    Shapes:
        x (..., V, in_dim); out (..., V, out_dim).

    Raises:
        UserError: ``out_dim`` is no multiple of ``heads``.
    """

    neighbours: Tensor

    def __init__(
        self,
        adjacency: Tensor,
        in_dim: int,
        hidden: int,
        out_dim: int,
        *,
        eps: float = 0.0,
        norm: bool = True,
        outer_norm: bool = True,
        outer_act: bool = True,
        backend: str | None = None,
        heads: int = 4,
    ) -> None:
        super().__init__()
        if out_dim % heads:
            raise UserError(f"GATLayer: the width {out_dim} is no multiple of {heads} heads.")
        self.backend, self.heads = backend, heads
        self.lin = nn.Linear(in_dim, out_dim, bias=False)
        self.source = nn.Parameter(torch.empty(heads, out_dim // heads))
        self.target = nn.Parameter(torch.empty(heads, out_dim // heads))
        self.bias = nn.Parameter(torch.zeros(out_dim))
        self.bn: nn.Module = RowNorm(out_dim) if norm and outer_norm else nn.Identity()
        self.act: nn.Module = PReLU() if outer_act else nn.Identity()
        nn.init.xavier_uniform_(self.source)
        nn.init.xavier_uniform_(self.target)
        looped = (adjacency + torch.eye(len(adjacency), dtype=adjacency.dtype)) != 0
        self.register_buffer("neighbours", looped, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        joints = x.shape[-2]
        values = self.lin(x.reshape(-1, joints, x.shape[-1]))
        heads = values.view(-1, joints, self.heads, values.shape[-1] // self.heads).transpose(1, 2)
        sent = (heads * self.source[:, None]).sum(-1)
        received = (heads * self.target[:, None]).sum(-1)
        scores = F.leaky_relu(received.unsqueeze(-1) + sent.unsqueeze(-2), 0.2)
        weights = edge_softmax(scores, self.neighbours, self.backend)
        # Heads are not summed, so they ride along as graphs of their own.
        summed = propagate(heads.flatten(0, 1), weights.flatten(0, 1).unsqueeze(1), backend=self.backend)
        rows = summed.view(heads.shape).transpose(1, 2).reshape(-1, values.shape[-1]) + self.bias
        return self.act(self.bn(rows)).view(*x.shape[:-1], -1)


def _example(topology: Topology) -> tuple[nn.Module, Tensor]:
    return GATLayer(torch.as_tensor(topology.adjacency("plain")), 3, 5, 8), torch.randn(2, 3, len(topology.joints), 3)


BLOCKS["gat"] = _example
