"""Transforms: what they promise about origin, unit, missing joints and chance."""

from __future__ import annotations

import math

import pytest
import torch

from skelgraph.batch import Batch, Modality
from skelgraph.errors import UserError
from skelgraph.topology import Topology
from skelgraph.transforms import TRANSFORMS, Pipeline
from skelgraph.transforms.augment import rotation

COCO = Topology.load("coco17")
NTU = Topology.load("ntu25")
REFUSED = {"image": (3,), "align": (2,)}
NEEDED = {"one_of": {"choices": {"shear": {}, "corrupt_joints": {}}}}


def batch(dims: int = 2, clips: int = 3, persons: int = 2, frames: int = 5) -> Batch:
    torch.manual_seed(0)
    made = Batch.of(torch.randn(clips, persons, frames, len(COCO.joints), dims, dtype=torch.float64) * 30 + 200)
    score = made.score.clone()
    score[0, 0, 1, 4] = 0
    score[1, 0, :, 9] = 0
    return made.with_(score=score, keypoints=made.keypoints * (score > 0).unsqueeze(-1),
                      image_size=torch.tensor([[400.0, 600.0]]).expand(clips, 2))  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(TRANSFORMS.names()) - {"fill_missing"}))
@pytest.mark.parametrize("dims", [2, 3])
def test_missing_joints_stay_zero_and_shapes_stay(name: str, dims: int) -> None:
    if dims in REFUSED.get(name, ()):
        pytest.skip(f"'{name}' is not for {dims}-D joints")
    before = batch(dims)
    after = Pipeline(COCO, {name: NEEDED.get(name, {})})(before, training=True)
    assert after.keypoints.shape == before.keypoints.shape
    assert after.keypoints.dtype == before.keypoints.dtype
    assert not after.keypoints[after.score == 0].any()


@pytest.mark.parametrize("name", TRANSFORMS.names())
def test_augmentation_only_while_training(name: str) -> None:
    before = batch(3 if 2 in REFUSED.get(name, ()) else 2)
    after = Pipeline(COCO, {name: NEEDED.get(name, {})})(before, training=False)
    if TRANSFORMS.get(name).training_only:
        assert torch.equal(after.keypoints, before.keypoints)


