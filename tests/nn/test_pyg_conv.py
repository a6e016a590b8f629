"""Layers of PyTorch Geometric as blocks on a skeleton."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GATv2Conv, GINConv, MessagePassing

from skelgraph.errors import UserError
from skelgraph.nn.pyg_conv import CONVS, STATIC, UNION, PyGConv, build_conv, edge_kinds
from skelgraph.topology import Topology

COCO = Topology.load("coco17")
LAYERS: dict[str, dict[str, Any]] = {
    "GCNConv": {}, "GINConv": {"eps": 0.3}, "SAGEConv": {}, "GraphConv": {}, "EdgeConv": {}, "TAGConv": {"K": 2},
    "ChebConv": {"K": 2}, "GATConv": {"heads": 2}, "GATv2Conv": {"heads": 3}, "TransformerConv": {"heads": 2},
    "GINEConv": {}, "NNConv": {}, "RGCNConv": {}, "GENConv": {},
}  # fmt: skip


def per_graph(layer: PyGConv, x: Tensor) -> Tensor:
    """One call of the layer for every skeleton."""
    extras = {name: getattr(layer, name) for name in layer.extras}
    return torch.stack([layer.conv(graph, layer.edge_index, **extras) for graph in x])


@pytest.mark.parametrize("name", LAYERS)
def test_equals_a_loop_over_skeletons(name: str) -> None:
    layer = PyGConv(name, 4, 6, COCO, **LAYERS[name]).double().eval()
    x = torch.randn(5, 17, 4, dtype=torch.float64, requires_grad=True)
    out, loop = layer(x), per_graph(layer, x)
    assert out.shape == (5, 17, 6)
    torch.testing.assert_close(out, loop, rtol=1e-10, atol=1e-10)
    (one,), (other,) = (torch.autograd.grad(y.square().sum(), x) for y in (out, loop))
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", [*STATIC, *UNION])
def test_the_lists_agree_with_the_probe(name: str) -> None:
    layer = PyGConv(name, 4, 6, COCO)
    assert layer.static == (name in STATIC)
    assert layer._probe(name) == layer.static


@pytest.mark.parametrize("name", ["GINConv", "GATv2Conv"])
def test_any_leading_axes(name: str) -> None:
    layer = PyGConv(name, 3, 4, COCO)
    x = torch.randn(2, 3, 5, 17, 3)
    out = layer(x)
    assert out.shape == (2, 3, 5, 17, 4)
    torch.testing.assert_close(out[1, 2], layer(x[1, 2]), rtol=1e-5, atol=1e-5)


def test_gin_equals_the_dense_formula() -> None:
    weight = nn.Linear(4, 6).double()
    layer = PyGConv("GINConv", 4, 6, COCO, nn=weight, eps=0.25)
    x = torch.randn(3, 17, 4, dtype=torch.float64)
    kernel = torch.from_numpy(COCO.adjacency()).double() + 1.25 * torch.eye(17, dtype=torch.float64)
    torch.testing.assert_close(layer.double()(x), weight(kernel @ x), rtol=1e-12, atol=1e-12)


def test_gatv2_on_the_union_equals_the_layer_on_each_skeleton() -> None:
    own = GATv2Conv(4, 3, heads=2).double()
    layer = PyGConv("GATv2Conv", 4, 6, COCO, heads=2).double()
    layer.conv.load_state_dict(own.state_dict())
    x = torch.randn(4, 17, 4, dtype=torch.float64)
    edges = torch.from_numpy(COCO.edge_index)
    torch.testing.assert_close(layer(x), torch.stack([own(one, edges) for one in x]), rtol=1e-10, atol=1e-10)


def test_heads_share_the_width() -> None:
    assert PyGConv("GATConv", 4, 6, COCO, heads=3)(torch.randn(2, 17, 4)).shape[-1] == 6
    assert PyGConv("GATConv", 4, 6, COCO, heads=4, concat=False)(torch.randn(2, 17, 4)).shape[-1] == 6
    with pytest.raises(UserError, match="4 heads do not divide 6"):
        PyGConv("GATConv", 4, 6, COCO, heads=4)


@pytest.mark.parametrize("name", ["GCNConv", "GINConv", "SAGEConv", "EdgeConv", "GATv2Conv"])
def test_renumbered_joints_give_renumbered_output(name: str) -> None:
    order = torch.randperm(17, generator=torch.Generator().manual_seed(3)).tolist()
    data = COCO.to_dict()
    data["joints"] = [COCO.joints[i] for i in order]
    layer, shuffled = PyGConv(name, 4, 6, COCO), PyGConv(name, 4, 6, Topology.from_dict(data))
    shuffled.load_state_dict(layer.state_dict())
    x = torch.randn(3, 17, 4)
    torch.testing.assert_close(shuffled(x[:, order]), layer(x)[:, order], rtol=1e-4, atol=1e-5)


def test_a_given_module_keeps_its_weights() -> None:
    mlp = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6))
    before = {name: value.clone() for name, value in mlp.state_dict().items()}
    conv = build_conv(GINConv, 4, 6, nn=mlp)
    assert conv.nn is mlp
    assert all(torch.equal(before[name], value) for name, value in mlp.state_dict().items())


def test_a_batch_norm_inside_forces_the_union() -> None:
    mlp = nn.Sequential(nn.Linear(4, 17), nn.BatchNorm1d(17))
    layer = PyGConv("GINConv", 4, 17, COCO, nn=mlp)
    assert not layer.static, "over (graphs, 17 joints, 17 channels) the norm would take joints for channels"
    assert mlp[1].num_batches_tracked == 0, "the probe works on a copy"
    assert layer(torch.randn(3, 17, 4)).shape == (3, 17, 17)


def test_construction_takes_no_more_chance_than_the_layer() -> None:
    torch.manual_seed(5)
    PyGConv("TAGConv", 4, 6, COCO)
    after_probe = torch.rand(1)
    torch.manual_seed(5)
    build_conv("TAGConv", 4, 6)
    assert torch.equal(after_probe, torch.rand(1))


def test_edge_features_reach_the_layer() -> None:
    count = COCO.edge_index.shape[1]
    features = torch.randn(count, 2)
    layer = PyGConv("GATv2Conv", 4, 6, COCO, edge_attr=features, heads=2)
    x = torch.randn(2, 17, 4)
    torch.testing.assert_close(layer(x), per_graph(layer, x), rtol=1e-5, atol=1e-5)
    without = PyGConv("GATv2Conv", 4, 6, COCO, heads=2)
    without.conv.load_state_dict(layer.conv.state_dict(), strict=False)
    assert not torch.allclose(layer(x), without(x))
    with pytest.raises(UserError, match="edge_attr has shape"):
        PyGConv("GATv2Conv", 4, 6, COCO, edge_attr=features[1:])
    with pytest.raises(UserError, match="takes no edge_attr"):
        PyGConv("SAGEConv", 4, 6, COCO, edge_attr=features)


def test_kinds_of_edges_count_bones_and_links() -> None:
    assert edge_kinds(COCO).bincount().tolist() == [16, 16, 4]


class DistanceConv(MessagePassing):
    """A layer of a user that cannot broadcast: it flattens its input."""

    def __init__(self, in_channels: int, out_channels: int, *, scale: float = 1.0) -> None:
        super().__init__(aggr="add")
        self.linear, self.scale = nn.Linear(in_channels, out_channels), scale

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.propagate(edge_index, x=self.linear(x))

    def message(self, x_i: Tensor, x_j: Tensor) -> Tensor:
        return (x_j - x_i).flatten(1) * self.scale


def test_a_layer_of_the_user_by_class_and_by_name() -> None:
    by_class = PyGConv(DistanceConv, 4, 6, COCO, scale=0.5)
    assert not by_class.static
    CONVS.register("test_distance")(DistanceConv)
    by_name = PyGConv("test_distance", 4, 6, "coco17", scale=0.5)
    by_name.load_state_dict(by_class.state_dict())
    x = torch.randn(3, 17, 4)
    assert torch.equal(by_name(x), by_class(x))
    torch.testing.assert_close(by_class(x), per_graph(by_class, x), rtol=1e-5, atol=1e-5)


def test_unions_are_kept_and_bounded() -> None:
    layer = PyGConv("GATConv", 4, 6, COCO)
    assert layer.union(3) is layer.union(3)
    for copies in range(1, 20):
        layer.union(copies)
    assert len(layer._unions) <= 8
    assert all("edge" not in name for name in layer.state_dict())


def test_errors_say_what_is_wrong() -> None:
    with pytest.raises(UserError, match="Did you mean 'GATv2Conv'"):
        PyGConv("GATv3Conv", 4, 6, COCO)
    with pytest.raises(UserError, match="x_0"):
        PyGConv("GCN2Conv", 6, 6, COCO, alpha=0.1)
    with pytest.raises(UserError, match="keeps the width"):
        PyGConv("CGConv", 4, 6, COCO)
    with pytest.raises(UserError, match="GINConv"):
        PyGConv("GINConv", 4, 6, COCO, depth=3)


@pytest.mark.parametrize("name", ["GINConv", "GATv2Conv"])
def test_compiles_without_a_break(name: str) -> None:
    layer = PyGConv(name, 4, 6, COCO).eval()
    x = torch.randn(3, 17, 4)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))
