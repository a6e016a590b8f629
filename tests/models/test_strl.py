"""STRL: sizes, hand-over of the pre-trained encoder, freezing, and what persons and time may change."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.batch import Batch, ClipSpec
from skelgraph.errors import UserError
from skelgraph.models.skeletonmae import SkeletonMAE
from skelgraph.models.strl import STRL, STRLLayer
from skelgraph.topology import Topology

COCO = Topology.load("coco17")
CLASSES = ("a", "b", "c")


def spec(persons: int = 2, frames: int = 8, classes: tuple[str, ...] = CLASSES) -> ClipSpec:
    return ClipSpec(COCO, 2, persons, frames, classes)


def model(persons: int = 2, **settings: object) -> STRL:
    torch.manual_seed(0)
    net = STRL(spec(persons), **{"dim": 8, "hidden": 8, "layers": 2, **settings})  # type: ignore[arg-type]
    nn.init.normal_(net.time)
    return net.double()


def pretrained(**settings: object) -> dict[str, dict[str, Tensor]]:
    torch.manual_seed(5)
    mae = SkeletonMAE(spec(classes=()), **{"dim": 8, "hidden": 8, **settings}).double()  # type: ignore[arg-type]
    mae(torch.randn(4, 2, 8, 17, 2, dtype=torch.float64))  # moves the running statistics
    parts: dict[str, nn.Module] = {"backbone": mae, "embed": mae.embed, "encoder": mae.encoder}
    if mae.joint_pe is not None:
        parts["joint_pe"] = mae.joint_pe
    return {name: {k: v.clone() for k, v in part.state_dict().items()} for name, part in parts.items()}


def clips(n: int = 3, persons: int = 2) -> Batch:
    torch.manual_seed(1)
    return Batch.of(torch.randn(n, persons, 8, 17, 2, dtype=torch.float64))


@pytest.mark.parametrize(("layers", "size"), [(1, 81_775), (2, 152_955), (3, 224_135), (4, 295_315)])
def test_sizes_of_the_published_model(layers: int, size: int) -> None:
    net = STRL(ClipSpec(COCO, 2, 2, 64, tuple(map(str, range(99)))), layers=layers)
    assert sum(p.numel() for p in net.parameters()) == size


@pytest.mark.parametrize("residual", ["sum", "concat"])
def test_a_layer_equals_equations_3_and_4(residual: str) -> None:
    net = model(persons=1, residual=residual, layers=1).eval()
    layer = net.layers[0]
    assert isinstance(layer, STRLLayer)
    h = torch.randn(2, 1, 8, 17, 8, dtype=torch.float64)
    pooled = layer.encoders[0](h).sum(-2, keepdim=True).expand(h.shape)
    mixed = torch.cat([pooled, layer.residual(h)], -1) if residual == "concat" else pooled + layer.residual(h)
    rows = layer.norm(layer.mix(mixed).reshape(-1, 8))
    expected = layer.temporal(F.relu(rows).view(2, 8, 17, 8)).unsqueeze(1)
    out = layer(h, torch.ones(2, 1, dtype=torch.bool))
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"mtp": "final"}, {"interaction": "swap"}, {"share_persons": True}, {"widths": [8, 16]}, {"strides": [2, 2]},
        {"conv": "gcn"}, {"conv": "gat"}, {"norm": "none"}, {"joint_pe": True}, {"dropout": 0.5}, {"hidden": 12},
    ],
    ids=lambda s: "-".join(f"{k}={v}" for k, v in s.items()),
)  # fmt: skip
def test_options_run_and_train_every_weight(settings: dict[str, Any]) -> None:
    net = model(**settings)
    output = net(clips())
    assert output.logits.shape == (3, 3)
    assert output.features.shape == (3, net.feature_dim)
    (output.logits * torch.randn(3, 3)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_checkpoint_goes_into_every_copy_and_the_copies_diverge() -> None:
    net, exports = model(), pretrained()
    net.consume(exports)
    assert len(net.encoders()) == 4
    for encoder in net.encoders():
        assert all(torch.equal(value, exports["encoder"][key]) for key, value in encoder.state_dict().items())
    assert torch.equal(net.embed.weight, exports["embed"]["weight"])
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    F.cross_entropy(net(clips()).logits, torch.tensor([0, 1, 2])).backward()
    optimizer.step()
    weights = [next(encoder.parameters()) for encoder in net.encoders()]
    assert all(not torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda e: e["encoder"].pop("0.lin1.bias"), "missing: 0.lin1.bias"),
        (lambda e: e["encoder"].update(extra=torch.zeros(1)), "unexpected: extra"),
        (lambda e: e["encoder"].update({"0.lin1.bias": torch.zeros(3)}), "another shape"),
        (lambda e: e.pop("embed"), "exported embed"),
        (lambda e: e.update(joint_pe={"weight": torch.zeros(17, 8)}), "joint_pe: true"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(change: object, word: str) -> None:
    exports = pretrained()
    change(exports)  # type: ignore[operator]
    with pytest.raises(UserError, match=word):
        model().consume(exports)


def test_joint_pe_is_handed_over() -> None:
    net, exports = model(joint_pe=True), pretrained(joint_pe=True)
    net.consume(exports)
    assert net.joint_pe is not None
    assert torch.equal(net.joint_pe.weight, exports["joint_pe"]["weight"])


def test_frozen_encoders_and_statistics_do_not_move() -> None:
    net, exports = model(freeze_encoder=True), pretrained()
    net.consume(exports)
    net.train()
    head = net.head[0].weight.clone()  # type: ignore[index]
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1, weight_decay=0.1)
    F.cross_entropy(net(clips()).logits, torch.tensor([0, 1, 2])).backward()
    optimizer.step()
    for encoder in net.encoders():
        assert all(torch.equal(value, exports["encoder"][key]) for key, value in encoder.state_dict().items())
    assert torch.equal(net.embed.weight, exports["embed"]["weight"])
    assert not torch.equal(net.head[0].weight, head)  # type: ignore[index]
    assert int(net.layers[0].norm.num_batches_tracked) == 1  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("shared", [True, False])
def test_order_of_the_persons_matters_only_to_encoders_of_their_own(shared: bool) -> None:
    net, batch = model(share_persons=shared).eval(), clips()
    swapped = batch.with_(keypoints=batch.keypoints.flip(1))
    same = torch.allclose(net(batch).logits, net(swapped).logits, atol=1e-12)
    assert same == shared


@pytest.mark.parametrize("interaction", ["none", "swap"])
def test_an_absent_person_has_no_influence(interaction: str) -> None:
    net, batch = model(interaction=interaction).eval(), clips()
    valid = batch.valid.clone()
    valid[:, 1] = False
    noise = batch.keypoints.clone()
    noise[:, 1] = 7.0
    first = net(batch.with_(valid=valid)).logits
    torch.testing.assert_close(net(batch.with_(valid=valid, keypoints=noise)).logits, first, atol=1e-12, rtol=0)
    assert not torch.allclose(net(batch).logits, first)


def test_interaction_lets_persons_see_each_other() -> None:
    for interaction, sees in (("none", False), ("swap", True)):
        layer = model(interaction=interaction).eval().layers[0]
        h = torch.randn(2, 2, 8, 17, 8, dtype=torch.float64)
        moved = h.clone()
        moved[:, 1] += torch.randn(8, 17, 8, dtype=torch.float64)
        here = torch.ones(2, 2, dtype=torch.bool)
        assert torch.equal(layer(h, here)[:, 0], layer(moved, here)[:, 0]) != sees


def test_reversing_time_changes_the_answer() -> None:
    net, batch = model(persons=1).eval(), clips(persons=1)
    reverse = batch.with_(keypoints=batch.keypoints.flip(2))
    assert (net(batch).logits - net(reverse).logits).abs().max() > 1e-3


def test_wrong_settings_and_clips_are_named() -> None:
    with pytest.raises(UserError, match="2 persons and 8 frames and got 2 and 4"):
        model()(clips().keypoints[:, :, :4])
    for settings, word in (({"strides": [1]}, "strides"), ({"residual": "add"}, "sum"), ({"mtp": "last"}, "final")):
        with pytest.raises(UserError, match=word):
            model(**settings)


def test_compiles_whole() -> None:
    net, x = model(persons=1).float().eval(), clips(persons=1).keypoints.float()
    torch.testing.assert_close(torch.compile(net, backend="eager", fullgraph=True)(x).logits, net(x).logits)
