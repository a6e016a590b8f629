"""Message passing over the whole clip: who has influence, who has none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skelgraph.batch import Batch, ClipSpec
from skelgraph.errors import UserError
from skelgraph.models.base import MODELS, Model
from skelgraph.models.spacetime_gnn import MaskedNorm
from skelgraph.topology import Topology

COCO = Topology.load("coco17")
SPEC = ClipSpec(COCO, channels=2, persons=2, frames=9, classes=("wave", "jump", "sit"))


def build(spec: ClipSpec = SPEC, **settings: Any) -> Model:
    torch.manual_seed(0)
    return MODELS.create("spacetime_gnn", spec, **({"channels": 8, "dropout": 0.0} | settings))


def clips(count: int = 4, persons: int = 2, frames: int = 9) -> Tensor:
    return torch.randn(count, persons, frames, 17, 2, generator=torch.Generator().manual_seed(1))


def one_absent(content: float) -> Batch:
    """Clips whose second person is absent in clip 1, and from frame 5 on in clip 2; ``content`` stands there."""
    batch = Batch.of(clips())
    valid = batch.valid.clone()
    valid[1, 1], valid[2, 1, 5:] = False, False
    keypoints = torch.where(valid[..., None, None], batch.keypoints, content)
    return batch.with_(keypoints=keypoints, valid=valid)


@pytest.mark.parametrize("conv", ["SAGEConv", "GraphConv", "GCNConv", "GINConv", "GATv2Conv", "EdgeConv"])
@pytest.mark.parametrize("training", [True, False])
def test_an_absent_person_has_no_influence(conv: str, training: bool) -> None:
    results = []
    for content in (0.0, 7.0, float("nan")):
        model = build(conv=conv).train(training)
        logits = model(one_absent(content)).logits
        logits.square().sum().backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        results.append((logits.detach(), gradients, model.input_norm.running_mean))
    for other in results[1:]:
        for one, same in zip(results[0], other, strict=True):
            assert torch.equal(one, same)


def test_room_for_another_person_changes_nothing() -> None:
    single = build(replace(SPEC, persons=1)).double()
    pair = build().double()
    missing = pair.load_state_dict(single.state_dict(), strict=False).missing_keys
    assert missing
    assert all(".person." in name for name in missing)
    x = clips(persons=1).double()
    padded = torch.cat([x, torch.zeros_like(x)], 1)
    for training in (True, False):
        one, two = single.train(training)(x).logits, pair.train(training)(padded).logits
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)


def test_order_of_persons_is_no_matter_but_their_presence_is() -> None:
    model = build().eval()
    x = clips()
    torch.testing.assert_close(model(x).logits, model(x.flip(1)).logits, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(model(x).logits, model(torch.cat([x[:, :1], torch.zeros_like(x[:, 1:])], 1)).logits)


def test_clips_of_a_batch_do_not_mix() -> None:
    model = build(conv="GATv2Conv").eval()
    x = clips()
    apart = torch.cat([model(x[i : i + 1]).logits for i in range(4)])
    torch.testing.assert_close(model(x).logits, apart, rtol=1e-4, atol=1e-5)


def test_a_movement_and_its_reversal_differ() -> None:
    spec = replace(SPEC, frames=8)
    model, x = build(spec).eval(), clips(frames=8)
    assert not torch.allclose(model(x).logits, model(x.flip(2)).logits, atol=1e-4)


def test_missing_joint_content_has_no_influence() -> None:
    batch = Batch.of(clips())
    score = batch.score.clone()
    score[:, :, :, 9] = 0
    hidden = batch.keypoints.clone()
    hidden[:, :, :, 9] = float("nan")
    model = build()
    one = model(batch.with_(score=score)).logits
    two = model(batch.with_(score=score, keypoints=hidden)).logits
    assert torch.equal(one, two)


def test_renumbered_joints_give_the_same_logits() -> None:
    order = torch.randperm(17, generator=torch.Generator().manual_seed(3))
    data = COCO.to_dict()
    data["joints"] = [COCO.joints[i] for i in order]
    model, shuffled = build(), build(replace(SPEC, topology=Topology.from_dict(data)))
    state = model.state_dict()
    state["joint"] = state["joint"][order]
    for name in ("weight", "bias", "running_mean", "running_var"):
        state[f"input_norm.{name}"] = state[f"input_norm.{name}"].view(17, 2)[order].flatten()
    shuffled.load_state_dict(state)
    x = clips()
    torch.testing.assert_close(shuffled(x[..., order, :]).logits, model(x).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{"temporal_stride": 1}, {"temporal_stride": 4, "layers": 4}, {"temporal_hops": 3},
                                      {"inter_person": "all"}, {"inter_person": "none"},
                                      {"conv": "GATConv", "conv_settings": {"heads": 2}}])  # fmt: skip
def test_settings_and_gradients(settings: dict[str, Any]) -> None:
    model = build(**settings)
    out = model(clips())
    assert out.logits.shape == (4, 3)
    assert out.features.shape == (4, 8)
    out.logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_clip_without_anybody_is_finite() -> None:
    x = clips()
    x[0] = 0
    assert build()(x).logits.isfinite().all()


def test_masked_norm_equals_batch_norm_of_what_is_there() -> None:
    mask = torch.rand(50, generator=torch.Generator().manual_seed(0)) > 0.4
    ours, theirs = MaskedNorm(3).double(), nn.BatchNorm1d(3).double()
    x = torch.randn(50, 3, dtype=torch.float64) * 4 + 9
    for _ in range(3):
        torch.testing.assert_close(ours(x, mask.unsqueeze(1))[mask], theirs(x[mask]), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours.eval()(x, mask), theirs.eval()(x), rtol=1e-10, atol=1e-10)


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="expects clips"):
        build()(clips(frames=8))
    with pytest.raises(UserError, match="temporal_stride"):
        build(temporal_stride=0)
    with pytest.raises(UserError, match="edge_type"):
        build(conv="RGCNConv")
    with pytest.raises(UserError, match="Did you mean 'SAGEConv'"):
        build(conv="SAGEConf")


def test_exports_with_any_batch_size() -> None:
    class Logits(nn.Module):
        def __init__(self, model: Model) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            return self.model(x).logits

    model = build().eval()
    shapes = {"x": {0: torch.export.Dim("clips", min=1, max=64)}}
    exported = torch.export.export(Logits(model), (clips(3),), dynamic_shapes=shapes).module()
    torch.testing.assert_close(exported(clips(5)), model(clips(5)).logits, rtol=1e-5, atol=1e-6)


def test_it_learns_what_only_time_tells() -> None:
    """A hand moves up or down between the same poses: single frames say nothing."""
    spec = replace(SPEC, persons=1, frames=8, classes=("up", "down"))
    model = build(spec, channels=16)
    chance = torch.Generator().manual_seed(2)
    label = torch.arange(32) % 2
    height = torch.linspace(-1, 1, 8) * (1 - 2 * label).unsqueeze(1)
    x = torch.randn(32, 1, 8, 17, 2, generator=chance) * 0.1
    x[:, 0, :, 9, 1] += height
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x).logits, label).backward()
        optimizer.step()
    model.eval()
    assert (model(x).logits.argmax(1) == label).float().mean() > 0.95
