"""Frame sampling: the published rules, and chance that depends on the clip alone."""

from __future__ import annotations

import numpy as np
import pytest

from skelgraph.data.sampling import SAMPLERS, Chance, create, generator


@pytest.mark.parametrize("length", [1, 5, 63, 64, 100, 127, 128, 300])
@pytest.mark.parametrize("name", ["uniform", "resize", "even"])
@pytest.mark.parametrize("training", [True, False])
def test_indices_stay_inside_the_clip(name: str, length: int, training: bool) -> None:
    chance = generator(0, 1, 2, 3) if training else None
    index = create(name)(length, 64, chance, 1, 3)
    assert index.first.shape == (64,)
    for part in (index.first, index.second):
        assert part is None or (part.min() >= 0 and part.max() < length)
    assert set(SAMPLERS.names()) >= {"uniform", "resize", "even"}


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
