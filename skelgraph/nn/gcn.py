"""Graph convolution (Kipf and Welling, ICLR 2017) with the outer norm and activation of a masked autoencoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skelgraph.nn.norm import PReLU, RowNorm
from skelgraph.nn.propagation import BLOCKS, propagate
from skelgraph.topology import Topology


class GCNLayer(nn.Module):
    """``h' = act(bn(lin(D^-1/2 (A + I) D^-1/2 h)))``.

    Args:
        adjacency: plain A (V, V), no self-loops.
        in_dim, hidden, out_dim: widths; ``hidden`` is not used, the layer has one linear map.
        eps: not used; a GCN weighs a joint by its degree.
        norm, outer_norm, outer_act: as in `GINLayer`.
        backend: see `propagate`.

    Shapes:
        x (..., V, in_dim); out (..., V, out_dim).
    """

    looped: Tensor

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
    ) -> None:
        super().__init__()
        self.backend = backend
        self.lin = nn.Linear(in_dim, out_dim)
        self.bn: nn.Module = RowNorm(out_dim) if norm and outer_norm else nn.Identity()
        self.act: nn.Module = PReLU() if outer_act else nn.Identity()
        looped = adjacency + torch.eye(len(adjacency), dtype=adjacency.dtype)
        self.register_buffer("looped", looped, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.looped.sum(-1).rsqrt()
        rows = propagate(x, scale[:, None] * self.looped * scale, backend=self.backend).view(-1, x.shape[-1])
        return self.act(self.bn(self.lin(rows))).view(*x.shape[:-1], -1)


def _example(topology: Topology) -> tuple[nn.Module, Tensor]:
    return GCNLayer(torch.as_tensor(topology.adjacency("plain")), 3, 5, 4), torch.randn(2, 3, len(topology.joints), 3)


BLOCKS["gcn"] = _example
