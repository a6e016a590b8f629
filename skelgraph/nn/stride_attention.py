"""Joint and temporal stride attention: tokens meet in groups, and the tokens that all groups share carry it on.

Letters: B rows, I items, G groups, L items of a group, S shared tokens, R groups of an item, C channels, h heads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.errors import UserError, unknown
from skelgraph.nn.token_attention import TokenAttention, attend, attention_weights
from skelgraph.topology import Topology

GROUPINGS = ("interleaved", "window", "parts", "hops")
ORDERS = ("walk", "layout")


class Groups(NamedTuple):
    """Which items meet.

    Shapes:
        members (G, L) items, padded with 0 where ``real (G, L)`` is false; home (I, R) where each item stands in the
        flattened (G, L), and ``share (I, R)`` the weight of that copy, 0 for padding; pairs (L, L) bool which items
        see each other where that is not all, None otherwise.
    """

    members: Tensor
    real: Tensor
    home: Tensor
    share: Tensor
    pairs: Tensor | None = None

    @classmethod
    def of(cls, lists: list[list[int]], items: int, pairs: Tensor | None = None) -> Groups:
        """From lists of items, which may overlap; every item must stand in one."""
        longest = max(len(group) for group in lists)
        index = torch.zeros(len(lists), longest, dtype=torch.long)
        real = torch.zeros(len(lists), longest, dtype=torch.bool)
        homes: list[list[int]] = [[] for _ in range(items)]
        for number, group in enumerate(lists):
            index[number, : len(group)], real[number, : len(group)] = torch.tensor(group), True
            for place, item in enumerate(group):
                homes[item].append(number * longest + place)
        most = max(len(places) for places in homes)
        home = torch.tensor([places + [0] * (most - len(places)) for places in homes])
        share = torch.tensor([[1 / len(places)] * len(places) + [0.0] * (most - len(places)) for places in homes])
        return cls(index, real, home, share, pairs)


class GroupTable(nn.Module):
    """Keeps `Groups` on the device of the network; not saved."""

    def __init__(self, groups: Groups) -> None:
        super().__init__()
        for name, part in groups._asdict().items():
            self.register_buffer(name, part, persistent=False)

    def forward(self) -> Groups:
        return Groups(*(getattr(self, name) for name in Groups._fields))


def walk_order(topology: Topology) -> list[int]:
    """Joints as a walk down the bone tree meets them, limb by limb, siblings by name: free of the layout's numbers."""
    children: dict[int, list[int]] = {}
    for joint, parent in enumerate(topology.parents.tolist()):
        children.setdefault(-1 if joint == parent else parent, []).append(joint)
    order: list[int] = []
    open_joints = sorted(children.get(-1, []), key=lambda joint: topology.joints[joint], reverse=True)
    while open_joints:
        joint = open_joints.pop()
        order.append(joint)
        open_joints += sorted(children.get(joint, []), key=lambda child: topology.joints[child], reverse=True)
    return order


def joint_groups(
    topology: Topology, persons: int, *, kind: str = "interleaved", stride: int = 1, hops: int = 1, order: str = "walk"
) -> Groups:
    """Groups of the joints of a frame, numbered ``person * V + joint``; all persons' copies of a joint are together.

    Args:
        topology: of the joints.
        persons: M.
        kind: ``interleaved`` puts every stride-th joint in a group (a thinned whole body); ``window`` neighbours in
            the order; ``parts`` the topology's parts; ``hops`` one group in which a joint sees those of its own
            skeleton at most ``hops`` edges away.
        stride: number of groups for the first two.
        hops: reach of the last.
        order: ``walk`` counts joints along the bone tree (`walk_order`), ``layout`` as the topology numbers them.

    Raises:
        UserError: unknown kind or order, stride below 1, no parts.
    """
    for word, value, allowed in (("joint grouping", kind, GROUPINGS), ("joint order", order, ORDERS)):
        if value not in allowed:
            raise unknown(word, value, allowed)
    joints = len(topology.joints)
    if kind == "hops":
        near = torch.as_tensor(topology.hops <= hops)
        pairs = torch.block_diag(*[near] * persons).bool()
        return Groups.of([list(range(persons * joints))], persons * joints, pairs)
    if kind == "parts":
        lists = [topology.part_index(part).tolist() for part in topology.part_names]
        lists = [group for group in lists if len(group) < joints]
        if not lists:
            raise UserError(f"topology '{topology.name}' has no parts; choose joint_groups: interleaved.")
        rest = sorted(set(range(joints)) - {joint for group in lists for joint in group})
        lists += [rest] if rest else []
    else:
        if stride < 1:
            raise UserError(f"joint_stride must be 1 or more, got {stride}.")
        line = walk_order(topology) if order == "walk" else list(range(joints))
        groups = min(stride, joints)
        lists = (
            [line[number::groups] for number in range(groups)]
            if kind == "interleaved"
            else [part.tolist() for part in np.array_split(np.array(line), groups)]
        )
    return Groups.of([[m * joints + v for v in group for m in range(persons)] for group in lists], persons * joints)


