"""What a modality is told of the others: M-Mixer's complementary feature extraction, and its first version's means.

Letters: N clips, M modalities, T steps of one, S tokens of all, Q queries a modality, H heads, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.errors import UserError
from skelgraph.nn.propagation import edge_softmax, propagate, resolve


def sine_code(steps: int, dim: int, like: Tensor) -> Tensor:
    """The fixed sine code of ``steps`` points in time, ``(steps, dim)``, on the device and in the type of ``like``.

    Source: Vaswani et al., NeurIPS 2017, section 3.5.
    """
    time = torch.arange(steps, device=like.device, dtype=like.dtype).unsqueeze(1)
    pace = torch.arange(0, dim, 2, device=like.device, dtype=like.dtype) * (-math.log(10000.0) / dim)
    angle = time * pace.exp()
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :dim]


@dataclass(frozen=True)
class Tokens:
    """Steps of all modalities side by side.

    Attributes:
        values (N, S, D); valid (N, S) bool; modality (S,), step (S,) and joint (S,) int64: what each token is of;
        joint is -1 where a token is a whole step.
    """

    values: Tensor
    valid: Tensor
    modality: Tensor
    step: Tensor
    joint: Tensor

    @classmethod
    def of(cls, features: Sequence[Tensor], valid: Sequence[Tensor], codes: Tensor | None = None) -> Tokens:
        """Flatten and join modalities; adds the sine code of the step, and the code of the modality where given.

        Shapes:
            features each (N, T, D), or (N, T, V, D) with a token for every joint; valid each (N, T); codes (M, D).
        """
        values, there, places = [], [], []
        for number, (x, mask) in enumerate(zip(features, valid, strict=True)):
            n, steps, dim = x.shape[0], x.shape[1], x.shape[-1]
            by_step = x.reshape(n, steps, -1, dim)
            joints = by_step.shape[2]
            code = sine_code(steps, dim, x).unsqueeze(1)
            values.append((by_step + (code if codes is None else code + codes[number])).flatten(1, 2))
            there.append(mask.unsqueeze(-1).expand(n, steps, joints).flatten(1))
            step = torch.arange(steps, device=x.device).repeat_interleave(joints)
            joint = torch.arange(joints, device=x.device).repeat(steps) if x.dim() == 4 else torch.full_like(step, -1)
            places.append(torch.stack([torch.full_like(step, number), step, joint]))
        modality, step, joint = torch.cat(places, dim=1)
        return cls(torch.cat(values, dim=1), torch.cat(there, dim=1), modality, step, joint)


class CrossAttention(nn.Module):
    """One pre-norm decoder layer without self-attention: ``q += MHA(LN1(q), LN2(y)); q += FFN(LN3(q))``.

    Args:
        dim: D.
        heads: H.
        ratio: width of the feed-forward part in units of D.
        dropout: on both residual branches.
        backend: see `propagate`; ``dense`` is one scaled dot-product attention, the others an edge list from tokens to
            queries.

    Shapes:
        q (N, R, D), y (N, S, D), structure (R, S) bool: who may ever send to whom, mask (N, R, S) bool: who sends in
        this clip, at least one to every query; out (N, R, D).
    """

    def __init__(self, dim: int, heads: int, ratio: int = 4, dropout: float = 0.1, backend: str | None = None) -> None:
        super().__init__()
        if dim % heads:
            raise UserError(f"CFEM: the width {dim} is no multiple of {heads} heads.")
        self.heads, self.backend = heads, backend
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_query, self.norm_token, self.norm_forward = (nn.LayerNorm(dim) for _ in range(3))
        self.widen, self.narrow = nn.Linear(dim, ratio * dim), nn.Linear(ratio * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, q: Tensor, y: Tensor, structure: Tensor, mask: Tensor) -> Tensor:
        queries, keys, values = self._projected(q, y)
        if resolve(self.backend) == "dense":
            read = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask.unsqueeze(1))
        else:
            read = self._by_edges(queries, keys, values, structure, mask)
        q = q + self.dropout(self.out(read.transpose(1, 2).flatten(2)))
        forward: Tensor = self.narrow(self.dropout(F.gelu(self.widen(self.norm_forward(q)))))
        return q + self.dropout(forward)

    def weights(self, q: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        """Attention of every query over the tokens, ``(N, H, R, S)``."""
        queries, keys, _ = self._projected(q, y)
        return _scores(queries, keys, mask).softmax(-1)

    def _projected(self, q: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values by head, ``(N, H, rows, D / H)``."""
        tokens = self.norm_token(y)
        parts = self.query(self.norm_query(q)), self.key(tokens), self.value(tokens)
        one, two, three = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        return one, two, three

    def _by_edges(self, queries: Tensor, keys: Tensor, values: Tensor, structure: Tensor, mask: Tensor) -> Tensor:
        """The same attention as message passing on a bipartite graph: tokens are its first nodes, queries the last."""
        targets, sources = structure.shape
        around = (0, targets, sources, 0)
        edges = F.pad(structure, around)
        weights = edge_softmax(F.pad(_scores(queries, keys, mask), around), edges, self.backend)
        nodes = F.pad(values, (0, 0, 0, targets))
        # Heads are not summed, so they ride along as graphs of their own.
        read = propagate(nodes.flatten(0, 1), weights.flatten(0, 1).unsqueeze(1), backend=self.backend)
        return read.unflatten(0, values.shape[:2])[..., sources:, :]


