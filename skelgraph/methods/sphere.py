"""Geometry of the unit sphere: straight ways and mean directions, and k-means with both.

Everything is batched, and nothing leaves the device: loops have a fixed length, and what has converged no longer moves.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SHIFT = 1e-3
# Geomstats stops at a squared gradient norm of 1e-4 times the dimension, for which the published code passes 128.
GRADIENT = 1e-4 * 128
# Far beyond what keys of trained or random encoders need (tests/methods/test_sphere.py); 100 and 100 as published.
SWEEPS, STEPS = 40, 5


def unit(x: Tensor) -> Tensor:
    """``x / |x|`` over the last axis, at least in float32."""
    return F.normalize(x if x.dtype == torch.float64 else x.float(), dim=-1)


def angle(x: Tensor, y: Tensor) -> Tensor:
    """Angle between unit vectors, ``arccos(x . y)`` with the cosine kept in [-1, 1]; ``(..., D)`` to ``(...)``."""
    return (x * y).sum(-1).clamp(-1.0, 1.0).arccos()


def log_map(base: Tensor, x: Tensor) -> Tensor:
    """The tangent at ``base`` that leads to ``x``; its length is their angle. Zero where ``x`` is ``base`` or opposite.

    Shapes:
        base, x (..., D) unit vectors; out (..., D).
    """
    cosine = (base * x).sum(-1, keepdim=True)
    tangent = x - cosine * base
    sine = tangent.norm(dim=-1, keepdim=True)
    return tangent * (torch.atan2(sine, cosine) / sine.clamp(min=1e-12))


def exp_map(base: Tensor, tangent: Tensor) -> Tensor:
    """The point reached from ``base`` along ``tangent``: ``cos|v| base + sin|v| v / |v|``, the inverse of `log_map`."""
    length = tangent.norm(dim=-1, keepdim=True)
    return unit(length.cos() * base + torch.sinc(length / torch.pi) * tangent)


def free_to_look(x: Tensor) -> bool:
    """Whether the host may read a value without making a device wait."""
    return x.device.type == "cpu"


def _members(labels: Tensor, clusters: int) -> Tensor:
    """Who is in which cluster, ``(clusters, E)`` bool; ``F.one_hot`` would read its argument back."""
    return labels == torch.arange(clusters, device=labels.device).unsqueeze(1)


def frechet_means(points: Tensor, labels: Tensor, clusters: int, steps: int = STEPS) -> Tensor:
    """The mean direction of each cluster by gradient descent, ``m <- exp_m(s mean log_m x)``, from its first member.

    One step, then more until the squared norm of the gradient is at most 0.0128. The rate s begins at 1 and is halved
    whenever the gradient grows.

    Shapes:
        points (E, D) unit vectors, labels (E,); out (clusters, D), a row of no meaning for an empty cluster.
    """
    member = _members(labels, clusters).to(points.dtype)
    share = member / member.sum(1, keepdim=True).clamp(min=1.0)
    order = torch.arange(len(points), device=points.device)
    first = torch.where(member > 0, order, len(points) - 1).amin(1)
    mean = points[first]
    rate = torch.ones_like(mean[:, :1])
    before = torch.full_like(rate, torch.inf)
    active = torch.ones_like(rate, dtype=torch.bool)
    for step in range(steps):
        gradient = share @ log_map(mean[labels], points)
        size = gradient.square().sum(1, keepdim=True)
        active = active & (size > GRADIENT) if step else active
        if free_to_look(points) and not active.any():
            break
        rate = torch.where(size > before, rate / 2, rate)
        mean = torch.where(active, exp_map(mean, rate * gradient), mean)
        before = size
    return mean


class Clusters(NamedTuple):
    """Centres ``(P, D)``, the nearest of each point ``(E,)``, and whether the centres had come to rest (a scalar)."""

    centres: Tensor
    labels: Tensor
    settled: Tensor


def sphere_kmeans(points: Tensor, start: Tensor, spare: Tensor, steps: int = STEPS) -> Clusters:
    """k-means by angle: nearest centre, then `frechet_means`, until the centres move by less than 1e-3 in the mean.

    Args:
        points: what is clustered.
        start: first centres.
        spare: for each sweep, a point for each cluster that is empty after it; its length is the largest number of
            sweeps.
        steps: longest gradient descent of a sweep.

    Shapes:
        points (E, D), start (P, D) unit vectors; spare (sweeps, P) positions in points.
    """
    centres, clusters = start, len(start)
    settled = torch.zeros((), dtype=torch.bool, device=points.device)
    for replacement in spare:
        labels = (points @ centres.T).argmax(1)
        empty = ~_members(labels, clusters).any(1)
        means = frechet_means(points, labels, clusters, steps)
        moved = torch.where(empty.unsqueeze(1), points[replacement], means)
        still = angle(centres, moved).mean() < SHIFT
        centres = torch.where(settled, centres, moved)
        settled = settled | still
        if free_to_look(points) and settled:
            break
    return Clusters(centres, (points @ centres.T).argmax(1), settled)


def spread_start(points: Tensor, draws: Tensor) -> Tensor:
    """First centres after k-means++, each drawn with a chance proportional to its angle from the nearest one so far.

    The angle, not its square, as in the published code.

    Shapes:
        points (E, D), draws (P,) uniform in [0, 1); out (P, D), rows of points.
    """
    last = len(points) - 1
    # A row is taken by a list of one place: by a bare number in a tensor, torch would ask the device for it.
    chosen = points[(draws[:1] * len(points)).long().clamp(max=last)]
    centres, nearest = [chosen], angle(points, chosen)
    for draw in draws[1:].split(1):
        reach = nearest.cumsum(0)
        chosen = points[torch.searchsorted(reach, draw * reach[-1], right=True).clamp(max=last)]
        centres.append(chosen)
        nearest = torch.minimum(nearest, angle(points, chosen))
    return torch.cat(centres)


def cluster(points: Tensor, clusters: int, generator: torch.Generator, spread: bool = True) -> Clusters:
    """`sphere_kmeans` with drawn first centres.

    Args:
        points: unit vectors ``(E, D)``.
        clusters: P.
        generator: of all chance, on the device of the points.
        spread: start by `spread_start`; otherwise with points drawn at random, which may be equal.
    """
    device, number = points.device, len(points)
    draws = torch.rand(clusters, generator=generator, device=device, dtype=points.dtype)
    spare = torch.randint(number, (SWEEPS, clusters), generator=generator, device=device)
    random = points[(draws * number).long().clamp(max=number - 1)]
    return sphere_kmeans(points, spread_start(points, draws) if spread else random, spare)
