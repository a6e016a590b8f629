"""What holds for every hallucinated positive (specification, section 9)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from skelgraph.methods.hallucinate import Draws, Positives, attraction, candidates, furthest, hallucinate
from skelgraph.methods.sphere import angle, unit

ANCHORS, PROTOTYPES, EACH, WIDTH, TAU = 40, 9, 12, 6, 0.07


def directions(*shape: int) -> Tensor:
    return unit(torch.randn(*shape, dtype=torch.float64))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def draws(back: float | None = None, number: int = PROTOTYPES - 1, anchors: int = ANCHORS) -> Draws:
    choice = torch.randint(number, (anchors, EACH))
    drawn = torch.rand(anchors, EACH, dtype=torch.float64)
    return Draws(choice, drawn if back is None else torch.full_like(drawn, back))


def scene(back: float | None = None) -> tuple[Tensor, Tensor, Draws, Positives]:
    anchors, prototypes, chance = directions(ANCHORS, WIDTH), directions(PROTOTYPES, WIDTH), draws(back)
    return anchors, prototypes, chance, hallucinate(anchors, prototypes, chance)


def similarities(made: Positives, prototypes: Tensor) -> tuple[Tensor, Tensor]:
    """Of each point with the anchor's nearest prototype, and with the one it walks to."""
    every = made.points @ prototypes.T
    own = every.gather(2, made.nearest.view(-1, 1, 1).expand(-1, EACH, 1)).squeeze(2)
    return own, every.gather(2, made.target.unsqueeze(2)).squeeze(2)


def test_on_the_sphere_and_on_the_great_circle() -> None:
    anchors, prototypes, _, made = scene()
    torch.testing.assert_close(made.points.norm(dim=-1), torch.ones(ANCHORS, EACH).double())
    way = angle(anchors.unsqueeze(1), prototypes[made.target])
    first, second = angle(anchors.unsqueeze(1), made.points), angle(made.points, prototypes[made.target])
    torch.testing.assert_close(first, made.t * way, atol=1e-7, rtol=0)
    torch.testing.assert_close(second, (1 - made.t) * way, atol=1e-7, rtol=0)
    raw = (((1 - made.t) * way).sin().unsqueeze(-1) * anchors.unsqueeze(1)
           + (made.t * way).sin().unsqueeze(-1) * prototypes[made.target]) / way.sin().unsqueeze(-1)  # fmt: skip
    torch.testing.assert_close(raw, made.points)


def test_at_the_limit_both_prototypes_are_equally_near() -> None:
    anchors, prototypes, _, made = scene(back=0.0)
    own, other = similarities(made, prototypes)
    way = angle(anchors.unsqueeze(1), prototypes[made.target])
    torch.testing.assert_close(own, other)
    torch.testing.assert_close(own, ((1 - made.limit) * way).cos())


def test_before_the_limit_the_own_prototype_is_nearer() -> None:
    _, prototypes, chance, made = scene()
    own, other = similarities(made, prototypes)
    assert (own > other)[chance.back > 1e-6].all()
    assert ((made.limit > 0) & (made.limit < 1)).all()


def test_the_limit_is_the_anchor_where_both_are_equally_near() -> None:
    anchor = unit(torch.tensor([[1.0, 1.0, 0.0]]))
    prototypes = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    made = hallucinate(anchor, prototypes, Draws(torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1)))
    assert made.limit.item() == 0.0
    torch.testing.assert_close(made.points[0], anchor)


def test_a_prototype_as_anchor_goes_half_way() -> None:
    prototypes = directions(PROTOTYPES, WIDTH)
    made = hallucinate(prototypes, prototypes, draws(0.0, anchors=PROTOTYPES))
    torch.testing.assert_close(made.limit, torch.full_like(made.limit, 0.5))


def coplanar(own: float, other: float, published: bool) -> float:
    """The limit for an anchor at ``own`` degrees, its prototype at 0 and another at ``other`` degrees."""
    turns = torch.tensor([own, 0.0, other], dtype=torch.float64).deg2rad()
    z, near, far = torch.stack([turns.cos(), turns.sin(), torch.zeros_like(turns)], 1)
    return float(furthest(z @ near, z @ far, near @ far, published)[1])


@pytest.mark.parametrize(("own", "other"), [(-30, 40), (-74, 40), (-10, 120), (15, 40), (-139.5, 40), (0, 170)])
def test_coplanar_case(own: float, other: float) -> None:
    assert coplanar(own, other, False) == pytest.approx((other / 2 - own) / (other - own), abs=1e-9)


def test_the_published_form_is_wrong_beyond_a_right_angle() -> None:
    assert coplanar(-30, 40, True) == pytest.approx(5 / 7, abs=1e-6)
    assert coplanar(-74, 40, True) == pytest.approx(-86 / 114, abs=1e-6)