def _scores(queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
    scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])
    return scores.masked_fill(~mask.unsqueeze(1), float("-inf"))


class CFEM(nn.Module):
    """Complementary feature extraction module: each modality's queries read the tokens of all other modalities.

    Layers of `CrossAttention` with weights that all modalities share; only the queries differ. All queries of all
    modalities run in one call with one mask, [token is of another modality] and [token is valid]. The content ``g_m``
    is the mean over the queries of m; where no other modality is there it is the learned vector ``null_m``.

    Args:
        modalities: M.
        dim: D.
        queries: Q.
        layers: decoder layers.
        heads, dropout, backend: see `CrossAttention`.
        own_keys: a modality also reads itself (ablation).

    Shapes:
        features M times (N, T_m, D) or (N, T_m, V, D), valid M times (N, T_m) bool; out (N, M, D).

    Source: M-Mixer (Lee et al., arXiv 2311.12344). A reconstruction, see docs/mmixer.md.
    """

    def __init__(
        self, modalities: int, dim: int, *, queries: int = 1, layers: int = 1, heads: int = 8, dropout: float = 0.1,
        own_keys: bool = False, backend: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.own_keys = own_keys
        self.queries = nn.Parameter(0.02 * torch.randn(modalities, queries, dim))
        self.codes = nn.Parameter(0.02 * torch.randn(modalities, dim))
        self.null = nn.Parameter(torch.zeros(modalities, dim))
        self.layers = nn.ModuleList(CrossAttention(dim, heads, dropout=dropout, backend=backend) for _ in range(layers))

    def tokens(self, features: Sequence[Tensor], valid: Sequence[Tensor]) -> Tokens:
        """What the queries read."""
        return Tokens.of(features, valid, self.codes)

    def masks(self, tokens: Tokens) -> tuple[Tensor, Tensor, Tensor]:
        """Who may ever send (R, S), who sends in a clip (N, R, S), and whether anybody does (N, R); R = M Q.

        Where nobody does, all who may are let through: the content is replaced by ``null`` anyway, and a softmax over
        nothing would be NaN in the gradients.
        """
        modalities, queries = self.queries.shape[:2]
        own = torch.arange(modalities, device=tokens.modality.device).repeat_interleave(queries)
        structure = own.unsqueeze(1) != tokens.modality
        if self.own_keys:
            structure = torch.ones_like(structure)
        sends = structure & tokens.valid.unsqueeze(1)
        anybody = sends.any(-1)
        return structure, sends | (structure & ~anybody.unsqueeze(-1)), anybody

    def forward(self, features: Sequence[Tensor], valid: Sequence[Tensor]) -> Tensor:
        tokens = self.tokens(features, valid)
        structure, mask, anybody = self.masks(tokens)
        q = self.queries.flatten(0, 1).expand(tokens.values.shape[0], -1, -1)
        for layer in self.layers:
            q = layer(q, tokens.values, structure, mask)
        content = q.unflatten(1, self.queries.shape[:2]).mean(2)
        informed = anybody.unflatten(1, self.queries.shape[:2])[:, :, :1]
        return torch.where(informed, content, self.null.to(content.dtype))

    def attention(self, features: Sequence[Tensor], valid: Sequence[Tensor]) -> tuple[list[Tensor], Tokens]:
        """Weights of each layer ``(N, H, M Q, S)``, 0 where nothing is read, and the tokens they belong to."""
        tokens = self.tokens(features, valid)
        structure, mask, anybody = self.masks(tokens)
        q = self.queries.flatten(0, 1).expand(tokens.values.shape[0], -1, -1)
        found = []
        for layer in self.layers:
            weights = layer.weights(q, tokens.values, mask)  # type: ignore[operator]
            found.append(torch.where(anybody[:, None, :, None], weights, 0.0))
            q = layer(q, tokens.values, structure, mask)
        return found, tokens


class MeanContent(nn.Module):
    """Action content by means, M-Mixer's first version: ``g_m = Linear_m(concat over j != m of mean_t f_j)``.

    An absent modality contributes zeros.

    Args:
        modalities: M.
        dim: D.

    Shapes:
        features M times (N, T_m, D) or (N, T_m, V, D), valid M times (N, T_m) bool; out (N, M, D).

    Source: M-Mixer (Lee et al., WACV 2023); how exactly it pools is not known, see docs/mmixer.md.
    """

    def __init__(self, modalities: int, dim: int) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear((modalities - 1) * dim, dim) for _ in range(modalities))

    def forward(self, features: Sequence[Tensor], valid: Sequence[Tensor]) -> Tensor:
        means = [masked_mean(x.mean(2) if x.dim() == 4 else x, there) for x, there in zip(features, valid, strict=True)]
        others = [torch.cat(means[:m] + means[m + 1 :], dim=-1) for m in range(len(means))]
        return torch.stack([linear(x) for linear, x in zip(self.linears, others, strict=True)], dim=1)


def masked_mean(x: Tensor, valid: Tensor) -> Tensor:
    """Mean of ``x (N, T, D)`` over the steps that are ``valid (N, T)``; zero where none is."""
    total = torch.where(valid.unsqueeze(-1), x, 0.0).sum(1)
    return total / valid.sum(1, keepdim=True).clamp(min=1)
