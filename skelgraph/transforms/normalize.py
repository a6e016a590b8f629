"""Where the origin is, which way is up, how large one unit is, and what stands in for what is missing."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from skelgraph.batch import Batch
from skelgraph.errors import UserError
from skelgraph.topology import Topology
from skelgraph.transforms.base import TRANSFORMS, Transform

_EPS = 1e-6


def _seen(batch: Batch) -> Tensor:
    """1 where a joint is visible, ``(N, M, T, V, 1)``."""
    return (batch.score > 0).unsqueeze(-1).to(batch.keypoints.dtype)


def _masked(keypoints: Tensor, seen: Tensor) -> Tensor:
    """Missing joints back to exactly 0."""
    return torch.where(seen > 0, keypoints, torch.zeros_like(keypoints))


@TRANSFORMS.register("image")
class Image(Transform):
    """Pixels to [-1, 1] by the image size: x' = (x - w/2) / (w/2), y' = (y - h/2) / (h/2).

    Source: PYSKL's ``PreNormalize2D`` without its score threshold, as SkeletonMAE takes its poses. A clip whose image
    size is unknown counts as ``fallback``.

    Args:
        fallback: (height, width) in pixels.
    """

    fallback: Tensor

    def __init__(self, topology: Topology, *, fallback: tuple[int, int] = (1080, 1920)) -> None:
        super().__init__(topology)
        self.register_buffer("fallback", torch.tensor(fallback, dtype=torch.float32), persistent=False)

    def forward(self, batch: Batch) -> Batch:
        size = torch.where(batch.image_size.isnan(), self.fallback.to(batch.image_size), batch.image_size)
        half = (size.flip(-1) / 2)[:, None, None, None, :].to(batch.keypoints.dtype)
        return batch.with_(keypoints=_masked((batch.keypoints - half) / half, _seen(batch)))


@TRANSFORMS.register("center")
class Center(Transform):
    """Moves the origin to the mean of the topology's ``center`` joints of the first person.

    Args:
        per: ``clip`` takes one origin for the whole clip, the mean over its frames, so that the path of the body
            stays; ``first`` that of the first frame in which the person is seen (CTR-GCN, PSUMNet, PYSKL); ``frame``
            one for each frame. Where no centre joint is seen, the mean of the seen joints stands in.
    """

    joints: Tensor

    def __init__(self, topology: Topology, *, per: Literal["clip", "first", "frame"] = "clip") -> None:
        super().__init__(topology)
        self.per = per
        index = torch.as_tensor(topology.center_index, dtype=torch.long)
        self.register_buffer("joints", index, persistent=False)

    def forward(self, batch: Batch) -> Batch:
        seen = _seen(batch)
        body, weight = batch.keypoints[:, 0], seen[:, 0]
        middle, known = _mean(body[:, :, self.joints], weight[:, :, self.joints])
        anywhere, any_known = _mean(body, weight)
        middle = torch.where(known, middle, anywhere)
        known = known | any_known
        if self.per != "frame":
            middle = _over_time(middle, known, first=self.per == "first")
        return batch.with_(keypoints=_masked(batch.keypoints - middle[:, None, :, None, :], seen))


def _mean(values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over joints of ``(N, T, V, C)`` by ``weight (N, T, V, 1)``; also whether there was any, ``(N, T, 1)``."""
    total = weight.sum(2)
    return (values * weight).sum(2) / total.clamp(min=_EPS), total > 0


def _over_time(middle: Tensor, known: Tensor, first: bool) -> Tensor:
    """One origin for all frames, ``(N, 1, C)``."""
    if first:
        frame = known.squeeze(-1).to(torch.int8).argmax(1)
        return middle[torch.arange(middle.shape[0], device=middle.device), frame].unsqueeze(1)
    weight = known.to(middle.dtype)
    return (middle * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=_EPS)


