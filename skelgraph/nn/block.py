"""How a graph convolution and a temporal block make one layer of a spatio-temporal network."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.nn.norm import RowNorm, over_rows
from skelgraph.nn.pointwise import Pointwise, fan_out_init


class Shortcut(nn.Module):
    """A residual branch: the input itself, or a strided linear map with batch norm where width or length change.

    Shapes:
        x (N, T, V, in_dim); out (N, ceil(T / stride), V, out_dim).
    """

    def __init__(self, in_dim: int, out_dim: int, *, stride: int = 1, init: str = "torch") -> None:
        super().__init__()
        self.same, self.stride = in_dim == out_dim and stride == 1, stride
        self.map: nn.Module = nn.Identity() if self.same else Pointwise(in_dim, out_dim)
        self.norm: nn.Module = nn.Identity() if self.same else RowNorm(out_dim)
        if isinstance(self.map, Pointwise) and init == "fan_out":
            fan_out_init(self.map)

    def forward(self, x: Tensor) -> Tensor:
        if self.same:
            return x
        return over_rows(self.norm, self.map(x[:, :: self.stride] if self.stride > 1 else x))


class GraphUnit(nn.Module):
    """``relu(norm(conv(x)) + shortcut(x))``.

    Args:
        conv: a graph convolution from ``in_dim`` to ``out_dim``.
        residual: with the shortcut; ST-GCN has none here.
        init: ``torch``, or ``fan_out`` with the norm's weight at 1e-6, so that a fresh unit passes its shortcut on
            (CTR-GCN).

    Shapes:
        x (N, T, V, in_dim); out (N, T, V, out_dim).
    """

    def __init__(
        self, conv: nn.Module, in_dim: int, out_dim: int, *, residual: bool = True, init: str = "torch"
    ) -> None:
        super().__init__()
        self.conv, self.norm = conv, RowNorm(out_dim)
        self.shortcut = Shortcut(in_dim, out_dim, init=init) if residual else None
        if init == "fan_out":
            nn.init.constant_(self.norm.weight, 1e-6 if residual else 1.0)

    def forward(self, x: Tensor) -> Tensor:
        out = over_rows(self.norm, self.conv(x))
        return F.relu(out if self.shortcut is None else out + self.shortcut(x))


class GraphBlock(nn.Module):
    """``relu(temporal(unit(x)) + shortcut(x))``: one layer.

    Args:
        unit: joints, from ``in_dim`` to ``out_dim``.
        temporal: time, ``out_dim`` to ``out_dim``, with ``stride``.
        residual: with the shortcut; the first layer of most networks has none.

    Shapes:
        x (N, T, V, in_dim); out (N, ceil(T / stride), V, out_dim).
    """

    def __init__(
        self, unit: nn.Module, temporal: nn.Module, in_dim: int, out_dim: int,
        *, stride: int = 1, residual: bool = True, init: str = "torch",
    ) -> None:  # fmt: skip
        super().__init__()
        self.unit, self.temporal = unit, temporal
        self.shortcut = Shortcut(in_dim, out_dim, stride=stride, init=init) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.temporal(self.unit(x))
        return F.relu(out if self.shortcut is None else out + self.shortcut(x))
