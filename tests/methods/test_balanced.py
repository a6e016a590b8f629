"""Class weights, losses, over-sampling, and what is done to a finished classifier."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from skelgraph import recipe
from skelgraph.batch import Batch, ClipSpec
from skelgraph.errors import UserError
from skelgraph.methods import METHODS, class_weights
from skelgraph.methods.balanced import Balanced, Deferred
from skelgraph.methods.balanced_losses import LOSSES
from skelgraph.methods.mixing import MIXING
from skelgraph.methods.optim import Length, OptimizerConfig, ScheduleConfig
from skelgraph.methods.posthoc import adjust_classifiers, classifiers
from skelgraph.methods.resampling import RESAMPLING, repeated_draws, tail_classes
from skelgraph.models import create
from skelgraph.topology import Topology
from skelgraph.transforms import Pipeline

SPEC = ClipSpec(Topology.load("coco17"), 2, 1, 8, ("a", "b", "c"))
COUNTS = torch.tensor([40, 12, 3])
LABELS = np.repeat([0, 1, 2], [40, 12, 3])
SMALL = {"layers": [[8, 1], [8, 2]]}


def published(n_max: int, classes: int, factor: int) -> Tensor:
    """Class sizes of the published lists."""
    place = np.arange(classes) / (classes - 1)
    return torch.from_numpy(np.floor(n_max * (1 / factor) ** place + 1e-9).astype(np.int64))


def batch(clips: int = 8) -> Batch:
    torch.manual_seed(0)
    return Batch.of(torch.randn(clips, 1, 8, 17, 2)).with_(label=torch.arange(clips) % 3)


def method(name: str = "balanced", **settings: object) -> Balanced:
    torch.manual_seed(1)
    made: Balanced = METHODS.create(name, create("stgcnpp", SPEC, **SMALL), **settings)
    made.draws(LABELS, 0, 0)
    return made


# ---- weights --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "values"),
    [
        ((600, 60, 100), {0: 0.04095, 20: 0.30141, 30: 0.53512, 40: 1.03302, 59: 4.07567}),
        ((600, 120, 100), {0: 0.04116, 119: 4.09586}),
        ((400, 120, 100), {0: 0.04143, 119: 4.12313}),
        ((100, 10, 10), {0: 0.22169, 9: 2.30711}),
    ],
)
def test_published_action_aware_weights(sizes: tuple[int, int, int], values: dict[int, float]) -> None:
    """Invariants 1 to 3."""
    counts = published(*sizes)
    weight, beta = class_weights.action_aware_weights(counts), class_weights.action_aware_beta(counts)
    for c, value in values.items():
        assert round(float(weight[c]), 5) == value
    assert weight.dtype == torch.float64
    assert float(weight.sum()) == pytest.approx(len(counts))
    assert (weight > 0).all()
    assert (weight.diff() >= 0).all()
    assert float(beta.min()) == pytest.approx(0.99)
    assert float(beta.max()) == pytest.approx(0.9999)
    if sizes == (600, 60, 100):
        assert float(weight[-1] / weight[0]) == pytest.approx(99.52, abs=0.01)
        flipped = class_weights.flipped_action_aware_weights(counts)
        assert (round(float(flipped.max()), 5), round(float(flipped.min()), 5)) == (1.00787, 0.99789)


@pytest.mark.parametrize("name", ["action_aware", "class_balanced", "ldam", "inverse_frequency"])
def test_equal_classes_weigh_the_same(name: str) -> None:
    weight = LOSSES.create(name, torch.full((5,), 7)).class_weight(0)
    torch.testing.assert_close(weight / weight[0], torch.ones(5))


# ---- losses ---------------------------------------------------------------------------------------------------------


def case(clips: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    chance = torch.Generator().manual_seed(4)
    logits = torch.randn(clips, 3, generator=chance, dtype=torch.float64)
    return logits, torch.randint(3, (clips,), generator=chance), torch.randint(3, (clips,), generator=chance)


@pytest.mark.parametrize("name", ["action_aware", "class_balanced", "inverse_frequency", "cross_entropy"])
def test_before_the_switch_a_loss_is_cross_entropy(name: str) -> None:
    """Invariant 4; and re-weighted it is torch's own weighted mean."""
    logits, label, _ = case()
    loss = LOSSES.create(name, COUNTS)
    torch.testing.assert_close(loss(logits, label, None), F.cross_entropy(logits, label))
    weighted = F.cross_entropy(logits, label, loss.class_weight(0).double())
    torch.testing.assert_close(loss(logits, label, 0), weighted)
    if name != "cross_entropy":
        assert abs(float(loss(logits, label, 0) - loss(logits, label, None))) > 1e-3
    smooth = loss(logits, label, None, smoothing=0.2)
    torch.testing.assert_close(smooth, F.cross_entropy(logits, label, label_smoothing=0.2))