@TRANSFORMS.register("align")
class Align(Transform):
    """Turns a clip about the origin until the first person stands upright and faces along +y.

    First the axis ``up`` of the topology is carried onto +z, then the axis ``across`` (from the right of the body to
    its left) onto -x, each by the smallest rotation that does it, so that the second may tilt the first a little. The
    rotations are measured in the first frame in which both ends of the axis are seen and apply to all frames and
    persons; an axis that is never seen, or has no length, turns nothing.

    After ``persons`` and ``center: {per: first}`` this is PYSKL's ``PreNormalize3D`` and 2s-AGCN's pre-normalisation.

    Raises:
        UserError: the topology has no such axis, or the clips are not 3-D.
    """

    # Onto which axis, with which sign, and about what if it points exactly the other way (z leaves up where it is).
    TARGETS: ClassVar = {"up": (2, 1.0, 0), "across": (0, -1.0, 2)}

    def __init__(self, topology: Topology, *, up: bool = True, across: bool = True) -> None:
        super().__init__(topology)
        wanted = {"up": up, "across": across}
        self.ends = {name: _axis(topology, name) for name in wanted if wanted[name]}

    def forward(self, batch: Batch) -> Batch:
        x, seen = batch.keypoints, batch.score[:, 0] > 0
        if x.shape[-1] != 3:
            raise UserError(f"the transform 'align' needs 3-D joints, these have {x.shape[-1]} axes; leave it out.")
        unit = torch.eye(3, device=x.device, dtype=x.dtype)
        for name, (start, end) in self.ends.items():
            known = (seen[:, :, start] & seen[:, :, end]).unsqueeze(-1)
            arrow = _over_time((x[:, 0, :, end] - x[:, 0, :, start]) * known, known, first=True)[:, 0]
            axis, sign, spare = self.TARGETS[name]
            x = torch.einsum("nij,nmtvj->nmtvi", turn(arrow, sign * unit[axis], unit[spare]), x)
        return batch.with_(keypoints=x)


def _axis(topology: Topology, name: str) -> tuple[int, int]:
    """The joints between which a named axis of the topology runs."""
    if name not in topology.axes:
        raise UserError(
            f"topology '{topology.name}' names no axis '{name}'; add it under 'axes' of its file, or set "
            f"'{name}: false' in the transform 'align'."
        )
    start, end = topology.indices(topology.axes[name]).tolist()
    return start, end


def turn(source: Tensor, target: Tensor, spare: Tensor) -> Tensor:
    """The smallest rotations ``(N, 3, 3)`` that carry directions ``source (N, 3)`` onto the unit ``target (3,)``.

    With the unit axis k perpendicular to both and the angle a between them,
    R = cos a I + sin a [k]x + (1 - cos a) k k^T. Opposite directions leave k open; the unit ``spare (3,)`` stands in.
    A source without length turns nothing.
    """
    unit = source / source.norm(dim=-1, keepdim=True).clamp(min=_EPS)
    normal = torch.linalg.cross(unit, target.expand_as(unit))
    sine = normal.norm(dim=-1, keepdim=True)
    axis = torch.where(sine > _EPS, normal / sine.clamp(min=_EPS), spare)
    angle = torch.atan2(sine, (unit * target).sum(-1, keepdim=True)).unsqueeze(-1)
    eye = torch.eye(3, device=source.device, dtype=source.dtype)
    cross = torch.linalg.cross(axis.unsqueeze(1), eye.unsqueeze(0)).transpose(1, 2)
    outer = axis.unsqueeze(2) * axis.unsqueeze(1)
    return angle.cos() * eye + angle.sin() * cross + (1 - angle.cos()) * outer


@TRANSFORMS.register("persons")
class Persons(Transform):
    """Who counts as the first person, whom `Center`, `Scale` and `Align` go by, and who stands in for an absent one.

    Args:
        order: ``fuller`` puts those seen in more frames first (equal ones stay in order), as PYSKL does; ``stored``
            leaves them.
        absent: ``zero`` leaves a person who is in no frame at zero and not valid; ``copy`` puts a copy of the first
            person there, as the NTU RGB+D 120 arrays of CTR-GCN and PSUMNet have it.
    """

    def __init__(
        self,
        topology: Topology,
        *,
        order: Literal["fuller", "stored"] = "fuller",
        absent: Literal["zero", "copy"] = "zero",
    ) -> None:
        super().__init__(topology)
        self.order, self.absent = order, absent

    def forward(self, batch: Batch) -> Batch:
        frames = batch.valid.sum(-1)
        n, m = frames.shape
        source = torch.arange(m, device=frames.device).expand(n, m)
        if self.order == "fuller":
            source = frames.argsort(dim=1, descending=True, stable=True)
        if self.absent == "copy":
            source = torch.where(frames.gather(1, source) > 0, source, source[:, :1])
        clip = torch.arange(n, device=frames.device).unsqueeze(1)
        changed = {name: getattr(batch, name)[clip, source] for name in ("keypoints", "score", "valid")}
        return batch.with_(**changed)


