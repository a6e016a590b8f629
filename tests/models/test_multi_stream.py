"""Several networks on one clip: what each sees, how they are summed, trained, probed and handed over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.batch import Batch, ClipSpec
from skelgraph.errors import UserError
from skelgraph.methods import METHODS
from skelgraph.models import Model, create
from skelgraph.models.multi_stream import MultiStream
from skelgraph.topology import Topology

NTU = Topology.load("ntu25")
SPEC = ClipSpec(NTU, 3, 2, 8, ("a", "b", "c"))
BASE = {"name": "stgcnpp", "width": 8, "depth": 4}
UNIFIED = ["joint", "bone", "joint_motion", "bone_motion"]


def build(spec: ClipSpec = SPEC, **settings: Any) -> MultiStream:
    torch.manual_seed(0)
    return create("multi_stream", spec, **({"base": BASE, "streams": ["joint", "bone"]} | settings)).double()  # type: ignore[return-value]


def psumnet(spec: ClipSpec = SPEC, **settings: Any) -> MultiStream:
    torch.manual_seed(0)
    return create("psumnet", spec, **({"width": 8} | settings)).double()  # type: ignore[return-value]


def clips(count: int = 4) -> Tensor:
    return torch.randn(count, 2, 8, 25, 3, dtype=torch.float64, generator=torch.manual_seed(1))


def labelled(count: int = 6) -> Batch:
    return Batch.of(clips(count)).with_(label=torch.arange(count) % 3)


# -- streams ---------------------------------------------------------------------------------------------------------


def test_names_mean_inputs_and_parts() -> None:
    networks = build(streams=["bone", "hop:3_motion", "legs"]).networks
    assert networks["bone"].streams.inputs == ("bone",)
    assert networks["bone"].streams.topology == NTU
    assert networks["hop:3_motion"].streams.inputs == ("hop:3_motion",)
    assert networks["legs"].streams.inputs == ("joint",)
    assert networks["legs"].streams.topology == NTU.part("legs")


def test_settings_of_a_stream_go_on_top_of_the_base_and_of_what_its_name_means() -> None:
    model = build(streams={"legs": {"depth": 6}, "skip": None, "both": {"part": "hands", "inputs": ["joint", "bone"]},
                           "other": {"name": "ctrgcn", "width": 16}})  # fmt: skip
    legs, skip, both, other = model.networks.values()
    assert len(legs.layers) == 6
    assert legs.streams.topology == NTU.part("legs")
    assert skip.streams.inputs == ("skip",)
    assert both.streams.out_channels == 6
    assert both.streams.topology == NTU.part("hands")
    assert other.streams.topology == NTU
    assert (legs.feature_dim, other.feature_dim, model.feature_dim) == (32, 64, 32 + 32 + 32 + 64)
    assert model(clips()).features.shape == (4, 160)


def test_base_may_be_a_name_alone() -> None:
    assert len(build(base="stgcnpp", streams=["joint"]).networks["joint"].layers) == 10


def test_each_stream_is_a_network_of_its_own() -> None:
    model = psumnet().eval()
    output = model(clips())
    for name, network in model.networks.items():
        torch.testing.assert_close(output.streams[name], network(clips()).logits, atol=0, rtol=0)
    torch.testing.assert_close(output.features, model.forward_features(Batch.of(clips())), atol=0, rtol=0)


def test_a_stream_sees_its_part_alone() -> None:
    model, x = psumnet().eval(), clips()
    moved = x.clone()
    moved[..., NTU.index("left_foot"), :] += 1.0
    before, after = model(x).streams, model(moved).streams
    changed = {name: not torch.equal(before[name], after[name]) for name in before}
    assert changed == {"body": True, "hands": False, "legs": True}


# -- fusion ----------------------------------------------------------------------------------------------------------


def test_logits_are_the_weighted_sum() -> None:
    plain, weighted = psumnet().eval(), psumnet(fusion={"body": 2.0, "legs": 0.7}).eval()
    streams = plain(clips()).streams
    torch.testing.assert_close(plain(clips()).logits, sum(streams.values()), atol=1e-12, rtol=0)
    want = 2 * streams["body"] + streams["hands"] + 0.7 * streams["legs"]
    torch.testing.assert_close(weighted(clips()).logits, want, atol=1e-12, rtol=0)
    only = psumnet(fusion={"body": 1, "hands": 0, "legs": 0}).eval()(clips())
    torch.testing.assert_close(only.logits, only.streams["body"], atol=0, rtol=0)
    assert not plain.state_dict().keys() ^ weighted.state_dict().keys()


# -- psumnet ---------------------------------------------------------------------------------------------------------


def test_psumnet_has_the_published_streams() -> None:
    model = psumnet()
    assert {name: len(network.layers) for name, network in model.networks.items()} == {
        "body": 10,
        "hands": 6,
        "legs": 4,
    }
    for name, network in model.networks.items():
        assert network.streams.topology == NTU.part(name)
        assert network.streams.inputs == tuple(UNIFIED)
        assert network.per_person
        assert network.layers[0].unit.conv.query.out_features == 3  # width 1, as published


def test_settings_of_psumnet() -> None:
    model = psumnet(streams=["upper", "legs"], depths={"legs": 6, "upper": 4}, relation_min=8, frame="local",
                    inputs=["joint", "bone"], fusion={"upper": 3})  # fmt: skip
    upper, legs = model.networks["upper"], model.networks["legs"]
    assert (len(upper.layers), len(legs.layers)) == (4, 6)
    assert legs.layers[0].unit.conv.query.out_features == 24
    assert legs.streams.frame == "local"
    assert legs.streams.out_channels == 6
    assert model.fusion == {"upper": 3.0, "legs": 1.0}


def test_ablations_by_recipe_settings() -> None:
    """Unified channels against four streams, and both frames, as the paper compares them."""
    four = build(base={**BASE, "name": "psumnet_stream"}, streams={name: {"inputs": [name]} for name in UNIFIED})
    assert [network.streams.out_channels for network in four.networks.values()] == [3, 3, 3, 3]
    x = clips()
    far = x + 5.0
    for frame, same in (("global", False), ("local", True)):
        model = psumnet(frame=frame).eval()
        assert torch.allclose(model(x).logits, model(far).logits, atol=1e-8) == same


# -- learning --------------------------------------------------------------------------------------------------------


def test_one_run_trains_every_stream_as_a_run_of_its_own() -> None:
    """The loss is the sum of the streams' own: a step moves each as if it were trained apart."""
    model = build()
    model.train()
    apart = {name: torch.nn.ModuleList([network]) for name, network in build().networks.items()}
    batch = labelled()
    METHODS.create("supervised", model).step(batch, 0.0)["loss"].backward()
    for name, (network,) in apart.items():
        network.train()
        F.cross_entropy(network(batch).logits.float(), batch.label).backward()
        for mine, own in zip(model.networks[name].parameters(), network.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, own.grad, atol=1e-7, rtol=1e-5)