def test_less_of_the_way_is_easier() -> None:
    anchors, prototypes, chance, _ = scene()
    shares = torch.linspace(0, 1, 9).tolist()
    made = [hallucinate(anchors, prototypes, Draws(chance.choice, torch.full_like(chance.back, u))) for u in shares]
    cosines = torch.stack([torch.einsum("nd,nsd->ns", anchors, one.points) for one in made])
    assert (cosines.diff(dim=0) > 0).all()
    torch.testing.assert_close(made[-1].points, anchors.unsqueeze(1).expand_as(made[-1].points))
    # The arc leaves the cell of its prototype at most once; on the limit itself rounding decides.
    kept = torch.stack([one.kept for one in made[1:]]).int()
    assert (kept.diff(dim=0) >= 0).all()
    assert kept[-1].all()
    assert not kept[0].all()


def test_two_prototypes_keep_everything() -> None:
    chance = draws(number=1)
    made = hallucinate(directions(ANCHORS, WIDTH), directions(2, WIDTH), chance)
    assert made.kept[chance.back > 1e-6].all()


def test_rotation_and_order_change_nothing() -> None:
    anchors, prototypes, chance, made = scene()
    turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH, dtype=torch.float64)).Q
    order = torch.randperm(PROTOTYPES)
    turned = hallucinate(anchors @ turn.T, prototypes @ turn.T, chance)
    torch.testing.assert_close(turned.points, made.points @ turn.T)
    torch.testing.assert_close(turned.t, made.t)
    assert torch.equal(turned.kept, made.kept)
    mixed = hallucinate(anchors, prototypes[order], chance)
    torch.testing.assert_close(mixed.points, made.points)
    assert torch.equal(order[mixed.target], made.target)
    assert torch.equal(mixed.kept, made.kept)


def test_candidates_leave_out_the_nearest_and_keep_the_near_ones() -> None:
    similarity = torch.tensor([[0.1, 0.9, 0.5, -0.2, 0.7]])
    assert candidates(similarity, 2, 1).tolist() == [[2, 4]]
    assert candidates(similarity, 2, 2).tolist() == [[0, 2]]
    assert candidates(similarity, 20, 1).tolist() == [[3, 0, 2, 4]]


def test_degenerate_scenes_give_numbers() -> None:
    """Twin prototypes, an anchor on a prototype, and one opposite to it, in float32."""
    prototypes = torch.eye(4)[[0, 0, 1, 2]]
    anchors = torch.stack([prototypes[0], -prototypes[0], -prototypes[2], unit(torch.ones(4))])
    for published in (False, True):
        chance = Draws(torch.arange(3).repeat(4, 1), torch.zeros(4, 3))
        made = hallucinate(anchors, prototypes, chance, published=published)
        assert torch.isfinite(made.points).all()
    made = hallucinate(anchors, prototypes, chance)
    assert ((made.limit >= 0) & (made.limit < 1)).all()
    torch.testing.assert_close(made.points.norm(dim=-1), torch.ones(4, 3))


def test_a_margin_stays_inside_and_never_behind_the_anchor() -> None:
    anchors, prototypes, chance, _ = scene(0.0)
    made = hallucinate(anchors, prototypes, chance, margin=0.05)
    torch.testing.assert_close(made.t, (made.limit - 0.05).clamp(min=0))
    own, other = similarities(made, prototypes)
    assert (own > other).all()


def test_loss_gradient_and_bounds() -> None:
    _, _, _, made = scene()
    raw = torch.randn(ANCHORS, WIDTH, dtype=torch.float64, requires_grad=True)
    query = unit(raw)
    query.retain_grad()
    loss = attraction(query, made, TAU)
    loss.backward()
    assert loss.detach().abs() <= 1 / TAU
    number = made.kept.sum()
    expected = -(made.kept.unsqueeze(-1) * made.points).sum(1) / (number * TAU)
    assert query.grad is not None
    assert raw.grad is not None
    torch.testing.assert_close(query.grad, expected)
    torch.testing.assert_close((raw.grad * raw).sum(-1), torch.zeros(ANCHORS).double(), atol=1e-12, rtol=0)
    assert not made.points.requires_grad


def test_loss_at_the_anchor_itself_and_where_nothing_is_kept() -> None:
    anchors, _, _, made = scene(1.0)
    query = directions(ANCHORS, WIDTH).requires_grad_()
    torch.testing.assert_close(attraction(query, made, TAU), -(query * anchors).sum(-1).mean() / TAU)
    torch.testing.assert_close(float(attraction(anchors, made, TAU)), -1 / TAU)
    assert math.isclose(-1 / TAU, -14.2857, abs_tol=1e-4)
    broken = made._replace(points=torch.full_like(made.points, math.nan), kept=torch.zeros_like(made.kept))
    loss = attraction(query, broken, TAU)
    loss.backward()
    assert loss.item() == 0.0
    assert query.grad is not None
    assert (query.grad == 0).all()