@TRANSFORMS.register("loop")
class Loop(Transform):
    """Repeats what a person does until the end of the clip, for those who leave early or come late.

    A person who is not in the first frame is first moved to the front, without gaps. Where nothing more is seen of a
    person from some frame on, the frames before that one are repeated from the beginning. The first step of the
    pre-normalisation of 2s-AGCN that HaLP takes over; gaps of somebody seen in the first frame stay.
    """

    def forward(self, batch: Batch) -> Batch:
        there = batch.valid
        n, m, t = there.shape
        time = torch.arange(t, device=there.device).expand(n, m, t)
        closed = (~there).to(torch.int8).argsort(dim=2, stable=True)
        order = torch.where(there[:, :, :1], time, closed)
        last = torch.where(there, time, -1).amax(2, keepdim=True) + 1
        length = torch.where(there[:, :, :1], last, there.sum(2, keepdim=True))
        frame = order.gather(2, torch.where(length > 0, time % length.clamp(min=1), time))
        clip = torch.arange(n, device=there.device).view(-1, 1, 1)
        person = torch.arange(m, device=there.device).view(1, -1, 1)
        changed = {name: getattr(batch, name)[clip, person, frame] for name in ("keypoints", "score", "valid")}
        return batch.with_(**changed)


@TRANSFORMS.register("scale")
class Scale(Transform):
    """Divides all coordinates of a clip by one length, so that near and far, tall and small look alike.

    Args:
        by: ``trunk``: the root-mean-square distance of the seen joints from their frame's mean, first person, over
            the clip (for a whole body about the length of the trunk, and defined for any topology and any occlusion).
            ``bones``: the mean length of the seen bones. ``range``: none of these, but each axis on its own from -1,
            its least seen value in the clip, to 1, its largest (NW-UCLA in CTR-GCN and BRL); the origin moves.
    """

    parents: Tensor

    def __init__(self, topology: Topology, *, by: Literal["trunk", "bones", "range"] = "trunk") -> None:
        super().__init__(topology)
        self.by = by
        self.register_buffer("parents", torch.as_tensor(topology.parents, dtype=torch.long), persistent=False)

    def forward(self, batch: Batch) -> Batch:
        if self.by == "range":
            return batch.with_(keypoints=_to_range(batch.keypoints, _seen(batch)))
        body, seen = batch.keypoints[:, 0], _seen(batch)[:, 0]
        if self.by == "trunk":
            middle, _ = _mean(body, seen)
            square = ((body - middle.unsqueeze(2)).square().sum(-1, keepdim=True) * seen).sum((1, 2))
            length = (square / seen.sum((1, 2)).clamp(min=1)).sqrt()
        else:
            both = seen * seen[:, :, self.parents]
            bone = (body - body[:, :, self.parents]).norm(dim=-1, keepdim=True) * both
            count = (both.squeeze(-1) * (bone.squeeze(-1) > 0)).sum((1, 2)).unsqueeze(-1)
            length = bone.sum((1, 2)) / count.clamp(min=1)
        length = torch.where(length > _EPS, length, torch.ones_like(length))
        return batch.with_(keypoints=batch.keypoints / length[:, None, None, None, :])


def _to_range(x: Tensor, seen: Tensor) -> Tensor:
    """Each axis of each clip from -1 to 1; an axis on which nothing differs is 0."""
    low = x.masked_fill(seen == 0, math.inf).amin((1, 2, 3), keepdim=True)
    high = x.masked_fill(seen == 0, -math.inf).amax((1, 2, 3), keepdim=True)
    span = high - low
    return _masked(torch.where(span > _EPS, 2 * (x - low) / span - 1, torch.zeros_like(x)), seen)


@TRANSFORMS.register("fill_missing")
class FillMissing(Transform):
    """Gives a missing joint the position it had in its nearest seen frames; the score stays 0.

    Args:
        how: ``interpolate`` goes linearly between the last and the next seen frame (and holds at the ends), ``hold``
            keeps the last seen position (before the first seen frame: the first). A joint never seen in the clip
            stays at the origin.
    """

    def __init__(self, topology: Topology, *, how: Literal["interpolate", "hold"] = "interpolate") -> None:
        super().__init__(topology)
        self.how = how

    def forward(self, batch: Batch) -> Batch:
        seen = batch.score > 0
        frames = seen.shape[2]
        time = torch.arange(frames, device=seen.device).view(1, 1, frames, 1)
        last = torch.where(seen, time, -1).cummax(2).values
        after = torch.where(seen, time, frames).flip(2).cummin(2).values.flip(2)
        none = (last < 0) & (after >= frames)
        left = torch.where(last < 0, after, last).clamp(0, frames - 1)
        right = torch.where(after >= frames, last, after).clamp(0, frames - 1)
        if self.how == "hold":
            right = left
        index = left.unsqueeze(-1).expand_as(batch.keypoints)
        start = batch.keypoints.gather(2, index)
        end = batch.keypoints.gather(2, right.unsqueeze(-1).expand_as(batch.keypoints))
        share = ((time - left) / (right - left).clamp(min=1)).clamp(0, 1).unsqueeze(-1).to(start.dtype)
        filled = torch.lerp(start, end, share)
        keep = (seen | none).unsqueeze(-1)
        return batch.with_(keypoints=torch.where(keep, batch.keypoints, filled))
