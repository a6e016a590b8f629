"""The supervised method and the linear probe."""

from __future__ import annotations

import pytest
import torch

from skelgraph.batch import Batch, ClipSpec, Output
from skelgraph.errors import UserError
from skelgraph.methods import METHODS
from skelgraph.models import Model, create
from skelgraph.topology import Topology

SPEC = ClipSpec(Topology.load("coco17"), 2, 1, 8, ("a", "b", "c"))


def batch(clips: int = 6) -> Batch:
    torch.manual_seed(0)
    return Batch.of(torch.randn(clips, 1, 8, 17, 2)).with_(label=torch.arange(clips) % 3)


def test_loss_is_smoothed_cross_entropy() -> None:
    method = METHODS.create("supervised", create("strl", SPEC, layers=1), label_smoothing=0.1).eval()
    figures = method.step(batch(), 0.0)
    logits = method.model(batch()).logits
    expected = torch.nn.functional.cross_entropy(logits, batch().label, label_smoothing=0.1)
    torch.testing.assert_close(figures["loss"], expected)
    assert 0 <= float(figures["top1"].detach()) <= 1


def test_streams_have_a_loss_each() -> None:
    class Two(Model):
        feature_dim = 1

        def forward(self, clips: Batch) -> Output:  # type: ignore[override]
            one, two = torch.zeros(len(clips), 3), torch.tensor([[9.0, 0, 0]]).expand(len(clips), 3)
            return Output(logits=one + two, features=one, streams={"one": one, "two": two})

    loss = METHODS.create("supervised", Two(SPEC)).step(batch(), 0.0)["loss"]
    two = torch.nn.functional.cross_entropy(torch.tensor([[9.0, 0, 0]]).expand(6, 3), batch().label)
    torch.testing.assert_close(loss, torch.tensor(3.0).log() + two)


def test_linear_probe_moves_nothing_but_its_layer() -> None:
    probe = METHODS.create("linear_probe", create("skeletonmae", SPEC, dim=8, hidden=8))
    probe.train()
    before = {key: value.clone() for key, value in probe.model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in probe.parameters() if p.requires_grad], 0.5)
    for _ in range(3):
        optimizer.zero_grad()
        probe.step(batch(), 0.0)["loss"].backward()
        optimizer.step()
    after = probe.model.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved == {"head.weight", "head.bias"}


def test_weights_of_another_shape_are_refused() -> None:
    wide, narrow = create("skeletonmae", SPEC, dim=16, hidden=16), create("skeletonmae", SPEC, dim=8, hidden=8)
    with pytest.raises(
        UserError, match=r"weights do not fit SkeletonMAE: of another shape: decoder.bn1.bias \(16,\) for \(8,\)"
    ):
        narrow.consume({"backbone": wide.state_dict()})
