"""MoCo: loss, momentum, queue, streams, and what goes wrong in recipes (specification, section 9)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skelgraph.batch import Batch, ClipSpec
from skelgraph.errors import UserError
from skelgraph.methods import METHODS, Method
from skelgraph.methods.contrastive import WHOLE, Branch, Moco, contrast_logits, distillation, info_nce
from skelgraph.methods.queue import Count, KeyQueue
from skelgraph.methods.sphere import unit
from skelgraph.models import create
from skelgraph.topology import Topology

COCO = Topology.load("coco17")
CLIPS, QUEUE = 4, 12


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def moco(model: str = "gru", network: dict[str, Any] | None = None, name: str = "moco", **settings: Any) -> Any:
    spec = ClipSpec(COCO, 2, 1, 6, ("a", "b"))
    own = {"hidden": 5, "layers": 2} if model == "gru" else {}
    return METHODS.create(
        name, create(model, spec, **own, **(network or {})), **{"queue": QUEUE, "dim": 7, **settings}
    ).train()


def streams(**settings: Any) -> Any:
    plan = {"base": {"name": "gru", "hidden": 5, "layers": 1}, "streams": ["joint", "joint_motion", "bone"]}
    return moco("multi_stream", plan, **settings)


def views(clips: int = CLIPS) -> tuple[Batch, Batch]:
    return Batch.of(torch.randn(clips, 1, 6, 17, 2)), Batch.of(torch.randn(clips, 1, 6, 17, 2))


def branch(method: Moco, stream: str = WHOLE) -> Branch:
    found = method.branches[stream]
    assert isinstance(found, Branch)
    return found


def state(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def train(method: Method, steps: int, lr: float = 0.1) -> list[dict[str, float]]:
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr)
    history = []
    for _ in range(steps):
        optimizer.zero_grad()
        figures = method.step(views(), 0.0)
        figures["loss"].backward()
        optimizer.step()
        method.after_step()
        history.append({key: float(value.detach()) for key, value in figures.items()})
    return history


def test_loss_of_a_perfect_pair_among_orthogonal_negatives() -> None:
    query = unit(torch.tensor([[1.0, 0.0, 0.0]]))
    negatives = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0]]).repeat(8192, 1)
    loss = info_nce(contrast_logits(query, query, negatives, 0.07))
    assert float(loss) == pytest.approx(math.log1p(16384 * math.exp(-1 / 0.07)), rel=1e-4)
    assert float(loss) == pytest.approx(0.01019, abs=1e-5)


def test_only_the_first_column_depends_on_the_keys() -> None:
    query, negatives = unit(torch.randn(3, 7)), unit(torch.randn(9, 7))
    first = contrast_logits(query, unit(torch.randn(3, 7)), negatives, 0.07)
    second = contrast_logits(query, unit(torch.randn(3, 7)), negatives, 0.07)
    assert torch.equal(first[:, 1:], second[:, 1:])
    assert (first[:, 0] != second[:, 0]).all()


def test_momentum_follows_in_closed_form() -> None:
    method = moco().double()
    own = branch(method)
    for parameter in own.key.parameters():
        nn.init.normal_(parameter)
    begin = {key: value.clone() for key, value in own.key.named_parameters()}
    for _ in range(20):
        own.follow(method.model, 0.9)
    query = {f"encoder.{k}": p for k, p in method.model.named_parameters()}
    query |= {f"projection.{k}": p for k, p in own.projection.named_parameters()}
    for key, now in own.key.named_parameters():
        torch.testing.assert_close(now, query[key] + 0.9**20 * (begin[key] - query[key]), msg=key)


def test_keys_come_from_the_weights_that_have_moved() -> None:
    method = moco(momentum=0.0, projection="linear")
    key = branch(method).key
    nn.init.normal_(key.projection.weight)  # type: ignore[arg-type]
    pair = views()
    loss = method.step(pair, 0.0)["loss"]
    expected = unit(branch(method).projection(key.encoder.forward_features(pair[1])))
    torch.testing.assert_close(method._new[0][WHOLE], expected.detach())
    loss.backward()
    assert torch.equal(key.projection.weight, branch(method).projection.weight)


def test_a_step_writes_its_keys_and_nothing_else() -> None:
    method = moco()
    queue = branch(method).queue
    for step in range(QUEUE // CLIPS + 1):
        before, pointer = queue.keys.clone(), queue.pointer
        assert pointer == step * CLIPS % QUEUE
        method.step(views(), 0.0)
        assert torch.equal(queue.keys, before)
        keys = method._new[0][WHOLE]
        method.after_step()
        assert torch.equal(queue.keys[pointer : pointer + CLIPS], keys)
        others = torch.ones(QUEUE, dtype=torch.bool)
        others[pointer : pointer + CLIPS] = False
        assert torch.equal(queue.keys[others], before[others])
        torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(QUEUE))
        assert torch.equal(queue.newest(CLIPS), keys)
    assert queue.pointer == CLIPS
    assert torch.equal(queue.newest(QUEUE)[-2 * CLIPS : -CLIPS], queue.keys[-CLIPS:])


def test_a_queue_taken_over_at_an_odd_place_wraps() -> None:
    queue = KeyQueue(6, 3)
    queue.seen.set(5)
    new = unit(torch.randn(4, 3))
    queue.enqueue(new)
    assert torch.equal(queue.keys[[5, 0, 1, 2]], new)
    assert queue.pointer == 3
    assert torch.equal(queue.newest(4), new)


def test_a_count_is_read_back_once_after_loading() -> None:
    count, other = Count(), Count()
    count.set(41)
    other.load_state_dict(count.state_dict())
    assert int(other) == 41
    other.value.fill_(7)
    assert int(other) == 41


def test_gradient_reaches_the_query_only_and_statistics_are_apart() -> None:
    method = moco()
    before, queries_before = state(branch(method).key), state(method.model)
    method.step(views(), 0.0)["loss"].backward()
    reached = {name for name, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    wanted = {name for name, p in method.named_parameters() if p.requires_grad}
    assert reached == wanted
    assert not any(".key." in name for name in wanted)
    after = state(branch(method).key)
    statistics = "encoder.norm.running_mean"
    assert not torch.equal(after[statistics], before[statistics])
    assert not torch.equal(method.model.norm.running_mean, queries_before["norm.running_mean"])
    assert not torch.equal(method.model.norm.running_mean, after[statistics])


def test_validation_changes_nothing() -> None:
    method = moco(name="halp", prototypes=3, newest=8, positives=4, warmup=0)
    train(method, 2)
    before = state(method)
    figures = method.eval().step(views(), 0.0)
    assert figures["loss_halp"] != 0
    after = state(method)
    assert not {key for key in before if not torch.equal(before[key], after[key])}


def test_symmetric_is_the_mean_of_both_directions() -> None:
    both, one = moco(symmetric=True).double(), moco().double()
    one.load_state_dict(both.state_dict())
    first, second = (view.map(lambda x: x.double() if x.is_floating_point() else x) for view in views())
    both.eval(), one.eval()
    expected = (one.step((first, second), 0.0)["loss"] + one.step((second, first), 0.0)["loss"]) / 2
    torch.testing.assert_close(both.step((first, second), 0.0)["loss"], expected)
    both.train().float()
    both.step(views(), 0.0)
    both.after_step()
    assert int(branch(both).queue.seen) == 2 * CLIPS


def test_two_crops_of_a_clip_become_two_views() -> None:
    crops = Batch.of(torch.randn(2 * CLIPS, 1, 6, 17, 2))
    first, second = moco().prepare(crops)
    assert torch.equal(first.keypoints, crops.keypoints[[0, 2, 4, 6]])
    assert torch.equal(second.keypoints, crops.keypoints[[1, 3, 5, 7]])
    assert Moco.loader_views == 2


def test_similarity_of_pairs_is_learnt() -> None:
    method = moco(momentum=0.9)
    motion = torch.randn(CLIPS, 1, 6, 17, 2)
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(60):
        pair = tuple(Batch.of(motion + 0.05 * torch.randn_like(motion)) for _ in range(2))
        optimizer.zero_grad()
        figures = method.step(pair, 0.0)
        figures["loss"].backward()
        optimizer.step()
        losses.append(float(figures["loss_nce"]))  # the queue stays as it was: random directions
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    ("model", "network"),
    [("gru", {"recurrence": "bidirectional"}), ("stgcnpp", {"width": 12, "layers": [[12, 1]]}),
     ("skeletonmae", {"dim": 6, "hidden": 6}), ("strl", {"dim": 6, "hidden": 6, "layers": 1})],
)  # fmt: skip
def test_any_model_can_be_the_encoder(model: str, network: dict[str, Any]) -> None:
    method = moco(model, network)
    history = train(method, 2, 0.01)
    assert all(math.isfinite(one["loss"]) for one in history)
    assert not method.spec.classes


def random_streams(names: str = "jmb", clips: int = 5, queue: int = 20) -> tuple[dict[str, Tensor], ...]:
    return tuple({n: unit(torch.randn(rows, 7).double()) for n in names} for rows in (clips, clips, queue))


def test_distillation_by_the_formula() -> None:
    students, teachers, queues = random_streams()
    expected = torch.zeros(()).double()
    for a in students:
        for b in students:
            if a == b:
                continue
            for q, k in zip(students[b], teachers[a], strict=True):
                near = (queues[a] @ k).argsort()[-8:]
                target = (queues[a][near] @ k / 0.05).softmax(0)
                answer = (queues[b][near] @ q / 0.1).softmax(0)
                expected = expected + (target * (target / answer).log()).sum() / 5
    found = distillation(students, teachers, queues, 8, 0.05, 0.1)
    torch.testing.assert_close(found, expected)
    assert found > 0


def test_streams_that_agree_have_nothing_to_distil() -> None:
    _, keys, queues = random_streams("j")
    shared = [dict.fromkeys("jmb", item["j"]) for item in (keys, queues)]
    assert distillation(shared[0], shared[0], shared[1], 8, 0.1, 0.1).abs() < 1e-12
    assert distillation(shared[0], shared[0], shared[1], 8, 0.05, 0.1) > 1e-3


def test_each_stream_has_a_queue_and_teaches_the_others() -> None:
    method = streams(temperature=0.2)
    assert set(method.branches) == {"joint", "joint_motion", "bone"}
    history = train(method, 2, 0.01)
    for one in history:
        assert one["loss"] == pytest.approx(one["loss_nce"] + one["loss_distill"], rel=1e-5)
    queues = [branch(method, name).queue for name in method.networks]
    assert [queue.pointer for queue in queues] == [2 * CLIPS] * 3
    assert not torch.equal(queues[0].keys[0], queues[1].keys[0])
    alone = streams(distill=0.0)
    assert "loss_distill" not in train(alone, 1)[0]


def test_exports_let_a_later_stage_go_on() -> None:
    method = moco()
    train(method, 4)
    exports = {name: part.state_dict() for name, part in method.exports().items()}
    assert set(exports) == {"backbone", "contrastive"}
    again = moco()
    again.model.consume(exports)
    again.consume(exports)
    mine, theirs = state(method), state(again)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert int(branch(again).queue.seen) == 4 * CLIPS
    with pytest.raises(UserError, match=r"queue.keys \(12, 7\) for \(16, 7\).*same queue, dim, projection"):
        moco(queue=16).consume(exports)
    fresh = state(other := moco())
    other.consume({"backbone": exports["backbone"]})
    assert all(torch.equal(fresh[key], value) for key, value in state(other).items())


def test_the_key_network_begins_as_the_query_network() -> None:
    method = moco()
    key, query = state(branch(method).key.encoder), state(method.model)
    assert all(torch.equal(key[name], query[name]) for name in query)
    assert torch.equal(branch(method).key.projection[2].weight, branch(method).projection[2].weight)  # type: ignore[index]


def test_settings_that_do_not_go_with_data_or_batch() -> None:
    method = moco(queue=64)
    method.check(clips=64, batch=16)
    with pytest.raises(UserError, match=r"larger than the 50 training clips, .* set queue to 48 or less"):
        method.check(clips=50, batch=16)
    with pytest.raises(UserError, match="earlier keys as negatives; take a smaller batch"):
        moco(queue=64, symmetric=True).check(clips=50, batch=40)
    with pytest.raises(UserError, match="24 keys a step do not divide the queue of 64; set queue to 48, or change"):
        method.check(clips=500, batch=24)
    with pytest.raises(UserError, match="48 keys a step do not divide the queue of 64"):
        moco(queue=64, symmetric=True).check(clips=500, batch=24)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"temperature": 0}, "temperature: 0 is no temperature"), ({"momentum": 1.5}, "momentum: 1.5 is not between"),
     ({"projection": "deep"}, "unknown projection 'deep'"), ({"topk": 13}, "no 13 neighbours in a queue of 12")],
)  # fmt: skip
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        moco(**settings)