def test_scale_of_the_weights_does_not_matter() -> None:
    logits, label, other = case()
    loss, share = LOSSES.create("action_aware", COUNTS), torch.rand(16, dtype=torch.float64)
    before = loss(logits, label, 0, other=other, share=share)
    loss.weight *= 7.5
    torch.testing.assert_close(loss(logits, label, 0, other=other, share=share), before)


def test_mixed_loss() -> None:
    """Invariant 5, and each label with its own normaliser."""
    logits, label, other = case()
    loss = LOSSES.create("action_aware", COUNTS)
    half = torch.full((16,), 0.64, dtype=torch.float64)
    expected = 0.64 * loss(logits, label, 0) + 0.36 * loss(logits, other, 0)
    torch.testing.assert_close(loss(logits, label, 0, other=other, share=half), expected)
    for share in (half, torch.zeros(16), torch.rand(16, dtype=torch.float64)):
        same = loss(logits, label, 0, other=label, share=share)
        torch.testing.assert_close(same, loss(logits, label, 0))


def test_every_loss_falls_towards_the_label() -> None:
    for name in LOSSES.names():
        logits, label, _ = case()
        logits.requires_grad_()
        loss = LOSSES.create(name, COUNTS)(logits, label, 0)
        loss.backward()
        assert loss.dim() == 0
        assert torch.isfinite(logits.grad).all()
        assert (logits.grad[torch.arange(16), label] < 0).all(), name


def test_focal_is_steady_where_a_clip_is_learnt() -> None:
    sure = torch.tensor([[60.0, 0.0, 0.0]], requires_grad=True)
    loss = LOSSES.create("focal", COUNTS, gamma=0.5)(sure, torch.tensor([0]))
    loss.backward()
    assert torch.isfinite(sure.grad).all()
    assert float(loss.detach()) < 1e-6
    torch.manual_seed(0)
    logits, label = torch.randn(6, 3), torch.arange(6) % 3
    plain = LOSSES.create("focal", COUNTS, gamma=0.0)(logits, label)
    torch.testing.assert_close(plain, F.cross_entropy(logits, label))


def test_half_precision_is_computed_in_float32() -> None:
    logits, label, _ = case()
    loss = LOSSES.create("balanced_softmax", COUNTS)
    assert loss(logits.bfloat16(), label).dtype == torch.float32
    assert loss(logits, label).dtype == torch.float64


def test_a_beta_of_one_is_refused() -> None:
    with pytest.raises(UserError, match="a beta lies between 0 and 1, 1 left out; got 1"):
        LOSSES.create("class_balanced", COUNTS, beta=1.0)


# ---- when re-weighting begins ---------------------------------------------------------------------------------------


def test_deferred_by_epoch_and_by_share() -> None:
    length, turns = Length(24 * 10, 10), {18: None, 19: 0, 20: 1, 23: 4}
    for epoch, turn in turns.items():
        for begin in (19, 19 / 24):
            assert Deferred(begin).turn(float(epoch), epoch * 10, length) == turn
    assert Deferred(19 / 24).turn(18.9, 189, length) is None
    assert Deferred(0.8).turn(19.25, 192, length) == 0
    assert Deferred(0.8).turn(20.0, 200, length) == 1
    steps = Length(1000)
    assert Deferred(0.79).turn(3.0, 789, steps) is None
    assert Deferred(0.79).turn(3.0, 790, steps) == Deferred(0.79).turn(9.0, 999, steps) == 0
    assert Deferred(0).turn(0.0, 0, None) == Deferred(0.0).turn(0.0, 0, None) == 0


@pytest.mark.parametrize("begin", [-1, 1.5, True, "late", None])
def test_deferred_to_nowhere(begin: object) -> None:
    with pytest.raises(UserError, match="reweight_from is an epoch"):
        method(reweight_from=begin)


