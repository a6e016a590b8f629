"""ST-GCN++ with the weights of BRL's golden case: every array of the network, by each backend."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from published import gradients
from torch import Tensor
from torch.nn import functional as F

from skelgraph.models.graph_stack import GraphStack
from skelgraph.nn import propagation
from skelgraph.weights import load_released
from skelgraph.weights.families import STGCNPP

SHARED = Path(os.environ.get("SKELGRAPH_SHARED", Path(__file__).parents[3] / "shared"))
CASE = SHARED / "golden" / "brl" / "case_a.npz"
pytestmark = pytest.mark.skipif(not CASE.exists(), reason=f"no golden data at {CASE}; set SKELGRAPH_SHARED")
SPARSE = ("pyg", "dgl")
READ = ("sd/", "net/", "train/")


@pytest.fixture(scope="module")
def case() -> dict[str, Tensor]:
    with np.load(CASE) as data:
        kept = {key: data[key] for key in data if key.startswith(READ)}
    return {key: value if value.dtype.kind == "U" else torch.from_numpy(value) for key, value in kept.items()}


@pytest.fixture
def model(case: dict[str, Tensor]) -> GraphStack:
    state = {key[3:]: value for key, value in case.items() if key.startswith("sd/")}
    assert len(state) == 692
    found = load_released("stgcnpp", state, topology="ntu25_pyskl")
    assert sum(parameter.numel() for parameter in found.parameters()) == 1_403_144
    return found


def close(ours: Tensor, theirs: Tensor, atol: float) -> None:
    torch.testing.assert_close(ours, theirs.reshape(ours.shape).to(ours.dtype), atol=atol, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_network(case: dict[str, Tensor], model: GraphStack, dtype: torch.dtype) -> None:
    x = case["net/x"].to(dtype)
    with torch.no_grad():
        answer = model.to(dtype)(x)
        h = model.normed(x)
        for i, layer in enumerate(model.layers):
            h = layer(h)
            if i == 0:
                close(h[0].permute(2, 0, 1)[:4], case["net/block0_slice"], 2e-5)
            close(h.mean(), case["net/block_mean"][i], 1e-5)
            close(h.std(), case["net/block_std"][i], 1e-5)
    n, m = x.shape[:2]
    close(h.view(n, m, *h.shape[1:]).permute(0, 1, 4, 2, 3), case["net/feat"], 2e-5)
    close(answer.features, case["net/pooled"], 2e-5)
    close(answer.logits.softmax(-1).mean(0), case["net/clip_prob"], 1e-5)


def share_of_largest(theirs: Tensor, share: float) -> float:
    return share * theirs.abs().max().item()


def test_eval_logits(case: dict[str, Tensor], model: GraphStack) -> None:
    with torch.no_grad():
        close(model(case["net/x"]).logits, case["net/logits"], share_of_largest(case["net/logits"], 3e-6))


@pytest.mark.parametrize("backend", SPARSE)
def test_eval_logits_of_one_clip(case: dict[str, Tensor], model: GraphStack, backend: str) -> None:
    with torch.no_grad(), propagation.backend(backend):
        logits = model(case["net/x"][:1]).logits
    close(logits, case["net/logits"][:1], share_of_largest(case["net/logits"], 3e-6))


def train(case: dict[str, Tensor], model: GraphStack) -> None:
    """One training step without the step: logits, loss, gradients, statistics of the input norm."""
    logits = model.train()(case["net/x"]).logits
    close(logits, case["train/logits"], share_of_largest(case["train/logits"], 1e-5))
    loss = F.cross_entropy(logits, case["train/label"].long())
    close(loss, case["train/loss"], 1e-5)
    loss.backward()
    grads = gradients(STGCNPP, model)
    assert grads.keys() == set(case["train/grad_names"])
    norms, theirs = torch.stack([grads[name].norm() for name in case["train/grad_names"]]), case["train/grad_norms"]
    # Rounding decides on which side of a ReLU some activations are: in float64 the same network is up to 1.6 % away
    # from these float32 gradients (with a smooth activation in place of ReLU, 3e-5).
    torch.testing.assert_close(norms, theirs.to(norms), atol=3e-4, rtol=2e-2)
    assert ((norms - theirs).abs() / (theirs + 1e-3)).median() < 1e-3
    graph = grads["backbone.gcn.0.gcn.A"]
    close(graph, case["train/grad_gcn0_A"], share_of_largest(case["train/grad_gcn0_A"], 2e-2))
    close(model.norm.running_mean, case["train/data_bn_running_mean_after"], 1e-6)


def test_training_pass(case: dict[str, Tensor], model: GraphStack) -> None:
    train(case, model)


@pytest.mark.slow
@pytest.mark.parametrize("backend", SPARSE)
def test_everything_by_the_sparse_backends(case: dict[str, Tensor], model: GraphStack, backend: str) -> None:
    with propagation.backend(backend):
        with torch.no_grad():
            close(model(case["net/x"]).logits, case["net/logits"], share_of_largest(case["net/logits"], 3e-6))
        train(case, model)
