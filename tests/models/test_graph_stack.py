"""Composed graph networks: sizes and cost of the published ones, and what must not change their answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from skelgraph.batch import Batch, ClipSpec
from skelgraph.errors import UserError
from skelgraph.models import create
from skelgraph.models.graph_stack import GraphStack, raw_spec
from skelgraph.nn.norm import RowNorm
from skelgraph.topology import Topology

NTU = Topology.load("ntu25")
CLASSES = ("a", "b", "c")
SPEC = ClipSpec(NTU, 3, 2, 8, CLASSES)
FAMILY = ("stgcn", "stgcnpp", "agcn", "ctrgcn", "psumnet_stream")
PER_PERSON = ("agcn", "ctrgcn", "psumnet_stream")


def build(name: str = "graph_stack", spec: ClipSpec = SPEC, **settings: Any) -> GraphStack:
    torch.manual_seed(0)
    return create(name, spec, **({"width": 8, "depth": 4} | settings)).double()  # type: ignore[return-value]


def scrambled(model: GraphStack) -> GraphStack:
    """Every parameter and statistic random, in eval mode: a fresh network hides most of itself."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
        for layer in model.modules():
            if isinstance(layer, RowNorm):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                layer.running_mean.normal_(0, 0.5)
                layer.running_var.uniform_(0.5, 2)
    return model.eval()


def clips(count: int = 3, frames: int = 8, persons: int = 2, joints: int = 25) -> Tensor:
    return torch.randn(count, persons, frames, joints, 3, dtype=torch.float64, generator=torch.manual_seed(1))


# -- sizes and cost --------------------------------------------------------------------------------------------------


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def gmac(model: GraphStack, frames: int) -> dict[str, float]:
    """Multiply-accumulates of one clip in 10^9 by kind of product."""
    spec = model.spec
    shape = (1, spec.persons, frames, spec.joints, spec.channels)
    with FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(shape, device="meta"))
    return {str(kind).removeprefix("aten."): flops / 2e9 for kind, flops in counter.get_flop_counts()["Global"].items()}


# psumnet.md, section 7.3: topology, part, depth, persons, frames, classes -> parameters; GMAC of maps and all others.
STREAMS = [
    ("ntu25", "body", 10, 2, 64, {60: 1_448_418, 120: 1_463_838}, 1.7603, 0.1843, 1.9446),
    ("ntu25", "hands", 6, 2, 64, {60: 978_482, 120: 993_902}, 0.6236, 0.0332, 0.6568),
    ("ntu25", "legs", 4, 2, 64, {60: 499_898, 120: 515_318}, 0.2708, 0.0119, 0.2827),
    ("ntux67", "body", 10, 2, 64, {60: 1_471_314, 120: 1_486_734}, 2.6777, 0.4037, 3.0814),
    ("ntux67", "hands", 6, 2, 64, {60: 1_018_592, 120: 1_034_012}, 2.4786, 0.4530, 2.9316),
    ("ntux67", "legs", 4, 2, 64, {60: 501_146, 120: 516_566}, 0.3934, 0.0249, 0.4183),
    ("hand22", "hands", 6, 1, 180, {14: 972_234, 28: 975_832}, 1.4672, 0.1338, 1.6010),
]


@pytest.mark.parametrize(("name", "part", "depth", "persons", "frames", "sizes", "rest", "maps", "total"), STREAMS)
def test_streams_of_psumnet_have_the_published_size_and_cost(
    name: str, part: str, depth: int, persons: int, frames: int, sizes: dict[int, int], rest: float, maps: float,
    total: float,
) -> None:  # fmt: skip
    settings = {"part": part, "depth": depth, "spatial": {"name": "channelwise", "mean_first": False}}
    for topology in (name, f"{name}_published"):
        for classes, size in sizes.items():
            with torch.device("meta"):
                model = create("psumnet_stream", topology=topology, num_classes=classes, persons=persons, **settings)
            assert parameters(model) == size
            if classes == min(sizes):
                products = gmac(model, frames)
                assert products["bmm"] == pytest.approx(maps, abs=5e-5)
                assert sum(products.values()) == pytest.approx(total, abs=5e-5)
                assert sum(products.values()) - products["bmm"] == pytest.approx(rest, abs=5e-5)


