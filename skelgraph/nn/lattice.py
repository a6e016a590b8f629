"""Tokens on a lattice (t, h, w) from frames or ready feature maps, and what lies under the joints there.

Letters: N clips, T frames, h w pixels, H W cells, C channels of a token, M persons, V joints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.errors import UserError, unknown


class FrameNorm(nn.GroupNorm):
    """Group norm of each frame on its own: neither other clips nor padded frames have a say.

    A group has 8 channels or more: one channel alone would lose how much of it there is in a frame.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(
            next(groups for groups in (8, 4, 2, 1) if groups == 1 or channels % (8 * groups) == 0), channels
        )


NORMS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm2d, "frame": FrameNorm}


class TimeConv(nn.Module):
    """Convolution over three frames and a square of pixels; frames that are not there count as zero.

    Shapes:
        x (N T, C, h, w), there (N, T) bool; out (N T, out, h', w').
    """

    def __init__(self, channels: int, out: int, size: int = 1, stride: int = 1) -> None:
        super().__init__()
        # As one 2-D convolution of three frames side by side; its weight is the 3-D one's (out, C, 3, size, size).
        self.conv = nn.Conv2d(3 * channels, out, size, stride, size // 2, bias=False)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        frames = torch.where(there[:, :, None, None, None], x.unflatten(0, there.shape), 0.0)
        blank = torch.zeros_like(frames[:, :1])
        beside = [torch.cat([blank, frames[:, :-1]], 1), frames, torch.cat([frames[:, 1:], blank], 1)]
        out: Tensor = self.conv(torch.stack(beside, dim=3).flatten(2, 3).flatten(0, 1))
        return out


class StemStage(nn.Module):
    """Residual block of a 1x3x3 and a 3x1x1 convolution."""

    def __init__(self, channels: int, out: int, stride: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.space, self.space_norm = nn.Conv2d(channels, out, 3, stride, 1, bias=False), norm(out)
        self.time, self.time_norm = TimeConv(out, out), norm(out)
        same = channels == out and stride == 1
        self.shortcut: nn.Module = nn.Identity() if same else nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        moved = self.time(F.relu(self.space_norm(self.space(x))), there)
        return F.relu(self.time_norm(moved) + self.shortcut(x))


class LightStem(nn.Module):
    """Light 3-D CNN that keeps every frame: a 3x7x7 convolution of stride (1, 2, 2), then residual stages.

    Args:
        channels: of the frames.
        widths: of the stages; the first is also that of the first convolution.
        strides: of the stages in space. The defaults make 7x7 cells of 112x112 pixels.
        norm: ``batch``, in whose statistics of training a missing frame counts as an empty one, or ``frame``, each
            frame on its own, for batches too small for that.

    Shapes:
        frames (N, T, channels, h, w), there (N, T) bool; out (N, T, C', H, W) and the map of the first stage.
    """

    def __init__(
        self, channels: int, widths: Sequence[int] = (32, 64, 128, 128), strides: Sequence[int] = (1, 2, 2, 2),
        norm: str = "batch",
    ) -> None:  # fmt: skip
        super().__init__()
        if norm not in NORMS:
            raise unknown("norm of the stem", norm, NORMS)
        if len(widths) != len(strides) or not widths:
            raise UserError(f"stem: {len(widths)} widths do not go with {len(strides)} strides.")
        self.first, self.first_norm = TimeConv(channels, widths[0], 7, 2), NORMS[norm](widths[0])
        pairs = zip([widths[0], *widths[:-1]], widths, strides, strict=True)
        self.stages = nn.ModuleList([StemStage(before, wide, stride, NORMS[norm]) for before, wide, stride in pairs])
        self.reduction = 2
        for stride in strides:
            self.reduction *= stride
        self.early_channels, self.out_channels = widths[0], widths[-1]

    def cells(self, pixels: int) -> int:
        """Cells along a side of so many pixels."""
        return -(-pixels // self.reduction)

    def forward(self, frames: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.first_norm(self.first(frames.flatten(0, 1), there)))
        early = x
        for number, stage in enumerate(self.stages):
            x = stage(x, there)
            early = x if number == 0 else early
        return x.unflatten(0, there.shape), early.unflatten(0, there.shape)


class FeatureStem(nn.Module):
    """In place of `LightStem` where the lattice already holds features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.early_channels = self.out_channels = channels

    def cells(self, pixels: int) -> int:
        return pixels

    def forward(self, frames: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        return frames, frames


class LatticeTokens(nn.Module):
    """Frames to tokens: stem, 1x1x1 map to C, and a learnt code of the cell.

    Args:
        shape: (channels, h, w) of a frame, or of a feature map.
        width: C.
        stem: the network before the map.

    Shapes:
        frames (N, T, channels, h, w), there (N, T) bool; out (N, T, H, W, C), zero in frames that are not there, and
        the early map (N, T, C', H', W').
    """

    def __init__(self, shape: Sequence[int], width: int, stem: LightStem | FeatureStem) -> None:
        super().__init__()
        self.stem, self.shape = stem, tuple(shape)
        self.cells = (stem.cells(shape[1]), stem.cells(shape[2]))
        self.project = nn.Linear(stem.out_channels, width)
        self.place = nn.Parameter(torch.randn(*self.cells, width) * 0.02)

    def forward(self, frames: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        if tuple(frames.shape[2:]) != self.shape:
            raise UserError(f"this network was built for frames of {self.shape} and got {tuple(frames.shape[2:])}.")
        seen = there[:, :, None, None, None]
        clean = torch.where(seen, frames, 0)
        clean = clean if clean.is_floating_point() else clean.to(self.project.weight.dtype) / 255
        deep, early = self.stem(clean, there)
        cells = self.project(deep.movedim(2, -1)) + self.place
        return torch.where(seen, cells, 0.0), early


def under_joints(features: Tensor, positions: Tensor, seen: Tensor, sigma: float) -> Tensor:
    """Joint-map tokens: mean of the cells of each frame by a Gaussian around each joint, summing to 1.

    Args:
        positions: x to the right and y down, -1 and 1 at the edges of the picture.
        sigma: of the Gaussian, in the same units.

    Shapes:
        features (N, T, C, H, W), positions (N, M, T, V, 2), seen (N, M, T, V) bool; out (N, M, T, V, C), zero where
        the joint is not seen.

    Source: joint map tokens of STAR-Transformer (Ahn et al., WACV 2023), by its description.
    """
    height, width = features.shape[-2:]
    placed = torch.where(seen.unsqueeze(-1), positions, 0.0)

    def along(axis: int, cells: int) -> Tensor:
        centre = (2 * torch.arange(cells, device=features.device, dtype=placed.dtype) + 1) / cells - 1
        # A softmax, so that a joint far outside the picture still has weights that sum to 1.
        return (-((placed[..., axis, None] - centre) ** 2) / (2 * sigma**2)).softmax(-1)

    found = torch.einsum("nmtvx,nmtvy,ntcyx->nmtvc", along(0, width), along(1, height), features.to(placed.dtype))
    return torch.where(seen.unsqueeze(-1), found, 0.0)
