"""Transforms: what they promise about origin, unit, missing joints and chance."""

from __future__ import annotations

import math

import pytest
import torch

from skelgraph.batch import Batch
from skelgraph.errors import UserError
from skelgraph.topology import Topology
from skelgraph.transforms import TRANSFORMS, Pipeline
from skelgraph.transforms.augment import rotation

COCO = Topology.load("coco17")


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
    if name == "image" and dims == 3:
        pytest.skip("pixels are 2-D")
    before = batch(dims)
    after = Pipeline(COCO, {name: {}})(before, training=True)
    assert after.keypoints.shape == before.keypoints.shape
    assert after.keypoints.dtype == before.keypoints.dtype
    assert not after.keypoints[after.score == 0].any()


@pytest.mark.parametrize("name", TRANSFORMS.names())
def test_augmentation_only_while_training(name: str) -> None:
    before = batch()
    after = Pipeline(COCO, {name: {}})(before, training=False)
    if TRANSFORMS.get(name).training_only:
        assert torch.equal(after.keypoints, before.keypoints)


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
