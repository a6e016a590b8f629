"""A token for each joint and frame, made along the bones.

Letters: N clips, M persons, T frames, V joints, D coordinates, C channels of a token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.nn.propagation import propagate
from skelgraph.nn.streams import motion
from skelgraph.topology import Topology


class PoseTokens(nn.Module):
    """``Linear [position, score, bone, velocity] + joint code + person code``, then graph convolutions over bones.

    ``h += gelu(Linear(D^-1/2 (A + I) D^-1/2 norm(h)))`` for each of ``layers``. A bone is zero where one of its ends
    is not seen, a velocity where one of its frames is not, and what is not seen sends nothing.

    Args:
        topology: of the joints.
        channels: D.
        persons: M, greatest number.
        width: C.
        layers: graph convolutions.
        extra: channels that come beside the coordinates (joint-map tokens); 0 for none.
        backend: see `propagate`.

    Shapes:
        points (N, M, T, V, D), score and seen (N, M, T, V), extra (N, M, T, V, E); out (N, M, T, V, C), zero where
        not seen.
    """

    parents: Tensor
    adjacency: Tensor

    def __init__(
        self, topology: Topology, channels: int, persons: int, width: int, *, layers: int = 1, extra: int = 0,
        backend: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.backend = backend
        self.embed = nn.Linear(3 * channels + 1, width)
        self.extra = nn.Linear(extra, width, bias=False) if extra else None
        self.joint = nn.Parameter(torch.randn(len(topology.joints), width) * 0.02)
        self.person = nn.Parameter(torch.randn(persons, 1, 1, width) * 0.02)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(layers)])
        self.convs = nn.ModuleList([nn.Linear(width, width) for _ in range(layers)])
        adjacency = torch.as_tensor(topology.adjacency("normalized"), dtype=torch.float32)
        self.register_buffer("adjacency", adjacency, persistent=False)
        self.register_buffer("parents", torch.as_tensor(topology.parents), persistent=False)

    def forward(self, points: Tensor, score: Tensor, seen: Tensor, extra: Tensor | None = None) -> Tensor:
        mask = seen.unsqueeze(-1)
        points = torch.where(mask, points, 0.0)
        score = torch.where(seen, score, 0.0).unsqueeze(-1)
        bone = torch.where(mask & mask[..., self.parents, :], points - points[..., self.parents, :], 0.0)
        both = F.pad(mask[:, :, 1:] & mask[:, :, :-1], (0, 0, 0, 0, 0, 1))
        velocity = torch.where(both, motion(points), 0.0)
        h = self.embed(torch.cat([points, score, bone, velocity], dim=-1))
        if self.extra is not None and extra is not None:
            h = h + self.extra(extra)
        h = torch.where(mask, h + self.joint + self.person[: h.shape[1]], 0.0)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            sent = torch.where(mask, norm(h), 0.0)
            h = torch.where(mask, h + F.gelu(conv(propagate(sent, self.adjacency, backend=self.backend))), 0.0)
        return h
