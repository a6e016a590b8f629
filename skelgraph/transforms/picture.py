"""Random changes of the frames beside a skeleton, which joints in the picture follow."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from skelgraph.batch import Batch
from skelgraph.errors import UserError
from skelgraph.topology import Topology
from skelgraph.transforms.augment import Augmentation
from skelgraph.transforms.base import TRANSFORMS


@TRANSFORMS.register("crop")
class Crop(Augmentation):
    """A random window of the picture for each clip, enlarged to the size of the picture.

    One window serves all frames of all modalities of a clip. 2-D joints follow it if they are in coordinates of the
    picture from -1 to 1, hence right after ``image``; those outside the window then lie beyond. 3-D joints have no
    place in the picture and stay.

    Args:
        scale: smallest and largest side of the window, as a share of the picture's.
        joints: false leaves 2-D joints as they are, too.
        smooth: false takes the nearest pixel, so that depth does not mix with the nothing beside it.

    Shapes:
        frames (N, S, C, h, w), joints (N, M, T, V, C).

    Raises:
        UserError: a share outside (0, 1].
    """

    def __init__(
        self, topology: Topology, *, scale: tuple[float, float] = (0.8, 1.0), joints: bool = True, smooth: bool = True
    ) -> None:
        super().__init__(topology)
        if not 0 < scale[0] <= scale[1] <= 1:
            raise UserError(f"crop: 'scale' is the smallest and the largest share of a side, in (0, 1], got {scale}.")
        self.scale, self.joints, self.mode = (scale[0], scale[1]), joints, "bilinear" if smooth else "nearest"

    def forward(self, batch: Batch) -> Batch:
        x = batch.keypoints
        draw = torch.rand(len(x), 3, device=x.device, dtype=x.dtype)
        side = self.scale[0] + (self.scale[1] - self.scale[0]) * draw[:, :1]
        middle = (2 * draw[:, 1:] - 1) * (1 - side)
        modalities = {
            name: replace(item, values=self._window(item.values, side, middle)) if item.kind == "frames" else item
            for name, item in batch.modalities.items()
        }
        if self.joints and x.shape[-1] == 2:
            shift, factor = middle[:, None, None, None, :], side[:, None, None, None, :]
            x = (x - shift) / factor * (batch.score > 0).unsqueeze(-1)
        return batch.with_(keypoints=x, modalities=modalities)

    def _window(self, frames: Tensor, side: Tensor, middle: Tensor) -> Tensor:
        plain = frames if frames.is_floating_point() else frames.float() / 255
        still = torch.diag_embed(side.expand(-1, 2))
        theta = torch.cat([still, middle.unsqueeze(-1)], dim=-1).to(plain.dtype)
        stacked = plain.flatten(1, 2)
        grid = F.affine_grid(theta, [len(plain), 1, *plain.shape[-2:]], align_corners=False)
        return F.grid_sample(stacked, grid, mode=self.mode, align_corners=False).view_as(plain)
