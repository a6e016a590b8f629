"""PSUMNet's body stream with the weights of the golden case: every array, by each backend."""

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
from skelgraph.weights.families import PSUMNET

SHARED = Path(os.environ.get("SKELGRAPH_SHARED", Path(__file__).parents[3] / "shared"))
CASE = SHARED / "golden" / "psumnet" / "case_a.npz"
pytestmark = pytest.mark.skipif(not CASE.exists(), reason=f"no golden data at {CASE}; set SKELGRAPH_SHARED")
SPARSE = ("pyg", "dgl")


@pytest.fixture(scope="module")
def case() -> dict[str, Tensor]:
    with np.load(CASE) as data:
        return {key: data[key] if data[key].dtype.kind == "U" else torch.from_numpy(data[key]) for key in data}


@pytest.fixture
def model(case: dict[str, Tensor]) -> GraphStack:
    state = {key[3:]: value for key, value in case.items() if key.startswith("sd/")}
    assert len(state) == 822
    return load_released("psumnet", state, topology="ntu25_published", part="body")


def clips(case: dict[str, Tensor]) -> Tensor:
    return case["x"].permute(0, 4, 2, 3, 1)


def close(ours: Tensor, case: dict[str, Tensor], key: str, share: float) -> None:
    """Within ``share`` of the largest entry."""
    theirs = case[key].reshape(ours.shape).to(ours.dtype)
    atol = share * theirs.abs().max().item()
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=0, msg=lambda text: f"{key}: {text}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_eval_logits(case: dict[str, Tensor], model: GraphStack, dtype: torch.dtype) -> None:
    with torch.no_grad():
        close(model.to(dtype)(clips(case).to(dtype)).logits, case, "logits", 3e-6)


@pytest.mark.parametrize("backend", SPARSE)
def test_eval_logits_of_one_clip(case: dict[str, Tensor], model: GraphStack, backend: str) -> None:
    with torch.no_grad(), propagation.backend(backend):
        logits = model(clips(case)[:1]).logits
    torch.testing.assert_close(logits, case["logits"][:1], atol=3e-6 * case["logits"].abs().max().item(), rtol=0)


def test_every_block(case: dict[str, Tensor], model: GraphStack) -> None:
    picture = (0, 3, 1, 2)
    with torch.no_grad():
        h = model.normed(clips(case))
        close(h[:1].permute(picture), case, "block0_in", 1e-6)
        close(model.layers[0].unit(h[:1]).permute(picture), case, "block0_gcn_out", 3e-6)
        for i, layer in enumerate(model.layers):
            h = layer(h)
            close(h.mean((1, 2)), case, f"pooled_{i}", 3e-6)
            if i == 0:
                close(h[:1].permute(picture), case, "block0_out", 3e-6)


def train(case: dict[str, Tensor], model: GraphStack) -> None:
    """One training step without the step: logits, loss, gradient norms, statistics of the input norm."""
    logits = model.train()(clips(case)).logits
    close(logits, case, "train_logits", 1e-5)
    loss = F.cross_entropy(logits, case["y"].long())
    torch.testing.assert_close(loss, case["train_loss"], atol=1e-5, rtol=1e-5)
    loss.backward()
    grads = gradients(PSUMNET, model)
    assert grads.keys() == set(case["grad_names"])
    norms = torch.stack([grads[name].norm() for name in case["grad_names"]])
    torch.testing.assert_close(norms, case["grad_norms"].to(norms), atol=3e-4, rtol=5e-3)
    close(model.norm.running_mean, case, "train_data_bn_mean", 1e-6)
    close(model.norm.running_var, case, "train_data_bn_var", 1e-6)


def test_training_pass(case: dict[str, Tensor], model: GraphStack) -> None:
    train(case, model)


@pytest.mark.slow
@pytest.mark.parametrize("backend", SPARSE)
def test_everything_by_the_sparse_backends(case: dict[str, Tensor], model: GraphStack, backend: str) -> None:
    with propagation.backend(backend):
        with torch.no_grad():
            close(model(clips(case)).logits, case, "logits", 3e-6)
        train(case, model)
