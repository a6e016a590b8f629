"""The multi-modal contextualization unit of M-Mixer: a gated recurrence told of the other modalities.

Letters: N clips, T steps, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.errors import unknown
from skelgraph.nn.gru import GRU

MIXES = ("add", "concat", "film", "none")


class Mix(nn.Module):
    """What the recurrence reads of a step: its feature f and the content g of the other modalities.

    ``add`` is ``tanh(LN(W_f f + W_g g + b))``, ``concat`` ``tanh(LN(W [f; g] + b))``, the same in one matrix,
    ``film`` ``tanh(LN((1 + W_s g) W_f f + W_g g))``, and ``none`` ``tanh(LN(W_f f + b))``.

    Shapes:
        f (N, T, D), g (N, D); out (N, T, D).

    Raises:
        UserError: unknown kind.
    """

    def __init__(self, dim: int, kind: str = "add") -> None:
        super().__init__()
        if kind not in MIXES:
            raise unknown("mix", kind, MIXES)
        self.kind = kind
        self.feature = nn.Linear(2 * dim if kind == "concat" else dim, dim, bias=kind != "film")
        self.content = nn.Linear(dim, dim, bias=False) if kind in ("add", "film") else None
        self.scale = nn.Linear(dim, dim, bias=False) if kind == "film" else None
        self.norm = nn.LayerNorm(dim)
        for layer in (self.feature, self.content, self.scale):
            if layer is not None:
                nn.init.xavier_uniform_(layer.weight)
        if self.feature.bias is not None:
            nn.init.zeros_(self.feature.bias)

    def forward(self, f: Tensor, g: Tensor) -> Tensor:
        content = g.unsqueeze(1)
        if self.kind == "concat":
            f = torch.cat([f, content.expand_as(f)], dim=-1)
        mixed = self.feature(f)
        if self.scale is not None:
            mixed = (1 + self.scale(content)) * mixed
        if self.content is not None:
            mixed = mixed + self.content(content)
        return torch.tanh(self.norm(mixed))


class MCU(nn.Module):
    """Multi-modal contextualization unit: `Mix`, then a gated recurrence with reset r, keep gate k and candidate n.

    ``r = sigma(W_r u + b_r + U_r h + c_r); k = sigma(W_k u + b_k + U_k h + c_k);
    n = tanh(W_n u + b_n + r (U_n h + c_n)); h' = (1 - k) n + k h; h_0 = 0``: the convention of `torch.nn.GRU`, so the
    mix is computed for all steps at once and the recurrence is its fused kernel. A step that is not valid leaves the
    state exactly as it is.

    Args:
        dim: D.
        mix: see `Mix`.
        gate_norm: layer norm of the input and of the recurrent pre-activation of every gate; then step by step.

    Shapes:
        f (N, T, D), g (N, D), valid (N, T) bool; out: states (N, T, D); the last one is the state of the clip.

    Raises:
        UserError: unknown mix.

    Source: M-Mixer (Lee et al., WACV 2023). A reconstruction: the paper's gate equations are not known to us, see
    docs/mmixer.md.
    """

    def __init__(self, dim: int, *, mix: str = "add", gate_norm: bool = False) -> None:
        super().__init__()
        self.mix = Mix(dim, mix)
        self.gru = GRU(dim, dim)
        # Three groups of channels: a layer norm for each gate.
        self.norm_input = nn.GroupNorm(3, 3 * dim) if gate_norm else None
        self.norm_state = nn.GroupNorm(3, 3 * dim) if gate_norm else None
        self._begin(dim)

    @torch.no_grad()
    def _begin(self, dim: int) -> None:
        """Orthogonal recurrent and Xavier input matrices gate by gate; the keep gate leans to keeping."""
        given, carried, given_bias, carried_bias = self.gru.parameters()
        for place in range(3):
            rows = slice(place * dim, (place + 1) * dim)
            nn.init.orthogonal_(carried[rows])
            nn.init.xavier_uniform_(given[rows])
        nn.init.zeros_(given_bias)
        nn.init.zeros_(carried_bias)
        bias = given_bias if self.norm_input is None else self.norm_input.bias
        bias[dim : 2 * dim] = 1.0

    def forward(self, f: Tensor, g: Tensor, valid: Tensor) -> Tensor:
        u = self.mix(f, g)
        # Valid steps move to the front, so that what follows them cannot touch the states that are read.
        order = torch.argsort((~valid).to(torch.uint8), dim=1, stable=True).unsqueeze(-1).expand_as(u)
        with torch.autocast(u.device.type, enabled=False):
            u = u.float() if u.dtype in (torch.float16, torch.bfloat16) else u
            states = self.recur(u.gather(1, order))
        done = valid.cumsum(1).unsqueeze(-1).expand_as(states)
        return torch.where(done > 0, states.gather(1, (done - 1).clamp(min=0)), 0.0)

    def recur(self, u: Tensor) -> Tensor:
        """States ``(N, T, D)`` of the recurrence over ``u (N, T, D)`` from zero."""
        if self.norm_input is None:
            states: Tensor = self.gru(u.transpose(0, 1))[0]
            return states.transpose(0, 1)
        h, out = torch.zeros_like(u[:, 0]), []
        given = self.given(u)
        for t in range(u.shape[1]):
            h = self.step(given[:, t], h)
            out.append(h)
        return torch.stack(out, dim=1)

    def given(self, u: Tensor) -> Tensor:
        """The part of the pre-activations that the input gives, ``(..., 3 D)`` in the order r, k, n."""
        weight, _, bias, _ = self.gru.parameters()
        x = F.linear(u, weight, bias)
        return x if self.norm_input is None else self.norm_input(x.flatten(0, -2)).view_as(x)

    def carried(self, h: Tensor) -> Tensor:
        """The part that the state before gives, ``(..., 3 D)``."""
        _, weight, _, bias = self.gru.parameters()
        x = F.linear(h, weight, bias)
        return x if self.norm_state is None else self.norm_state(x.flatten(0, -2)).view_as(x)

    def step(self, given: Tensor, h: Tensor) -> Tensor:
        """The next state ``(N, D)`` from `given` of the step and the state before."""
        carried = self.carried(h)
        reset, keep = _gates(given, carried)
        new = torch.tanh(given.chunk(3, -1)[2] + reset * carried.chunk(3, -1)[2])
        return (1 - keep) * new + keep * h

    def gates(self, f: Tensor, g: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """Reset and keep gate at every step, each ``(N, T, D)``, for the ``states`` that `forward` gave."""
        before = F.pad(states[:, :-1], (0, 0, 1, 0))
        return _gates(self.given(self.mix(f, g)), self.carried(before))


def _gates(given: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
    width = given.shape[-1] // 3 * 2
    reset, keep = torch.sigmoid(given[..., :width] + carried[..., :width]).chunk(2, -1)
    return reset, keep
