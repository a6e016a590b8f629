"""Multi-head attention between tokens as a bipartite graph: dense (SDPA), or the same edges one by one.

Letters: B rows, h heads, Q queries, K keys, D channels of a head, C = h D.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.errors import UserError
from skelgraph.nn.propagation import _sparse_backend, resolve


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, backend: str | None = None,
    bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """``out_q = sum_k softmax_k(query_q . key_k / sqrt(D) + bias_qk) value_k`` over the edges k -> q.

    Args:
        query, key, value: tokens, already projected; every row must be finite, masked or not.
        mask: true where there is an edge; None for all. Every query needs one.
        backend: ``dense`` is PyTorch's scaled dot product; ``pyg`` and ``dgl`` send messages along an edge list.
        bias: of every edge; None for none.

    Shapes:
        query (B, h, Q, D), key and value (B, h, K, D), mask (B, Q or 1, K) bool, bias (B, h, Q, K); out (B, h, Q, D).
    """
    chosen = resolve(backend)
    if chosen == "dense":
        return F.scaled_dot_product_attention(query, key, value, _dense_mask(mask, bias, query.dtype))
    library = _sparse_backend(chosen)
    rows, heads, queries, width = query.shape
    keys = key.shape[2]
    present = query.new_ones(rows, queries, keys, dtype=torch.bool) if mask is None else mask
    row, target, source = present.expand(rows, queries, keys).nonzero(as_tuple=True)
    # One node set holds the queries of all rows, then the keys of all rows.
    edges = torch.stack([rows * queries + row * keys + source, row * queries + target])
    score = (query[row, :, target] * key[row, :, source]).sum(-1).t() * width**-0.5
    score = score if bias is None else score + bias[row, :, target, source].t()
    nodes = rows * (queries + keys)
    weight = library.softmax(score, edges, nodes)
    sent = value.transpose(0, 1).reshape(heads, rows * keys, width)
    features = torch.cat([sent.new_zeros(heads, rows * queries, width), sent], dim=1)
    out = library.weighted_sum(features, weight.unsqueeze(-1).to(sent.dtype), edges)[:, : rows * queries]
    return out.reshape(heads, rows, queries, width).transpose(0, 1)


def _dense_mask(mask: Tensor | None, bias: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    edges = None if mask is None else mask.unsqueeze(1)
    if bias is None:
        return edges
    return bias.to(dtype) if edges is None else bias.to(dtype).masked_fill(~edges, float("-inf"))


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """The weights of `attend` for a few queries, detached, ``(B, h, Q, K)``."""
    with torch.no_grad():
        score = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        score = score if bias is None else score + bias
        return (score if mask is None else score.masked_fill(~mask.unsqueeze(1), float("-inf"))).softmax(-1)


def row_drop(x: Tensor, p: float, training: bool) -> Tensor:
    """Stochastic depth: a residual branch ``x (B, ...)`` is left out of whole clips with probability ``p``."""
    if not training or p == 0:
        return x
    kept = torch.rand(x.shape[0], *[1] * (x.dim() - 1), device=x.device) >= p
    return x * kept.to(x.dtype) / (1 - p)


class TokenAttention(nn.Module):
    """What the three attentions share: pre-norms, the four projections, and the feed-forward part.

    The key map has no bias, which a softmax over the keys would cancel.

    Args:
        width: C.
        heads: h; must divide C.
        ratio: width of the feed-forward part in units of C.
        drop_path: probability of leaving a branch out of a clip in training.
        backend: see `attend`.

    Raises:
        UserError: heads do not divide the width.
    """

    def __init__(
        self, width: int, heads: int, *, ratio: int = 4, drop_path: float = 0.0, backend: str | None = None
    ) -> None:
        super().__init__()
        if width % heads:
            raise UserError(f"heads: {heads} do not divide the width {width}.")
        self.heads, self.drop_path, self.backend = heads, drop_path, backend
        self.norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(width, width, bias=False)
        self.feed = nn.Sequential(nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width))

    def split(self, x: Tensor) -> Tensor:
        """Channels to heads: ``(B, K, C)`` to ``(B, h, K, D)``."""
        return x.unflatten(-1, (self.heads, -1)).transpose(-2, -3)

    def merge(self, x: Tensor) -> Tensor:
        """Heads to channels: ``(B, h, K, D)`` to ``(B, K, C)``."""
        return x.transpose(-2, -3).flatten(-2)

    def add(self, x: Tensor, attended: Tensor) -> Tensor:
        """Both residual branches: ``x += W_o attended``, then ``x += feed(norm(x))``; any leading axes."""
        x = x + row_drop(self.out(attended), self.drop_path, self.training)
        return x + row_drop(self.feed(self.feed_norm(x)), self.drop_path, self.training)
