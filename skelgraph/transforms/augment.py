"""Random changes of a clip while training; every clip draws its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from skelgraph.batch import Batch
from skelgraph.errors import UserError
from skelgraph.topology import Topology
from skelgraph.transforms.base import TRANSFORMS, Transform


class Augmentation(Transform):
    """A transform of the training part only; draws from torch's generator, which the engine seeds every step."""

    training_only = True


@TRANSFORMS.register("jitter")
class Jitter(Augmentation):
    """Gaussian noise on every seen coordinate.

    Args:
        sigma: standard deviation, in the unit the coordinates have at this place of the pipeline.
    """

    def __init__(self, topology: Topology, *, sigma: float = 1.0) -> None:
        super().__init__(topology)
        self.sigma = sigma

    def forward(self, batch: Batch) -> Batch:
        noise = torch.randn_like(batch.keypoints) * self.sigma
        return batch.with_(keypoints=batch.keypoints + noise * (batch.score > 0).unsqueeze(-1))


@TRANSFORMS.register("random_scale")
class RandomScale(Augmentation):
    """Each axis times 1 + u with u uniform in ±``amount``, one draw a clip and axis."""

    def __init__(self, topology: Topology, *, amount: float = 0.1) -> None:
        super().__init__(topology)
        self.amount = amount

    def forward(self, batch: Batch) -> Batch:
        x = batch.keypoints
        factor = 1 + self.amount * (2 * torch.rand(len(x), 1, 1, 1, x.shape[-1], device=x.device, dtype=x.dtype) - 1)
        return batch.with_(keypoints=x * factor)


@TRANSFORMS.register("random_rotation")
class RandomRotation(Augmentation):
    """One rotation about the origin for each clip: angles uniform in ±``angle`` rad about x, y, z (2-D: in the plane).

    In 3-D x' = Rz Ry Rx x, as in CTR-GCN and PSUMNet (``angle`` 0.3).
    """

    def __init__(self, topology: Topology, *, angle: float = 0.3) -> None:
        super().__init__(topology)
        self.angle = angle

    def forward(self, batch: Batch) -> Batch:
        x = batch.keypoints
        angles = self.angle * (2 * torch.rand(len(x), 3, device=x.device, dtype=x.dtype) - 1)
        if x.shape[-1] == 2:
            angles = angles * angles.new_tensor([0.0, 0.0, 1.0])
        matrix = rotation(angles)[:, : x.shape[-1], : x.shape[-1]]
        return batch.with_(keypoints=torch.einsum("nij,nmtvj->nmtvi", matrix, x))


def rotation(angles: Tensor) -> Tensor:
    """Rz Ry Rx of ``angles (N, 3)`` in rad, ``(N, 3, 3)``; for x and y zero only the plane rotation by z remains.

    Rx = [[1,0,0],[0,c,s],[0,-s,c]], Ry = [[c,0,-s],[0,1,0],[s,0,c]], Rz = [[c,s,0],[-s,c,0],[0,0,1]].
    """
    c, s = angles.cos(), angles.sin()
    zero, one = torch.zeros_like(c[:, 0]), torch.ones_like(c[:, 0])

    def matrix(*rows: Tensor) -> Tensor:
        return torch.stack(rows, -1).view(-1, 3, 3)

    rx = matrix(one, zero, zero, zero, c[:, 0], s[:, 0], zero, -s[:, 0], c[:, 0])
    ry = matrix(c[:, 1], zero, -s[:, 1], zero, one, zero, s[:, 1], zero, c[:, 1])
    rz = matrix(c[:, 2], s[:, 2], zero, -s[:, 2], c[:, 2], zero, zero, zero, one)
    return rz @ ry @ rx


@TRANSFORMS.register("mirror")
class Mirror(Augmentation):
    """Mirror image of a clip with probability ``p``: left and right joints swapped and x negated.

    Stands after ``center`` or ``image`` (x = 0 must be the plane of reflection). Not for classes that tell left from
    right.
    """

    order: Tensor

    def __init__(self, topology: Topology, *, p: float = 0.5) -> None:
        super().__init__(topology)
        if not topology.mirror:
            raise UserError(f"topology '{topology.name}' names no mirror joints; leave the transform 'mirror' out.")
        self.p = p
        order = torch.as_tensor(topology.mirror_permutation, dtype=torch.long)
        self.register_buffer("order", order, persistent=False)

    def forward(self, batch: Batch) -> Batch:
        x = batch.keypoints
        flip = (torch.rand(len(x), device=x.device) < self.p).view(-1, 1, 1, 1)
        sign = x.new_tensor([-1.0] + [1.0] * (x.shape[-1] - 1))
        keypoints = torch.where(flip.unsqueeze(-1), x[:, :, :, self.order] * sign, x)
        return batch.with_(keypoints=keypoints, score=torch.where(flip, batch.score[..., self.order], batch.score))


@TRANSFORMS.register("drop_joints")
class DropJoints(Augmentation):
    """Hides each joint of a clip in a random stretch of frames with probability ``p``: training for occlusion.

    Args:
        p: probability for each joint of each clip.
        length: longest hidden stretch as a share of the frames.
    """

    def __init__(self, topology: Topology, *, p: float = 0.1, length: float = 0.5) -> None:
        super().__init__(topology)
        self.p, self.length = p, length

    def forward(self, batch: Batch) -> Batch:
        n, m, t, v = batch.score.shape
        device = batch.score.device
        hide = torch.rand(n, m, 1, v, device=device) < self.p
        span = torch.rand(n, m, 1, v, device=device) * self.length * t
        start = torch.rand(n, m, 1, v, device=device) * math.ceil(t)
        time = torch.arange(t, device=device).view(1, 1, t, 1)
        gone = hide & (time >= start) & (time < start + span)
        score = batch.score.masked_fill(gone, 0)
        return batch.with_(score=score, keypoints=batch.keypoints.masked_fill(gone.unsqueeze(-1), 0))
