"""Joint and temporal stride attention: who meets whom, and that grouping is a matter of masks alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from skelgraph.errors import UserError
from skelgraph.nn.stride_attention import Groups, StrideAttention, frame_groups, joint_groups, walk_order
from skelgraph.topology import Topology

NTU = Topology.load("ntu25")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def attention(width: int = 16, **settings: Any) -> StrideAttention:
    torch.manual_seed(0)
    return StrideAttention(width, 4, **settings).eval()


def apply(groups: Groups, items: Tensor, valid: Tensor | None = None, **settings: Any) -> tuple[Tensor, Tensor]:
    shared = draw(len(items), 3, 16, seed=9)
    with torch.no_grad():
        known = torch.ones(items.shape[:2]) > 0 if valid is None else valid
        return attention(**settings)(shared, items, known, groups)


def changed(groups: Groups, items: Tensor, at: list[int]) -> list[int]:
    other = items.clone()
    other[:, at] += 1
    difference = (apply(groups, items)[1] - apply(groups, other)[1]).abs().amax((0, 2))
    return difference.nonzero().flatten().tolist()


# -- groups --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["walk", "layout"])
@pytest.mark.parametrize("kind", ["interleaved", "window", "parts", "hops"])
@pytest.mark.parametrize("persons", [1, 2])
def test_every_joint_has_its_groups_and_its_shares_sum_to_one(kind: str, order: str, persons: int) -> None:
    groups = joint_groups(NTU, persons, kind=kind, stride=4, order=order)
    assert set(groups.members[groups.real].tolist()) == set(range(25 * persons))
    torch.testing.assert_close(groups.share.sum(1), torch.ones(25 * persons))
    homes = groups.members.flatten()[groups.home]
    joints = torch.arange(25 * persons)[:, None].expand_as(homes)
    assert torch.equal(homes[groups.share > 0], joints[groups.share > 0])
    for group, real in zip(groups.members, groups.real, strict=True):
        joints_of = {int(item) % 25 for item in group[real]}
        assert len(group[real]) == persons * len(joints_of)


def test_the_walk_goes_limb_by_limb_whatever_the_numbers() -> None:
    order = [NTU.joints[joint] for joint in walk_order(NTU)]
    assert sorted(order) == sorted(NTU.joints)
    shuffled = Topology.from_dict({**NTU.to_dict(), "joints": list(reversed(NTU.joints))})
    assert [shuffled.joints[joint] for joint in walk_order(shuffled)] == order
    wrist = order.index("left_wrist")
    assert order[wrist - 1] == "left_elbow"


def test_frames_fall_into_residue_classes() -> None:
    groups = frame_groups(5, 2, 3)
    members = [sorted({int(item) // 3 for item in row[real]}) for row, real in
               zip(groups.members, groups.real, strict=True)]  # fmt: skip
    assert members == [[0, 2, 4], [1, 3]]
    assert torch.equal(groups.members.flatten()[groups.home[:, 0]], torch.arange(15))
    assert len(frame_groups(2, 4, 1).members) == 2


def test_wrong_groupings_are_named() -> None:
    with pytest.raises(UserError, match="unknown joint grouping"):
        joint_groups(NTU, 1, kind="limbs")
    with pytest.raises(UserError, match="unknown joint order"):
        joint_groups(NTU, 1, order="name")
    with pytest.raises(UserError, match="must be 1 or more"):
        joint_groups(NTU, 1, stride=0)
    bare = Topology.from_dict({key: value for key, value in NTU.to_dict().items() if key != "parts"})
    with pytest.raises(UserError, match="has no parts"):
        joint_groups(bare, 1, kind="parts")


# -- attention -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["dense", "pyg"])
def test_one_group_is_full_attention(backend: str) -> None:
    items, shared = draw(2, 25, 16), draw(2, 3, 16, seed=9)
    module = attention()
    plain = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        plain.in_proj_weight.copy_(torch.cat([module.query.weight, module.key.weight, module.value.weight]))
        plain.in_proj_bias.copy_(torch.cat([module.query.bias, torch.zeros(16), module.value.bias]))
        plain.out_proj.load_state_dict(module.out.state_dict())
        tokens = torch.cat([shared, items], 1)
        normed = module.norm(tokens)
        tokens = tokens + plain(normed, normed, normed, need_weights=False)[0]
        tokens = tokens + module.feed(module.feed_norm(tokens))
    out = torch.cat(apply(joint_groups(NTU, 1, stride=1), items, backend=backend), 1)
    torch.testing.assert_close(out, tokens, atol=1e-6, rtol=0)


def test_permutations_commute_inside_groups_and_of_whole_groups() -> None:
    items = draw(2, 25, 16)
    by_number = {"stride": 5, "order": "layout"}
    groups = joint_groups(NTU, 1, **by_number)
    (shared, out), number = apply(groups, items), torch.arange(25)
    within = torch.where(number % 5 == 1, (number + 5) % 25, number)
    whole = (number // 5) * 5 + (number + 1) % 5
    for order in (within, whole):
        other_shared, other = apply(groups, items[:, order])
        torch.testing.assert_close(other, out[:, order], atol=1e-6, rtol=0)
        torch.testing.assert_close(other_shared, shared, atol=1e-6, rtol=0)
    across = number.clone()
    across[[0, 1]] = across[[1, 0]]
    assert not torch.allclose(apply(groups, items[:, across])[1], out[:, across], atol=1e-4)
    alone = joint_groups(NTU, 1, stride=1)
    torch.testing.assert_close(apply(alone, items[:, across])[1], apply(alone, items)[1][:, across], atol=1e-6, rtol=0)


def test_a_change_reaches_its_own_group_alone() -> None:
    groups = joint_groups(NTU, 1, stride=5, order="layout")
    assert changed(groups, draw(2, 25, 16), [1]) == [1, 6, 11, 16, 21]
    frames = frame_groups(6, 2, 4)
    assert changed(frames, draw(2, 24, 16), [4]) == [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23]
    near = joint_groups(NTU, 2, kind="hops", hops=2)
    elbow = NTU.index("left_elbow")
    reached = (torch.as_tensor(NTU.hops[elbow]) <= 2).nonzero().flatten()
    assert changed(near, draw(2, 50, 16), [25 + elbow]) == (25 + reached).tolist()


@pytest.mark.parametrize("kind", ["interleaved", "window", "parts", "hops"])
def test_masked_items_have_no_influence_and_come_out_zero(kind: str) -> None:
    groups, items = joint_groups(NTU, 1, kind=kind, stride=5), draw(2, 25, 16)
    valid = torch.ones(2, 25) > 0
    valid[0, [3, 8, 20]], valid[1] = False, False
    shared, out = apply(groups, items, valid)
    other_shared, other = apply(groups, torch.where(valid.unsqueeze(-1), items, 1e3), valid)
    assert torch.equal(shared, other_shared)
    assert torch.equal(out, other)
    assert not out[~valid].any()


def test_padding_equals_an_explicit_mask() -> None:
    """25 joints in 4 groups, 7 frames in 4: as 28 and 8 with the last ones masked."""
    items = draw(2, 28, 16)
    valid = (torch.arange(28) < 25).expand(2, -1)
    lists = [list(range(start, 28, 4)) for start in range(4)]
    masked = apply(Groups.of(lists, 28), items, valid)
    short = apply(joint_groups(NTU, 1, stride=4, order="layout"), items[:, :25])
    torch.testing.assert_close(short[0], masked[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(short[1], masked[1][:, :25], atol=1e-6, rtol=0)
    frames = draw(2, 8 * 3, 16)
    masked = apply(frame_groups(8, 4, 3), frames, (torch.arange(24) < 21).expand(2, -1))
    short = apply(frame_groups(7, 4, 3), frames[:, :21])
    torch.testing.assert_close(short[0], masked[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(short[1], masked[1][:, :21], atol=1e-6, rtol=0)


def test_the_recorded_row_is_the_one_that_was_used() -> None:
    """Rebuilt from the definition: the row of the shared token in each group, over the number of groups."""
    items, shared, record = draw(2, 25, 16), draw(2, 3, 16, seed=9), {}
    module, groups = attention(), joint_groups(NTU, 1, stride=5, order="layout")
    with torch.no_grad():
        module(shared, items, torch.ones(2, 25) > 0, groups, record, 1)
        normed = module.norm(torch.cat([shared, items], 1))
        query, key = module.split(module.query(normed)), module.split(module.key(normed))
        rest = torch.zeros(2, 4)
        for number in range(5):
            members = [0, 1, 2, *(3 + joint for joint in range(number, 25, 5))]
            row = (query[:, :, 1:2] @ key[:, :, members].transpose(-1, -2) / 2).softmax(-1)[:, :, 0] / 5
            torch.testing.assert_close(record["items"][..., number::5], row[..., 3:], atol=1e-6, rtol=0)
            rest += row[..., :3].sum(-1)
    torch.testing.assert_close(record["rest"], rest, atol=1e-6, rtol=0)
    torch.testing.assert_close(record["items"].sum(-1) + record["rest"], torch.ones(2, 4), atol=1e-6, rtol=0)


def test_a_clip_without_items_is_left_with_the_shared_tokens() -> None:
    items, valid = draw(1, 25, 16), torch.zeros(1, 25) > 0
    shared, out = apply(joint_groups(NTU, 1, stride=5), items, valid)
    alone, _ = apply(Groups.of([[0]], 1), items[:, :1], valid[:, :1])
    torch.testing.assert_close(shared, alone, atol=1e-6, rtol=0)
    assert torch.equal(out, F.threshold(out, 1e9, 0.0))
