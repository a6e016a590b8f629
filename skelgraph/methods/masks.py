"""Which joints to hide: whole body parts, or joints at random."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from skelgraph.errors import UserError, unknown
from skelgraph.topology import Topology


def part_table(topology: Topology, names: Sequence[str]) -> Tensor:
    """Membership ``(R, V)`` of the joints in the named parts.

    Raises:
        UserError: no such part.
    """
    table = torch.zeros(len(names), len(topology.joints), dtype=torch.bool)
    for row, name in enumerate(names):
        if name not in topology.part_names:
            raise unknown("part", name, topology.part_names, f"topology '{topology.name}'")
        table[row, torch.as_tensor(topology.part_index(name))] = True
    return table


def disjoint_parts(topology: Topology, table: Tensor) -> None:
    """Check that some joint is left when all but one of the parts are hidden.

    Raises:
        UserError: two parts share a joint.
    """
    shared = [topology.joints[i] for i in (table.sum(0) > 1).nonzero().flatten().tolist()]
    if shared:
        raise UserError(f"parts of a random mask must not share joints; {', '.join(shared)} are in several.")


def random_parts(table: Tensor, clips: int, smallest: int, largest: int) -> Tensor:
    """One draw a clip of ``smallest`` to ``largest`` parts; ``(clips, V)``, true where hidden.

    Raises:
        UserError: the limits do not leave a part visible, or hide none.
    """
    parts = len(table)
    if not 1 <= smallest <= largest < parts:
        raise UserError(f"a random mask hides 1 to {parts - 1} of {parts} parts, not {smallest} to {largest}.")
    number = torch.randint(smallest, largest + 1, (clips, 1), device=table.device)
    rank = torch.rand(clips, parts, device=table.device).argsort(-1).argsort(-1)
    return ((rank < number).unsqueeze(-1) & table).any(1)


def random_joints(joints: int, clips: int, ratio: float, device: torch.device) -> Tensor:
    """One draw a clip of ``ratio * joints`` joints, rounded half up; ``(clips, V)``, true where hidden.

    Raises:
        UserError: the ratio hides no joint, or all.
    """
    number = int(ratio * joints + 0.5)
    if not 0 < number < joints:
        raise UserError(f"a mask of {ratio:g} of {joints} joints hides {number}; it must hide some and leave some.")
    rank = torch.rand(clips, joints, device=device).argsort(-1).argsort(-1)
    return rank < number