@pytest.mark.parametrize("name", ["ntu25", "ntux67"])
@pytest.mark.parametrize(("classes", "sums"), [(60, {"ntu25": 2_926_798, "ntux67": 2_991_052}),
                                               (120, {"ntu25": 2_973_058, "ntux67": 3_037_312})])  # fmt: skip
def test_psumnet_is_the_sum_of_its_streams(name: str, classes: int, sums: dict[str, int]) -> None:
    with torch.device("meta"):
        assert parameters(create("psumnet", topology=name, num_classes=classes, persons=2)) == sums[name]


def test_averaging_first_saves_products_and_changes_nothing() -> None:
    late = {"name": "channelwise", "mean_first": False}
    with torch.device("meta"):
        costs = [sum(gmac(create("ctrgcn", SPEC, **settings), 64).values()) for settings in ({}, {"spatial": late})]
    assert costs[0] < 0.95 * costs[1]
    first = scrambled(build("ctrgcn"))
    other = build("ctrgcn", spatial=late)
    other.load_state_dict(first.state_dict())
    torch.testing.assert_close(other.eval()(clips()).logits, first(clips()).logits, atol=1e-10, rtol=0)


# brl.md, section 7
@pytest.mark.parametrize(
    ("model", "topology", "classes", "persons", "size"),
    [
        ("stgcnpp", "ntu25", 60, 2, 1_403_144), ("stgcnpp", "ntu25", 120, 2, 1_418_564),
        ("stgcnpp", "kinect20", 10, 1, 1_383_514), ("stgcnpp", "coco17", 400, 2, 1_480_396),
        ("stgcnpp", "openpose18", 400, 2, 1_481_452), ("stgcn", "ntu25", 60, 2, 3_098_832),
        ("ctrgcn", "ntu25", 60, 2, 1_446_672),
    ],
)  # fmt: skip
def test_sizes_of_the_family(model: str, topology: str, classes: int, persons: int, size: int) -> None:
    with torch.device("meta"):
        assert parameters(create(model, topology=topology, num_classes=classes, persons=persons)) == size


@pytest.mark.parametrize(
    ("topology", "classes", "persons", "frames", "cost"), [("ntu25", 60, 2, 64, 1.87), ("kinect20", 10, 1, 52, 0.60)]
)
def test_cost_of_stgcnpp(topology: str, classes: int, persons: int, frames: int, cost: float) -> None:
    with torch.device("meta"):
        model = create("stgcnpp", topology=topology, num_classes=classes, persons=persons)
    assert sum(gmac(model, frames).values()) == pytest.approx(cost, abs=5e-3)  # type: ignore[arg-type]