def test_loss_does_not_depend_on_the_fusion_but_accuracy_does() -> None:
    batch = labelled()
    figures = []
    for weight in (1.0, -1.0):
        model = build(fusion={"joint": weight, "bone": 0}).eval()
        figures.append(METHODS.create("supervised", model).step(batch, 0.0))
        want = (figures[-1], (weight * model(batch).streams["joint"]).argmax(-1))
        assert float(want[0]["top1"]) == pytest.approx(float((want[1] == batch.label).float().mean()))
    assert torch.equal(figures[0]["loss"], figures[1]["loss"])


def test_linear_probe_looks_at_all_streams_together() -> None:
    model = build()
    probe = METHODS.create("linear_probe", model).double()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    output = probe.train().model(labelled())
    assert not output.streams
    torch.testing.assert_close(output.logits, model.head(output.features))
    trained = {name for name, parameter in probe.model.named_parameters() if parameter.requires_grad}
    assert trained == {"head.weight", "head.bias"}
    probe.step(labelled(), 0.0)["loss"].backward()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_classes_are_reset_in_every_stream() -> None:
    model = psumnet()
    model.reset_classifier(("p", "q", "r", "s", "t"))
    output = model.double()(clips())
    assert output.logits.shape == (4, 5)
    assert {logits.shape for logits in output.streams.values()} == {(4, 5)}
    assert model.spec.num_classes == 5
    assert all(isinstance(network, Model) and network.spec.num_classes == 5 for network in model.networks.values())


@pytest.mark.parametrize("probed", [False, True])
def test_it_starts_from_another_with_other_classes(probed: bool) -> None:
    first, second = build(), build(replace(SPEC, classes=("x", "y")))
    for parameter in first.parameters():
        nn.init.normal_(parameter)
    if probed:  # then the whole has a head, too
        METHODS.create("linear_probe", first)
    heads = {key: value.clone() for key, value in second.state_dict().items() if ".head." in key}
    second.consume({"backbone": first.state_dict()})
    for key, value in second.state_dict().items():
        assert torch.equal(value, heads[key] if key in heads else first.state_dict()[key]), key
    with pytest.raises(UserError, match=r"unexpected: networks.bone.*missing|missing: networks.legs"):
        build(streams=["joint", "legs"]).consume({"backbone": first.state_dict()})
    with pytest.raises(UserError, match=r"needs an exported 'backbone'; got \['encoder'\]"):
        second.consume({"encoder": {}})


def test_without_classes_it_gives_features() -> None:
    output = build(replace(SPEC, classes=()))(clips())
    assert output.logits.shape == (4, 0)
    assert output.features.shape == (4, 64)


# -- mistakes --------------------------------------------------------------------------------------------------------


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"streams": ["joint", "leg"]}, "unknown stream 'leg'. Did you mean 'legs'"),
    ({"streams": "joint"}, r"streams: write a list, \[joint\]"),
    ({"streams": ["joint", "joint"]}, "a name stands there twice"),
    ({"streams": []}, "streams: name at least one"),
    ({"streams": {}}, "streams: name at least one"),
    ({"fusion": {"bones": 1}}, "fusion: unknown stream 'bones'. Did you mean 'bone'"),
    ({"base": {"width": 8}}, "base: name the network"),
    ({"base": {"name": "ctrgnc"}}, "unknown model 'ctrgnc'. Did you mean 'ctrgcn'"),
    ({"base": {"name": "ctrgcn", "with": 8}}, "Did you mean 'width'"),
]


@pytest.mark.parametrize(("settings", "words"), MISTAKES, ids=lambda value: str(value)[:40])
def test_mistakes_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        create("multi_stream", SPEC, **({"base": BASE, "streams": ["joint", "bone"]} | settings))


def test_a_part_that_the_topology_lacks_is_named() -> None:
    with pytest.raises(UserError, match=r"topology 'hand21'.* unknown part 'body'"):
        create("psumnet", ClipSpec(Topology.load("hand21"), 3, 1, 8, ("a",)))
    with pytest.raises(UserError, match="streams: write a list"):
        create("psumnet", SPEC, streams="legs")