@pytest.mark.parametrize("name", TRANSFORMS.names())
def test_the_device_never_waits_for_the_host(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device a tensor has no values to be read, and nothing may be copied there while training."""
    pipeline = Pipeline(COCO, {name: NEEDED.get(name, {})}).to("meta")
    made = batch(3 if 2 in REFUSED.get(name, ()) else 2).to("meta")

    def copied(*args: object, **kind: object) -> None:
        raise AssertionError("a copy from the host")

    for owner, function in ((torch, "tensor"), (torch, "as_tensor"), (torch.Tensor, "new_tensor")):
        monkeypatch.setattr(owner, function, copied)
    after = pipeline(made, training=True)
    assert after.keypoints.device.type == "meta"
    assert after.keypoints.shape == made.keypoints.shape


def test_image_maps_the_picture_to_plus_minus_one() -> None:
    corners = torch.tensor([[0.0, 0.0], [600.0, 400.0], [300.0, 200.0]]).repeat(6, 1)[:17].view(1, 1, 1, 17, 2)
    made = Batch.of(corners).with_(score=torch.ones(1, 1, 1, 17), image_size=torch.tensor([[400.0, 600.0]]))
    out = Pipeline(COCO, {"image": {}})(made).keypoints[0, 0, 0]
    assert out[:3].tolist() == [[-1, -1], [1, 1], [0, 0]]
    unknown = made.with_(image_size=torch.full((1, 2), math.nan))
    assert Pipeline(COCO, {"image": {}})(unknown).keypoints[0, 0, 0, 1].tolist() == pytest.approx([-0.375, -0.2592592])


@pytest.mark.parametrize("per", ["clip", "first", "frame"])
def test_center_is_blind_to_where_the_clip_stands(per: str) -> None:
    pipeline, here = Pipeline(COCO, {"center": {"per": per}}), batch()
    there = here.with_(keypoints=(here.keypoints + 77.0) * (here.score > 0).unsqueeze(-1))
    torch.testing.assert_close(pipeline(here).keypoints, pipeline(there).keypoints)


def test_center_keeps_the_path_per_clip_and_drops_it_per_frame() -> None:
    made = batch()
    hips = torch.as_tensor(COCO.center_index)
    frame = Pipeline(COCO, {"center": {"per": "frame"}})(made).keypoints[2, 0, :, hips].mean(1)
    clip = Pipeline(COCO, {"center": {"per": "clip"}})(made).keypoints[2, 0, :, hips].mean(1)
    torch.testing.assert_close(frame, torch.zeros_like(frame))
    assert clip.abs().max() > 1
    torch.testing.assert_close(clip.mean(0), torch.zeros_like(clip[0]))


def test_center_moves_all_persons_by_the_first_frame_of_the_first() -> None:
    made = batch(3)
    late = made.score.clone()
    late[:, 0, :2] = 0
    made = made.with_(score=late, keypoints=made.keypoints * (late > 0).unsqueeze(-1), valid=(late > 0).any(-1))
    out = Pipeline(COCO, {"center": {"per": "first"}})(made).keypoints
    origin = made.keypoints[:, 0, 2, torch.as_tensor(COCO.center_index)].mean(1)
    torch.testing.assert_close(out[:, 1], made.keypoints[:, 1] - origin[:, None, None])
    assert not out[:, 0, :2].any()


def upright(batch: Batch, **settings: bool) -> Batch:
    return Pipeline(NTU, {"align": settings})(batch)


def axis(keypoints: torch.Tensor, name: str) -> torch.Tensor:
    """Unit direction of an axis of person 0 in frame 0, (N, 3)."""
    start, end = NTU.indices(NTU.axes[name])
    arrow = keypoints[:, 0, 0, end] - keypoints[:, 0, 0, start]
    return arrow / arrow.norm(dim=-1, keepdim=True)


def poses(clips: int = 4, dtype: torch.dtype = torch.float64) -> Batch:
    torch.manual_seed(1)
    return Batch.of(torch.randn(clips, 2, 5, 25, 3, dtype=dtype))


@pytest.mark.parametrize(
    ("settings", "name", "expected"),
    [
        ({"across": False}, "up", [0.0, 0.0, 1.0]),
        ({}, "across", [-1.0, 0.0, 0.0]),
        ({"up": False}, "across", [-1, 0, 0]),
    ],
)
def test_align_carries_the_axes_of_the_topology(settings: dict[str, bool], name: str, expected: list[float]) -> None:
    out = axis(upright(poses(), **settings).keypoints, name)
    torch.testing.assert_close(out, torch.tensor(expected, dtype=torch.float64).expand(4, 3))


def test_align_turns_a_clip_as_one_rigid_body() -> None:
    before, after = poses().keypoints, upright(poses()).keypoints
    torch.testing.assert_close(torch.cdist(before.flatten(1, 3), before.flatten(1, 3)),
                               torch.cdist(after.flatten(1, 3), after.flatten(1, 3)))  # fmt: skip
    bodies = torch.einsum("nmtvi,nmtvj->nij", after, before)
    assert (torch.linalg.det(torch.linalg.svd(bodies).U @ torch.linalg.svd(bodies).Vh) > 0).all()
    once = upright(poses(), across=False)
    torch.testing.assert_close(upright(once, across=False).keypoints, once.keypoints)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tilt", [0.0, 1e-7, 1e-5, 1e-3])
def test_align_of_a_body_upside_down(tilt: float, dtype: torch.dtype) -> None:
    clip = poses(1, dtype)
    base, mid, left, right = NTU.indices(["spine_base", "spine_mid", "left_shoulder", "right_shoulder"])
    clip.keypoints[0, 0, 0, base] = 0
    clip.keypoints[0, 0, 0, mid] = torch.tensor([tilt, 0, -1], dtype=dtype)
    clip.keypoints[0, 0, 0, right] = 0
    clip.keypoints[0, 0, 0, left] = torch.tensor([1, tilt, 0], dtype=dtype)
    out = upright(clip).keypoints
    near = {"atol": 1e-5, "rtol": 0}
    torch.testing.assert_close(axis(out, "across")[0], torch.tensor([-1, 0, 0], dtype=dtype), **near)
    torch.testing.assert_close(axis(out, "up")[0], torch.tensor([0, 0, 1], dtype=dtype), atol=3 * tilt + 1e-5, rtol=0)
    torch.testing.assert_close(out.norm(dim=-1), clip.keypoints.norm(dim=-1))


def test_align_waits_for_the_first_frame_that_shows_the_axis() -> None:
    made, (start, end) = poses(), NTU.indices(NTU.axes["up"])
    score = made.score.clone()
    score[0, 0, 0, start] = 0
    score[1, 0, :, end] = 0
    out = upright(made.with_(score=score), across=False).keypoints
    later = out[0, 0, 1, end] - out[0, 0, 1, start]
    torch.testing.assert_close(later[:2], torch.zeros(2, dtype=torch.float64))
    assert torch.equal(out[1], made.keypoints[1])


def test_align_refuses_what_it_cannot_turn() -> None:
    with pytest.raises(UserError, match="needs 3-D joints, these have 2 axes"):
        Pipeline(COCO, {"align": {}})(batch(2))
    bare = Topology.from_dict({"name": "worm", "joints": ["a", "b"], "bones": {"b": "a"}})
    with pytest.raises(UserError, match="topology 'worm' names no axis 'up'"):
        Pipeline(bare, {"align": {}})
    assert Pipeline(bare, {"align": {"up": False, "across": False}})


def test_persons_puts_the_fuller_first_and_fills_the_absent() -> None:
    keypoints = torch.zeros(3, 3, 4, 17, 2)
    keypoints[0, 0, :1], keypoints[0, 1, :3], keypoints[0, 2, :1] = 1, 2, 3
    keypoints[1, 0], keypoints[1, 2] = 4, 5
    made = Batch.of(keypoints)
    ordered = Pipeline(COCO, {"persons": {}})(made)
    assert ordered.keypoints[0, :, 0, 0, 0].tolist() == [2, 1, 3]
    assert ordered.keypoints[1, :, 0, 0, 0].tolist() == [4, 5, 0]
    assert ordered.valid.sum(-1).tolist() == [[3, 1, 1], [4, 4, 0], [0, 0, 0]]
    copied = Pipeline(COCO, {"persons": {"order": "stored", "absent": "copy"}})(made)
    assert torch.equal(copied.keypoints[1, :, 0, 0, 0], torch.tensor([4.0, 4.0, 5.0]))
    assert torch.equal(copied.score[1, 1], made.score[1, 0])
    assert copied.valid[1, 1].all()
    assert torch.equal(copied.keypoints[0], made.keypoints[0])


def numbered(*persons: list[float]) -> Batch:
    """A clip whose frames bear a number; 0 = the person is absent."""
    return Batch.of(torch.tensor(persons).view(1, len(persons), -1, 1, 1).expand(-1, -1, -1, 17, 2))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]),
        ([1, 2, 0, 0, 0, 0], [1, 2, 1, 2, 1, 2]),
        ([1, 0, 3, 4, 0, 0], [1, 0, 3, 4, 1, 0]),
        ([0, 2, 0, 4, 0, 0], [2, 4, 2, 4, 2, 4]),
        ([0, 0, 3, 4, 5, 6], [3, 4, 5, 6, 3, 4]),
        ([0, 0, 0, 0, 0, 6], [6, 6, 6, 6, 6, 6]),
        ([0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]),
    ],
)
def test_loop_closes_the_beginning_and_repeats_the_end(before: list[float], after: list[float]) -> None:
    other = [9.0, 8, 7, 6, 5, 4]
    out = Pipeline(COCO, {"loop": {}})(numbered([float(value) for value in before], other))
    assert out.keypoints[0, :, :, 0, 0].tolist() == [after, other]
    assert torch.equal(out.valid, (out.keypoints != 0).any(-1).any(-1))
    assert torch.equal(out.score > 0, (out.keypoints != 0).any(-1))


def test_scale_by_range_fills_minus_one_to_one_on_every_axis() -> None:
    made = batch(3)
    flat = made.with_(keypoints=made.keypoints * torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64))
    out = Pipeline(COCO, {"scale": {"by": "range"}})(flat)
    for clip in range(len(out)):
        seen = out.keypoints[clip][out.score[clip] > 0]
        torch.testing.assert_close(seen.amin(0), seen.new_tensor([-1.0, -1.0, 0.0]))
        torch.testing.assert_close(seen.amax(0), seen.new_tensor([1.0, 1.0, 0.0]))
    larger = flat.with_(keypoints=(flat.keypoints * 3 + 7) * (flat.score > 0).unsqueeze(-1))
    torch.testing.assert_close(Pipeline(COCO, {"scale": {"by": "range"}})(larger).keypoints, out.keypoints)


@pytest.mark.parametrize("by", ["trunk", "bones"])
def test_scale_is_blind_to_size(by: str) -> None:
    pipeline, small = Pipeline(COCO, {"scale": {"by": by}}), batch()
    large = small.with_(keypoints=small.keypoints * 5)
    torch.testing.assert_close(pipeline(small).keypoints, pipeline(large).keypoints)


def test_fill_missing_interpolates_holds_and_leaves_the_unseen() -> None:
    x = torch.zeros(1, 1, 5, 17, 2)
    score = torch.ones(1, 1, 5, 17)
    x[0, 0, :, 3, 0] = torch.tensor([0.0, 9.0, 9.0, 3.0, 4.0])
    score[0, 0, 1:3, 3] = 0
    score[0, 0, 4, 3] = 0
    score[0, 0, :, 5] = 0
    made = Batch.of(x).with_(score=score)
    filled = Pipeline(COCO, {"fill_missing": {}})(made).keypoints[0, 0]
    assert filled[:, 3, 0].tolist() == [0, 1, 2, 3, 3]
    assert not filled[:, 5].any()
    held = Pipeline(COCO, {"fill_missing": {"how": "hold"}})(made).keypoints[0, 0]
    assert held[:, 3, 0].tolist() == [0, 0, 0, 3, 3]


def test_a_clip_with_nothing_seen_stays_finite() -> None:
    empty = Batch.of(torch.zeros(2, 1, 4, 17, 2))
    out = Pipeline(COCO, {"center": {}, "scale": {}, "fill_missing": {}, "mirror": {}, "jitter": {}})(empty, True)
    assert not out.keypoints.any()


def test_mirror_is_an_involution_that_swaps_names_and_sides() -> None:
    mirror, made = Pipeline(COCO, {"mirror": {"p": 1.0}}), batch(3)
    once = mirror(made, training=True)
    left, right = COCO.index("left_wrist"), COCO.index("right_wrist")
    assert torch.equal(once.keypoints[..., left, 0], -made.keypoints[..., right, 0])
    assert torch.equal(once.keypoints[..., left, 1:], made.keypoints[..., right, 1:])
    assert torch.equal(mirror(once, training=True).keypoints, made.keypoints)
    with pytest.raises(UserError, match="names no mirror joints"):
        Pipeline(Topology.load("hand21"), {"mirror": {}})


def test_mirror_may_swap_without_negating() -> None:
    made = batch(3)
    out = Pipeline(COCO, {"mirror": {"p": 1.0, "negate": False}})(made, training=True)
    order = torch.as_tensor(COCO.mirror_permutation)
    assert torch.equal(out.keypoints, made.keypoints[..., order, :])
    assert torch.equal(out.score, made.score[..., order])


def test_reverse_turns_the_frames_between_the_first_and_last_that_show_anybody() -> None:
    keypoints = torch.zeros(2, 2, 6, 17, 2)
    keypoints[0, 0, 1:4] = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
    keypoints[0, 1, 2:5] = torch.tensor([4.0, 5.0, 6.0]).view(3, 1, 1)
    made, backwards = Batch.of(keypoints), Pipeline(COCO, {"reverse": {"p": 1.0}})
    out = backwards(made, training=True)
    assert out.keypoints[0, :, :, 0, 0].tolist() == [[0, 0, 3, 2, 1, 0], [0, 6, 5, 4, 0, 0]]
    assert torch.equal(out.valid, (out.keypoints != 0).any(-1).any(-1))
    assert torch.equal(out.score > 0, (out.keypoints != 0).any(-1))
    assert torch.equal(backwards(out, training=True).keypoints, keypoints)
    many = Batch.of(torch.arange(1.0, 7).view(1, 1, 6, 1, 1).expand(400, 1, 6, 17, 2))
    share = (Pipeline(COCO, {"reverse": {}})(many, training=True).keypoints[:, 0, 0, 0, 0] == 6).double().mean()
    assert 0.4 < share < 0.6


def test_random_scale_of_a_clip_is_one_factor() -> None:
    made = batch(3, clips=50)
    by = (
        Pipeline(COCO, {"random_scale": {"amount": 0.5, "per": "clip"}})(made, training=True).keypoints / made.keypoints
    )
    factor = by[:, 0, 0, 0]
    torch.testing.assert_close(factor, factor[:, :1].expand(50, 3))
    assert 0.5 <= factor.min() < 0.7
    assert 1.3 < factor.max() <= 1.5
    uneven = Pipeline(COCO, {"random_scale": {}})(made, training=True).keypoints / made.keypoints
    assert not torch.allclose(uneven[:, 0, 0, 0, 0], uneven[:, 0, 0, 0, 1])


def test_random_rotation_by_axis_and_in_whole_degrees() -> None:
    point = Batch.of(torch.tensor([1.0, 0.0, 5.0], dtype=torch.float64).expand(300, 1, 1, 17, 3))
    about_z = Pipeline(COCO, {"random_rotation": {"angle": [0, 0, 2], "degrees": True}})(point, training=True)
    x, y, z = about_z.keypoints[:, 0, 0, 0].unbind(-1)
    assert (z == 5).all()
    degrees = torch.rad2deg(torch.atan2(-y, x))
    torch.testing.assert_close(degrees, degrees.round())
    assert sorted(set(degrees.round().int().tolist())) == [-2, -1, 0, 1, 2]
    about_x = Pipeline(COCO, {"random_rotation": {"angle": [0.3, 0, 0]}})(point, training=True).keypoints
    assert (about_x[..., 0] == 1).all()
    turned = torch.atan2(about_x[..., 1], about_x[..., 2])
    assert 0.25 < turned.abs().max() < 0.3
    for wrong, message in (
        ({"angle": [1, 2]}, "one number or three"),
        ({"angle": 0.3, "degrees": True}, "whole degrees"),
    ):
        with pytest.raises(UserError, match=message):
            Pipeline(COCO, {"random_rotation": wrong})


@pytest.mark.parametrize("dims", [2, 3])
def test_shear_keeps_the_diagonal_and_one_matrix_a_clip(dims: int) -> None:
    torch.manual_seed(0)
    axes = torch.zeros(400, 2, 3, 17, dims, dtype=torch.float64)
    axes[..., :dims, :] = torch.eye(dims, dtype=torch.float64)
    out = Pipeline(COCO, {"shear": {"amount": 0.5}})(Batch.of(axes), training=True).keypoints[..., :dims, :]
    assert torch.equal(out, out[:, :1, :1].expand_as(out))
    diagonal = torch.eye(dims, dtype=torch.bool)
    assert (out[..., diagonal] == 1).all()
    off = out[:, 0, 0, ~diagonal]
    assert -0.5 <= off.min() < -0.48
    assert 0.48 < off.max() <= 0.5
    assert abs(float(off.mean())) < 0.05
    some = Pipeline(COCO, {"shear": {"p": 0.25}})(Batch.of(axes), training=True).keypoints
    assert 0.15 < (some != axes).flatten(1).any(1).double().mean() < 0.35


def test_corrupted_joints_are_the_same_in_all_frames_and_persons() -> None:
    torch.manual_seed(0)
    made = Batch.of(torch.randn(300, 2, 4, 17, 3, dtype=torch.float64) + 3)
    out = Pipeline(COCO, {"corrupt_joints": {"count": 6}})(made, training=True)
    changed = (out.keypoints != made.keypoints).any(-1)
    assert torch.equal(changed, changed[:, :1, :1].expand_as(changed))
    assert (changed[:, 0, 0].sum(-1) == 6).all()
    assert changed[:, 0, 0].any(0).all()
    hidden = (out.score == 0)[:, 0, 0].any(-1)
    assert 0.4 < hidden.double().mean() < 0.6
    assert torch.equal(out.score == 0, changed & hidden.view(-1, 1, 1, 1))
    assert not out.keypoints[out.score == 0].any()
    mapped = ~hidden
    where = changed[mapped][:, 0, 0]
    before = made.keypoints[mapped].permute(0, 3, 1, 2, 4)[where].view(int(mapped.sum()), -1, 3)
    after = out.keypoints[mapped].permute(0, 3, 1, 2, 4)[where].view(int(mapped.sum()), -1, 3)
    matrix = torch.linalg.lstsq(before, after).solution
    torch.testing.assert_close(before @ matrix, after)
    assert 0.9 < matrix.abs().max() <= 1 + 1e-9


@pytest.mark.parametrize(("count", "chosen"), [(0.6, 10), (1, 1), (17, 17), (0.03, 1)])
def test_corrupt_joints_counts_or_takes_a_share(count: float, chosen: int) -> None:
    made = batch(3).with_(score=torch.ones(3, 2, 5, 17))
    out = Pipeline(COCO, {"corrupt_joints": {"count": count, "mix": 0}})(made, training=True)
    assert ((out.score == 0).sum(-1) == chosen).all()
    untouched = Pipeline(COCO, {"corrupt_joints": {"count": count, "p": 0}})(made, training=True)
    assert torch.equal(untouched.keypoints, made.keypoints)


@pytest.mark.parametrize("count", [0, 18, 2.5, -1, 0.01])
def test_corrupt_joints_refuses_what_it_cannot_choose(count: float) -> None:
    with pytest.raises(UserError, match="whole number up to the 17 joints"):
        Pipeline(COCO, {"corrupt_joints": {"count": count}})


def test_one_of_takes_one_choice_a_clip_in_the_wanted_shares() -> None:
    torch.manual_seed(0)
    made = Batch.of(torch.ones(2000, 1, 2, 17, 3))
    choices = {"double": {"name": "random_scale", "amount": 0.0}, "drop": {"name": "corrupt_joints", "mix": 0.0}}
    shear = {"choices": {"shear": {}, **choices}}
    step = Pipeline(COCO, {"one_of": shear})(made, training=True)
    hidden = (step.score == 0).flatten(1).any(1)
    sheared = (step.keypoints != 1).flatten(1).all(1)
    assert not (hidden & sheared).any()
    for share in (hidden, sheared, ~hidden & ~sheared):
        assert 0.29 < share.double().mean() < 0.38
    for p, none in (({"shear": 0.5, "drop": 0.25}, 0.25), ({"shear": 0.5, "drop": 0.5}, 0.0)):
        uneven = {"choices": {"shear": {}, "drop": choices["drop"]}, "p": p}
        out = Pipeline(COCO, {"one_of": uneven})(made, training=True)
        same = (out.keypoints == 1).flatten(1).all(1)
        assert abs(float(same.double().mean()) - none) < 0.04
        assert abs(float((out.score == 0).flatten(1).any(1).double().mean()) - p["drop"]) < 0.04


def test_one_of_takes_the_whole_clip_of_its_choice() -> None:
    """Frames reversed and modalities untouched, so that no field of a choice stays behind."""
    numbers = torch.arange(1.0, 7).view(1, 1, 6, 1, 1).expand(50, 2, 6, 17, 2).clone()
    numbers[:, 1, 4:] = 0
    made = Batch.of(numbers).with_(modalities={"depth": Modality(torch.ones(50, 3), torch.ones(50, 3) > 0)})
    out = Pipeline(COCO, {"one_of": {"choices": {"reverse": {"p": 1.0}}, "p": {"reverse": 0.5}}})(made, training=True)
    turned = out.keypoints[:, 0, 0, 0, 0] == 6
    assert 5 < turned.sum() < 45
    for name in ("keypoints", "score", "valid"):
        before, after = getattr(made, name), getattr(out, name)
        assert torch.equal(after[turned], before[turned].flip(2))
        assert torch.equal(after[~turned], before[~turned])
    assert torch.equal(out.modalities["depth"].values, made.modalities["depth"].values)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"choices": {}}, "no transform among"),
        ({"choices": {"shear": None}}, "no transform among"),
        ({"choices": {"sheer": {}}}, "unknown transform 'sheer'"),
        ({"choices": {"shear": {"amoun": 1}}}, "unknown key of transform 'shear' 'amoun'"),
        ({"choices": {"shear": {}}, "p": {"scheer": 1}}, "unknown choice 'scheer'"),
        ({"choices": {"shear": {}, "jitter": {}}, "p": {"shear": 1}}, "no probability for 'jitter'"),
        ({"choices": {"shear": {}, "jitter": {}}, "p": {"shear": 0.9, "jitter": 0.2}}, "add to at most 1"),
        ({"choices": {"shear": {}}, "p": {"shear": -0.1}}, "add to at most 1"),
    ],
)
def test_one_of_refuses(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Pipeline(COCO, {"one_of": settings})


def test_rotation_is_proper_and_planar_in_two_dimensions() -> None:
    matrix = rotation(torch.randn(4, 3, dtype=torch.float64))
    eye = torch.eye(3, dtype=torch.float64).expand(4, 3, 3)
    torch.testing.assert_close(matrix @ matrix.transpose(1, 2), eye)
    torch.testing.assert_close(torch.linalg.det(matrix), torch.ones(4, dtype=torch.float64))
    made = batch(2)
    turned = Pipeline(COCO, {"random_rotation": {"angle": 3.0}})(made, training=True)
    torch.testing.assert_close(turned.keypoints.norm(dim=-1), made.keypoints.norm(dim=-1))


def test_same_seed_same_augmentation_and_other_clips_other_draws() -> None:
    pipeline, made = Pipeline(COCO, {"random_rotation": {}, "jitter": {}}), batch(3)
    torch.manual_seed(5)
    first = pipeline(made, training=True).keypoints
    torch.manual_seed(5)
    assert torch.equal(first, pipeline(made, training=True).keypoints)
    same = made.with_(keypoints=made.keypoints[2:].expand_as(made.keypoints), score=torch.ones_like(made.score))
    turned = Pipeline(COCO, {"random_rotation": {}})(same, training=True).keypoints
    assert not torch.allclose(turned[0], turned[1])


def test_null_leaves_out_and_name_allows_a_second_use() -> None:
    assert len(Pipeline(COCO, {"image": None, "jitter": False, "again": {"name": "jitter", "sigma": 2.0}}).steps) == 1
