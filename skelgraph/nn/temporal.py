"""Multi-scale temporal convolution over ``(N, T, V, C)``."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.errors import UserError
from skelgraph.nn.norm import RowNorm, over_rows
from skelgraph.nn.propagation import BLOCKS
from skelgraph.topology import Topology


class TemporalConv(nn.Module):
    """Convolution along time; the joints are independent.

    Shapes:
        x (N, T, V, C_in); out (N, ceil(T / stride), V, C_out).
    """

    def __init__(self, in_dim: int, out_dim: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        padding = (dilation * (kernel - 1) // 2, 0)
        self.conv = nn.Conv2d(in_dim, out_dim, (kernel, 1), (stride, 1), padding, (dilation, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x.permute(0, 3, 1, 2))  # a channels-last view: nothing is copied
        return out.permute(0, 2, 3, 1).contiguous()


class MultiScaleTemporal(nn.Module):
    """Four temporal branches of width C/4, concatenated, plus a residual.

    Two branches are 1x1, batch norm, ReLU, 5x1 convolution (dilations 1 and 2), batch norm; the third is 1x1, batch
    norm, ReLU, 3x1 max-pool, batch norm; the fourth is 1x1, batch norm. The 1x1 maps of the first three and all norms
    of equal depth are held as one layer each: the same figures in fewer, wider products. The residual is the input
    itself, or a strided 1x1 with batch norm where width or length change.

    Args:
        in_dim, out_dim: widths; ``out_dim`` a multiple of four.
        stride: step along time.

    Shapes:
        x (N, T, V, in_dim); out (N, ceil(T / stride), V, out_dim).

    Raises:
        UserError: ``out_dim`` is no multiple of four.

    Source: temporal module of CTR-GCN (Chen et al., ICCV 2021), which SkeletonMAE's STRL cites.
    """

    def __init__(self, in_dim: int, out_dim: int, *, stride: int = 1) -> None:
        super().__init__()
        if out_dim % 4:
            raise UserError(f"the width of a multi-scale temporal block must be a multiple of 4, got {out_dim}.")
        width = out_dim // 4
        self.stride = stride
        self.reduce = nn.Linear(in_dim, 3 * width)
        self.reduce_norm = RowNorm(3 * width)
        self.near = TemporalConv(width, width, 5, stride=stride)
        self.far = TemporalConv(width, width, 5, stride=stride, dilation=2)
        self.point = nn.Linear(in_dim, width)
        self.norm = RowNorm(out_dim)
        self.same = stride == 1 and in_dim == out_dim
        self.residual: nn.Module = nn.Identity()
        if not self.same:
            self.residual = nn.Sequential(nn.Linear(in_dim, out_dim), RowNorm(out_dim))

    def forward(self, x: Tensor) -> Tensor:
        reduced = F.relu(over_rows(nn.Sequential(self.reduce, self.reduce_norm), x))
        near, far, peak = reduced.chunk(3, dim=-1)
        peak = F.max_pool2d(peak.permute(0, 3, 1, 2), (3, 1), (self.stride, 1), (1, 0)).permute(0, 2, 3, 1)
        strided = x[:, :: self.stride]
        joined = torch.cat([self.near(near), self.far(far), peak, self.point(strided)], dim=-1)
        return over_rows(self.norm, joined) + (x if self.same else over_rows(self.residual, strided))


def _example(topology: Topology) -> tuple[nn.Module, Tensor]:
    return MultiScaleTemporal(4, 8, stride=2), torch.randn(2, 6, len(topology.joints), 4)


BLOCKS["multi_scale_temporal"] = _example
