"""GIN layer: its formula, the no-norm form, and the quick PReLU and accurate norm it is made of."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GINConv

from skelgraph.nn.gin import GINLayer
from skelgraph.nn.norm import PReLU, RowNorm
from skelgraph.topology import Topology

TOPOLOGY = Topology.load("coco17")
ADJACENCY = torch.as_tensor(TOPOLOGY.adjacency("plain"))


def test_equals_pyg_ginconv_on_a_disjoint_union() -> None:
    torch.manual_seed(0)
    layer = GINLayer(ADJACENCY, 5, 7, 6, eps=0.25).double()
    x = torch.randn(2, 3, 17, 5, dtype=torch.float64)
    edges = torch.as_tensor(TOPOLOGY.edge_index)
    union = Batch.from_data_list([Data(x=frame, edge_index=edges) for frame in x.flatten(0, 1)])
    conv = GINConv(nn.Identity(), eps=0.25)
    conv.nn = nn.Sequential(layer.lin1, layer.bn1, layer.act1, layer.lin2, layer.bn2, layer.act2)
    expected = conv(union.x, union.edge_index)
    torch.testing.assert_close(layer(x).reshape(-1, 6), expected, atol=1e-12, rtol=0)


def test_null_vector_of_the_head_is_invisible_without_eps_only() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 17, 4, dtype=torch.float64)
    moved = x.clone()
    moved[:, [1, 2, 3, 4]] += torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)[:, None] * 0.7
    for eps, invisible in ((0.0, True), (0.1, False)):
        layer = GINLayer(ADJACENCY, 4, 5, 5, eps=eps).double().eval()
        assert torch.allclose(layer(x), layer(moved), atol=1e-12) == invisible


def test_eps_keeps_its_digits_in_float64() -> None:
    layer = GINLayer(ADJACENCY, 1, 1, 1, eps=0.1, norm=False, outer_act=False).double()
    for linear in (layer.lin1, layer.lin2):
        nn.init.ones_(linear.weight)
        nn.init.zeros_(linear.bias)
    out = layer(torch.ones(17, 1, dtype=torch.float64))
    assert abs(out[9].item() - 2.1) < 1e-14  # a wrist: itself, and one neighbour


def test_switches_leave_their_modules_out() -> None:
    names = lambda **kw: {k.split(".")[0] for k in GINLayer(ADJACENCY, 2, 3, 4, **kw).state_dict()}  # noqa: E731
    assert names() == {"lin1", "bn1", "act1", "lin2", "bn2", "act2"}
    assert names(outer_norm=False, outer_act=False) == {"lin1", "bn1", "act1", "lin2"}
    assert names(norm=False) == {"lin1", "act1", "lin2", "act2"}


def test_prelu_equals_torch_in_values_and_gradients() -> None:
    torch.manual_seed(0)
    x = torch.randn(50, 4, dtype=torch.float64)
    x[0, 0] = 0.0
    upstream = torch.randn_like(x)
    results = []
    for module in (PReLU(), nn.PReLU()):
        module = module.double()
        nn.init.constant_(module.weight, 0.3)
        leaf = x.clone().requires_grad_()
        module(leaf).backward(upstream)
        results.append((module(leaf).detach(), leaf.grad, module.weight.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


def test_accurate_norm_is_batch_norm_with_more_digits() -> None:
    torch.manual_seed(0)
    x = torch.randn(20_000, 3, dtype=torch.float64) * 2 + 3
    upstream = torch.randn_like(x)

    def run(accurate: bool, dtype: torch.dtype) -> list[torch.Tensor]:
        norm = RowNorm(3).to(dtype)
        norm.accurate = accurate
        leaf = x.to(dtype).clone().requires_grad_()
        out = norm(leaf)
        out.backward(upstream.to(dtype))
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert leaf.grad is not None
        values = [out, leaf.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]
        return [value.detach().double() for value in values if value is not None]

    truth = run(False, torch.float64)
    for ours, want in zip(run(True, torch.float64), truth, strict=True):
        torch.testing.assert_close(ours, want, atol=1e-10, rtol=1e-10)

    def worst(values: list[torch.Tensor]) -> float:
        return max(float((a - b).norm() / b.norm()) for a, b in zip(values, truth, strict=True))

    assert worst(run(True, torch.float32)) < 1e-6


def test_prelu_and_gin_compile_whole() -> None:
    layer = GINLayer(ADJACENCY, 2, 4, 3).eval()
    x = torch.randn(2, 17, 2)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))
    assert F.prelu(x, torch.tensor([0.25])).shape == PReLU()(x).shape
