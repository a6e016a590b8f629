"""How blocks make a layer: the order of norm, shortcut and ReLU, and what a fresh layer passes on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.nn.block import GraphBlock, GraphUnit, Shortcut
from skelgraph.nn.norm import RowNorm
from skelgraph.nn.spatial import StaticGraphConv
from skelgraph.nn.temporal import PlainTemporal
from skelgraph.topology import Topology

PENN = Topology.load("penn13")


class Fixed(nn.Module):
    """A 'graph convolution' whose result is known."""

    def __init__(self, out: Tensor) -> None:
        super().__init__()
        self.out = out

    def forward(self, x: Tensor) -> Tensor:
        return self.out


def normed(layer: nn.Module, z: Tensor) -> Tensor:
    """Batch norm by the running statistics, over the last axis."""
    assert isinstance(layer, RowNorm)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return (z - layer.running_mean) / (layer.running_var + layer.eps).sqrt() * layer.weight + layer.bias


def trained(module: nn.Module) -> nn.Module:
    """In double precision and eval mode, with norms that do something."""
    torch.manual_seed(3)
    for layer in module.double().modules():
        if isinstance(layer, RowNorm):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            for tensor in (layer.weight, layer.bias, layer.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return module.eval()


def nodes(channels: int, frames: int = 6) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, frames, 13, channels, dtype=torch.float64)


@pytest.mark.parametrize(("in_dim", "out_dim", "stride"), [(4, 4, 1), (4, 6, 1), (4, 4, 2), (4, 6, 3)])
def test_shortcut_is_the_input_or_a_strided_map_with_norm(in_dim: int, out_dim: int, stride: int) -> None:
    shortcut, x = trained(Shortcut(in_dim, out_dim, stride=stride)), nodes(in_dim)
    out = shortcut(x)
    if in_dim == out_dim and stride == 1:
        assert out is x
        assert not list(shortcut.parameters())
    else:
        want = normed(shortcut.norm, F.linear(x[:, ::stride], shortcut.map.weight, shortcut.map.bias))
        torch.testing.assert_close(out, want, atol=1e-12, rtol=0)


@pytest.mark.parametrize("in_dim", [4, 3])
@pytest.mark.parametrize("residual", [True, False])
def test_unit_is_relu_of_norm_and_shortcut(residual: bool, in_dim: int) -> None:
    x, answer = nodes(in_dim), nodes(4) - 0.3
    unit = trained(GraphUnit(Fixed(answer), in_dim, 4, residual=residual))
    want = normed(unit.norm, answer)
    if residual:
        want = want + unit.shortcut(x)
    torch.testing.assert_close(unit(x), want.relu(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("residual", [True, False])
def test_block_is_relu_of_time_and_shortcut(residual: bool) -> None:
    unit = GraphUnit(StaticGraphConv(PENN, 3, 4), 3, 4)
    block = trained(GraphBlock(unit, PlainTemporal(4, 4, 2, kernel=3), 3, 4, stride=2, residual=residual))
    x = nodes(3)
    want = block.temporal(block.unit(x))
    if residual:
        want = want + block.shortcut(x)
    assert want.shape == (2, 3, 13, 4)
    assert (want < 0).any()
    torch.testing.assert_close(block(x), want.relu(), atol=1e-12, rtol=0)


def test_a_fresh_unit_of_ctr_gcn_passes_its_shortcut_on() -> None:
    torch.manual_seed(0)
    same = GraphUnit(StaticGraphConv(PENN, 4, 4), 4, 4, init="fan_out").double()
    x = nodes(4)
    torch.testing.assert_close(same(x), x.relu(), atol=1e-4, rtol=0)
    other = GraphUnit(StaticGraphConv(PENN, 4, 4), 4, 4).double()
    assert (other(x) - x.relu()).abs().max() > 0.1
    alone = GraphUnit(StaticGraphConv(PENN, 4, 4), 4, 4, residual=False, init="fan_out").double()
    assert alone(x).abs().max() > 0.1  # without a shortcut it must not be silent


def test_fan_out_start_of_a_shortcut() -> None:
    torch.manual_seed(0)
    linear = Shortcut(64, 128, init="fan_out").map
    assert isinstance(linear, nn.Linear)
    assert float(linear.weight.detach().std()) == pytest.approx(math.sqrt(2 / 128), rel=0.05)
    assert not linear.bias.any()


def test_a_norm_absorbs_the_bias_of_a_shortcut() -> None:
    torch.manual_seed(0)
    unit, x = GraphUnit(StaticGraphConv(PENN, 3, 4), 3, 4).double(), nodes(3)
    before = unit(x)
    with torch.no_grad():
        unit.shortcut.map.bias += torch.randn(4)  # type: ignore[union-attr]
    torch.testing.assert_close(unit(x), before, atol=1e-10, rtol=0)


def test_half_precision_trains_under_autocast() -> None:
    block = GraphUnit(nn.Linear(4, 8), 4, 8)
    x = torch.randn(2, 3, 5, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = block(x)
    out.float().sum().backward()
    assert block.norm.running_mean.dtype == torch.float32
    assert block.norm.running_mean.abs().sum() > 0
