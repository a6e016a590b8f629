"""Positives made on the sphere of embeddings: from a key towards another prototype, as far as its own stays nearest."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from skelgraph.methods.reduce import global_mean
from skelgraph.methods.sphere import unit

# Below this angle, or so near to its opposite, a great circle has no direction that float32 could tell.
_LEAST = 1e-4
# The published code adds this to denominators.
_EPSILON = 1e-8


class Draws(NamedTuple):
    """What chance decides, S positives for each of N anchors.

    Shapes:
        choice (N, S) int64, places in the list of candidates; back (N, S), how far to stay from the limit: 0 is the
        limit, 1 the anchor.
    """

    choice: Tensor
    back: Tensor


class Positives(NamedTuple):
    """Hallucinated positives.

    Shapes:
        points (N, S, D) unit vectors; kept (N, S) bool, whether the anchor's nearest prototype is still the nearest;
        nearest (N,) and target (N, S) prototypes; limit and t (N, S), the largest and the taken share of the way to
        the target.
    """

    points: Tensor
    kept: Tensor
    nearest: Tensor
    target: Tensor
    limit: Tensor
    t: Tensor


def candidates(similarity: Tensor, number: int, skip: int) -> Tensor:
    """The prototypes one may walk to: without the ``skip`` most similar ones, the ``number`` most similar ones.

    Shapes:
        similarity (N, P); out (N, min(number, P - skip)) in ascending similarity.
    """
    last = similarity.shape[1] - skip
    return similarity.argsort(1)[:, max(0, last - number) : last]


def furthest(own: Tensor, other: Tensor, between: Tensor, published: bool = False) -> tuple[Tensor, Tensor]:
    """How far one may walk from z to a prototype p before it is as near as z's nearest prototype q.

    With the angle w from z to p and d = z.q - z.p the limit is t = atan2(d sin w, 1 - p.q + d cos w) / w, in [0, 1). It
    is 0 where p is opposite to z, since no way there is shorter than another.

    Args:
        own: z.q.
        other: z.p, at most ``own``.
        between: p.q.
        published: ``atan`` and small terms in the denominators, as in the released code; negative, hence away from p,
            where the limit is beyond a right angle.

    Returns:
        w and t, of the common shape of the arguments.
    """
    cosine = other.clamp(-1.0, 1.0)
    angle = cosine.arccos().clamp(_LEAST, math.pi - _LEAST)
    if published:
        ratio = (1.0 - between) / (own - other + _EPSILON)
        return angle, torch.atan(angle.sin() / (ratio + cosine + _EPSILON)) / (angle + _EPSILON)
    ahead = own - other
    across = (1.0 - between).clamp(min=0.0) + ahead * cosine
    limit = torch.atan2(ahead * angle.sin(), across) / angle
    return angle, torch.where(angle < math.pi - _LEAST, limit, 0.0)


def walk(start: Tensor, end: Tensor, angle: Tensor, t: Tensor) -> Tensor:
    """The point at the share ``t`` of the great circle from ``start`` to ``end``, which are ``angle`` apart.

    Shapes:
        start, end (..., D), angle and t (...); out (..., D) unit vectors.
    """
    first, second = ((1.0 - t) * angle).sin().unsqueeze(-1), (t * angle).sin().unsqueeze(-1)
    return unit(first * start + second * end)


@torch.no_grad()
def hallucinate(
    anchors: Tensor,
    prototypes: Tensor,
    draws: Draws,
    *,
    number: int = 20,
    skip: int = 1,
    margin: float = 0.0,
    published: bool = False,
) -> Positives:
    """Positives of each anchor: a way is drawn towards another prototype, and a share of it up to the limit.

    Args:
        anchors: z, unit vectors.
        prototypes: unit vectors.
        draws: chance.
        number, skip: see `candidates`.
        margin: taken off the share, which keeps points inside that would lie on the limit.
        published: see `furthest`.

    Shapes:
        anchors (N, D), prototypes (P, D).

    Source: Shah et al., CVPR 2023, section 3.
    """
    similarity = anchors @ prototypes.T
    own, nearest = similarity.max(1, keepdim=True)
    target = candidates(similarity, number, skip).gather(1, draws.choice)
    angle, limit = furthest(own, similarity.gather(1, target), (prototypes @ prototypes.T)[target, nearest], published)
    t = (1.0 - draws.back) * limit - margin
    t = t if published else t.clamp(min=0.0)
    points = walk(anchors.unsqueeze(1), prototypes[target], angle, t)
    kept = (points @ prototypes.T).argmax(-1) == nearest
    return Positives(points, kept, nearest.squeeze(1), target, limit, t)


def attraction(query: Tensor, positives: Positives, temperature: float) -> Tensor:
    """Minus the mean of q.x / temperature over the kept positives of all queries (and processes); 0 where none is kept.

    Shapes:
        query (N, D) unit vectors; out a scalar in [-1, 1] / temperature.
    """
    kept = positives.kept
    pull = torch.where(kept.unsqueeze(-1), positives.points, 0.0).sum(1)
    return -global_mean((query * pull).sum() / temperature, kept.sum())
