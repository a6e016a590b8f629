"""Temporal blocks: their branches written out, their lengths, their start, and that joints stay independent."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.errors import UserError
from skelgraph.nn.propagation import BLOCKS
from skelgraph.nn.temporal import TEMPORAL, MultiScaleTemporal, PlainTemporal

CTR_GCN: dict[str, Any] = {"kernel": 5, "dilations": (1, 2)}
STGCN_PP: dict[str, Any] = {"kernel": 3, "dilations": (1, 2, 3, 4), "mix": True}
SHIPPED = TEMPORAL.names()


def norm(layer: nn.BatchNorm1d, z: Tensor, part: slice = slice(None)) -> Tensor:
    """Batch norm of some channels of (N, C, T, V), by the running statistics."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return F.batch_norm(z, layer.running_mean[part], layer.running_var[part], layer.weight[part], layer.bias[part])


def point(layer: nn.Linear, z: Tensor, part: slice = slice(None), stride: int = 1) -> Tensor:
    """Some outputs of a 1x1 convolution of (N, C, T, V)."""
    return F.conv2d(z, layer.weight[part, :, None, None], layer.bias[part], (stride, 1))


def written_out(block: MultiScaleTemporal, x: Tensor, kernel: int, dilations: tuple[int, ...]) -> Tensor:
    """The branches one by one, in eval mode."""
    picture, stride, out_dim = x.permute(0, 3, 1, 2), block.stride, block.norm.num_features
    width = out_dim // (len(dilations) + 2)
    widths = [out_dim - width * (len(dilations) + 1), *[width] * (len(dilations) + 1)]
    branches, begin = [], 0
    for number, wide in enumerate(widths):
        part, begin = slice(begin, begin + wide), begin + wide
        if number == len(dilations) + 1:
            z = point(block.point, picture, stride=stride)
        else:
            z = F.relu(norm(block.reduce_norm, point(block.reduce, picture, part), part))
        if number < len(dilations):
            conv, dilation = block.times[number].conv, dilations[number]
            z = F.conv2d(z, conv.weight, conv.bias, (stride, 1), (dilation * (kernel - 1) // 2, 0), (dilation, 1))
        if number == len(dilations):
            z = F.max_pool2d(z, (3, 1), (stride, 1), (1, 0))
        branches.append(norm(block.norm, z, part))
    out = torch.cat(branches, 1)
    if block.mix is not None:
        out = norm(block.mix_norm, point(block.mix, F.relu(out)))
    if block.shortcut is not None and block.shortcut.same:
        out = out + picture
    elif block.shortcut is not None:
        out = out + norm(block.shortcut.norm, point(block.shortcut.map, picture, stride=stride))
    return out.permute(0, 2, 3, 1)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("settings", [CTR_GCN, STGCN_PP, {"kernel": 7, "dilations": (3,)}])
@pytest.mark.parametrize(("width", "stride"), [(8, 1), (8, 2), (13, 1), (15, 2)])
def test_multi_scale_equals_the_written_out_branches(
    width: int, stride: int, settings: dict[str, Any], residual: bool
) -> None:
    torch.manual_seed(0)
    block = MultiScaleTemporal(8, width, stride, **settings, residual=residual).double()
    for layer in block.modules():
        if isinstance(layer, nn.BatchNorm1d):
            nn.init.normal_(layer.weight, 1, 0.3)
            nn.init.normal_(layer.bias)
    x = torch.randn(2, 9, 5, 8, dtype=torch.float64)
    block(x)  # other running statistics than the initial ones
    block.eval()
    out = block(x)
    assert out.shape == (2, -(-9 // stride), 5, width)
    want = written_out(block, x, settings["kernel"], settings["dilations"])
    torch.testing.assert_close(out, want, atol=1e-12, rtol=0)


def test_multi_scale_branches_of_stgcnpp() -> None:
    """brl.md, section 2e: the first branch takes the remainder."""
    for width, widths in ((64, (14, 10)), (128, (23, 21)), (256, (46, 42))):
        block = MultiScaleTemporal(width, width, **STGCN_PP)
        assert [time.conv.out_channels for time in block.times] == [widths[0], *[widths[1]] * 3]
        assert block.point.out_features == widths[1]


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 9])
def test_plain_equals_a_convolution_and_a_norm(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    block = PlainTemporal(4, 6, stride, kernel=kernel).double()
    x = torch.randn(2, 7, 5, 4, dtype=torch.float64)
    block(x)
    block.eval()
    conv = block.time.conv
    want = F.conv2d(x.permute(0, 3, 1, 2), conv.weight, conv.bias, (stride, 1), (kernel // 2, 0))
    torch.testing.assert_close(block(x), norm(block.norm, want).permute(0, 2, 3, 1), atol=1e-12, rtol=0)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 5, 63, 64, 65])
@pytest.mark.parametrize("name", SHIPPED)
def test_lengths(name: str, frames: int, stride: int) -> None:
    block = TEMPORAL.create(name, 8, 8, stride).eval()
    out = block(torch.randn(1, frames, 3, 8))
    assert out.shape == (1, math.ceil(frames / stride), 3, 8)
    assert out.isfinite().all()


@pytest.mark.parametrize("name", SHIPPED)
def test_joints_do_not_see_each_other(name: str) -> None:
    torch.manual_seed(0)
    block = TEMPORAL.create(name, 4, 4).eval()
    x = torch.randn(1, 6, 3, 4)
    moved = x.clone()
    moved[:, :, 1] += 1.0
    difference = (block(x) - block(moved)).abs().sum((0, 1, 3))
    assert difference[1] > 0
    assert difference[[0, 2]].sum() == 0


@pytest.mark.parametrize("settings", [CTR_GCN, STGCN_PP])
def test_a_norm_absorbs_the_bias_before_it(settings: dict[str, Any]) -> None:
    """psumnet.md, section 9.12: in training mode a constant before a batch norm has no influence."""
    torch.manual_seed(0)
    block = MultiScaleTemporal(8, 16, 2, **settings, residual=True).double()
    x = torch.randn(3, 9, 5, 8, dtype=torch.float64)
    before = block(x)
    assert block.shortcut is not None
    layers = [block.reduce, block.point, *(time.conv for time in block.times), block.shortcut.map]
    with torch.no_grad():
        for layer in layers:
            layer.bias += torch.randn_like(layer.bias)
    torch.testing.assert_close(block(x), before, atol=1e-10, rtol=0)
    with torch.no_grad():
        block.norm.bias += 0.5
    assert not torch.allclose(block(x), before)


def test_fan_out_start_of_ctr_gcn() -> None:
    torch.manual_seed(0)
    block = MultiScaleTemporal(256, 256, **CTR_GCN, init="fan_out")
    for layer, fan in ((block.reduce, 64), (block.point, 64), (block.times[1].conv, 64 * 5)):
        assert float(layer.weight.detach().std()) == pytest.approx(math.sqrt(2 / fan), rel=0.03)
        assert not layer.bias.any()
    for weight in (block.reduce_norm.weight.detach(), block.norm.weight.detach()):
        assert float(weight.mean()) == pytest.approx(1, abs=0.01)
        assert float(weight.std()) == pytest.approx(0.02, rel=0.2)


def test_every_temporal_block_is_held_against_the_backends() -> None:
    assert {f"{name}_temporal" for name in SHIPPED} <= set(BLOCKS)


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match=r"4 branches needs as many channels, got 3"):
        MultiScaleTemporal(6, 3)
    for even in (MultiScaleTemporal, PlainTemporal):
        with pytest.raises(UserError, match="must be odd, got 4"):
            even(8, 8, kernel=4)
