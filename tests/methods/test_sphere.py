"""Geometry of the sphere, and k-means held against its definition with plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from skelgraph.methods import sphere
from skelgraph.methods.sphere import angle, cluster, exp_map, frechet_means, log_map, sphere_kmeans, spread_start, unit


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def directions(*shape: int) -> Tensor:
    return unit(torch.randn(*shape, dtype=torch.float64))


def test_log_and_exp_are_inverse() -> None:
    base, x = directions(50, 6), directions(50, 6)
    tangent = log_map(base, x)
    torch.testing.assert_close((tangent * base).sum(-1), torch.zeros(50).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(tangent.norm(dim=-1), angle(base, x))
    torch.testing.assert_close(exp_map(base, tangent), x)
    assert log_map(base, base).norm(dim=-1).max() < 1e-7
    torch.testing.assert_close(exp_map(base, torch.zeros_like(base)), base)


def test_angles_of_rounded_unit_vectors_are_numbers() -> None:
    x = unit(torch.randn(1000, 32))
    assert torch.isfinite(angle(x, x)).all()
    assert torch.isfinite(angle(x, -x)).all()
    assert torch.isfinite(log_map(x, -x)).all()


def test_the_mean_of_two_points_is_their_normalised_sum() -> None:
    points = directions(8, 5)
    labels = torch.tensor([2, 0, 1, 0, 1, 2, 3, 3])
    means = frechet_means(points, labels, 5)
    for number in range(4):
        torch.testing.assert_close(means[number], unit(points[labels == number].sum(0)))
    assert torch.isfinite(means).all()


def plain_mean(points: Tensor) -> Tensor:
    """Section 3.1 of the specification with a loop that breaks."""
    mean, rate, before = points[0], 1.0, math.inf
    for step in range(100):
        gradient = log_map(mean.expand_as(points), points).mean(0)
        size = float(gradient.square().sum())
        if step and size <= 1e-4 * 128:
            break
        rate = rate / 2 if size > before else rate
        mean, before = exp_map(mean, rate * gradient), size
    return mean


def plain_kmeans(points: Tensor, start: Tensor, spare: Tensor) -> tuple[Tensor, int]:
    centres = start.clone()
    for sweep in range(100):
        labels, old = (points @ centres.T).argmax(1), centres.clone()
        for number in range(len(start)):
            own = points[labels == number]
            centres[number] = plain_mean(own) if len(own) else points[spare[sweep, number]]
        if angle(old, centres).mean() < 1e-3:
            return centres, sweep + 1
    raise AssertionError("no rest")


def keys(kind: str, number: int, width: int) -> Tensor:
    if kind == "blobs":
        middle = torch.randn(15, width, dtype=torch.float64)
        return unit(middle[torch.randint(15, (number,))] + 0.5 * torch.randn(number, width))
    if kind == "flat":
        return unit(torch.randn(number, 4, dtype=torch.float64) @ torch.randn(4, width, dtype=torch.float64))
    return directions(number, width)


@pytest.mark.parametrize("look", [True, False])
@pytest.mark.parametrize("kind", ["uniform", "blobs", "flat"])
def test_kmeans_equals_its_definition(monkeypatch: pytest.MonkeyPatch, kind: str, look: bool) -> None:
    """The definition allows 100 sweeps and 100 steps of descent; ours fewer, and not one less than it takes."""
    monkeypatch.setattr(sphere, "free_to_look", lambda x: look)
    for trial in range(8):
        points = keys(kind, 128, 32)
        start = points[torch.randint(128, (10,))] if trial % 2 else spread_start(points, torch.rand(10).double())
        spare = torch.randint(128, (sphere.SWEEPS, 10))
        expected, sweeps = plain_kmeans(points, start, torch.cat([spare, spare, spare]))
        found = sphere_kmeans(points, start, spare)
        assert sweeps <= sphere.SWEEPS
        assert found.settled
        torch.testing.assert_close(found.centres, expected)
        torch.testing.assert_close(found.centres.norm(dim=1), torch.ones(10).double())


def test_an_empty_cluster_becomes_a_random_point() -> None:
    points = directions(12, 4)
    start = torch.cat([points[:2], points[:1], points[:1]])  # twins: the first of equals takes all
    spare = torch.tensor([[9, 9, 7, 5]])
    found = sphere_kmeans(points, start, spare)
    torch.testing.assert_close(found.centres[2:], points[[7, 5]])
    assert not found.settled
    again = cluster(points, 4, torch.Generator().manual_seed(1), spread=False)
    assert torch.isfinite(again.centres).all()
    assert again.settled


def test_few_directions_are_found_exactly() -> None:
    own = directions(5, 6)
    points = own[torch.randint(5, (40,))]
    found = cluster(points, 7, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.centres[found.labels], points, atol=1e-7, rtol=0)


def test_spread_start_is_proportional_to_the_angle() -> None:
    """Three points at 0, 30 and 90 degrees: after the first, the second is drawn by angle and not by its square."""
    turns = torch.tensor([0.0, math.pi / 6, math.pi / 2], dtype=torch.float64)
    points = torch.stack([turns.cos(), turns.sin()], 1)
    second = [spread_start(points, torch.tensor([0.0, draw]).double())[1] for draw in torch.linspace(0, 0.9999, 400)]
    share = sum(torch.equal(one, points[1]) for one in second) / 400
    assert share == pytest.approx(30 / 120, abs=0.01)
    assert not any(torch.equal(one, points[0]) for one in second)


def test_chance_is_the_generators_alone() -> None:
    points = F.normalize(torch.randn(64, 8), dim=1)
    first = cluster(points, 5, torch.Generator().manual_seed(3)).centres
    torch.rand(7)
    assert torch.equal(cluster(points, 5, torch.Generator().manual_seed(3)).centres, first)
    assert not torch.equal(cluster(points, 5, torch.Generator().manual_seed(4)).centres, first)
