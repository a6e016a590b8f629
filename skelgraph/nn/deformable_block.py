"""A block of the 3D deformable transformer: cells, joints and modal tokens meet three times.

Letters: N clips, T frames, J joints of all persons, C width, K modal tokens, h heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skelgraph.nn.deformable import DeformableAttention
from skelgraph.nn.stride_attention import Groups, StrideAttention, frame_groups


class Tokens:
    """What travels through the blocks: cells of each lattice, poses ``(N, T, J, C)``, modal tokens ``(N, K, C)``."""

    def __init__(self, cells: list[Tensor], there: list[Tensor], pose: Tensor, seen: Tensor, modal: Tensor) -> None:
        self.cells, self.there, self.pose, self.seen, self.modal = cells, there, pose, seen, modal
        present = [*there, seen.any(-1)]
        self.frames = torch.stack(present).any(0)


class DeformableBlock(nn.Module):
    """3D deformable attention of each lattice, then joint, then temporal stride attention.

    Args:
        lattices: their names.
        width, heads: as in `TokenAttention`, as are the further ``common`` settings.
        temporal_stride: of the last.
        cross_modal: off cuts every road between the modalities: a modal token meets its own modality alone and frames
            send no token to the joints.
        has_pose: whether the last modal token is the poses'.
        deformable: settings of `DeformableAttention`.
    """

    def __init__(
        self, lattices: Sequence[str], width: int, heads: int, *, temporal_stride: int, cross_modal: bool,
        has_pose: bool, deformable: dict[str, Any], **common: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        self.names, self.temporal_stride = tuple(lattices), temporal_stride
        self.cross_modal, self.has_pose = cross_modal, has_pose
        self.d3a = nn.ModuleList([DeformableAttention(width, heads, **deformable, **common) for _ in lattices])
        met = has_pose or cross_modal
        self.jsa = StrideAttention(width, heads, **common) if met else None
        self.tsa = StrideAttention(width, heads, **common) if met else None

    def forward(
        self, tokens: Tokens, null: Tensor | None, groups: Groups, record: dict[str, Tensor] | None = None
    ) -> None:
        for number, attention in enumerate(self.d3a):
            part: dict[str, Tensor] | None = None if record is None else {}
            chosen = slice(None) if self.cross_modal else slice(number, number + 1)
            tokens.cells[number], modal = attention(
                tokens.cells[number], tokens.modal[:, chosen], tokens.there[number], part
            )
            tokens.modal = self._replaced(tokens.modal, modal, chosen)
            if record is not None:
                record |= {f"d3a.{self.names[number]}.{key}": value for key, value in (part or {}).items()}
        if self.jsa is not None and self.tsa is not None:
            chosen = slice(None) if self.cross_modal else slice(tokens.modal.shape[1] - 1, None)
            modal = tokens.modal[:, chosen]
            frame = self._frame_tokens(tokens, null)
            modal, frame = self._joints(self.jsa, tokens, modal, frame, groups, record)
            modal = self._times(self.tsa, tokens, modal, frame, record)
            tokens.modal = self._replaced(tokens.modal, modal, chosen)

    @staticmethod
    def _replaced(modal: Tensor, part: Tensor, chosen: slice) -> Tensor:
        start, stop, _ = chosen.indices(modal.shape[1])
        return torch.cat([modal[:, :start], part, modal[:, stop:]], dim=1)

    def _frame_tokens(self, tokens: Tokens, null: Tensor | None) -> Tensor:
        """``A (N, T, number of lattices, C)``: the mean of a frame's cells; a learnt vector where it is missing."""
        if null is None:
            return tokens.pose[:, :, :0]
        means = [
            torch.where(there.unsqueeze(-1), cells.mean((2, 3)), blank)
            for cells, there, blank in zip(tokens.cells, tokens.there, null, strict=True)
        ]
        return torch.stack(means, dim=2)

    def _joints(
        self, attention: StrideAttention, tokens: Tokens, modal: Tensor, frame: Tensor, groups: Groups,
        record: dict[str, Tensor] | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        n, t, lattices = frame.shape[:3]
        copies = modal.unsqueeze(1).expand(-1, t, -1, -1).to(frame.dtype)
        shared = torch.cat([frame, copies], dim=2).flatten(0, 1)
        part: dict[str, Tensor] | None = None if record is None else {}
        row = 0 if lattices else shared.shape[1] - 1
        shared, pose = attention(shared, tokens.pose.flatten(0, 1), tokens.seen.flatten(0, 1), groups, part, row)
        shared, tokens.pose = shared.unflatten(0, (n, t)), pose.unflatten(0, (n, t))
        share = tokens.frames.to(shared.dtype) / tokens.frames.sum(1, keepdim=True).clamp(min=1)
        if record is not None and part is not None:
            record["jsa.joint"] = part["items"].unflatten(0, (n, t)).transpose(1, 2)
            record["jsa.rest"] = part["rest"].unflatten(0, (n, t)).transpose(1, 2)
        return torch.einsum("ntkc,nt->nkc", shared[:, :, lattices:], share), shared[:, :, :lattices]

    def _times(
        self, attention: StrideAttention, tokens: Tokens, modal: Tensor, frame: Tensor,
        record: dict[str, Tensor] | None,
    ) -> Tensor:  # fmt: skip
        t, lattices = frame.shape[1:3]
        items = torch.cat([frame, tokens.pose], dim=2)
        valid = torch.cat([tokens.frames.unsqueeze(-1).expand(-1, -1, lattices), tokens.seen], dim=2)
        groups = frame_groups(t, self.temporal_stride, items.shape[2], items.device)
        part: dict[str, Tensor] | None = None if record is None else {}
        row = modal.shape[1] - 1
        modal, moved = attention(modal, items.flatten(1, 2), valid.flatten(1), groups, part, row)
        tokens.pose = moved.unflatten(1, (t, -1))[:, :, lattices:]
        if record is not None and part is not None:
            rows = part["items"].unflatten(-1, (t, -1))
            record["tsa.frame"], record["tsa.joint"] = rows.sum(-1), rows[..., lattices:]
            record["tsa.rest"] = part["rest"]
        return modal
