"""Backends agree with each other and with the written-out sum, in values and gradients; so does every block."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

import skelgraph.nn.gat
import skelgraph.nn.gcn
import skelgraph.nn.gin
import skelgraph.nn.temporal  # noqa: F401  (the blocks register themselves)
from skelgraph.errors import UserError
from skelgraph.nn import propagation as module
from skelgraph.nn.propagation import BLOCKS, backend, edge_softmax, propagate
from skelgraph.topology import Topology

TOPOLOGIES = ("coco17", "ntu25", "penn13", "kinect20")
BACKENDS = ("dense", "pyg", "dgl")
N, T, K, C = 2, 3, 2, 4
WEIGHTS = {"shared": "vu", "relations": "kvu", "sample": "nkvu", "channel": "nkvuc"}


def case(topology: Topology, kind: str, per_relation: bool, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    joints = len(topology.joints)
    size = {"n": N, "k": K, "v": joints, "u": joints, "c": C}
    edges = torch.as_tensor(topology.adjacency("self_loops"))
    weight = torch.rand([size[letter] for letter in WEIGHTS[kind]])
    weight = weight * (edges.unsqueeze(-1) if kind == "channel" else edges)
    x = torch.randn(N, T, K, joints, C) if per_relation else torch.randn(N, T, joints, C)
    return x.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_()


def written_out(x: Tensor, weight: Tensor, per_relation: bool) -> Tensor:
    full = weight if weight.dim() > 2 else weight.unsqueeze(0)
    full = full if full.dim() > 3 else full.expand(N, *full.shape)
    full = full if full.dim() > 4 else full.unsqueeze(-1).expand(*full.shape, C)
    x = x if per_relation else x.unsqueeze(2).expand(N, T, full.shape[1], *x.shape[2:])
    return (full.unsqueeze(1) * x.unsqueeze(3)).sum(4).sum(2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("kind", "per_relation"), [("shared", False), *((k, r) for k in list(WEIGHTS)[1:] for r in (False, True))]
)
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_backends_equal_the_written_out_sum(name: str, kind: str, per_relation: bool, dtype: torch.dtype) -> None:
    topology = Topology.load(name)
    x, weight = case(topology, kind, per_relation, dtype)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    expected = written_out(x, weight, per_relation)
    upstream = torch.randn_like(expected)
    edges = (weight != 0).to(dtype)
    want = torch.autograd.grad(expected, (x, weight), upstream)
    for choice in BACKENDS:
        out = propagate(x, weight, topology, choice, per_relation=per_relation)
        assert out.shape == expected.shape
        torch.testing.assert_close(out, expected, atol=tolerance, rtol=tolerance)
        if dtype == torch.float64:
            got = torch.autograd.grad(out, (x, weight), upstream)
            torch.testing.assert_close(got[0], want[0], atol=tolerance, rtol=0)
            torch.testing.assert_close(got[1] * edges, want[1] * edges, atol=tolerance, rtol=0)


@pytest.mark.parametrize("choice", ["pyg", "dgl"])
def test_a_zero_weight_on_an_edge_of_the_topology_gets_its_gradient(choice: str) -> None:
    topology = Topology.load("penn13")
    weight = torch.zeros(13, 13, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 13, 3, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(propagate(x, weight, topology, choice).sum(), weight)
    assert torch.equal(gradient != 0, torch.as_tensor(topology.adjacency("self_loops")) != 0)


@pytest.mark.parametrize("choice", BACKENDS)
def test_edge_softmax(choice: str) -> None:
    topology = Topology.load("ntu25")
    mask = torch.as_tensor(topology.adjacency("self_loops")) != 0
    torch.manual_seed(0)
    scores = torch.randn(2, 3, 25, 25, dtype=torch.float64, requires_grad=True)
    weights = edge_softmax(scores, mask, choice)
    exponent = scores.exp() * mask
    expected = exponent / exponent.sum(-1, keepdim=True)
    torch.testing.assert_close(weights, expected, atol=1e-12, rtol=0)
    upstream = torch.randn_like(weights)
    got, want = (torch.autograd.grad(value, scores, upstream, retain_graph=True)[0] for value in (weights, expected))
    torch.testing.assert_close(got, want, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", TOPOLOGIES)
@pytest.mark.parametrize("block", sorted(BLOCKS))
def test_every_block_is_the_same_with_every_backend(block: str, name: str) -> None:
    torch.manual_seed(2)
    layer, x = BLOCKS[block](Topology.load(name))
    layer, x = layer.double(), x.double().requires_grad_()
    upstream: Tensor | None = None
    expected: tuple[Tensor, ...] = ()
    for choice in BACKENDS:
        with backend(choice):
            out = layer(x)
        upstream = torch.randn_like(out) if upstream is None else upstream
        values = (out, *torch.autograd.grad(out, (x, *layer.parameters()), upstream))
        expected = expected or values
        for got, want in zip(values, expected, strict=True):
            torch.testing.assert_close(got, want, atol=1e-10, rtol=1e-10)


def test_default_backend_is_restored_and_checked() -> None:
    assert module.resolve(None) == "dense"
    with backend("pyg"):
        assert module.resolve(None) == "pyg"
        assert module.resolve("dense") == "dense"
    assert module.resolve(None) == "dense"
    with pytest.raises(UserError, match="Did you mean 'dense'"):
        module.set_backend("dens")


def test_missing_dgl_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dgl", None)
    monkeypatch.delitem(sys.modules, "skelgraph.nn.propagation_dgl", raising=False)
    monkeypatch.delattr("skelgraph.nn.propagation_dgl", raising=False)
    with pytest.raises(UserError, match=r"pip install 'skelgraph\[dgl\]'"):
        propagate(torch.ones(2, 3), torch.eye(2), backend="dgl")


def test_dense_compiles_whole() -> None:
    x, weight = case(Topology.load("penn13"), "relations", True, torch.float32)
    compiled = torch.compile(lambda a, b: propagate(a, b, per_relation=True), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, weight), propagate(x, weight, per_relation=True))
