"""Every array of the SkeletonMAE golden case, by each backend; and a fingerprint that needs no golden file."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from skelgraph.batch import Batch, ClipSpec
from skelgraph.methods.masked import cosines, sce_loss
from skelgraph.models.skeletonmae import SkeletonMAE
from skelgraph.models.strl import STRL
from skelgraph.topology import Topology

SHARED = Path(os.environ.get("SKELGRAPH_SHARED", Path(__file__).parents[3] / "shared"))
CASE = SHARED / "golden" / "skeletonmae" / "case_a.npz"
BACKENDS = ("dense", "pyg", "dgl")
needs_golden = pytest.mark.skipif(not CASE.exists(), reason=f"no golden data at {CASE}; set SKELGRAPH_SHARED")
TOLERANCE = {torch.float64: (1e-10, 0.0), torch.float32: (2e-5, 1e-5)}

# Computed once, when every array of the golden case agreed.
SKELETONMAE_FINGERPRINT = [0.718519238096, 39.9771380146, -2.56522132804, 6.96669686181]
STRL_FINGERPRINT = [
    [294.647277567, -280.984026402, 220.007307742],
    [294.689965081, -281.011122577, 220.013996517],
    [3.256820662992, -1.829669836976, 2.705800639056],
    [3.184200843679, -1.856773838546, 2.827811010465],
]


@pytest.fixture(scope="module")
def case() -> dict[str, np.ndarray]:
    with np.load(CASE) as data:
        return {key: data[key] for key in data}


def own_name(key: str) -> str:
    """The golden name of a weight, in ours."""
    return key.replace("enc.", "encoder.").replace("dec.", "decoder.") if not key.startswith("enc2dec") else key


def build(case: dict[str, np.ndarray], backend: str = "dense", links: bool = True, **settings: object) -> SkeletonMAE:
    topology = Topology.load("coco17")
    topology = topology if links else replace(topology, links=())
    spec = ClipSpec(topology, channels=2, persons=1, frames=3)
    model = SkeletonMAE(spec, dim=8, hidden=12, backend=backend, **settings).double().eval()  # type: ignore[arg-type]
    state = {own_name(key[2:]): torch.from_numpy(case[key]) for key in case if key.startswith("w:")}
    plain = {key: value for key, value in state.items() if key in model.state_dict()}
    missing, _ = model.load_state_dict(plain, strict=False)
    assert all("num_batches_tracked" in key for key in missing)
    if settings.get("norm") != "none":
        assert plain.keys() == state.keys()
    return model


def inputs(case: dict[str, np.ndarray], dtype: torch.dtype = torch.float64) -> tuple[Batch, Tensor]:
    batch = Batch.of(torch.from_numpy(case["keypoint"]).to(dtype).unsqueeze(1))
    return batch, torch.from_numpy(case["mask"]).unsqueeze(1)


def same(ours: Tensor, case: dict[str, np.ndarray], key: str) -> None:
    theirs = torch.from_numpy(np.asarray(case[key])).to(ours.dtype)
    atol, rtol = TOLERANCE[ours.dtype]
    ours = ours.detach().reshape(theirs.shape)
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=rtol, msg=lambda text: f"{key}: {text}")


@needs_golden
def test_graph_parts_and_mirror(case: dict[str, np.ndarray]) -> None:
    topology = Topology.load("coco17")
    assert np.array_equal(topology.adjacency("plain"), case["adjacency18"])
    assert np.array_equal(replace(topology, links=()).adjacency("plain"), case["adjacency16"])
    assert set(map(tuple, topology.edge_index.T)) == set(map(tuple, case["edge_index18"].T))
    assert np.array_equal(topology.mirror_permutation, case["mirror"])
    names = ("head", "torso", "left_arm", "right_arm", "left_leg", "right_leg")
    for part, name in enumerate(names):
        assert sorted(topology.part_index(name)) == np.flatnonzero(case["part_of_joint"] == part).tolist()
    hidden = np.isin(case["part_of_joint"], case["masked_parts"])
    assert (case["mask"] == hidden).all()


@needs_golden
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("backend", BACKENDS)
def test_eval_pass(case: dict[str, np.ndarray], backend: str, dtype: torch.dtype) -> None:
    model, (batch, mask) = build(case, backend).to(dtype), inputs(case, dtype)
    x = model.embed_joints(batch)
    same(x, case, "x")
    same(torch.where(mask.unsqueeze(-1), model.mask_token, x), case, "x_masked")
    h = torch.where(mask.unsqueeze(-1), model.mask_token, x)
    for name, layer in zip(("h1", "h2", "h3"), model.encoder, strict=True):
        h = layer(h)
        same(h, case, name)
    same(model.encode(x, mask), case, "h3")
    same(model.decoder_input(h, mask), case, "r")
    y = model.decode(h, mask)
    same(y, case, "y")
    same(cosines(x, y)[mask], case, "cos_masked")
    for beta in (1, 2, 3):
        same(sce_loss(x, y, mask, beta=beta), case, f"loss_sce{beta}")
    same(sce_loss(x, y, mask, literal=True), case, "loss_rce2_literal")
    same(model.encode(x), case, "h_unmasked")
    same(model.encode(x).sum(-2), case, "sumpool_unmasked")


@needs_golden
@pytest.mark.parametrize("backend", BACKENDS)
def test_remask(case: dict[str, np.ndarray], backend: str) -> None:
    model, (batch, mask) = build(case, backend, remask="zero"), inputs(case)
    x = model.embed_joints(batch)
    h = model.encode(x, mask)
    same(model.decoder_input(h, mask), case, "r_remask")
    same(model.decode(h, mask), case, "y_remask")
    same(sce_loss(x, model.decode(h, mask), mask), case, "loss_sce2_remask")
    first = model.decode(h, mask)[0, 0, 0]
    blind = [v for v in np.flatnonzero(case["mask"][0, 0]) if torch.equal(first[v], model.decode(h, mask)[1, 0, 2, v])]
    assert blind == case["blind_joints_remask"].tolist()


@needs_golden
@pytest.mark.parametrize("backend", BACKENDS)
def test_variants(case: dict[str, np.ndarray], backend: str) -> None:
    batch, mask = inputs(case)
    variants = {
        ("h3_tree16", "y_tree16"): build(case, backend, links=False),
        ("h3_eps", "y_eps"): build(case, backend, eps=case["eps_variant"].tolist()),
        ("h3_nonorm", "y_nonorm"): build(case, backend, norm="none"),
    }
    for (h3, y), model in variants.items():
        x = model.embed_joints(batch)
        h = model.encode(x, mask)
        same(h, case, h3)
        same(model.decode(h, mask), case, y)
    same(sce_loss(x, model.decode(h, mask), mask), case, "loss_sce2_nonorm")


@needs_golden
@pytest.mark.parametrize("backend", BACKENDS)
def test_training_pass_and_running_statistics(case: dict[str, np.ndarray], backend: str) -> None:
    model, (batch, mask) = build(case, backend).train(), inputs(case)
    x = model.embed_joints(batch)
    h = model.encode(x, mask)
    y = model.decode(h, mask)
    same(h, case, "h3_train")
    same(y, case, "y_train")
    same(sce_loss(x, y, mask), case, "loss_sce2_train")
    state = model.state_dict()
    for key in (key for key in case if key.startswith("after:")):
        same(state[own_name(key[6:])], case, key)


@needs_golden
@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients(case: dict[str, np.ndarray], backend: str, through: bool) -> None:
    model, (batch, mask) = build(case, backend), inputs(case)
    x = model.embed_joints(batch)
    sce_loss(x if through else x.detach(), model.reconstruct(x, mask), mask).backward()
    prefix = "grad_through:" if through else "grad_detached:"
    grads = {name: p.grad for name, p in model.named_parameters()}
    for key in (key for key in case if key.startswith(prefix)):
        grad = grads[own_name(key[len(prefix) :])]
        assert grad is not None
        same(grad, case, key)


def formula(model: torch.nn.Module) -> None:
    """Weights from a formula, so that a fingerprint needs no file: the k-th tensor holds sines of its own pace."""
    with torch.no_grad():
        for k, (name, value) in enumerate(sorted(model.state_dict().items())):
            if value.is_floating_point():
                wave = torch.sin(torch.arange(1, value.numel() + 1, dtype=torch.float64) * (0.7 + 0.01 * k))
                value.copy_((1.0 + 0.3 * wave if "running_var" in name else 0.8 * wave).view(value.shape))


def wave_clips(persons: int, frames: int) -> Batch:
    steps = torch.arange(2 * persons * frames * 17 * 2, dtype=torch.float64)
    return Batch.of(torch.sin(0.37 * steps).view(2, persons, frames, 17, 2))


@pytest.mark.parametrize("backend", BACKENDS)
def test_fingerprint_of_skeletonmae(backend: str) -> None:
    model = SkeletonMAE(ClipSpec(Topology.load("coco17"), 2, 1, 3), dim=8, hidden=12, backend=backend).double()
    formula(model)
    mask = torch.zeros(17, dtype=torch.bool)
    mask[[8, 10, 14, 16]] = True
    x = model.eval().embed_joints(wave_clips(1, 3))
    figures = [sce_loss(x, model.reconstruct(x, mask), mask)]
    y = model.reconstruct(x, mask)
    figures += [y.sum(), y[1, 0, 2, 10, 3], model.train().reconstruct(x, mask).square().mean()]
    expected = torch.tensor(SKELETONMAE_FINGERPRINT, dtype=torch.float64)
    torch.testing.assert_close(torch.stack(figures).detach(), expected, atol=1e-9, rtol=1e-9)


def test_fingerprint_of_strl() -> None:
    model = STRL(ClipSpec(Topology.load("coco17"), 2, 2, 8, ("a", "b", "c")), dim=8, hidden=12, layers=3).double()
    formula(model)
    logits = torch.cat([model.eval()(wave_clips(2, 8)).logits, model.train()(wave_clips(2, 8)).logits])
    expected = torch.tensor(STRL_FINGERPRINT, dtype=torch.float64)
    torch.testing.assert_close(logits.detach(), expected, atol=1e-9, rtol=1e-9)