# -- lengths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 2, 5, 63, 64, 65, 180])
@pytest.mark.parametrize("depth", [4, 6, 10])
def test_any_length_and_a_quarter_of_it_at_the_end(frames: int, depth: int) -> None:
    model, shapes = build("psumnet_stream", depth=depth, part="legs"), []
    model.layers[-1].register_forward_hook(lambda module, inputs, out: shapes.append(out.shape))
    output = model(clips(2, frames))
    assert shapes == [(4, ((frames + 1) // 2 + 1) // 2, 9, 32)]
    assert len(model.layers) == depth
    assert output.logits.isfinite().all()


def test_lengths_and_widths_of_all_layers_of_a_body_stream() -> None:
    model, shapes = build("psumnet_stream", depth=10), []
    for layer in model.layers:
        layer.register_forward_hook(lambda module, inputs, out: shapes.append((out.shape[1], out.shape[3])))
    model(clips(1, 64))
    assert shapes == [(64, 8)] * 4 + [(32, 16)] * 3 + [(16, 32)] * 3
    assert model.layers[0].shortcut is None
    assert all(layer.shortcut is not None for layer in list(model.layers)[1:])


# -- what has influence ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ctrgcn", "psumnet_stream"])
def test_a_fresh_network_does_not_see_its_relations(name: str) -> None:
    model, x = build(name), clips()
    logits = model(x).logits
    blind = [p for key, p in model.named_parameters() if any(part in key for part in (".query.", ".key.", ".relate."))]
    assert len(blind) == 4 * (2 + 2 + 6)
    gradients = torch.autograd.grad(logits, blind, torch.randn_like(logits))
    assert all(not gradient.any() for gradient in gradients)
    with torch.no_grad():
        for parameter in blind:
            parameter.normal_()
    torch.testing.assert_close(model(x).logits, logits, atol=0, rtol=0)


def test_norms_absorb_the_biases_before_them() -> None:
    """psumnet.md, section 9.12, for the whole network in training mode."""
    model, x = scrambled(build("psumnet_stream", part="legs")).train(), clips()
    before = model(x).logits
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith(("reduce.bias", "point.bias", "conv.bias", "map.bias")):
                parameter += torch.randn_like(parameter)
    torch.testing.assert_close(model(x).logits, before, atol=1e-8, rtol=0)


@pytest.mark.parametrize("name", FAMILY)
def test_who_is_first_matters_only_to_norms_of_each_person(name: str) -> None:
    fresh, x = build(name).eval(), clips()
    torch.testing.assert_close(fresh(x.flip(1)).logits, fresh(x).logits, atol=1e-10, rtol=1e-10)
    used = scrambled(fresh)
    same = torch.allclose(used(x.flip(1)).logits, used(x).logits, atol=1e-8)
    assert same == (name not in PER_PERSON)


@pytest.mark.parametrize("name", FAMILY)
def test_clips_of_a_batch_do_not_mix(name: str) -> None:
    model, x = scrambled(build(name)), clips()
    logits, order = model(x).logits, [2, 0, 1]
    torch.testing.assert_close(model(x[order]).logits, logits[order], atol=1e-10, rtol=0)
    torch.testing.assert_close(model(x[1:2]).logits, logits[1:2], atol=1e-10, rtol=0)


@pytest.mark.parametrize("ignore_absent", [True, False])
def test_an_absent_person_is_a_zero_or_nobody(ignore_absent: bool) -> None:
    model = scrambled(build("stgcnpp", ignore_absent=ignore_absent))
    x = clips()
    x[:, 1] = 0
    alone = model(x[:, :1]).logits
    assert torch.allclose(model(x).logits, alone, atol=1e-10) == ignore_absent
    nobody = torch.zeros_like(x)
    assert model(nobody).logits.isfinite().all()


def test_a_person_who_comes_does_not_move() -> None:
    """Motion beside frames without the person is zero, so what stands in them has no influence on it."""
    model = scrambled(build("psumnet_stream", inputs=["joint_motion"]))
    x = clips()
    valid = torch.ones(3, 2, 8, dtype=torch.bool)
    valid[:, :, :4] = False
    other = x.clone()
    other[:, :, :4] += 9.0
    one, two = (model(Batch.of(keypoints).with_(valid=valid)).logits for keypoints in (x, other))
    torch.testing.assert_close(one, two, atol=0, rtol=0)
    assert not torch.allclose(model(x).logits, model(other).logits)


def test_input_norm_of_each_person_lays_features_out_as_published() -> None:
    """Person slowest, channel fastest (psumnet.md, section 2.3): so released statistics fit."""
    model, x = build("psumnet_stream", part="legs").eval(), clips()
    assert model.norm.running_mean is not None
    mean = torch.randn(2, 9, 12, dtype=torch.float64)
    model.norm.running_mean.copy_(mean.flatten())
    seen = model.streams(x)
    want = (seen - mean[:, None]) / (1 + model.norm.eps) ** 0.5
    torch.testing.assert_close(model.normed(seen), want.flatten(0, 1), atol=1e-12, rtol=0)
    shared = build("stgcnpp").eval()
    assert shared.norm.num_features == 75
    shared.norm.running_mean.copy_(mean := torch.randn(75, dtype=torch.float64))  # type: ignore[union-attr]
    want = (x - mean.view(25, 3)) / (1 + shared.norm.eps) ** 0.5
    torch.testing.assert_close(shared.normed(x), want.flatten(0, 1), atol=1e-12, rtol=0)


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spatial", ["static", "adaptive", "channelwise", {"name": "static", "graph": "khop:2"}])
@pytest.mark.parametrize("temporal", ["plain", {"name": "multi_scale", "dilations": [1, 3], "mix": True}])
def test_any_spatial_goes_with_any_temporal(spatial: Any, temporal: Any) -> None:
    model = build(spatial=spatial, temporal=temporal, layers=[[8, 1], [12, 2]], inputs=["joint", "hop:3_motion"])
    output = model(clips())
    assert output.logits.shape == (3, 3)
    assert output.features.shape == (3, 12)
    output.logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_stream_tensor_may_be_given_itself() -> None:
    """As released weights take it: no inputs to make, all channels as they are."""
    model = scrambled(build("psumnet_stream", part="legs"))
    raw = build("psumnet_stream", raw_spec(SPEC, "legs", 4), part=None, inputs=[])
    raw.load_state_dict(model.state_dict())
    seen = model.streams(clips())
    assert seen.shape == (3, 2, 8, 9, 12)
    torch.testing.assert_close(raw.eval()(seen).logits, model(clips()).logits, atol=1e-12, rtol=0)


def test_init_reaches_every_block_and_backend_every_graph() -> None:
    model = build("ctrgcn", backend="pyg")
    assert all(layer.unit.norm.weight[0].item() == pytest.approx(1e-6) for layer in model.layers)
    assert all(layer.unit.conv.backend == "pyg" for layer in model.layers)
    assert not any(layer.unit.conv.value.bias.any() for layer in model.layers)
    torch_like = build("stgcnpp")
    assert all(layer.unit.norm.weight[0].item() == 1 for layer in torch_like.layers)
    assert all(layer.unit.conv.value.bias.any() for layer in torch_like.layers)


@pytest.mark.parametrize(("name", "std", "zero"), [("stgcnpp", 0.01, True), ("ctrgcn", (2 / 60) ** 0.5, False)])
def test_classifier_starts_as_published(name: str, std: float, zero: bool) -> None:
    model = build(name, replace(SPEC, classes=tuple(map(str, range(60)))), width=64)
    assert isinstance(model.head, nn.Linear)
    assert float(model.head.weight.detach().std()) == pytest.approx(std, rel=0.05)
    assert bool(model.head.bias.any()) != zero


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"spatial": "channelwize"}, "unknown spatial block 'channelwize'. Did you mean 'channelwise'"),
    ({"temporal": {"name": "multi_scale", "kernels": 3}}, "Did you mean 'kernel'"),
    ({"temporal": {"kernel": 3}}, r"temporal block: write \{name"),
    ({"inputs": ["bones"]}, "unknown input 'bones'. Did you mean 'bone'"),
    ({"part": "leg"}, "unknown part 'leg'. Did you mean 'legs'"),
    ({"depth": 5}, "depth 5 is none of 10, 6, 4"),
    ({"layers": []}, "list of .width, stride."),
    ({"layers": [64, 128]}, "list of .width, stride."),
    ({"layers": [[64, 0]]}, "list of .width, stride."),
    ({"input_norm": "persons"}, "Did you mean 'person'"),
    ({"init": "fanout"}, "Did you mean 'fan_out'"),
]


@pytest.mark.parametrize(("settings", "words"), MISTAKES, ids=lambda value: str(value)[:30])
def test_mistakes_in_settings_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        create("graph_stack", SPEC, **settings)


def test_clips_that_do_not_fit_are_named() -> None:
    for model in (build("psumnet_stream", part="legs"), build("stgcnpp")):
        with pytest.raises(UserError, match="built for 25 joints of 3 channels and got 17 of 3"):
            model(clips(joints=17))
        with pytest.raises(UserError, match="and got 25 of 2"):
            model(clips()[..., :2])
    with pytest.raises(UserError, match=r"norms 2 persons apart and got 1; set data.persons"):
        build("ctrgcn")(clips(persons=1))
    assert build("stgcnpp")(clips(persons=1)).logits.shape == (3, 3)
