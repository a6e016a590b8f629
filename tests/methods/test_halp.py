"""HaLP: when it begins, what it adds to MoCo, what it costs the device, and how it goes on from a MoCo run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from skelgraph.batch import Batch, ClipSpec
from skelgraph.errors import UserError
from skelgraph.methods import METHODS, sphere
from skelgraph.methods.contrastive import WHOLE, Moco
from skelgraph.methods.hallucinate import attraction
from skelgraph.methods.halp import HaLP
from skelgraph.models import create
from skelgraph.topology import Topology

COCO = Topology.load("coco17")
CLIPS, QUEUE = 4, 16
SMALL = {"queue": QUEUE, "dim": 7}
MADE = {"prototypes": 5, "newest": 12, "positives": 6, "refresh": 3}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def network(several: bool = False) -> Any:
    spec, one = ClipSpec(COCO, 2, 1, 6), {"hidden": 5, "layers": 1}
    if several:
        return create("multi_stream", spec, base={"name": "gru", **one}, streams=["joint", "joint_motion", "bone"])
    return create("gru", spec, **one)


def halp(several: bool = False, **settings: Any) -> HaLP:
    method = METHODS.create("halp", network(several), **{**SMALL, **MADE, **settings})
    assert isinstance(method, HaLP)
    return method.train()


def views() -> tuple[Batch, Batch]:
    return Batch.of(torch.randn(CLIPS, 1, 6, 17, 2)), Batch.of(torch.randn(CLIPS, 1, 6, 17, 2))


def train(method: Moco, steps: int) -> list[dict[str, float]]:
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 0.1)
    history = []
    for _ in range(steps):
        optimizer.zero_grad()
        figures = method.step(views(), 0.0)
        figures["loss"].backward()
        optimizer.step()
        method.after_step()
        history.append({key: float(value.detach()) for key, value in figures.items()})
    return history


def state(method: Moco) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in method.state_dict().items()}


def exports(method: Moco) -> dict[str, dict[str, Tensor]]:
    return {
        name: {k: v.clone() for k, v in part.state_dict().items()} for name, part in method.exports().items()
    }  # fmt: skip


def test_it_begins_when_the_queue_has_been_filled_twice() -> None:
    method = halp()
    history = train(method, 2 * QUEUE // CLIPS + 2)
    warm = 2 * QUEUE // CLIPS
    for one in history[:warm]:
        assert one["loss_halp"] == one["kept"] == one["reach"] == 0.0
        assert one["loss"] == pytest.approx(one["loss_nce"])
    for one in history[warm:]:
        assert one["loss"] == pytest.approx(one["loss_nce"] + 2.0 * one["loss_halp"], rel=1e-5)
        assert abs(one["loss_halp"]) <= 1 / 0.07
        assert 0 < one["kept"] <= 1
        assert -1 <= one["reach"] <= 1


def test_prototypes_are_renewed_every_few_steps_from_the_newest_keys() -> None:
    method = halp(warmup=QUEUE)
    queue, own = method.branches[WHOLE].queue, method.of(WHOLE)
    train(method, QUEUE // CLIPS)
    assert int(own.age) == -1
    ages, before = [], own.centres.clone()
    for _ in range(8):
        newest = queue.newest(12).clone()
        method.update_prototypes()
        if int(own.age) == 0:
            assert not torch.equal(own.centres, before)
            labels = (newest @ own.centres.T).argmax(1)
            means = sphere.frechet_means(newest, labels, 5)
            assert (sphere.angle(means, own.centres).mean()) < 1e-3
        before = own.centres.clone()
        ages.append(int(own.age))
        train(method, 1)
    assert ages == [0, 1, 2, 0, 1, 2, 0, 1]
    torch.testing.assert_close(own.centres.norm(dim=1), torch.ones(5))


def test_without_weight_it_is_moco() -> None:
    plain = METHODS.create("moco", network(), **SMALL).train()
    method = halp(weight=0.0, warmup=0)
    method.consume(exports(plain))
    method.model.load_state_dict(plain.model.state_dict())
    torch.manual_seed(1)
    pairs = [views() for _ in range(4)]
    losses: list[list[float]] = []
    for learner in (plain, method):
        optimizer, own = torch.optim.SGD([p for p in learner.parameters() if p.requires_grad], 0.1), []
        for pair in pairs:
            optimizer.zero_grad()
            figures = learner.step(pair, 0.0)
            figures["loss"].backward()
            optimizer.step()
            learner.after_step()
            own.append(float(figures["loss_nce"]))
        losses.append(own)
    assert losses[0] == losses[1]


def test_gradient_reaches_the_query_only() -> None:
    method = halp(warmup=0)
    pair = views()
    method.step(pair, 0.0)  # the first k-means
    keys = method.keys(pair[1])[WHOLE].requires_grad_()
    queries = method.queries(pair[0])[WHOLE].detach().requires_grad_()
    attraction(queries, method.hallucinated(WHOLE, keys), 0.07).backward()
    assert keys.grad is None
    assert queries.grad is not None
    assert not method.of(WHOLE).centres.requires_grad
    method.zero_grad()
    method.step(pair, 0.0)["loss"].backward()
    assert all(p.grad is None for p in method.branches[WHOLE].key.parameters())  # type: ignore[union-attr]


def test_hardness_zero_takes_the_limit() -> None:
    method = halp(warmup=0, hardness=0.0)
    method.update_prototypes()
    keys = sphere.unit(torch.randn(CLIPS, 7))
    made = method.hallucinated(WHOLE, keys)
    assert torch.equal(made.t, made.limit)
    soft = halp(hardness=0.8)
    back = soft.chance(WHOLE, torch.zeros(500, 7)).back
    assert 0 <= back.min() < 0.01
    assert 0.79 < back.max() < 0.8
    choice = soft.chance(WHOLE, torch.zeros(500, 7)).choice
    assert choice.unique().tolist() == [0, 1, 2, 3]
    assert halp(candidates=2).chance(WHOLE, torch.zeros(50, 7)).choice.unique().tolist() == [0, 1]


class Waits(TorchDispatchMode):
    """Counts what would make the host wait for a device."""

    ASKING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = [item for item in args[1] if item is not None] if name in {"index", "index_put"} else []
        if name in self.ASKING or any(item.dtype == torch.bool for item in masks):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("several", [False, True])
def test_nothing_leaves_the_device_inside_a_step(monkeypatch: pytest.MonkeyPatch, several: bool) -> None:
    monkeypatch.setattr(sphere, "free_to_look", lambda x: False)
    method = halp(several, warmup=0, refresh=1, distill=1.0)
    train(method, 1)
    pair = views()
    with Waits() as waits:
        method.step(pair, 0.0)["loss"].backward()
        method.after_step()
    assert not waits.found
    with Waits() as waits:
        bool(torch.ones(2)[torch.tensor([True, False])].sum() > 0)
    assert waits.found


def test_half_precision_leaves_the_sphere_in_float32() -> None:
    method = halp(warmup=0, refresh=1)
    seen: list[torch.dtype] = []
    made = method.hallucinated
    method.hallucinated = lambda *args: seen.append((found := made(*args)).points.dtype) or found  # type: ignore
    with torch.autocast("cpu", torch.bfloat16):
        figures = method.step(views(), 0.0)
    assert seen == [torch.float32]
    assert figures["loss"].dtype == torch.float32
    other = halp(warmup=0, refresh=1)
    other.seed = method.seed
    other.branches[WHOLE].queue.load_state_dict(method.branches[WHOLE].queue.state_dict())
    other.update_prototypes()
    assert torch.equal(other.of(WHOLE).centres, method.of(WHOLE).centres)


def test_three_streams_have_three_sets_of_prototypes() -> None:
    method = halp(several=True, warmup=0, distill=0.5)
    history = train(method, 3)
    for one in history:
        total = one["loss_nce"] + 0.5 * one["loss_distill"] + 2.0 * one["loss_halp"]
        assert one["loss"] == pytest.approx(total, rel=1e-5)
    centres = [method.of(name).centres for name in method.networks]
    assert len(centres) == 3
    assert not torch.equal(centres[0], centres[1])


def test_it_goes_on_from_a_moco_run_at_once() -> None:
    plain = METHODS.create("moco", network(), **SMALL).train()
    train(plain, 2 * QUEUE // CLIPS)
    given = exports(plain)
    torch.manual_seed(5)
    method = halp()
    method.model.consume(given)
    method.consume(given)
    mine = state(method)
    theirs = plain.state_dict()
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    assert train(method, 1)[0]["loss_halp"] != 0


def test_it_goes_on_from_a_halp_run_exactly() -> None:
    first = halp(warmup=0)
    train(first, 5)
    again, other = halp(warmup=0), halp(warmup=0, prototypes=4)
    for method in (again, other):
        method.model.consume(exports(first))
        method.consume(exports(first))
    mine, theirs = state(again), state(first)
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    assert int(other.of(WHOLE).age) == -1
    assert train(other, 1)[0]["loss_halp"] != 0


def test_kmeans_draws_from_the_seed_and_the_keys_that_came() -> None:
    first, second = halp(warmup=0), halp(warmup=0)
    second.load_state_dict(first.state_dict())
    second.seed = first.seed
    first.update_prototypes()
    torch.rand(100)
    second.update_prototypes()
    assert torch.equal(first.of(WHOLE).centres, second.of(WHOLE).centres)
    second.of(WHOLE).age.set(-1)
    second.seed += 1
    second.update_prototypes()
    assert not torch.equal(first.of(WHOLE).centres, second.of(WHOLE).centres)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"prototypes": 13}, r"12 keys \(newest\) cannot have 13 centres; set prototypes to 12 or less, or newest to 13"),
     ({"newest": 17}, "queue of 16 keys has no newest 17"), ({"skip": 0}, "skip: of 5 prototypes 1 to 4"),
     ({"skip": 5}, "1 to 4 can be left out, not 5"), ({"hardness": 1.2}, "hardness: 1.2 is not between")],
)  # fmt: skip
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        halp(**settings)


def test_published_form_and_margin_are_handed_on() -> None:
    method = halp(warmup=0, published=True, margin=0.3, hardness=0.0)
    method.update_prototypes()
    made = method.hallucinated(WHOLE, sphere.unit(torch.randn(CLIPS, 7)))
    torch.testing.assert_close(made.t, made.limit - 0.3)
    assert (made.t < 0).any()
