"""The gated recurrent unit, with a backward pass of its own on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class _GRUFunction(torch.autograd.Function):
    """All frames of one unit. PyTorch adds up the gradient of the large matrix frame by frame, this is one product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
        frames, n, hidden = len(x), x.shape[1], w_hh.shape[1]
        given = torch.addmm(b_ih, x.reshape(frames * n, -1), w_ih.T).view(frames, n, 3 * hidden)
        gates, recalled = torch.empty_like(given), x.new_empty(frames, n, hidden)
        states = x.new_zeros(frames + 1, n, hidden)
        for t in range(frames):
            carried = torch.addmm(b_hh, states[t], w_hh.T)
            both = torch.sigmoid(given[t, :, : 2 * hidden] + carried[:, : 2 * hidden])
            reset, update = both.chunk(2, 1)
            recalled[t] = carried[:, 2 * hidden :]
            new = torch.tanh(torch.addcmul(given[t, :, 2 * hidden :], reset, recalled[t]))
            gates[t] = torch.cat([both, new], 1)
            states[t + 1] = torch.lerp(new, states[t], update)
        ctx.save_for_backward(x, w_ih, w_hh, gates, recalled, states)
        return states[1:].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, gates, recalled, states = ctx.saved_tensors
        frames, n, _ = recalled.shape
        into_given, into_carried = torch.empty_like(gates), torch.empty_like(gates)
        state = torch.zeros_like(recalled[0])
        for t in reversed(range(frames)):
            reset, update, new = gates[t].chunk(3, 1)
            state = state + grad[t]
            into_new = state * (1 - update) * (1 - new * new)
            into_update = state * (states[t] - new) * update * (1 - update)
            into_reset = into_new * recalled[t] * reset * (1 - reset)
            into_given[t] = torch.cat([into_reset, into_update, into_new], 1)
            into_carried[t] = torch.cat([into_reset, into_update, into_new * reset], 1)
            state = torch.addmm(state * update, into_carried[t], w_hh)
        outer, inner = into_given.view(frames * n, -1), into_carried.view(frames * n, -1)
        x_grad = (outer @ w_ih).view_as(x) if ctx.needs_input_grad[0] else None
        w_ih_grad, w_hh_grad = outer.T @ x.reshape(frames * n, -1), inner.T @ states[:-1].reshape(frames * n, -1)
        return x_grad, w_ih_grad, w_hh_grad, outer.sum(0), inner.sum(0)


class GRU(nn.GRU):
    """`torch.nn.GRU` of one layer and one direction; equal values and gradients, its training on the CPU quicker.

    Args:
        width: channels of the input.
        hidden: channels of the state, which begins at zero.

    Shapes:
        x (T, N, width); out (T, N, hidden), and the last state (1, N, hidden).
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(width, hidden)

    def forward(  # type: ignore[override]
        self, input: Tensor, hx: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        learns = torch.is_grad_enabled() and self.weight_hh_l0.requires_grad and input.device.type == "cpu"
        special = input.dim() != 3 or hx is not None or torch.is_autocast_enabled("cpu")
        if special or not learns or torch.compiler.is_compiling():
            plain: tuple[Tensor, Tensor] = super().forward(input, hx)
            return plain
        weights = (self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0)
        out: Tensor = _GRUFunction.apply(input, *weights)
        return out, out[-1:]
