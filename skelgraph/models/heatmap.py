"""Joint heat maps as a video: rendered on the device from 2-D poses, for networks that want a lattice.

Letters: N clips, M persons, T frames, V joints, S pixels along a side.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skelgraph.batch import Batch, ClipSpec
from skelgraph.errors import UserError
from skelgraph.models.base import MODELS, Model
from skelgraph.nn.lattice import LightStem


class HeatmapVolume(nn.Module):
    """One Gaussian for each joint in a channel of its own, weighted by the score; persons by the greater value.

    A square around all joints of all persons over the whole clip, enlarged by ``margin``, becomes the picture, so a
    movement across it stays one. It has no parameters.

    Args:
        size: S.
        sigma: of the Gaussian, in pixels.
        margin: factor on the square's side.
        axes: which two coordinates are the picture, x to the right and y down.

    Shapes:
        keypoints (N, M, T, V, C), score (N, M, T, V), valid (N, M, T); out (N, T, V, S, S) in [0, 1].

    Source: PoseConv3D (Duan et al., CVPR 2022), by its description.
    """

    def __init__(
        self, size: int = 56, *, sigma: float = 0.6, margin: float = 1.25, axes: Sequence[int] = (0, 1)
    ) -> None:
        super().__init__()
        if len(axes) != 2 or size < 1 or sigma <= 0 or margin <= 0:
            raise UserError("heat map: axes are two coordinates, and size, sigma and margin must be above 0.")
        self.size, self.sigma, self.margin, self.axes = size, sigma, margin, tuple(axes)

    def positions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Joints in the picture, -1 and 1 at its edges ``(N, M, T, V, 2)``, and which are seen ``(N, M, T, V)``."""
        if max(self.axes) >= batch.keypoints.shape[-1]:
            raise UserError(f"heat map: joints have {batch.keypoints.shape[-1]} coordinates; axes {self.axes} asked.")
        seen = batch.valid.unsqueeze(-1) & (batch.score > 0)
        plane = torch.stack([batch.keypoints[..., axis] for axis in self.axes], dim=-1)
        mask = seen.unsqueeze(-1)
        low = plane.masked_fill(~mask, float("inf")).amin((1, 2, 3), keepdim=True)
        high = plane.masked_fill(~mask, float("-inf")).amax((1, 2, 3), keepdim=True)
        centre, half = (low + high) / 2, (high - low).amax(-1, keepdim=True) / 2 * self.margin
        placed = (plane - centre) / half.clamp(min=torch.finfo(half.dtype).tiny)
        return torch.where(mask, placed, 0.0), seen

    def forward(self, batch: Batch) -> Tensor:
        placed, seen = self.positions(batch)
        at = (placed + 1) * (self.size / 2) - 0.5
        pixel = torch.arange(self.size, device=at.device, dtype=at.dtype)
        bell = torch.exp(-((at.unsqueeze(-1) - pixel) ** 2) / (2 * self.sigma**2))
        height = torch.where(seen, batch.score, 0.0).unsqueeze(-1) * bell[..., 1, :]
        volume: Tensor | None = None
        for person in range(at.shape[1]):
            drawn = height[:, person].unsqueeze(-1) * bell[:, person, ..., 0, :].unsqueeze(-2)
            volume = drawn if volume is None else torch.maximum(volume, drawn)
        assert volume is not None
        return volume


@MODELS.register("heatmap_cnn")
class HeatmapCNN(Model):
    """Recognition from the heat-map volume by a light 3-D CNN and the mean over frames and pixels.

    In the manner of PoseConv3D, not that network: stem and widths are `LightStem`'s.

    Args:
        spec: the input.
        size, sigma, margin, axes: see `HeatmapVolume`.
        widths, strides, norm: see `LightStem`.
        dropout: before the classifier.

    Shapes:
        joints (N, M, T, V, C); features (N, last width).
    """

    def __init__(
        self, spec: ClipSpec, *, size: int = 56, sigma: float = 0.6, margin: float = 1.25,
        axes: Sequence[int] = (0, 1), widths: Sequence[int] = (32, 64, 128), strides: Sequence[int] = (1, 2, 2),
        norm: str = "batch", dropout: float = 0.5,
    ) -> None:  # fmt: skip
        super().__init__(spec)
        self.volume = HeatmapVolume(size, sigma=sigma, margin=margin, axes=axes)
        self.stem = LightStem(spec.joints, widths, strides, norm)
        self.feature_dim = self.stem.out_channels
        self.dropout = nn.Dropout(dropout)
        self.reset_classifier(spec.classes)

    def forward_features(self, batch: Batch) -> Tensor:
        there = batch.valid.any(1)
        maps, _ = self.stem(self.volume(batch), there)
        weight = there.to(maps.dtype) / there.sum(1, keepdim=True).clamp(min=1)
        return self.dropout(torch.einsum("ntchw,nt->nc", maps, weight) / maps.shape[-1] ** 2)
