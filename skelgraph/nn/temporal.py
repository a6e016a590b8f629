"""Temporal blocks over ``(N, T, V, C)``, by name; the joints are independent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.errors import UserError
from skelgraph.nn.block import Shortcut
from skelgraph.nn.norm import RowNorm, over_rows
from skelgraph.nn.pointwise import Pointwise, fan_out_init
from skelgraph.nn.propagation import BLOCKS
from skelgraph.registry import Registry
from skelgraph.topology import Topology

TEMPORAL: Registry = Registry("temporal block")


class TemporalConv(nn.Module):
    """Convolution along time.

    Shapes:
        x (N, T, V, C_in); out (N, ceil(T / stride), V, C_out).
    """

    def __init__(self, in_dim: int, out_dim: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        padding = (dilation * (kernel - 1) // 2, 0)
        self.conv = nn.Conv2d(in_dim, out_dim, (kernel, 1), (stride, 1), padding, (dilation, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x.permute(0, 3, 1, 2))  # a channels-last view: nothing is copied
        return out.permute(0, 2, 3, 1)


@TEMPORAL.register("plain")
class PlainTemporal(nn.Module):
    """One convolution along time and a batch norm, as in ST-GCN and 2s-AGCN.

    Args:
        in_dim, out_dim: widths.
        stride: step along time.
        kernel: frames, odd.
        init: ``torch`` or ``fan_out``.

    Shapes:
        x (N, T, V, in_dim); out (N, ceil(T / stride), V, out_dim).
    """

    def __init__(self, in_dim: int, out_dim: int, stride: int = 1, *, kernel: int = 9, init: str = "torch") -> None:
        super().__init__()
        _check_kernel(kernel)
        self.time = TemporalConv(in_dim, out_dim, kernel, stride=stride)
        self.norm = RowNorm(out_dim)
        if init == "fan_out":
            fan_out_init(self.time.conv)

    def forward(self, x: Tensor) -> Tensor:
        return over_rows(self.norm, self.time(x))


@TEMPORAL.register("multi_scale")
class MultiScaleTemporal(nn.Module):
    """Several temporal branches side by side, concatenated.

    For every dilation a branch 1x1, batch norm, ReLU, convolution over time; one 1x1, batch norm, ReLU, max-pool of
    three frames; one 1x1. Then a batch norm over all. The 1x1 maps and the norms of equal depth are held as one layer
    each: the same figures in fewer, wider products. All branches are equally wide; the first takes what is left over.

    Args:
        in_dim, out_dim: widths.
        stride: step along time.
        kernel, dilations: of the convolutions. 5 and (1, 2) make the block of CTR-GCN and PSUMNet, 3 and (1, 2, 3, 4)
            with ``mix`` that of ST-GCN++.
        mix: ReLU, 1x1 and batch norm behind the concatenation.
        residual: adds a `Shortcut` of the input.
        relu: a ReLU behind everything, as in PYSKL's form of CTR-GCN.
        init: ``torch``, or ``fan_out`` with norm weights from N(1, 0.02) (CTR-GCN).

    Shapes:
        x (N, T, V, in_dim); out (N, ceil(T / stride), V, out_dim).

    Raises:
        UserError: fewer channels than branches, or an even kernel.

    Source: Chen et al., ICCV 2021; Duan et al., ACM MM 2022.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        stride: int = 1,
        *,
        kernel: int = 5,
        dilations: Sequence[int] = (1, 2),
        mix: bool = False,
        residual: bool = False,
        relu: bool = False,
        init: str = "torch",
    ) -> None:
        super().__init__()
        _check_kernel(kernel)
        width, rest = divmod(out_dim, len(dilations) + 2)
        if width < 1:
            raise UserError(f"a multi-scale temporal block with {len(dilations) + 2} branches needs as many channels, "
                            f"got {out_dim}.")  # fmt: skip
        self.stride, self.width, self.relu = stride, width, relu
        self.widths = [width + rest, *[width] * len(dilations)]
        self.reduce = Pointwise(in_dim, sum(self.widths))
        self.reduce_norm = RowNorm(sum(self.widths))
        self.times = nn.ModuleList(
            TemporalConv(wide, wide, kernel, stride=stride, dilation=dilation)
            for wide, dilation in zip(self.widths, dilations, strict=False)
        )
        self.point = Pointwise(in_dim, width)
        self.norm = RowNorm(out_dim)
        self.mix = Pointwise(out_dim, out_dim) if mix else None
        self.mix_norm = RowNorm(out_dim) if mix else None
        self.shortcut = Shortcut(in_dim, out_dim, stride=stride) if residual else None
        if init == "fan_out":
            self._fan_out()

    def _fan_out(self) -> None:
        fan_out_init(self.reduce, len(self.widths))
        fan_out_init(self.point)
        for branch in self.times:
            fan_out_init(branch.conv)  # type: ignore[arg-type]
        for norm in (self.reduce_norm, self.norm):
            nn.init.normal_(norm.weight, 1.0, 0.02)

    def forward(self, x: Tensor) -> Tensor:
        reduced = F.relu(over_rows(self.reduce_norm, self.reduce(x)))
        *branches, peak = reduced.split(self.widths, dim=-1)
        parts = [time(branch) for time, branch in zip(self.times, branches, strict=True)]
        peak = F.max_pool2d(peak.permute(0, 3, 1, 2), (3, 1), (self.stride, 1), (1, 0)).permute(0, 2, 3, 1)
        point = self.point(x[:, :: self.stride] if self.stride > 1 else x)
        out = over_rows(self.norm, torch.cat([*parts, peak, point], dim=-1))
        if self.mix is not None and self.mix_norm is not None:
            out = over_rows(self.mix_norm, self.mix(F.relu(out)))
        out = out if self.shortcut is None else out + self.shortcut(x)
        return F.relu(out) if self.relu else out


def _check_kernel(kernel: int) -> None:
    if kernel < 1 or kernel % 2 == 0:
        raise UserError(f"a temporal kernel must be odd, got {kernel}.")


def _multi_scale(topology: Topology) -> tuple[nn.Module, Tensor]:
    block = MultiScaleTemporal(4, 8, 2, mix=True, residual=True)
    return block, torch.randn(2, 6, len(topology.joints), 4)


def _plain(topology: Topology) -> tuple[nn.Module, Tensor]:
    return PlainTemporal(4, 8, 2, kernel=3), torch.randn(2, 6, len(topology.joints), 4)


BLOCKS["multi_scale_temporal"] = _multi_scale
BLOCKS["plain_temporal"] = _plain
