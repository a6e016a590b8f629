"""What stands before the mixing: skeleton networks, frames, plain signals, plugins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from modality_clips import SMALL, SPEC, N, T, clips, close, mixer, without
from torch import Tensor

from skelgraph.batch import Batch, ClipSpec, Modality
from skelgraph.models import create
from skelgraph.models.extractors import EXTRACTORS, Extractor, FrameExtractor, Steps, build_extractor


@pytest.mark.parametrize(("model", "windows", "width", "steps"), [
    ({"name": "ctrgcn", "width": 8, "depth": 4}, 0, 32, 2),
    ({"name": "gru", "hidden": 8, "layers": 1}, 0, 16, T),
    ({"name": "skeletonmae", "dim": 8, "hidden": 8}, T, 8, T),
    ({"name": "multi_stream", "base": {"name": "stgcnpp", "width": 8, "depth": 4}, "streams": ["joint", "bone"]}, 3,
     64, 3),
])  # fmt: skip
def test_any_skeleton_network_is_an_extractor(model: dict[str, Any], windows: int, width: int, steps: int) -> None:
    torch.manual_seed(0)
    extractor = build_extractor(SPEC, "skeleton", {"name": "graph", "model": model, "windows": windows}).eval()
    batch = without(clips(), "skeleton", [1], float("nan"))
    found = extractor(batch)
    assert found.values.shape == (N, steps, width)
    assert found.valid.all(1).tolist() == [True, False, True]
    assert found.values.isfinite().all()
    assert (found.values[1] == 0).all()
    assert found.values.std(1).max() > 1e-4  # steps differ
    whole = mixer(modalities={"skeleton": {"name": "graph", "model": model, "windows": windows}, "inertial": None})
    assert whole(batch).logits.isfinite().all()


def test_steps_of_a_skeleton_are_means_over_who_is_there() -> None:
    extractor = build_extractor(SPEC, "skeleton", SMALL["modalities"]["skeleton"]).eval()
    batch = clips()
    batch.valid[0, 1] = False
    batch.valid[1, :, :4] = False
    first = {name: getattr(batch, name)[:1, :1] for name in ("keypoints", "score", "valid")}
    found, one = extractor(batch), extractor(batch[:1].with_(**first))
    assert found.valid.tolist() == [[True, True], [False, True], [True, True]]
    close(found.values[0], one.values[0], 1e-5)
    close(found.joints.mean(2), found.values)


def test_windows_are_cut_from_the_whole_clip() -> None:
    settings = {"name": "graph", "model": {"name": "skeletonmae", "dim": 4, "hidden": 4, "layers": 1}, "windows": 3}
    extractor = build_extractor(SPEC, "skeleton", settings).eval()
    batch = clips()
    found = extractor(batch).values
    for number, begin in enumerate((0, 2, 5)):
        window = batch.keypoints[:, :, begin : begin + 3]
        close(found[:, number], extractor.network.forward_features(Batch.of(window)))


def test_identity_and_its_norm() -> None:
    batch = clips(40)
    flat = build_extractor(SPEC, "skeleton", "identity")(batch)
    close(flat.values[0, 3], batch.keypoints[0, :, 3].flatten())
    extractor = build_extractor(SPEC, "inertial", {"name": "identity", "norm": True}).train()
    values = 50 + 9 * batch.modalities["inertial"].values
    values[0] = float("nan")
    batch = without(
        batch.with_(modalities={"inertial": Modality(values, values[..., 0] == values[..., 0])}), "inertial", 1
    )
    found = extractor(batch)
    kept = found.values[2:].flatten(0, 1)
    close(kept.mean(0), torch.zeros(5), 1e-5)
    close(kept.std(0, unbiased=False), torch.ones(5), 1e-4)
    assert (found.values[:2] == 0).all()


def test_frames_of_bytes_are_fractions() -> None:
    extractor = build_extractor(SPEC, "depth", {"name": "frame2d", "width": 2}).eval()
    frames = torch.randint(256, (N, 4, 1, 9, 8), dtype=torch.uint8)
    valid = torch.ones(N, 4, dtype=torch.bool)
    as_bytes, as_floats = (extractor(clips().with_(modalities={"depth": Modality(x, valid)}))
                           for x in (frames, frames.float() / 255))  # fmt: skip
    close(as_bytes.values, as_floats.values)
    assert as_bytes.values.shape == (N, 4, 16)
    assert extractor.layers[-3].weight.shape == (16, 16, 3, 3)


def test_a_plugin_brings_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mean(FrameExtractor):
        def __init__(self, spec: ClipSpec, modality: str, *, times: int = 1) -> None:
            super().__init__(spec, modality, times)

        def encode(self, frames: Tensor) -> Tensor:
            return frames.mean((1, 2, 3), keepdim=True)[..., 0, 0].expand(-1, self.out_dim)

    monkeypatch.setitem(EXTRACTORS._factories, "mean", Mean)
    model = mixer(modalities={"skeleton": "identity", "depth": {"name": "mean", "times": 3}})
    steps = model.extractors["depth"](clips())
    assert isinstance(steps, Steps)
    close(steps.values[..., 0], clips().modalities["depth"].values.mean((2, 3, 4)))
    assert model(clips()).logits.isfinite().all()


def test_a_careless_plugin_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it leaves in steps that are not valid comes to nothing before the first weight meets it."""

    class Careless(Extractor):
        def __init__(self, spec: ClipSpec, modality: str) -> None:
            super().__init__(spec, modality, 5)

        def forward(self, batch: Batch) -> Steps:
            item = batch.modalities[self.modality]
            return Steps(item.values, item.valid)

    monkeypatch.setitem(EXTRACTORS._factories, "careless", Careless)
    found = []
    for fill in (0.0, float("nan")):
        model, batch = mixer(modalities={"skeleton": "identity", "inertial": "careless"}), clips()
        batch = without(batch, "inertial", [1], fill)
        logits = model(batch).logits
        logits.sum().backward()
        found.append([logits.detach(), *(p.grad for p in model.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_usual_extractors() -> None:
    model = create("mmixer", SPEC, dim=8)
    kinds = {name: type(x).__name__ for name, x in model.extractors.items()}  # type: ignore[union-attr,operator]
    assert kinds == {"skeleton": "Graph", "inertial": "Identity", "depth": "Frame2D"}
    assert tuple(mixer(modalities=["depth", "inertial"]).names) == ("depth", "inertial")
