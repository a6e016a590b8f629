"""Frame sampling: the published rules, and chance that depends on the clip alone."""

from __future__ import annotations

import numpy as np
import pytest

from skelgraph.data.sampling import SAMPLERS, Chance, FrameIndex, choose, create, generator
from skelgraph.errors import UserError


@pytest.mark.parametrize("length", [1, 5, 63, 64, 100, 127, 128, 300])
@pytest.mark.parametrize("name", SAMPLERS.names())
@pytest.mark.parametrize("training", [True, False])
def test_indices_stay_inside_the_clip(name: str, length: int, training: bool) -> None:
    chance = generator(0, 1, 2, 3) if training else None
    index = create(name)(length, 64, chance, 1, 3)
    assert index.first.shape == (64,)
    for part in (index.first, index.second):
        assert part is None or (part.min() >= 0 and part.max() < length)


def test_uniform_takes_one_frame_of_each_bin() -> None:
    index = create("uniform")(640, 64, generator(0, 0, 0, 0)).first
    assert (index // 10 == np.arange(64)).all()


def test_uniform_between_one_and_two_lengths_skips_a_subset() -> None:
    index = create("uniform")(100, 64, generator(0, 0, 7, 0)).first
    assert (np.diff(index) >= 1).all()
    assert index[-1] <= 99
    assert np.diff(index).max() == 2


def test_uniform_short_clip_wraps_around() -> None:
    index = create("uniform")(10, 64, generator(0, 0, 3, 0)).first
    assert (np.diff(index) % 10 == 1).all()


def test_test_views_are_fixed_and_differ() -> None:
    sampler = create("uniform")
    first = sampler(300, 64, None, 0, 10).first
    assert (first == sampler(300, 64, None, 0, 10).first).all()
    assert not (first == sampler(300, 64, None, 1, 10).first).all()
    assert [int(sampler(30, 64, None, view, 10).first[0]) for view in range(3)] == [0, 3, 6]


def test_resize_is_linear_interpolation_with_half_pixel_centres() -> None:
    import torch

    clip = np.random.default_rng(0).normal(size=37)
    index = create("resize", test_crop=1.0)(37, 64, None)
    ours = (1 - index.weight) * clip[index.first] + index.weight * clip[index.second]
    whole = torch.tensor(clip)[None, None]
    theirs = torch.nn.functional.interpolate(whole, size=64, mode="linear", align_corners=False)
    np.testing.assert_allclose(ours, theirs[0, 0].numpy(), atol=1e-6)


def resample(clip: np.ndarray, index: FrameIndex) -> np.ndarray:
    return (1 - index.weight) * clip[index.first] + index.weight * clip[index.second]


def test_resize_keeps_what_needs_no_change() -> None:
    clip = np.random.default_rng(0).normal(size=64)
    whole = create("resize", test_crop=1.0)
    assert (resample(clip, whole(64, 64, None)) == clip).all()
    np.testing.assert_allclose(resample(np.full(37, 2.5), whole(37, 64, None)), 2.5)
    for length in (7, 37, 64, 150):
        noise = np.random.default_rng(length).normal(size=length)
        out = resample(noise, whole(length, 64, None))
        assert noise.min() <= out.min()
        assert out.max() <= noise.max()


@pytest.mark.parametrize("length", [20, 41, 100, 300])
def test_resize_keeps_a_ramp_a_ramp(length: int) -> None:
    ramp = resample(np.arange(length, dtype=np.float64), create("resize", test_crop=1.0)(length, 64, None))
    assert ramp[0] == pytest.approx(max(0.5 * length / 64 - 0.5, 0))
    inside = ramp[(ramp > 0) & (ramp < length - 1)]
    np.testing.assert_allclose(np.diff(inside), length / 64, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 40, 64, 65, 90, 200])
def test_resize_crops_in_training_as_published(length: int) -> None:
    sampler, sizes = create("resize"), []
    for clip in range(200):
        index = sampler(length, 64, generator(0, 0, clip, 0))
        place = index.first + index.weight
        sizes.append((place[-1] - place[0]) * 64 / 63 if length > 64 else length)
        assert index.first.min() >= 0
        assert index.second.max() < length
        if length <= 64:
            assert (index.first == sampler(length, 64, generator(0, 0, clip, 1)).first).all()
    assert min(sizes) >= min(64, length) - 1
    assert max(sizes) <= length + 1
    assert length < 90 or max(sizes) - min(sizes) > length / 5


@pytest.mark.parametrize(("drop", "kept"), [("none", [0, 1, 2, 3, 4, 5]), ("empty", [0, 1, 3, 4, 5]),
                                            ("absent", [1, 3, 4])])  # fmt: skip
@pytest.mark.parametrize("name", SAMPLERS.names())
def test_dropped_frames_are_never_taken(name: str, drop: str, kept: list[int]) -> None:
    """Nobody in frame 2; the second person, seen most often, in 1, 3, 4; the first in 0 and 5."""
    seen = np.zeros((2, 6, 3), dtype=np.float32)
    seen[1, [1, 3, 4], 1] = 0.5
    seen[0, [0, 5]] = 1
    index = choose(create(name, drop=drop), seen, 40, None)
    assert sorted(set(index.first) | set(index.first if index.second is None else index.second)) == kept
    taken = choose(create(name, drop=drop), seen, 40, generator(0, 0, 0, 0))
    assert set(taken.first) <= set(kept)
    assert (choose(create(name, drop=drop), 0 * seen, 6, None).first <= 5).all()


def test_dropping_needs_a_known_rule() -> None:
    with pytest.raises(UserError, match="value of 'drop' 'emtpy'"):
        create("uniform", drop="emtpy")


def test_random_takes_ordered_frames_with_repeats() -> None:
    index = create("random")(30, 52, generator(0, 0, 0, 0)).first
    assert (np.diff(index) >= 0).all()
    assert len(set(index)) < 30
    assert (create("random")(30, 52, None).first == create("even")(30, 52, None).first).all()


@pytest.mark.parametrize(("length", "dropped"), [(20, 0), (41, 1), (137, 3), (300, 7)])
def test_resize_test_crop_is_centred_as_published(length: int, dropped: int) -> None:
    index = create("resize")(length, 4000, None)
    assert index.first.min() == dropped
    assert index.second.max() == length - 1 - dropped


def test_chance_depends_on_each_part_of_the_draw() -> None:
    base = generator(0, 1, 2, 3).integers(1 << 30)
    others = [generator(*key).integers(1 << 30) for key in [(1, 1, 2, 3), (0, 2, 2, 3), (0, 1, 3, 3), (0, 1, 2, 4)]]
    assert base == generator(0, 1, 2, 3).integers(1 << 30)
    assert len({base, *others}) == 5


def test_one_philox_stands_for_many() -> None:
    chance = Chance()
    chance(9, 9, 9, 9).integers(7, size=3)
    for key in [(0, 1, 2, 3), (5, 0, 1 << 20, 7)]:
        assert (chance(*key).random(5) == generator(*key).random(5)).all()
