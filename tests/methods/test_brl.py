"""BRL's mixing and its method: what is swapped, whose label counts, and that a resume changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import skelgraph as sg
from skelgraph.batch import Batch, ClipSpec, Output
from skelgraph.engine.run_folder import Run, read_tensors
from skelgraph.errors import UserError
from skelgraph.methods import METHODS
from skelgraph.methods.balanced import Balanced
from skelgraph.methods.mixing import MIXING, Credit, Mixture, official_pairs, random_partners, rebalanced_share
from skelgraph.models import Model, create
from skelgraph.nn import Streams
from skelgraph.topology import Topology

NTU, UCLA = Topology.load("ntu25"), Topology.load("kinect20")
SPEC = ClipSpec(UCLA, 3, 2, 6, ("a", "b", "c"))
COUNTS = torch.tensor([90, 30, 6])
LABELS = np.repeat([0, 1, 2], [90, 30, 6])
SMALL = {"layers": [[8, 1], [8, 2]]}


def joints(clips: int = 32, topology: Topology = UCLA) -> Tensor:
    return torch.randn(clips, 2, 6, len(topology), 3, generator=torch.Generator().manual_seed(2))


def batch(clips: int = 32) -> Batch:
    return Batch.of(joints(clips)).with_(label=torch.arange(clips) % 3)


def mixture(clips: int = 32, **settings: object) -> tuple[Mixture, Tensor]:
    """A drawn mixture and the labels it was drawn for."""
    label = torch.arange(clips) % 3
    return MIXING.create("partial", UCLA, **settings).draw(label, COUNTS), label


# ---- parts and draws ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("topology", "upper", "lower"), [(NTU, 16, 9), (UCLA, 11, 9)])
def test_parts_are_the_whole_body(topology: Topology, upper: int, lower: int) -> None:
    """Invariants 7 and 8."""
    mixing = MIXING.create("partial", topology)
    assert int(mixing.swapped.sum()) == lower
    assert mixing.share == upper / (upper + lower)
    assert set(topology.part_index("lower")) == set(mixing.swapped.nonzero().flatten().tolist())
    official = MIXING.create("partial", topology, official=True)
    assert official.share == 0.64
    order = [*topology.part_index("upper"), *topology.part_index("lower")]
    assert official.places.argsort().tolist() == order
    assert sorted(order) == list(range(len(topology)))


def test_partners() -> None:
    torch.manual_seed(0)
    for clips, count in ((16, 1), (16, 16), (2, 2), (1, 1), (9, 0)):
        for _ in range(20):
            partner = random_partners(clips, count, torch.device("cpu"))
            moved = (partner != torch.arange(clips)).sum()
            assert int(moved) == (count if clips > 1 else 0)
            assert partner.min() >= 0
            assert partner.max() < clips
    seen = {int(random_partners(4, 4, torch.device("cpu"))[0]) for _ in range(60)}
    assert seen == {1, 2, 3}


def test_official_pairs_pass_over_the_next() -> None:
    assert official_pairs([0], 1, lambda left: left[0]) == []
    order = iter([3, 1, 5, 5])
    assert official_pairs(range(8), 8, lambda left: next(order)) == [(0, 3), (2, 1), (4, 5), (6, 5)]


def test_rule_of_the_share() -> None:
    """Invariant 5."""
    chance = torch.Generator().manual_seed(0)
    one, other = (torch.randint(1, 100, (500,), generator=chance) for _ in range(2))
    share, swapped = rebalanced_share(one, other, 0.55, 3.0), rebalanced_share(other, one, 0.55, 3.0)
    assert set(share.tolist()) == {0.0, 1.0, float(torch.tensor(0.55))}
    assert torch.equal(share == 0, one > 3 * other)
    assert torch.equal(share == 0, swapped == 1)
    assert (rebalanced_share(one, one, 0.55, 3.0) == torch.tensor(0.55)).all()
    exact = rebalanced_share(torch.tensor([30, 31]), torch.tensor([10, 10]), 0.5, 3.0)
    assert exact.tolist() == [0.5, 0.0]


# ---- what is mixed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [1 / 16, 0.5, 1.0])
def test_mixed_joints_are_bit_identical(ratio: float) -> None:
    """Invariant 6."""
    torch.manual_seed(3)
    drawn, label = mixture(ratio=ratio)
    x, before = joints(), joints()
    out = drawn.apply(x, torch.arange(20))
    assert torch.equal(x, before)
    upper, lower = UCLA.part_index("upper"), UCLA.part_index("lower")
    mixed = drawn.partner != torch.arange(32)
    assert int(mixed.sum()) == int(ratio * 32)
    assert torch.equal(out[~mixed], x[~mixed])
    assert torch.equal(out[..., upper, :], x[..., upper, :])
    assert torch.equal(out[..., lower, :], x[drawn.partner][..., lower, :])
    assert torch.equal(drawn.credit.own, label)
    assert torch.equal(drawn.credit.other, label[drawn.partner])
    assert (drawn.credit.share[~mixed] == 1).all()


def test_official_is_the_same_with_joints_in_another_order() -> None:
    """Invariant 7."""
    label, pairs = torch.arange(8) % 3, [(1, 4), (6, 2)]
    partner = torch.tensor([0, 4, 2, 3, 4, 5, 2, 7])
    right = MIXING.create("partial", NTU).mixture(label, COUNTS, partner)
    published = MIXING.create("partial", NTU, official=True).official_mixture(label, COUNTS, pairs)
    x, all_joints = joints(8, NTU), torch.arange(25)
    order = [*NTU.part_index("upper"), *NTU.part_index("lower")]
    kept, scrambled = right.apply(x, all_joints), published.apply(x, all_joints)
    assert torch.equal(scrambled[[1, 6]], kept[[1, 6]][..., order, :])
    assert torch.equal(scrambled[[0, 2, 3, 4, 5, 7]], x[[0, 2, 3, 4, 5, 7]])
    # The last mixed clip is of class 0 (90 clips), its partner of class 2 (6): the partner's label for the whole batch.
    assert published.credit.share.tolist() == [0.0] * 8
    assert right.credit.share.tolist() == pytest.approx([1, 0.64, 1, 1, 1, 1, 0, 1])


def test_nothing_mixed_in_a_short_batch() -> None:
    with pytest.warns(UserWarning, match="a ratio of 0.0625 of 9 clips is none; nothing is mixed"):
        drawn, _ = mixture(9)
    assert torch.equal(drawn.partner, torch.arange(9))
    with pytest.warns(UserWarning, match="nothing is mixed"):
        published, _ = mixture(9, official=True)
    assert published.credit.share.tolist() == [0.0] * 9


def test_official_draws_keep_its_rules() -> None:
    torch.manual_seed(1)
    for _ in range(10):
        drawn, _ = mixture(16, ratio=0.5, official=True)
        moved = (drawn.partner != torch.arange(16)).nonzero().flatten()
        assert 0 < len(moved) <= 8
        assert not set((moved + 1).tolist()) & set(moved.tolist())
        assert len(set(drawn.credit.share.tolist())) == 1


@pytest.mark.parametrize(
    ("topology", "settings", "message"),
    [
        ("hand21", {}, "topology 'hand21': unknown part 'upper'"),
        ("kinect20", {"parts": ["upper", "lowr"]}, "unknown part 'lowr'. Did you mean 'lower'"),
        ("kinect20", {"parts": ["upper", "hands"]}, "overlap or leave joints out"),
        ("kinect20", {"parts": "upper"}, "'parts' are two names"),
        ("kinect20", {"ratio": 2.0}, "'ratio' is a share of the batch"),
    ],
)
def test_mixing_that_cannot_be(topology: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MIXING.create("partial", Topology.load(topology), **settings)


# ---- through a network ----------------------------------------------------------------------------------------------


class Seen(Model):
    """Keeps what its streams give."""

    feature_dim = 1

    def __init__(self, spec: ClipSpec, streams: Streams | None) -> None:
        super().__init__(spec)
        self.streams, self.inputs = streams, torch.empty(0)

    def forward(self, clips: Batch) -> Output:  # type: ignore[override]
        self.inputs = self.streams(clips.keypoints, clips.valid) if self.streams else clips.keypoints
        return Output(logits=torch.zeros(len(clips), 3), features=torch.zeros(len(clips), 1))


@pytest.mark.parametrize("inputs", [["joint"], ["bone"], ["skip"], ["skip_motion"], ["joint", "bone_motion"]])
def test_the_vectors_of_each_stream_are_swapped(inputs: list[str]) -> None:
    """A bone across the cut belongs to one of the two clips, not to a joint of each."""
    torch.manual_seed(0)
    drawn, _ = mixture(ratio=0.5)
    model = Seen(SPEC, Streams(UCLA, inputs))
    drawn.answer(model, batch())
    plain = Streams(UCLA, inputs)(batch().keypoints)
    assert torch.equal(model.inputs, drawn.apply(plain, torch.arange(20)))
    model(batch())
    assert torch.equal(model.inputs, plain), "the hooks are gone"


@pytest.mark.parametrize("part", ["body", "legs", "hands"])
@pytest.mark.parametrize("official", [False, True])
def test_a_part_stream_swaps_its_own_joints(official: bool, part: str) -> None:
    """Published: the part's joints in the order they have in `upper`, then in `lower`."""
    torch.manual_seed(0)
    drawn, _ = mixture(ratio=0.5, official=official)
    model, clips, own = Seen(SPEC, Streams(UCLA, ["joint"], part=part)), batch(), UCLA.part_index(part)
    drawn.answer(model, clips)
    lower, moved = set(UCLA.part_index("lower").tolist()), drawn.partner != torch.arange(32)
    expected = clips.keypoints[:, :, :, own].clone()
    swapped = [place for place, joint in enumerate(own.tolist()) if joint in lower]
    expected[:, :, :, swapped] = clips.keypoints[drawn.partner][:, :, :, own[swapped]]
    if official:
        rank = {joint: place for place, joint in enumerate([*UCLA.part_index("upper"), *UCLA.part_index("lower")])}
        order = sorted(range(len(own)), key=lambda place: rank[own[place]])
        expected[moved] = expected[moved][:, :, :, order]
    assert torch.equal(model.inputs, expected)


