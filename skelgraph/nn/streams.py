"""What a network sees of a skeleton: joints, bones, skips and their motion, of the whole body or of a part of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skelgraph.errors import UserError, unknown
from skelgraph.topology import Topology

HOPS = {"joint": 0, "bone": 1, "skip": 2}
FRAMES = ("global", "local")
MOTION = "_motion"


def parse_input(name: str) -> tuple[int, bool]:
    """Hops up the bone tree (0 = the joint itself) and whether its motion is meant.

    Raises:
        UserError: unknown input.
    """
    base = name.removesuffix(MOTION)
    if base in HOPS:
        return HOPS[base], name != base
    if base.startswith("hop:") and base[4:].isdecimal() and int(base[4:]) > 0:
        return int(base[4:]), name != base
    raise unknown("input", name, [*HOPS, "hop:3", *(f"{known}{MOTION}" for known in HOPS)])


class Streams(nn.Module):
    """Inputs of a network from joints, concatenated over the channels; has no parameters.

    ``joint`` is x; ``bone`` x_v - x_p(v) with the parent p of the bone tree; ``skip`` the vector from the grandparent,
    ``hop:K`` from the ancestor K steps up; each is zero where the tree is not that high. ``NAME_motion`` is the
    difference to the next frame, zero in the last one, and zero where a person is absent in one of the two.

    Args:
        topology: of the joints.
        inputs: names as above; none takes the tensor as it is (it already is such a concatenation).
        part: a part of the topology, with the bones of its own graph; None keeps all joints.
        frame: ``global`` leaves the joints where they are in the body; ``local`` moves the origin to the part's root,
            in every frame.
        channels: coordinates of a joint.

    Attributes:
        topology: of the result.
        out_channels: channels of the result.

    Shapes:
        keypoints (N, M, T, V, C), valid (N, M, T) bool or None = everybody is there;
        out (N, M, T, P, C x number of inputs).

    Raises:
        UserError: unknown input, part or frame.

    Source: PSUMNet (Trivedi and Sarvadevabhatla, ECCV Workshops 2022), its multi-modality data generator; the skip
    stream is BRL's (Liu et al., arXiv 2308.14024).
    """

    joints: Tensor
    ancestors: Tensor

    def __init__(
        self,
        topology: Topology,
        inputs: Sequence[str] = ("joint",),
        *,
        part: str | None = None,
        frame: str = "global",
        channels: int = 3,
    ) -> None:
        super().__init__()
        if frame not in FRAMES:
            raise unknown("frame", frame, FRAMES)
        if isinstance(inputs, str):
            raise UserError(f"inputs: write a list, [{inputs}].")
        self.inputs, self.frame = tuple(inputs), frame
        self.whole = part is None
        self.topology = topology if part is None else topology.part(part)
        index = topology.part_index(part) if part is not None else range(len(topology.joints))
        parsed = [parse_input(name) for name in inputs]
        self.hops = tuple(sorted({hops for hops, _ in parsed if hops}))
        self.plan = tuple((self.hops.index(hops) if hops else -1, motion) for hops, motion in parsed)
        self.out_channels = channels * max(1, len(self.inputs))
        self.root = self.topology.index(self.topology.root)
        self.register_buffer("joints", torch.as_tensor(list(index)), persistent=False)
        ancestors = [torch.as_tensor(self.topology.ancestor(hops)) for hops in self.hops]
        empty = torch.zeros(0, len(self.topology.joints), dtype=torch.long)
        self.register_buffer("ancestors", torch.stack(ancestors) if ancestors else empty, persistent=False)

    def forward(self, keypoints: Tensor, valid: Tensor | None = None) -> Tensor:
        x = keypoints if self.whole else keypoints.index_select(3, self.joints)
        if self.frame == "local":
            x = x - x[..., self.root : self.root + 1, :]
        if not self.inputs:
            return x
        vectors = [x - x.index_select(3, ancestor) for ancestor in self.ancestors]
        parts = [x if place < 0 else vectors[place] for place, _ in self.plan]
        moved = [motion(part, valid) if moves else part for part, (_, moves) in zip(parts, self.plan, strict=True)]
        return torch.cat(moved, dim=-1) if len(moved) > 1 else moved[0]


def motion(x: Tensor, valid: Tensor | None = None) -> Tensor:
    """Difference to the next frame, ``x[t + 1] - x[t]``; zero in the last frame and beside frames without the person.

    Shapes:
        x (N, M, T, V, C), valid (N, M, T) bool or None; out as x.
    """
    step = x[:, :, 1:] - x[:, :, :-1]
    if valid is not None:
        both = valid[:, :, 1:] & valid[:, :, :-1]
        step = torch.where(both[..., None, None], step, torch.zeros_like(step))
    return torch.cat([step, torch.zeros_like(x[:, :, :1])], dim=2)
