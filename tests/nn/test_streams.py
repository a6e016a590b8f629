"""What a network sees: identities of bones, skips and motion, borders, parts, and names that do not exist."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from skelgraph.errors import UserError
from skelgraph.nn.streams import Streams, motion, parse_input
from skelgraph.topology import Topology

UNIFIED = ("joint", "bone", "joint_motion", "bone_motion")
TREES = [
    ("ntu25", "body"), ("ntu25", "hands"), ("ntu25", "legs"), ("ntux67", "body"), ("ntux67", "hands"),
    ("ntux67", "legs"), ("hand22", "hands"), ("kinect20", None), ("coco17", "legs"), ("mediapipe_holistic", None),
]  # fmt: skip
NTU = Topology.load("ntu25")


def clips(topology: Topology, channels: int = 3, frames: int = 7) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 2, frames, len(topology.joints), channels, dtype=torch.float64)


def stream(topology: Topology, name: str, x: Tensor, part: str | None = None) -> Tensor:
    out: Tensor = Streams(topology, [name], part=part, channels=x.shape[-1])(x)
    return out


# -- identities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "part"), TREES)
def test_bones_along_the_way_to_a_joint_add_up_to_its_place(name: str, part: str | None) -> None:
    topology = Topology.load(name)
    x = clips(topology)
    joints, bones = stream(topology, "joint", x, part), stream(topology, "bone", x, part)
    tree = topology.part(part) if part else topology
    parents = tree.parents
    assert all(not bones[..., tree.index(root), :].any() for root in tree.roots)
    for joint in range(len(tree.joints)):
        total, at = torch.zeros_like(joints[..., 0, :]), joint
        while parents[at] != at:
            total, at = total + bones[..., at, :], int(parents[at])
        torch.testing.assert_close(total, joints[..., joint, :] - joints[..., at, :], atol=1e-12, rtol=0)


@pytest.mark.parametrize(("name", "zero"), [("ntu25", {1, 2, 4, 8, 20}), ("kinect20", {1, 2, 3, 4, 8})])
def test_a_skip_is_two_bones_or_nothing(name: str, zero: set[int]) -> None:
    topology = Topology.load(name)
    x = clips(topology)
    bones, skips = stream(topology, "bone", x), stream(topology, "skip", x)
    deep = torch.as_tensor(topology.depth >= 2)
    two = bones + bones[..., torch.as_tensor(topology.parents), :]
    torch.testing.assert_close(skips[..., deep, :], two[..., deep, :], atol=1e-12, rtol=0)
    assert {joint for joint in range(len(topology)) if not skips[..., joint, :].any()} == zero


def test_hops_are_bones_skips_and_further_ancestors() -> None:
    x = clips(NTU)
    assert torch.equal(stream(NTU, "hop:1", x), stream(NTU, "bone", x))
    assert torch.equal(stream(NTU, "hop:2_motion", x), stream(NTU, "skip_motion", x))
    foot, knee = NTU.index("left_foot"), NTU.index("left_knee")
    third = stream(NTU, "hop:3", x)[..., foot, :]
    assert torch.equal(third, x[..., foot, :] - x[..., NTU.index("left_hip"), :])
    assert not stream(NTU, "hop:9", x)[..., knee, :].any()


@pytest.mark.parametrize("name", ["joint", "bone", "skip"])
def test_motion_sums_up_to_the_clip(name: str) -> None:
    x = clips(NTU)
    still, moving = stream(NTU, name, x), stream(NTU, f"{name}_motion", x)
    assert not moving[:, :, -1].any()
    again = torch.cat([still[:, :, :1], still[:, :, :1] + moving[:, :, :-1].cumsum(2)], dim=2)
    torch.testing.assert_close(again, still, atol=1e-12, rtol=0)
    torch.testing.assert_close(moving, stream(NTU, name, stream(NTU, "joint_motion", x)), atol=1e-12, rtol=0)


def test_moving_a_clip_shows_in_its_joints_alone() -> None:
    x, streams = clips(NTU), Streams(NTU, [*UNIFIED, "skip", "skip_motion"])
    change = streams(x + torch.tensor([1.0, -2.0, 3.0])) - streams(x)
    torch.testing.assert_close(change[..., :3], torch.tensor([1.0, -2.0, 3.0]).expand(change[..., :3].shape).double())
    assert change[..., 3:].abs().max() < 1e-12


def test_turning_and_scaling_a_clip_turns_and_scales_each_of_its_streams() -> None:
    x, names = clips(NTU), [*UNIFIED, "skip", "hop:3"]
    turn = 2.5 * torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    streams = Streams(NTU, names)
    expected = streams(x) @ torch.block_diag(*[turn] * len(names))
    torch.testing.assert_close(streams(x @ turn), expected, atol=1e-12, rtol=0)


# -- borders ---------------------------------------------------------------------------------------------------------


def test_a_clip_of_one_frame_does_not_move() -> None:
    out = Streams(NTU, UNIFIED)(clips(NTU, frames=1))
    assert out[..., :6].any()
    assert not out[..., 6:].any()


@pytest.mark.parametrize("name", ["joint_motion", "bone_motion"])
def test_coming_and_going_is_no_motion_where_presence_is_known(name: str) -> None:
    x = clips(NTU)
    x[:, :, 3] = 0
    valid = torch.ones(2, 2, 7, dtype=torch.bool)
    valid[:, :, 3] = False
    streams = Streams(NTU, [name])
    careful, blind = streams(x, valid), streams(x)
    assert not careful[:, :, [2, 3]].any()
    root = [NTU.index(NTU.root)] if name == "bone_motion" else []
    others = [joint for joint in range(25) if joint not in root]
    assert (blind[:, :, [2, 3]][..., others, :] != 0).all()
    assert torch.equal(careful[:, :, [0, 1, 4, 5]], blind[:, :, [0, 1, 4, 5]])
    assert torch.equal(careful, motion(Streams(NTU, [name.removesuffix("_motion")])(x), valid))


# -- parts, frames, layout -------------------------------------------------------------------------------------------


def test_streams_stand_in_the_order_of_their_names() -> None:
    x = clips(NTU)
    streams = Streams(NTU, ["bone_motion", "joint", "bone_motion"], part="hands")
    apart = [stream(NTU, name, x, "hands") for name in ("bone_motion", "joint", "bone_motion")]
    assert torch.equal(streams(x), torch.cat(apart, -1))
    assert streams.out_channels == 9
    assert streams.topology == NTU.part("hands")


def test_a_part_takes_its_joints_in_its_own_order_and_hangs_bones_on_its_own_graph() -> None:
    x = clips(NTU)
    hands = [20, 4, 5, 6, 7, 21, 22, 8, 9, 10, 11, 23, 24]
    assert torch.equal(stream(NTU, "joint", x, "hands"), x[..., hands, :])
    tip = stream(NTU, "bone", x, "hands")[..., 5, :]  # on the hand here, on the thumb in the whole tree
    assert torch.equal(tip, x[..., 21, :] - x[..., 7, :])
    assert torch.equal(stream(NTU, "bone", x)[..., 21, :], x[..., 21, :] - x[..., 22, :])


def test_local_frame_moves_the_root_of_a_part_to_the_origin() -> None:
    x = clips(NTU)
    globally, locally = (Streams(NTU, UNIFIED, part="legs", frame=frame)(x) for frame in ("global", "local"))
    root = globally[..., :1, :]
    assert not locally[..., 0, :3].any()
    for channels in (slice(0, 3), slice(6, 9)):
        difference = globally[..., channels] - root[..., channels]
        torch.testing.assert_close(locally[..., channels], difference, atol=1e-12, rtol=0)
    for channels in (slice(3, 6), slice(9, 12)):
        torch.testing.assert_close(locally[..., channels], globally[..., channels], atol=1e-12, rtol=0)


def test_an_absent_person_stays_zero_in_either_frame() -> None:
    x = clips(NTU)
    x[:, 1] = 0
    for frame in ("global", "local"):
        assert not Streams(NTU, UNIFIED, part="legs", frame=frame)(x)[:, 1].any()


def test_plane_joints_give_eight_channels() -> None:
    topology = Topology.load("coco17")
    streams = Streams(topology, UNIFIED, channels=2)
    assert streams.out_channels == 8
    assert streams(clips(topology, 2)).shape == (2, 2, 7, 17, 8)


def test_without_inputs_the_tensor_is_taken_as_it_is() -> None:
    x = clips(NTU, 12)
    streams = Streams(NTU, (), channels=12)
    assert streams(x) is x
    assert streams.out_channels == 12
    assert torch.equal(Streams(NTU, (), part="legs", channels=12)(x), x[..., NTU.part_index("legs"), :])


def test_gradients_reach_the_joints_of_the_part_and_no_others() -> None:
    x = clips(NTU).requires_grad_()
    out = Streams(NTU, UNIFIED, part="legs")(x)
    (gradient,) = torch.autograd.grad(out, x, torch.randn_like(out))
    reached = set(gradient.abs().sum((0, 1, 2, 4)).nonzero().flatten().tolist())
    assert reached == set(NTU.part_index("legs").tolist())
    assert torch.autograd.gradcheck(
        Streams(NTU, ["bone_motion"], part="legs"), (x[:1, :1, :3].detach().requires_grad_(),)
    )


def test_nothing_is_read_back_from_the_device() -> None:
    """The meta device has no values to read; whatever asked for one would fail."""
    streams = Streams(NTU, [*UNIFIED, "hop:3"], part="hands", frame="local").to("meta")
    x = torch.zeros(2, 2, 7, 25, 3, device="meta")
    valid = torch.ones(2, 2, 7, dtype=torch.bool, device="meta")
    assert streams(x, valid).shape == (2, 2, 7, 13, 15)


def test_streams_compile_whole_and_have_no_state() -> None:
    streams, x = Streams(NTU, UNIFIED, part="hands"), clips(NTU)
    valid = torch.rand(2, 2, 7) > 0.3
    compiled = torch.compile(streams, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x, valid), streams(x, valid))
    assert not streams.state_dict()
    assert not list(streams.parameters())


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meaning"),
    [("joint", (0, False)), ("bone_motion", (1, True)), ("hop:12", (12, False)), ("hop:3_motion", (3, True))],
)
def test_names(name: str, meaning: tuple[int, bool]) -> None:
    assert parse_input(name) == meaning


@pytest.mark.parametrize("name", ["bones", "motion", "hop:0", "hop:-1", "hop:²", "hop:", "joint_motion_motion", ""])
def test_unknown_names(name: str) -> None:
    with pytest.raises(UserError, match="input"):
        parse_input(name)


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="Did you mean 'bone_motion'"):
        Streams(NTU, ["joint", "bone_moton"])
    with pytest.raises(UserError, match=r"write a list, \[bone\]"):
        Streams(NTU, "bone")
    with pytest.raises(UserError, match="unknown part 'leg'"):
        Streams(NTU, part="leg")
    with pytest.raises(UserError, match="Did you mean 'local'"):
        Streams(NTU, frame="lokal")


def test_published_legs_keep_their_faulty_bones() -> None:
    published = Topology.load("ntu25_published")
    x = clips(published)
    bones = stream(published, "bone", x, "legs")
    assert not bones[..., 8, :].any()  # right foot: an isolated joint in the official graph
    assert stream(NTU, "bone", x, "legs")[..., 8, :].any()
    right_hip, left_foot = 16, 15
    assert torch.equal(bones[..., 5, :], x[..., right_hip, :] - x[..., left_foot, :])
