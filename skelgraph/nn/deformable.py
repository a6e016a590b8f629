"""3D deformable attention: tokens of a lattice attend to a few tokens sampled at learnt places of it.

Letters: N clips, T H W cells of the lattice, T' H' W' key points, G offset groups, C channels, K modal tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.errors import UserError, unknown
from skelgraph.nn.propagation import _sparse_backend, resolve
from skelgraph.nn.token_attention import TokenAttention, attend, attention_weights

SAMPLINGS = ("grid", "gather")


def corners(points: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The eight lattice cells around each point and their trilinear weights: rows of a sparse stochastic matrix S(p).

    Args:
        points: positions (t, h, w) in cells, within the lattice.
        size: T, H, W.

    Shapes:
        points (..., 3); cells (..., 8) int64, numbered as the flattened lattice; weights (..., 8), >= 0, sum 1.
    """
    last = points.new_tensor([n - 1 for n in size])
    low = torch.minimum(points.detach().floor(), last)
    part = points - low
    both = torch.stack([low, torch.minimum(low + 1, last)], dim=-1).long()
    share = torch.stack([1 - part, part], dim=-1)
    t, h, w = both.unbind(-2)
    cells = (t[..., :, None, None] * size[1] + h[..., None, :, None]) * size[2] + w[..., None, None, :]
    t, h, w = share.unbind(-2)
    weights = t[..., :, None, None] * h[..., None, :, None] * w[..., None, None, :]
    return cells.flatten(-3), weights.flatten(-3)


def sample_gather(values: Tensor, points: Tensor) -> Tensor:
    """Trilinear interpolation by indexing; exact at lattice points and differentiable twice.

    Shapes:
        values (N, T, H, W, C), points (N, P, 3); out (N, P, C).
    """
    cells, weights = corners(points, values.shape[1:4])
    flat = values.flatten(1, 3)
    index = cells.flatten(1).unsqueeze(-1).expand(-1, -1, flat.shape[-1])
    found = flat.gather(1, index).unflatten(1, cells.shape[1:])
    return (found * weights.unsqueeze(-1).to(found.dtype)).sum(-2)