def test_step_switches_by_the_step_alone() -> None:
    """The same method gives the loss of any epoch in any order, as after a resume."""
    made = method(loss="action_aware", reweight_from=19).eval()
    logits, label = made.model(batch()).logits, batch().label
    plain, weighted = F.cross_entropy(logits, label), made.criterion(logits, label, 0)
    for epoch in (20.0, 0.0, 19.0, 18.99, 23.5):
        expected = weighted if epoch >= 19 else plain
        torch.testing.assert_close(made.step(batch(), epoch)["loss"], expected)
    assert abs(float((plain - weighted).detach())) > 1e-4


def test_official_alternation_needs_epochs() -> None:
    made, (optimizer, schedule) = method("brl", official=True), (OptimizerConfig(), ScheduleConfig())
    pipeline = Pipeline(SPEC.topology, {})
    made.plan(optimizer, schedule, Length(240, 10), pipeline)
    with pytest.raises(UserError, match="changes from epoch to epoch; give the length of the stage in epochs"):
        made.plan(optimizer, schedule, Length(240), pipeline)
    method("brl").plan(optimizer, schedule, Length(240), pipeline)


# ---- over-sampling --------------------------------------------------------------------------------------------------


def test_tail_is_drawn_as_often_as_the_head() -> None:
    drawn = method(oversample={"name": "tail", "repeat": 2}).draws(LABELS, 5, 1)
    assert np.bincount(LABELS[drawn]).tolist() == [80, 24, 80]
    assert set(drawn) == set(range(55))


def test_balanced_draws_every_class_as_often() -> None:
    drawn = method(oversample="balanced").draws(LABELS, 5, 1)
    assert np.bincount(LABELS[drawn]).tolist() == [40, 40, 40]


def test_draws_are_a_function_of_seed_and_epoch() -> None:
    made = method(oversample=True)
    first, again, later = (made.draws(LABELS, 2**63 - 2, epoch) for epoch in (0, 0, 1))
    assert (first == again).all()
    assert len(first) == len(later)
    assert not (first == later).all()
    assert method().draws(LABELS, 0, 0) is None


def test_remainders_are_drawn_without_replacement() -> None:
    labels = np.array([1, 0, 1, 1, 1, 0])
    drawn = repeated_draws(labels, np.array([0.5, 2.5]), 3, 0)
    times = np.bincount(drawn, minlength=6)
    assert sorted(times[labels == 0]) == [0, 1]
    assert sorted(times[labels == 1]) == [2, 2, 3, 3]


def test_tail_goes_by_size_unless_official() -> None:
    counts = np.array([3, 50, 20, 9, 20, 1, 1])
    assert tail_classes(counts).tolist() == [0, 5, 6]
    assert tail_classes(counts, by_number=True).tolist() == [4, 5, 6]
    labels = np.repeat(np.arange(7), counts)
    published = RESAMPLING.create("tail", official=True)(labels, counts, 0, 0)
    assert np.bincount(labels[published]).tolist() == [3, 50, 20, 9, 50, 50, 50]
    with pytest.raises(UserError, match="'repeat' is a whole number from 1, got 0"):
        RESAMPLING.create("tail", repeat=0)


def test_a_class_without_clips_is_named() -> None:
    made = METHODS.create("balanced", create("stgcnpp", SPEC, **SMALL))
    with pytest.raises(UserError, match="class 'b' has no training clip"):
        made.draws(np.array([0, 0, 2]), 0, 0)
    with pytest.raises(RuntimeError, match="call draws"):
        made.step(batch(), 0.0)


