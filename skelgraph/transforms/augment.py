"""Random changes of a clip while training; every clip draws its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from skelgraph.batch import Batch, Modality, ModalitySpec
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
    """Coordinates times 1 + u with u uniform in ±``amount``.

    Args:
        amount: 0.1 in PYSKL and BRL (per axis); 0.5 for NW-UCLA in CTR-GCN and BRL (per clip).
        per: ``axis`` draws for each clip and axis, ``clip`` one factor for all axes of a clip.
    """

    def __init__(self, topology: Topology, *, amount: float = 0.1, per: Literal["axis", "clip"] = "axis") -> None:
        super().__init__(topology)
        self.amount, self.per = amount, per

    def forward(self, batch: Batch) -> Batch:
        x = batch.keypoints
        draws = x.shape[-1] if self.per == "axis" else 1
        factor = 1 + self.amount * _signed(len(x), 1, 1, 1, draws, like=x)
        return batch.with_(keypoints=x * factor)


@TRANSFORMS.register("random_rotation")
class RandomRotation(Augmentation):
    """One rotation about the origin for each clip: angles uniform in ±``angle`` about x, y, z (2-D: in the plane).

    In 3-D x' = Rz Ry Rx x, as in CTR-GCN, PSUMNet and PYSKL (``angle`` 0.3).

    Args:
        angle: largest angle; or three, about x, y and z.
        degrees: whole degrees, both ends included, instead of any angle in rad. NW-UCLA in CTR-GCN and BRL turns by
            ``{angle: [60, 60, 0], degrees: true}``.

    Raises:
        UserError: ``angle`` is neither one number nor three, or not whole degrees.
    """

    def __init__(self, topology: Topology, *, angle: float | Sequence[float] = 0.3, degrees: bool = False) -> None:
        super().__init__(topology)
        self.angle = (angle,) * 3 if isinstance(angle, int | float) else tuple(angle)
        self.degrees = degrees
        if len(self.angle) != 3:
            raise UserError(f"random_rotation: 'angle' is one number or three (about x, y, z), got {list(self.angle)}.")
        if degrees and any(value != int(value) for value in self.angle):
            raise UserError(f"random_rotation: with degrees, 'angle' is in whole degrees, got {list(self.angle)}.")

    def forward(self, batch: Batch) -> Batch:
        x = batch.keypoints
        draws = torch.rand(len(x), 3, device=x.device, dtype=x.dtype).unbind(1)
        limits = self.angle if x.shape[-1] == 3 else (0, 0, self.angle[2])
        angles = torch.stack([self._angle(draw, limit) for draw, limit in zip(draws, limits, strict=True)], 1)
        matrix = rotation(angles)[:, : x.shape[-1], : x.shape[-1]]
        return batch.with_(keypoints=apply_matrix(x, matrix))

    def _angle(self, draw: Tensor, limit: float) -> Tensor:
        """Angles in rad from draws in [0, 1)."""
        if self.degrees:
            return torch.deg2rad((draw * (2 * limit + 1)).floor() - limit)
        return limit * (2 * draw - 1)


def apply_matrix(keypoints: Tensor, matrix: Tensor) -> Tensor:
    """x' = A x at every joint of a clip.

    Shapes:
        keypoints (N, M, T, V, C), matrix (N, C, C), result as keypoints.
    """
    return torch.einsum("nij,nmtvj->nmtvi", matrix, keypoints)


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
    """Mirror image of a clip with probability ``p``: left and right joints swapped, x negated, frames flipped.

    Stands after ``center`` or ``image`` (x = 0 must be the plane of reflection). Not for classes that tell left from
    right. A sequence or features beside the skeleton need mirror signs among their facts.

    Args:
        negate: false only swaps the joints, which crosses the limbs of the body: no mirror image, but what BRL's
            released training does. Further modalities then stay as they are.

    Raises:
        UserError: the topology names no mirror joints, or a modality has no mirror image.
    """

    order: Tensor

    def __init__(self, topology: Topology, *, p: float = 0.5, negate: bool = True) -> None:
        super().__init__(topology)
        if not topology.mirror:
            raise UserError(f"topology '{topology.name}' names no mirror joints; leave the transform 'mirror' out.")
        self.p, self.negate = p, negate
        order = torch.as_tensor(topology.mirror_permutation, dtype=torch.long)
        self.register_buffer("order", order, persistent=False)

    def forward(self, batch: Batch) -> Batch:
        x = batch.keypoints
        flip = (torch.rand(len(x), device=x.device) < self.p).view(-1, 1, 1, 1)
        swapped = x[:, :, :, self.order]
        if self.negate:
            swapped = torch.cat([-swapped[..., :1], swapped[..., 1:]], dim=-1)
        keypoints = torch.where(flip.unsqueeze(-1), swapped, x)
        score = torch.where(flip, batch.score[..., self.order], batch.score)
        return batch.with_(keypoints=keypoints, score=score, modalities=self._modalities(batch, flip.flatten()))

    def refusal(self, modality: ModalitySpec) -> str:
        if not self.negate or modality.kind == "frames" or modality.mirror is not None:
            return ""
        return "a sequence or features have no mirror image unless their facts name its signs; leave it out"

    def _modalities(self, batch: Batch, flip: Tensor) -> Mapping[str, Modality]:
        if not self.negate:
            return batch.modalities
        changed = {}
        for name, item in batch.modalities.items():
            if item.kind == "frames":
                image = item.values.flip(-1)
            elif item.mirror is not None:
                image = item.values * item.values.new_tensor(item.mirror)
            else:
                raise UserError(f"mirror: modality '{name}' has no mirror image; leave the transform out.")
            rows = flip.view(-1, *[1] * (image.dim() - 1))
            changed[name] = replace(item, values=torch.where(rows, image, item.values))
        return changed


@TRANSFORMS.register("reverse")
class Reverse(Augmentation):
    """A clip backwards with probability ``p``, from its last frame that shows anybody to its first such frame.

    Empty frames before and after stay where they are. The temporal half of BRL's exploration (arXiv 2308.14024), which
    its released settings leave off. Not for classes that are each other's reverse (sit down, stand up).
    """

    def __init__(self, topology: Topology, *, p: float = 0.5) -> None:
        super().__init__(topology)
        self.p = p

    def forward(self, batch: Batch) -> Batch:
        n, _, t = batch.valid.shape
        device = batch.valid.device
        back = torch.rand(n, 1, device=device) < self.p
        anybody = batch.valid.any(1).to(torch.int8)
        first = anybody.argmax(1, keepdim=True)
        last = t - 1 - anybody.flip(1).argmax(1, keepdim=True)
        time = torch.arange(t, device=device).expand(n, t)
        frame = torch.where(back & (time >= first) & (time <= last), first + last - time, time)
        clip = torch.arange(n, device=device).unsqueeze(1)
        turned = {
            name: getattr(batch, name).transpose(1, 2)[clip, frame].transpose(1, 2)
            for name in ("keypoints", "score", "valid")
        }
        return batch.with_(**turned)

    def refusal(self, modality: ModalitySpec) -> str:
        return "turns the skeleton alone and would put it out of step with what is beside it; leave it out"


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


@TRANSFORMS.register("shear")
class Shear(Augmentation):
    """Shears a clip with probability ``p``: x' = S x, S with unit diagonal and all else uniform in ±``amount``.

    Args:
        amount: 1 in HaLP, CMD and the works before them.
        p: probability for each clip.

    Shapes:
        S is (C, C), the same for all joints, frames and persons of a clip.
    """

    def __init__(self, topology: Topology, *, amount: float = 1.0, p: float = 1.0) -> None:
        super().__init__(topology)
        self.amount, self.p = amount, p

    def forward(self, batch: Batch) -> Batch:
        x = batch.keypoints
        n, c = len(x), x.shape[-1]
        eye = torch.eye(c, device=x.device, dtype=x.dtype)
        matrix = torch.where(eye > 0, eye, self.amount * _signed(n, c, c, like=x))
        changed = (torch.rand(n, device=x.device) < self.p).view(-1, 1, 1)
        return batch.with_(keypoints=apply_matrix(x, torch.where(changed, matrix, eye)))


@TRANSFORMS.register("corrupt_joints")
class CorruptJoints(Augmentation):
    """Spoils some joints of a clip, the same in all its frames and persons: hides them, or maps them at random.

    A mapped joint is at A x, A with entries uniform in ±``amount``; a hidden one is missing.

    Args:
        count: how many joints, drawn without repetition; below 1 their share (0.6 is 15 of 25, as HaLP has it).
        mix: probability that the chosen joints of a clip are mapped rather than hidden.
        amount: largest entry of A.
        p: probability for each clip that it is touched at all.

    Raises:
        UserError: fewer than one joint, or more than there are.
    """

    def __init__(
        self, topology: Topology, *, count: float = 0.6, mix: float = 0.5, amount: float = 1.0, p: float = 1.0
    ) -> None:
        super().__init__(topology)
        joints = len(topology.joints)
        self.count = round(count * joints if count < 1 else count)
        if not 1 <= self.count <= joints or (count >= 1 and count != self.count):
            raise UserError(
                f"corrupt_joints: 'count' is a whole number up to the {joints} joints of '{topology.name}', or a share "
                f"of them below 1, got {count}."
            )
        self.mix, self.amount, self.p = mix, amount, p

    def forward(self, batch: Batch) -> Batch:
        x = batch.keypoints
        n, v, c = len(x), x.shape[3], x.shape[4]
        chosen = torch.rand(n, v, device=x.device).argsort(1) < self.count
        chosen = chosen & (torch.rand(n, 1, device=x.device) < self.p)
        mixed = torch.rand(n, 1, device=x.device) < self.mix
        return corrupted(batch, chosen & ~mixed, chosen & mixed, self.amount * _signed(n, c, c, like=x))


def corrupted(batch: Batch, hidden: Tensor, mixed: Tensor, matrix: Tensor) -> Batch:
    """A batch without the joints ``hidden``, and with the joints ``mixed`` at A x.

    Shapes:
        hidden, mixed (N, V) bool, matrix A (N, C, C).
    """
    hidden, mixed = hidden[:, None, None], mixed[:, None, None, :, None]
    keypoints = torch.where(mixed, apply_matrix(batch.keypoints, matrix), batch.keypoints)
    return batch.with_(
        keypoints=keypoints.masked_fill(hidden.unsqueeze(-1), 0), score=batch.score.masked_fill(hidden, 0)
    )


def _signed(*shape: int, like: Tensor) -> Tensor:
    """Draws uniform in ±1."""
    return 2 * torch.rand(*shape, device=like.device, dtype=like.dtype) - 1
