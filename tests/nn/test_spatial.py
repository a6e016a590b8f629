"""Graph convolutions written out from their formulas, and what holds at the start of training."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from skelgraph.errors import UserError
from skelgraph.nn import SPATIAL, AdaptiveGraphConv, ChannelwiseGraphConv, StaticGraphConv
from skelgraph.nn.pointwise import Pointwise, fan_out_init
from skelgraph.nn.propagation import BLOCKS, backend
from skelgraph.topology import Topology

PENN = Topology.load("penn13")
BACKENDS = ("dense", "pyg", "dgl")
SHIPPED = SPATIAL.names()  # before a test adds one of its own


def nodes(channels: int = 5) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 3, 13, channels, dtype=torch.float64)


def scrambled(block: nn.Module) -> nn.Module:
    """Every parameter random: a fresh block hides half of itself behind zeros."""
    torch.manual_seed(2)
    block.double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block


def value_of(block: nn.Module, x: Tensor, k: int, width: int) -> Tensor:
    rows = slice(k * width, (k + 1) * width)
    return x @ block.value.weight[rows].T + block.value.bias[rows]  # type: ignore[union-attr, index, no-any-return]


# -- formulas --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("learn", ["none", "mask", "free", "offset"])
@pytest.mark.parametrize("graph", ["spatial", "spatial_rows", "distance", "khop:2", "normalized"])
def test_static_is_its_formula(graph: str, learn: str) -> None:
    block = scrambled(StaticGraphConv(PENN, 5, 4, graph=graph, learn=learn))
    x = nodes()
    start = torch.as_tensor(PENN.adjacency(graph)).double().view(-1, 13, 13)
    assert block.subsets == len(start)
    learnt = {"none": start, "free": block.adjacency}
    if learn in ("mask", "offset"):
        learnt |= {"mask": start * block.learnt, "offset": start + block.learnt}
    want = sum(learnt[learn][k] @ value_of(block, x, k, 4) for k in range(len(start)))
    torch.testing.assert_close(block(x), want, atol=1e-12, rtol=0)


@pytest.mark.parametrize("learn", ["none", "mask", "free", "offset"])
def test_a_fresh_static_graph_is_the_topologys(learn: str) -> None:
    block = StaticGraphConv(PENN, 5, 4, learn=learn)
    torch.testing.assert_close(block.graph(), torch.as_tensor(PENN.adjacency("spatial_rows")), atol=2e-6, rtol=0)
    learnt = {name for name, parameter in block.named_parameters() if not name.startswith("value")}
    assert learnt == {"none": set(), "mask": {"learnt"}, "free": {"adjacency"}, "offset": {"learnt"}}[learn]


def test_adaptive_is_its_formula() -> None:
    block, x = scrambled(AdaptiveGraphConv(PENN, 5, 8, reduction=2)), nodes()
    fixed = torch.as_tensor(PENN.adjacency("spatial_rows")).double()
    want = torch.zeros(2, 3, 13, 8, dtype=torch.float64)
    for k in range(3):
        rows = slice(4 * k, 4 * k + 4)
        theta, phi = (x @ layer.weight[rows].T + layer.bias[rows] for layer in (block.theta, block.phi))
        for n in range(2):
            similar = sum(theta[n, t] @ phi[n, t].T for t in range(3)) / (3 * 4)
            graph = fixed[k] + block.learnt[k] + similar.softmax(-1)
            want[n] += graph @ value_of(block, x, k, 8)[n]
    torch.testing.assert_close(block(x), want, atol=1e-12, rtol=0)
    torch.testing.assert_close(block.clip_graph(x).sum(-1), torch.ones(2, 3, 13, dtype=torch.float64))


@pytest.mark.parametrize("mean_first", [True, False])
def test_channelwise_is_its_formula(mean_first: bool) -> None:
    block, x = scrambled(ChannelwiseGraphConv(PENN, 16, 4, mean_first=mean_first)), nodes(16)
    want = torch.zeros(2, 3, 13, 4, dtype=torch.float64)
    for k in range(3):
        rows = slice(2 * k, 2 * k + 2)
        q, s = ((x @ layer.weight[rows].T + layer.bias[rows]).mean(1) for layer in (block.query, block.key))
        relation = torch.tanh(q[:, :, None] - s[:, None, :])
        relate = block.relate[k]
        weight = block.alpha * (relation @ relate.weight.T + relate.bias) + block.adjacency[k][..., None]
        want += torch.einsum("nuvc,ntvc->ntuc", weight, value_of(block, x, k, 4))
    torch.testing.assert_close(block(x), want, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("in_dim", "minimum", "width"), [(3, 1, 8), (6, 1, 8), (9, 1, 8), (12, 1, 1), (12, 4, 4),
                                                          (64, 1, 8), (256, 1, 32), (64, 16, 16)])  # fmt: skip
def test_relation_widths(in_dim: int, minimum: int, width: int) -> None:
    block = ChannelwiseGraphConv(PENN, in_dim, 8, relation_min=minimum)
    assert block.query.out_features == block.key.out_features == 3 * width
    assert {layer.in_features for layer in block.relate} == {width}


# -- invariants of psumnet.md, section 9 -----------------------------------------------------------------------------


def test_fresh_channelwise_block_does_not_see_its_relations() -> None:
    torch.manual_seed(0)
    block, x = ChannelwiseGraphConv(PENN, 16, 4).double(), nodes(16)
    before = block(x)
    blind = [*block.query.parameters(), *block.key.parameters(), *block.relate.parameters()]
    upstream = torch.randn_like(before)
    gradients = torch.autograd.grad(before, [*blind, block.alpha, block.adjacency], upstream)
    assert all(not gradient.any() for gradient in gradients[: len(blind)])
    assert all(gradient.all() for gradient in gradients[len(blind) :])
    for parameter in blind:
        nn.init.normal_(parameter)
    assert torch.equal(block(x), before)
    nn.init.constant_(block.alpha, 0.1)
    assert not torch.allclose(block(x), before)


def test_query_and_key_may_shift_together_and_swap() -> None:
    block, x = scrambled(ChannelwiseGraphConv(PENN, 16, 4)), nodes(16)
    before, fixed = block(x), block.adjacency.detach()[..., None]
    with torch.no_grad():
        for layer in (block.query, block.key):
            layer.bias += 0.7
    torch.testing.assert_close(block(x), before, atol=1e-12, rtol=0)
    for layer in block.relate:
        nn.init.zeros_(layer.bias)
    maps = block.maps(x) - fixed
    block.query, block.key = block.key, block.query
    torch.testing.assert_close(block.maps(x) - fixed, -maps.transpose(2, 3), atol=1e-12, rtol=0)


@pytest.mark.parametrize("choice", BACKENDS)
@pytest.mark.parametrize("name", SHIPPED)
def test_a_fresh_block_learns_the_same_graph_with_every_backend(name: str, choice: str) -> None:
    """Where a graph starts at zero a sparse backend must not take the zero for a missing edge."""
    torch.manual_seed(0)
    block, x = SPATIAL.create(name, PENN, 5, 8).double(), nodes()
    out = block(x)
    upstream = torch.randn_like(out)
    want = torch.autograd.grad(out, [*block.parameters()], upstream)
    with backend(choice):
        got = torch.autograd.grad(block(x), [*block.parameters()], upstream)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


def test_every_spatial_block_is_held_against_the_backends() -> None:
    names = {"static": {"static_none", "static_mask", "static_free", "static_offset"}}
    for name in SHIPPED:
        assert names.get(name, {name}) <= set(BLOCKS)


# -- initialisation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [Pointwise(40, 600), nn.Conv2d(40, 100, (5, 1))])
def test_fan_out_counts_what_goes_out(layer: nn.Linear | nn.Conv2d) -> None:
    torch.manual_seed(0)
    branches = 3 if isinstance(layer, Pointwise) else 1
    fan_out_init(layer, branches)
    assert float(layer.weight.detach().std()) == pytest.approx(math.sqrt(2 / (200 if branches == 3 else 500)), rel=0.03)
    assert layer.bias is not None
    assert not layer.bias.any()


def test_relations_of_a_block_start_as_blocks_of_their_own() -> None:
    torch.manual_seed(0)
    block = ChannelwiseGraphConv(PENN, 64, 64)
    for layer, fan in ((block.value, 64), (block.query, 8), (block.key, 8), (block.relate[1], 64)):
        assert float(layer.weight.detach().std()) == pytest.approx(math.sqrt(2 / fan), rel=0.1)  # type: ignore[union-attr, operator]
    assert not block.alpha.any()
    assert torch.equal(block.adjacency, torch.as_tensor(PENN.adjacency("spatial")))


@pytest.mark.parametrize("shape", [(7,), (4, 7), (2, 3, 7), (2, 3, 5, 7), (2, 3, 5, 4, 7)])
def test_pointwise_is_a_linear_map_of_any_shape(shape: tuple[int, ...]) -> None:
    layer = Pointwise(7, 6).double()
    x = torch.randn(shape, dtype=torch.float64).requires_grad_()
    out, want = layer(x), nn.functional.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(out, want, atol=1e-12, rtol=0)
    upstream = torch.randn_like(out)
    inputs = (x, layer.weight, layer.bias)
    for one, other in zip(*(torch.autograd.grad(y, inputs, upstream) for y in (out, want)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="Did you mean 'free'"):
        StaticGraphConv(PENN, 3, 4, learn="fre")
    with pytest.raises(UserError, match="Did you mean 'spatial'"):
        ChannelwiseGraphConv(PENN, 3, 4, graph="spacial")