# ---- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "focla"}, "unknown loss 'focla'. Did you mean 'focal'"),
        ({"loss": {"name": "focal", "gama": 1}}, "unknown key of loss 'focal' 'gama'"),
        ({"loss": False}, "loss: name one of"),
        ({"oversample": "head"}, "unknown oversampling 'head'"),
        ({"mix": {"name": "mixup", "ratio": 1}}, "unknown key of mix 'mixup' 'ratio'"),
    ],
)
def test_unknown_components(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        method(**settings)


def test_recipes_of_the_page(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/longtail.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", page, re.S | re.M)
    assert len(blocks) == 2
    for number, text in enumerate(blocks):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, encoding="utf-8")
        recipe.check(recipe.load(path))
    for registry in (LOSSES, RESAMPLING, MIXING):
        assert all(f"`{name}`" in page for name in registry.names())


def test_plain_balanced_is_supervised() -> None:
    made = method(label_smoothing=0.1).eval()
    torch.manual_seed(1)
    supervised = METHODS.create("supervised", create("stgcnpp", SPEC, **SMALL), label_smoothing=0.1).eval()
    torch.testing.assert_close(made.step(batch(), 0.0), supervised.step(batch(), 0.0))
    assert made.state_dict()["counts"].tolist() == [40, 12, 3]


def test_streams_have_a_loss_each() -> None:
    model = create("multi_stream", SPEC, base={"name": "stgcnpp", **SMALL}, streams=["joint", "skip"])
    made = METHODS.create("balanced", model, loss="class_balanced", reweight_from=0).eval()
    made.draws(LABELS, 0, 0)
    output = made.model(batch())
    expected = sum(made.criterion(logits, batch().label, 0) for logits in output.streams.values())
    torch.testing.assert_close(made.step(batch(), 0.0)["loss"], expected)


# ---- finished classifiers -------------------------------------------------------------------------------------------


def finished() -> dict[str, dict[str, Tensor]]:
    torch.manual_seed(9)
    model = create("stgcnpp", SPEC, **SMALL)
    torch.nn.init.normal_(model.head.weight)
    torch.nn.init.normal_(model.head.bias)
    return {"backbone": model.state_dict()}


def stage(name: str, **settings: object) -> Balanced:
    made = METHODS.create(name, create("stgcnpp", SPEC, **SMALL), **settings)
    made.consume(finished())
    assert made.draws(LABELS, 0, 0) is None
    return made


def test_tau_normalisation() -> None:
    weight = finished()["backbone"]["head.weight"]
    for tau in (0.0, 0.7, 1.0):
        head = stage("tau_norm", tau=tau).model.head
        torch.testing.assert_close(head.weight, weight / weight.norm(dim=1, keepdim=True) ** tau)
        assert not head.bias.any()
    kept = stage("tau_norm", keep_bias=True).model.head.bias
    torch.testing.assert_close(kept, finished()["backbone"]["head.bias"])


def test_logit_adjustment_equals_the_formula() -> None:
    made = stage("logit_adjust", tau=1.5).eval()
    plain = create("stgcnpp", SPEC, **SMALL)
    plain.load_state_dict(finished()["backbone"])
    prior = (COUNTS / COUNTS.sum()).log()
    torch.testing.assert_close(made.model(batch()).logits, plain.eval()(batch()).logits - 1.5 * prior)
    made.draws(LABELS, 0, 1)
    torch.testing.assert_close(made.model(batch()).logits, plain(batch()).logits - 1.5 * prior)


def test_a_posthoc_stage_moves_nothing_by_training() -> None:
    made = stage("logit_adjust")
    made.train()
    before = {key: value.clone() for key, value in made.exports()["backbone"].state_dict().items()}
    optimizer = torch.optim.SGD([p for p in made.parameters() if p.requires_grad], 0.5, weight_decay=0.1)
    made.step(batch(), 0.0)["loss"].backward()
    optimizer.step()
    after = made.exports()["backbone"].state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_every_stream_is_adjusted_and_odd_heads_are_refused() -> None:
    model = create("multi_stream", SPEC, base={"name": "stgcnpp", **SMALL}, streams=["joint", "skip"]).eval()
    before = model(batch()).streams
    adjust_classifiers(model, COUNTS, 1.0)
    prior = (COUNTS / COUNTS.sum()).log()
    for name, logits in model(batch()).streams.items():
        torch.testing.assert_close(logits, before[name] - prior)
    model.networks["joint"].head = torch.nn.Sequential(torch.nn.Linear(8, 3))
    with pytest.raises(UserError, match="its classifier is not one linear layer"):
        classifiers(model)


def test_posthoc_without_a_finished_run() -> None:
    with pytest.raises(UserError, match="name it with 'from:'"):
        METHODS.create("tau_norm", create("stgcnpp", SPEC, **SMALL)).draws(LABELS, 0, 0)
    with pytest.raises(UserError, match="needs an exported 'backbone'"):
        METHODS.create("tau_norm", create("stgcnpp", SPEC, **SMALL)).consume({"embed": {}})


def test_crt_is_a_balanced_linear_probe() -> None:
    made = METHODS.create("crt", create("stgcnpp", SPEC, **SMALL))
    assert np.bincount(LABELS[made.draws(LABELS, 0, 0)]).tolist() == [40, 40, 40]
    assert [name for name, p in made.named_parameters() if p.requires_grad] == ["model.head.weight", "model.head.bias"]
    made.train()
    assert not made.model.layers.training
