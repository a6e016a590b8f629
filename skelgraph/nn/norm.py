"""Normalisation and activation of channels-last tensors whose leading axes all count as rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class RowNorm(nn.BatchNorm1d):
    """Batch norm over the last axis; every leading axis is a row, so a clip gives T V rows.

    It is applied to two-dimensional ``(rows, C)`` views, so that Lightning's conversion to synchronised batch norm
    works on it as on any other.

    Shapes:
        x (rows, C); out (rows, C). `over_rows` wraps it for other shapes.
    """


def over_rows(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer for ``(rows, C)`` to ``x (..., C)``."""
    out: Tensor = layer(x.reshape(-1, x.shape[-1]))
    return out.view(*x.shape[:-1], out.shape[-1])


class _PReLUFunction(torch.autograd.Function):
    """PReLU with one slope, on the CPU. PyTorch's own backward writes a slope gradient for every element to sum it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return F.prelu(x, slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        grad = grad.contiguous()
        slope_grad = torch.dot(grad.view(-1), x.clamp(max=0).view(-1)).view(1)
        return torch.ops.aten.leaky_relu_backward(grad, x, float(slope), False), slope_grad


class PReLU(nn.PReLU):
    """`torch.nn.PReLU` with one slope; equal values and gradients, its backward pass on the CPU five times as quick."""

    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, input: Tensor) -> Tensor:
        plain = input.device.type != "cpu" or torch.compiler.is_compiling() or not torch.is_grad_enabled()
        if plain or not input.is_contiguous() or input.dtype != self.weight.dtype:
            return super().forward(input)
        out: Tensor = _PReLUFunction.apply(input, self.weight)
        return out
