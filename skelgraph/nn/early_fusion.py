"""What M-Mixer is held against: modalities joined before one sequence model reads them.

Letters: N clips, M modalities, T steps, D channels, H hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skelgraph.errors import unknown
from skelgraph.nn.cfem import CrossAttention, Tokens, masked_mean

RECURRENT = {"gru": nn.GRU, "lstm": nn.LSTM}


class ConcatRecurrent(nn.Module):
    """One GRU or LSTM over the features of all modalities side by side; a clip is its last state.

    Modalities of fewer steps than the longest repeat theirs; a step counts where any modality has it, and a modality
    that lacks it gives zeros.

    Args:
        modalities: M.
        dim: D.
        hidden: H.
        kind: ``gru`` or ``lstm``.

    Shapes:
        features M times (N, T_m, D), valid M times (N, T_m) bool; out (N, H).

    Raises:
        UserError: unknown kind.
    """

    def __init__(self, modalities: int, dim: int, hidden: int, kind: str) -> None:
        super().__init__()
        if kind not in RECURRENT:
            raise unknown("recurrent unit", kind, RECURRENT)
        self.unit = RECURRENT[kind](modalities * dim, hidden, batch_first=True)
        self.out_dim = hidden

    def forward(self, features: Sequence[Tensor], valid: Sequence[Tensor]) -> Tensor:
        steps = max(x.shape[1] for x in features)
        aligned, there = [], []
        for x, mask in zip(features, valid, strict=True):
            index = torch.arange(steps, device=x.device) * x.shape[1] // steps
            there.append(mask[:, index])
            aligned.append(torch.where(there[-1].unsqueeze(-1), x[:, index], 0.0))
        any_valid = torch.stack(there).any(0)
        x = torch.cat(aligned, dim=-1)
        order = torch.argsort((~any_valid).to(torch.uint8), dim=1, stable=True).unsqueeze(-1).expand_as(x)
        states = self.unit(x.gather(1, order))[0]
        last = (any_valid.sum(1) - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, states.shape[-1])
        return states.gather(1, last).squeeze(1)


class TokenTransformer(nn.Module):
    """A pre-norm transformer encoder over the steps of all modalities as tokens, then their mean.

    Args:
        modalities: M.
        dim: D.
        heads, layers, dropout: of the encoder; see `CrossAttention`, here of the tokens among themselves.

    Shapes:
        features M times (N, T_m, D), valid M times (N, T_m) bool; out (N, D).
    """

    def __init__(self, modalities: int, dim: int, *, heads: int = 8, layers: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.codes = nn.Parameter(0.02 * torch.randn(modalities, dim))
        self.layers = nn.ModuleList(CrossAttention(dim, heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.out_dim = dim

    def forward(self, features: Sequence[Tensor], valid: Sequence[Tensor]) -> Tensor:
        tokens = Tokens.of(features, valid, self.codes)
        # A clip without any token keeps them all: the mean leaves them out, and no softmax runs over nothing.
        sends = tokens.valid | ~tokens.valid.any(1, keepdim=True)
        mask = sends.unsqueeze(1).expand(-1, sends.shape[1], -1)
        x = tokens.values
        for layer in self.layers:
            x = layer(x, x, torch.ones_like(mask[0]), mask)
        return masked_mean(self.norm(x), tokens.valid)