def test_a_network_without_streams_sees_mixed_joints() -> None:
    torch.manual_seed(0)
    drawn, _ = mixture(ratio=0.5)
    clips = batch()
    clips = clips.with_(score=torch.rand(clips.score.shape), valid=torch.rand(clips.valid.shape) < 0.5)
    model = Seen(SPEC, None)
    drawn.answer(model, clips)
    assert torch.equal(model.inputs, drawn.apply(clips.keypoints, torch.arange(20)))
    mixed = drawn.batch(clips)
    lower = UCLA.part_index("lower")
    assert torch.equal(mixed.score[..., lower], clips.score[drawn.partner][..., lower])
    assert torch.equal(mixed.valid, clips.valid | clips.valid[drawn.partner])
    assert torch.equal(mixed.label, clips.label)


@pytest.mark.parametrize("name", MIXING.names())
def test_the_device_never_waits_for_the_host(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device a tensor has no values to be read, and nothing may be copied there."""
    mixing, label, counts = MIXING.create(name, UCLA).to("meta"), torch.arange(32).to("meta"), COUNTS.to("meta")

    def copied(*args: object, **kind: object) -> None:
        raise AssertionError("a copy from the host")

    for owner, function in ((torch, "tensor"), (torch, "as_tensor"), (Tensor, "new_tensor")):
        monkeypatch.setattr(owner, function, copied)
    monkeypatch.setattr(torch, "_sample_dirichlet", torch.rand_like)  # it has no kernel for the meta device
    drawn = mixing.draw(label, counts)
    assert drawn.credit.share.device.type == "meta"
    assert drawn.batch(batch().to("meta")).keypoints.shape == (32, 2, 6, 20, 3)


def test_hooks_go_when_a_network_fails() -> None:
    class Fails(Seen):
        def forward(self, clips: Batch) -> Output:
            super().forward(clips)
            raise RuntimeError("no")

    model = Fails(SPEC, Streams(UCLA, ["joint"]))
    with pytest.raises(RuntimeError, match="no"):
        mixture(ratio=0.5)[0].answer(model, batch())
    assert not any(module._forward_hooks for module in model.modules())


# ---- mixup and remix ------------------------------------------------------------------------------------------------


def test_mixup_blends_clips_and_labels() -> None:
    torch.manual_seed(0)
    label = torch.arange(8) % 3
    drawn = MIXING.create("mixup", UCLA, alpha=0.4).draw(label, COUNTS)
    weight = drawn.credit.share
    assert ((weight >= 0) & (weight <= 1)).all()
    assert len(set(weight.tolist())) == 8
    x = joints(8)
    expected = torch.stack([w * x[i] + (1 - w) * x[drawn.partner[i]] for i, w in enumerate(weight)])
    torch.testing.assert_close(drawn.apply(x, torch.arange(20)), expected)
    with pytest.raises(UserError, match="'alpha' of the Beta distribution is above 0"):
        MIXING.create("mixup", UCLA, alpha=0.0)


def test_remix_gives_the_label_to_the_rarer_class() -> None:
    label, partner = torch.tensor([0, 2, 0, 1, 0]), torch.tensor([1, 0, 1, 4, 3])
    weight = torch.tensor([0.3, 0.7, 0.8, 0.4, 0.9])
    drawn = MIXING.create("remix", UCLA).mixture(label, COUNTS, partner, weight)
    # 90 and 6 clips: below tau the label goes; 90 and 30 are exactly three times, which counts.
    assert drawn.credit.share.tolist() == pytest.approx([0.0, 1.0, 0.8, 0.4, 0.9])
    assert torch.equal(drawn.weight, weight)
    close = MIXING.create("remix", UCLA, kappa=20.0).mixture(label, COUNTS, partner, weight)
    assert torch.equal(close.credit.share, weight)


# ---- the method -----------------------------------------------------------------------------------------------------


def method(name: str = "brl", streams: list[str] | None = None, **settings: object) -> Balanced:
    torch.manual_seed(1)
    base = {"name": "stgcnpp", **SMALL}
    model = create("multi_stream", SPEC, base=base, streams=streams or ["joint", "skip"])
    made: Balanced = METHODS.create(name, model, **settings)
    made.draws(LABELS, 0, 0)
    return made


def test_presets() -> None:
    made = method()
    assert type(made.criterion).__name__ == "ActionAware"
    assert (made.mixing.official, made.resampling.official) == (False, False)
    published = method(official=True)
    assert (published.mixing.official, published.resampling.official) == (True, True)
    assert not torch.equal(published.criterion.class_weight(1), published.criterion.class_weight(0))
    mixed = method(official=True, mix={"official": False}, oversample="balanced", loss="class_balanced")
    assert not mixed.mixing.official
    bare = method(mix=False, oversample=False, loss="cross_entropy")
    assert (bare.mixing, bare.resampling) == (None, None)


def test_only_training_mixes() -> None:
    made = method().eval()
    torch.manual_seed(0)
    output = made.model(batch())
    expected = sum(made.criterion(logits, batch().label) for logits in output.streams.values())
    torch.testing.assert_close(made.step(batch(), 0.0)["loss"], expected)
    made.train()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) or "Norm" in type(module).__name__:
            module.eval()
    torch.manual_seed(0)
    drawn = made.mixing.draw(batch().label, made.counts)
    output = drawn.answer(made.model, batch())
    own, other, share = drawn.credit
    assert isinstance(drawn.credit, Credit)
    expected = sum(made.criterion(z, own, None, other=other, share=share) for z in output.streams.values())
    torch.manual_seed(0)
    figures = made.step(batch(), 0.0)
    torch.testing.assert_close(figures["loss"], expected)
    assert 0 <= float(figures["top1"].detach()) <= 1
    figures["loss"].backward()
    heads = [network.head.weight.grad for network in made.model.networks.values()]
    assert all(grad is not None and grad.abs().sum() > 0 for grad in heads)


RECIPE = """
name: tiny
topology: coco17
data: {{store: {store}, protocol: demo, frames: 8, persons: 1, transforms: {{jitter: {{sigma: 2.0}}, image: {{}}}}}}
stages:
  train:
    method: brl
    model: {{name: stgcnpp, layers: [[8, 1], [8, 2]], inputs: [skip]}}
    oversample: {{repeat: 2}}
    mix: {{ratio: 0.5}}
    official: true
    reweight_from: 0.4
    epochs: 3
    batch: 6
    checkpoint_every: 5
"""


def weights(run: Run) -> dict[str, Tensor]:
    return read_tensors(run.stage("train").path / "exports.safetensors")


def test_interrupted_and_resumed_equals_unbroken(
    tmp_path: Path, demo_clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in a re-weighted epoch: order, mixture and weights of the rest depend on the step alone."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(RECIPE.format(store=demo_clips), encoding="utf-8")
    unbroken = sg.run("tiny.yaml", out="unbroken")
    total = unbroken.stage("train").result()["steps"]
    stop = int(total * 0.8)

    def interrupt(self: Balanced) -> None:
        if self.global_step == stop:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Balanced, "after_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            sg.run("tiny.yaml", out="broken")
    state = torch.load("broken/stages/train/last.ckpt", weights_only=True)
    assert total // 2 < state["global_step"] < total
    broken = sg.run("tiny.yaml", out="broken", resume=True)
    a, b = weights(unbroken), weights(broken)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
