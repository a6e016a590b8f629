"""Graph isomorphism layer (Xu et al., ICLR 2019) in the form that graph masked autoencoders use."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skelgraph.nn.norm import PReLU, RowNorm
from skelgraph.nn.propagation import BLOCKS, propagate
from skelgraph.topology import Topology


class GINLayer(nn.Module):
    """``h' = act2(bn2(lin2(act1(bn1(lin1(((1 + eps) I + A) h))))))``.

    Args:
        adjacency: plain A (V, V), no self-loops.
        in_dim, hidden, out_dim: widths.
        eps: weight of a joint itself, minus one; fixed.
        norm: batch norm inside and outside; without it both are left out.
        outer_norm, outer_act: keep ``bn2`` and ``act2`` (a decoder has neither).
        backend: see `propagate`.

    Shapes:
        x (..., V, in_dim); out (..., V, out_dim).

    Source: Yan et al., ICCV 2023, eq. 1; layout of the MLP and its norms as in GraphMAE (Hou et al., KDD 2022).
    """

    adjacency: Tensor
    own: Tensor

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
        self.backend, self.eps = backend, eps
        self.lin1 = nn.Linear(in_dim, hidden)
        self.bn1: nn.Module = RowNorm(hidden) if norm else nn.Identity()
        self.act1 = PReLU()
        self.lin2 = nn.Linear(hidden, out_dim)
        self.bn2: nn.Module = RowNorm(out_dim) if norm and outer_norm else nn.Identity()
        self.act2: nn.Module = PReLU() if outer_act else nn.Identity()
        # Whole numbers, so that a model turned to float64 has eps in float64, too.
        self.register_buffer("adjacency", adjacency, persistent=False)
        self.register_buffer("own", torch.eye(len(adjacency), dtype=adjacency.dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.adjacency + (1.0 + self.eps) * self.own
        summed = propagate(x, kernel, backend=self.backend)
        rows = summed.view(-1, x.shape[-1])
        rows = self.act1(self.bn1(self.lin1(rows)))
        rows = self.act2(self.bn2(self.lin2(rows)))
        return rows.view(*x.shape[:-1], -1)


def _example(topology: Topology) -> tuple[nn.Module, Tensor]:
    layer = GINLayer(torch.as_tensor(topology.adjacency("plain")), 3, 5, 4, eps=0.3)
    return layer, torch.randn(2, 3, len(topology.joints), 3)


BLOCKS["gin"] = _example