def frame_groups(frames: int, stride: int, per_frame: int, device: torch.device | None = None) -> Groups:
    """Every stride-th frame with all its tokens; items are numbered ``frame * per_frame + token``."""
    groups = min(stride, frames)
    length = -(-frames // groups)
    at = torch.arange(groups, device=device)[:, None] + groups * torch.arange(length, device=device)
    token = torch.arange(per_frame, device=device)
    index = (at.clamp(max=frames - 1).unsqueeze(-1) * per_frame + token).flatten(1)
    real = (at < frames).unsqueeze(-1).expand(-1, -1, per_frame).flatten(1)
    frame = torch.arange(frames, device=device)
    home = ((frame % groups) * length + frame // groups)[:, None] * per_frame + token
    home = home.view(-1, 1)
    return Groups(index, real, home, torch.ones_like(home, dtype=torch.float32))


class StrideAttention(TokenAttention):
    """Self-attention inside groups of items, each with its own copy of the shared tokens.

    Queries, keys and values are projected once and then copied into the groups. Copies of a shared token are averaged
    over the groups that hold a valid item, those of an item over the groups it is in; then residual and feed-forward.

    Shapes:
        shared (B, S, C), items (B, I, C), valid (B, I) bool; out shared, items. Items that are not valid are no keys
        and come out as zero; their content must be finite.

    Source: reconstruction of the joint and temporal stride attention of Kim et al., ICCV 2023.
    """

    def forward(
        self, shared: Tensor, items: Tensor, valid: Tensor, groups: Groups,
        record: dict[str, Tensor] | None = None, row: int = 0,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        many = shared.shape[1]
        tokens = torch.cat([shared, items.to(shared.dtype)], dim=1)
        normed = self.norm(tokens)
        query, key, value = (self._copies(f(normed), many, groups) for f in (self.query, self.key, self.value))
        inside = valid[:, groups.members] & groups.real
        mask = _edges(inside, many, groups.pairs)
        attended = self.merge(attend(query, key, value, mask, self.backend)).unflatten(0, inside.shape[:2])
        weight = _group_weights(inside, tokens.dtype)
        of_shared = (attended[:, :, :many] * weight[:, :, None, None]).sum(1)
        placed = attended[:, :, many:].flatten(1, 2)[:, groups.home]
        of_items = (placed * groups.share.to(tokens.dtype).unsqueeze(-1)).sum(2)
        if record is not None:
            self._record(record, query, key, mask, weight, groups, row)
        tokens = self.add(tokens, torch.cat([of_shared, of_items], dim=1))
        return tokens[:, :many], torch.where(valid.unsqueeze(-1), tokens[:, many:], 0.0)

    def _copies(self, x: Tensor, many: int, groups: Groups) -> Tensor:
        """Tokens ``(B, S + I, C)`` into the groups, ``(B G, h, S + L, D)``."""
        shared = x[:, None, :many].expand(-1, groups.members.shape[0], -1, -1)
        return self.split(torch.cat([shared, x[:, many:][:, groups.members]], dim=2).flatten(0, 1))

    def _record(
        self, record: dict[str, Tensor], query: Tensor, key: Tensor, mask: Tensor, weight: Tensor, groups: Groups,
        row: int,
    ) -> None:  # fmt: skip
        """Attention of the shared token ``row``: ``items (B, h, I)`` and, on shared tokens, ``rest (B, h)``."""
        many = query.shape[2] - groups.members.shape[1]
        # The first row of the mask is that of any shared token.
        rows = attention_weights(query[:, :, row : row + 1], key, mask[:, :1])
        rows = rows[:, :, 0].unflatten(0, weight.shape) * weight[:, :, None, None]
        places = rows[..., many:].transpose(1, 2).flatten(2)[..., groups.home]
        record["items"] = (places * (groups.share > 0)).sum(-1)
        record["rest"] = rows[..., :many].sum((1, 3))


def _edges(inside: Tensor, many: int, pairs: Tensor | None) -> Tensor:
    """Who may send to whom, ``(B G, 1 or S + L, S + L)``: shared tokens to and from all, items as ``pairs`` says."""
    keys = F.pad(inside.flatten(0, 1), (many, 0), value=True).unsqueeze(1)
    return keys if pairs is None else keys & F.pad(pairs, (many, 0, many, 0), value=True)


def _group_weights(inside: Tensor, dtype: torch.dtype) -> Tensor:
    """``(B, G)``: the mean over groups with a valid item, over all where there is none."""
    filled = inside.any(-1)
    filled = filled | ~filled.any(1, keepdim=True)
    return filled.to(dtype) / filled.sum(1, keepdim=True)
