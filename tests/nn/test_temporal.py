"""Multi-scale temporal block: its branches written out, its lengths, and that joints stay independent."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from skelgraph.errors import UserError
from skelgraph.nn.temporal import MultiScaleTemporal


def written_out(block: MultiScaleTemporal, x: Tensor) -> Tensor:
    """The four branches one by one on (N, C, T, V), in eval mode."""
    width = block.point.out_features
    picture = x.permute(0, 3, 1, 2)

    def point(weight: Tensor, bias: Tensor, z: Tensor, stride: int = 1) -> Tensor:
        return F.conv2d(z, weight[:, :, None, None], bias, (stride, 1))

    def norm(layer: torch.nn.BatchNorm1d, z: Tensor, part: slice) -> Tensor:
        assert layer.running_mean is not None
        assert layer.running_var is not None
        return F.batch_norm(z, layer.running_mean[part], layer.running_var[part], layer.weight[part], layer.bias[part])

    branches = []
    for i in range(4):
        part = slice(i * width, (i + 1) * width)
        if i == 3:
            z = point(block.point.weight, block.point.bias, picture, block.stride)
        else:
            z = point(block.reduce.weight[part], block.reduce.bias[part], picture)
            z = F.relu(norm(block.reduce_norm, z, part))
        if i < 2:
            conv = (block.near, block.far)[i].conv
            z = F.conv2d(z, conv.weight, conv.bias, (block.stride, 1), (2 * (i + 1), 0), (i + 1, 1))
        if i == 2:
            z = F.max_pool2d(z, (3, 1), (block.stride, 1), (1, 0))
        branches.append(norm(block.norm, z, part))
    joined = torch.cat(branches, 1).permute(0, 2, 3, 1)
    if block.same:
        return joined + x
    linear, last = block.residual  # type: ignore[misc]
    z = point(linear.weight, linear.bias, picture, block.stride)
    return joined + norm(last, z, slice(None)).permute(0, 2, 3, 1)


@pytest.mark.parametrize(("width", "stride"), [(8, 1), (8, 2), (12, 1)])
def test_equals_the_written_out_branches(width: int, stride: int) -> None:
    torch.manual_seed(0)
    block = MultiScaleTemporal(8, width, stride=stride).double()
    x = torch.randn(2, 9, 5, 8, dtype=torch.float64)
    block(x)  # other running statistics than the initial ones
    block.eval()
    out = block(x)
    assert out.shape == (2, -(-9 // stride), 5, width)
    torch.testing.assert_close(out, written_out(block, x), atol=1e-12, rtol=0)


def test_joints_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    block = MultiScaleTemporal(4, 4).eval()
    x = torch.randn(1, 6, 3, 4)
    moved = x.clone()
    moved[:, :, 1] += 1.0
    difference = (block(x) - block(moved)).abs().sum((0, 1, 3))
    assert difference[1] > 0
    assert difference[[0, 2]].sum() == 0


def test_width_must_divide_by_four() -> None:
    with pytest.raises(UserError, match="multiple of 4"):
        MultiScaleTemporal(6, 6)
