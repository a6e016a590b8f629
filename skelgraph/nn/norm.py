"""Normalisation and activation of channels-last tensors whose leading axes all count as rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class _AccurateNorm(torch.autograd.Function):
    """Batch norm of ``(rows, C)`` by batch statistics, with sums that are themselves sums of partial sums.

    PyTorch's CPU kernel for channels-last rows adds one row after another in float32; with 26 000 rows its gradients
    are off by 4e-6, these by 2e-7, at about twice the time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        mean = x.sum(0) / len(x)
        centred = x - mean
        variance = centred.square().sum(0) / len(x)
        inverse = (variance + eps).rsqrt()
        ctx.save_for_backward(centred, inverse, weight)
        ctx.mark_non_differentiable(mean, variance)
        return torch.addcmul(bias, centred, weight * inverse), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *unused: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        centred, inverse, weight = ctx.saved_tensors
        bias_grad = grad.sum(0)
        weight_grad = (grad * centred).sum(0) * inverse
        slope = weight_grad * inverse / -len(grad)
        x_grad = torch.addcmul(-bias_grad / len(grad), centred, slope).add_(grad).mul_(weight * inverse)
        return x_grad, weight_grad, bias_grad, None


class RowNorm(nn.BatchNorm1d):
    """Batch norm over the last axis; every leading axis is a row, so a clip gives T V rows.

    It is applied to two-dimensional ``(rows, C)`` views, so that Lightning's conversion to synchronised batch norm
    works on it as on any other. On the CPU its training statistics do not lose digits to the number of rows, see
    `_AccurateNorm`; ``accurate = False`` (on one, or on the class for all) takes PyTorch's own quicker kernel.

    Shapes:
        x (rows, C); out (rows, C). `over_rows` wraps it for other shapes.
    """

    accurate: bool = True

    def forward(self, input: Tensor) -> Tensor:
        quick = not self.accurate or not self.training or input.device.type != "cpu" or len(input) < 2
        # Half precision under autocast: PyTorch's kernel sums it in float32, with the weights as they are.
        if quick or input.dtype != self.weight.dtype:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        out, mean, variance = _AccurateNorm.apply(input, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            momentum = 0.1 if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * (len(input) / (len(input) - 1)), momentum)
        normed: Tensor = out
        return normed


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