def sample_grid(values: Tensor, points: Tensor) -> Tensor:
    """`sample_gather` by ``grid_sample``, several times as quick backward.

    ``g = (2 p + 1) / n - 1`` without aligned corners holds for an axis of one cell, too; ``grid_sample`` wants the
    axes in the order w, h, t.
    """
    size = points.new_tensor(values.shape[1:4])
    grid = ((2 * points + 1) / size - 1).flip(-1)[:, :, None, None]
    volume = values.permute(0, 4, 1, 2, 3)
    out = F.grid_sample(volume, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return out.flatten(2).transpose(1, 2)


def sample_edges(values: Tensor, points: Tensor, backend: str) -> Tensor:
    """`sample_gather` as message passing: eight weighted edges from cells to each key point."""
    cells, weights = corners(points, values.shape[1:4])
    clips, count = points.shape[:2]
    flat = values.flatten(1, 3)
    row = torch.arange(clips, device=points.device)
    source = cells + (row * flat.shape[1])[:, None, None]
    target = (torch.arange(clips * count, device=points.device) + clips * flat.shape[1]).view(clips, count, 1)
    edges = torch.stack([source.flatten(), target.expand_as(source).flatten()])
    nodes = F.pad(flat.flatten(0, 1), (0, 0, 0, clips * count))
    out = _sparse_backend(backend).weighted_sum(nodes, weights.flatten()[:, None].to(nodes.dtype), edges)
    return out[clips * flat.shape[1] :].view(clips, count, -1)


def reference_points(size: Sequence[int], stride: Sequence[int], frames: Tensor) -> Tensor:
    """Centres of the stride cells, ``r_i = min((i + 1/2) s - 1/2, n - 1)``; along time n is the clip's own length.

    Shapes:
        frames (N,) valid frames of each clip; out (N, T', H', W', 3).
    """
    axes = [
        (torch.arange(-(-n // s), device=frames.device, dtype=torch.float32) + 0.5) * s - 0.5
        for n, s in zip(size, stride, strict=True)
    ]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    return torch.minimum(grid, last_cell(size, frames)[:, None, None, None])


def last_cell(size: Sequence[int], frames: Tensor) -> Tensor:
    """The last cell of each clip, ``(N, 3)``."""
    last = torch.tensor([0.0, *(float(n - 1) for n in size[1:])], device=frames.device).expand(frames.shape[0], 3)
    return last + F.pad((frames.clamp(min=1) - 1).to(last.dtype).unsqueeze(-1), (0, 2))


class Found(NamedTuple):
    """Result of the 3D token search.

    Shapes:
        tokens (N, P, C), valid (N, P) bool, points (N, G, T', H', W', 3), reference (N, T', H', W', 3).
    """

    tokens: Tensor
    valid: Tensor
    points: Tensor
    reference: Tensor


class TokenSearch(nn.Module):
    """3D token search: offsets predicted from the queries move the key points of a strided grid.

    ``delta = range * tanh(head(gelu(norm(depthwise(q)))))``, ``p = clamp(r + delta)``, tokens trilinear at p. The head
    starts at zero, so the search starts at the grid. All of it runs in float32 (or what is wider) under autocast.

    Args:
        width: C.
        groups: G; each has its own field of offsets, the network is shared.
        stride: key points lie this many cells apart, along t, h, w.
        reach: greatest offset in cells; None is the stride.
        kernel: of the depthwise convolution; None is stride + 2. Kernel minus stride must be even.
        offsets: off leaves the key points where they are.
        sampling: ``grid``, or ``gather`` where a second derivative is wanted.
        backend: with ``pyg`` or ``dgl`` the search is message passing, see `attend`.

    Shapes:
        query, values (N, T, H, W, C), there (N, T) bool.

    Raises:
        UserError: a kernel that does not go with its stride, groups that do not divide the width, unknown sampling.

    Source: reconstruction of Kim et al., ICCV 2023, after DAT (Xia et al., CVPR 2022) carried to three axes.
    """

    reach: Tensor

    def __init__(
        self,
        width: int,
        *,
        groups: int = 4,
        stride: Sequence[int] = (2, 2, 2),
        reach: Sequence[float] | None = None,
        kernel: Sequence[int] | None = None,
        offsets: bool = True,
        sampling: str = "grid",
        backend: str | None = None,
    ) -> None:
        super().__init__()
        if sampling not in SAMPLINGS:
            raise unknown("sampling", sampling, SAMPLINGS)
        sizes = [s + 2 for s in stride] if kernel is None else list(kernel)
        limits = [float(s) for s in stride] if reach is None else [float(r) for r in reach]
        if not len(stride) == len(sizes) == len(limits) == 3 or min(stride) < 1:
            raise UserError("key stride, kernel and offset range need three figures each, along t, h and w.")
        if any(k < s or (k - s) % 2 for k, s in zip(sizes, stride, strict=True)):
            raise UserError(f"offset kernel {sizes} does not go with the stride {list(stride)}: add an even number.")
        if width % groups:
            raise UserError(f"offset groups: {groups} do not divide the width {width}.")
        self.groups, self.stride, self.sampling, self.backend = groups, tuple(stride), sampling, backend
        self.register_buffer("reach", torch.tensor(limits), persistent=False)
        self.conv: nn.Conv3d | None = None
        if offsets:
            part = width // groups
            t, h, w = ((k - s) // 2 for k, s in zip(sizes, stride, strict=True))
            size, step = (sizes[0], sizes[1], sizes[2]), (stride[0], stride[1], stride[2])
            self.conv = nn.Conv3d(part, part, size, step, (t, h, w), groups=part)
            self.norm, self.head = nn.LayerNorm(part), nn.Linear(part, 3)
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, query: Tensor, values: Tensor, there: Tensor) -> Found:
        size = values.shape[1:4]
        count = torch.arange(1, size[0] + 1, device=there.device)
        frames = (there * count).amax(1)
        with torch.autocast(values.device.type, enabled=False):
            reference = reference_points(size, self.stride, frames)
            points = self._move(_wide(query), reference, last_cell(size, frames))
            tokens = self._sample(_wide(values), points)
        start = torch.arange(reference.shape[1], device=there.device) * self.stride[0]
        valid = (start < frames[:, None])[:, :, None, None].expand(reference.shape[:-1]).flatten(1)
        return Found(tokens, valid, points, reference)

    def _move(self, query: Tensor, reference: Tensor, last: Tensor) -> Tensor:
        """Points ``(N, G, T', H', W', 3)``."""
        start = reference.unsqueeze(1).expand(-1, self.groups, -1, -1, -1, -1)
        if self.conv is None:
            return start
        x = query.permute(0, 4, 1, 2, 3).unflatten(1, (self.groups, -1)).flatten(0, 1)
        padding = [end for n, s in zip(x.shape[:1:-1], self.stride[::-1], strict=True) for end in (0, -n % s)]
        x = self.conv(F.pad(x, padding)).permute(0, 2, 3, 4, 1)
        delta = self.reach * torch.tanh(self.head(F.gelu(self.norm(x))))
        moved = start + delta.unflatten(0, (-1, self.groups))
        return torch.minimum(moved.clamp(min=0), last.to(moved.dtype)[:, None, None, None, None])

    def _sample(self, values: Tensor, points: Tensor) -> Tensor:
        """Tokens ``(N, P, C)`` at the points, each group of channels at its own."""
        apart = values.unflatten(-1, (self.groups, -1)).movedim(-2, 1).flatten(0, 1)
        flat = points.to(values.dtype).flatten(0, 1).flatten(1, 3)
        chosen = resolve(self.backend)
        if chosen != "dense":
            found = sample_edges(apart, flat, chosen)
        else:
            found = (sample_grid if self.sampling == "grid" else sample_gather)(apart, flat)
        return found.unflatten(0, (-1, self.groups)).transpose(1, 2).flatten(2)


def _wide(x: Tensor) -> Tensor:
    """Half precision to float32; what is wider stays."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class PositionBias(nn.Module):
    """Bias of every edge from a cell to a key point by where one lies from the other, on a logarithmic scale.

    ``MLP(sign(d) log2(1 + |d|))`` with d in cells; each group of heads looks at its own group of key points.

    Shapes:
        points (N, G, T', H', W', 3), size T, H, W; out (N, heads, T H W, T' H' W').

    Source: the logarithmic option of DAT (Xia et al., CVPR 2022), carried to three axes.
    """

    def __init__(self, heads: int, groups: int, hidden: int = 16) -> None:
        super().__init__()
        if heads % groups:
            raise UserError(f"position_bias: {groups} offset groups do not divide {heads} heads.")
        # No bias at the end: a softmax over the keys would all but cancel it.
        self.hidden, self.out = nn.Linear(3, hidden), nn.Linear(hidden, heads // groups, bias=False)

    def forward(self, points: Tensor, size: Sequence[int]) -> Tensor:
        axes = [torch.arange(n, device=points.device, dtype=points.dtype) for n in size]
        cells = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)
        apart = cells[:, None] - points.flatten(2, 4)[:, :, None]
        scaled = apart.sign() * torch.log2(1 + apart.abs())
        found: Tensor = self.out(F.relu(self.hidden(scaled.to(self.out.weight.dtype))))
        return found.movedim(-1, 2).flatten(1, 2)


class DeformableAttention(TokenAttention):
    """3D deformable attention (D3A): cells and modal tokens attend to the searched tokens and the modal tokens.

    Args:
        width, heads: as in `TokenAttention`, as are the further ``common`` settings.
        search: settings of `TokenSearch`.
        top_k: of the searched tokens only so many stay, those with the highest mean score from the modal tokens; 0
            keeps all. The paper's rule for "intense" tokens is not known; this is one reading.
        position_bias: adds `PositionBias` between cells and searched tokens.

    Shapes:
        cells (N, T, H, W, C), modal (N, K, C), there (N, T) bool; out cells, modal. Cells of frames that are not there
        are zero; a clip without any is left with attention among the modal tokens.

    Source: reconstruction of Kim et al., ICCV 2023.
    """

    def __init__(
        self, width: int, heads: int, *, search: dict[str, Any] | None = None, top_k: int = 0,
        position_bias: bool = False, **common: Any,
    ) -> None:  # fmt: skip
        super().__init__(width, heads, **common)
        self.top_k = top_k
        self.search = TokenSearch(width, **{"backend": self.backend, **(search or {})})
        self.bias = PositionBias(heads, self.search.groups) if position_bias else None

    def forward(
        self, cells: Tensor, modal: Tensor, there: Tensor, record: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        shape, many = cells.shape, modal.shape[1]
        seen = there[:, :, None, None, None]
        normed = torch.where(seen, self.norm(cells), 0.0)
        normed_modal = self.norm(modal)
        asked = self.query(torch.cat([normed.flatten(1, 3), normed_modal.to(normed.dtype)], dim=1))
        of_cells = torch.where(seen, asked[:, :-many].view(shape), 0.0)
        found = self.search(of_cells, normed, there)
        known = torch.cat([found.tokens, normed_modal.to(found.tokens.dtype)], dim=1)
        query, key, value = (self.split(x) for x in (asked, self.key(known), self.value(known)))
        valid = F.pad(self._intense(query[:, :, -many:], key[:, :, :-many], found.valid), (0, many), value=True)
        mask = valid.unsqueeze(1)
        bias = None if self.bias is None else F.pad(self.bias(found.points, shape[1:4]), (0, many, 0, many))
        attended = self.merge(attend(query, key, value, mask, self.backend, bias))
        if record is not None:
            of_modal = None if bias is None else bias[:, :, -many:]
            record["points"], record["reference"] = found.points.detach(), found.reference
            record["attn_modal"] = attention_weights(query[:, :, -many:], key, mask, of_modal)
        tokens = self.add(torch.cat([cells.flatten(1, 3), modal.to(cells.dtype)], dim=1), attended)
        return torch.where(seen, tokens[:, :-many].view(shape), 0.0), tokens[:, -many:]

    def _intense(self, query: Tensor, key: Tensor, valid: Tensor) -> Tensor:
        """Keys ``(N, P)`` that take part."""
        if not 0 < self.top_k < key.shape[2]:
            return valid
        score = (query @ key.transpose(-1, -2)).mean((1, 2)).masked_fill(~valid, float("-inf"))
        best = score.topk(self.top_k, dim=1).indices
        return valid & torch.zeros_like(valid).scatter(1, best, True)
