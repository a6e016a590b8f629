"""BRL's pre-processing and frame sampling from its golden arrays: pre-normalise, scale, rotation, flip, uniform."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from skelgraph.batch import Batch
from skelgraph.data.sampling import choose, create
from skelgraph.topology import Topology
from skelgraph.transforms import Pipeline

SHARED = Path(os.environ.get("SKELGRAPH_SHARED", Path(__file__).parents[3] / "shared"))
CASE = SHARED / "golden" / "brl" / "case_a.npz"
pytestmark = pytest.mark.skipif(not CASE.exists(), reason=f"no golden data at {CASE}; set SKELGRAPH_SHARED")
NTU = Topology.load("ntu25_pyskl")
PRE_NORMALISE = {"persons": {}, "center": {"per": "first"}, "align": {}}
LENGTHS = [1, 7, 40, 64, 90, 128, 200, 300]


@pytest.fixture(scope="module")
def case() -> dict[str, np.ndarray]:
    with np.load(CASE) as data:
        return {key: data[key] for key in data if key.startswith(("pre/", "aug/", "sample/"))}


def seen(joints: np.ndarray) -> np.ndarray:
    return (joints != 0).any(-1).astype(np.float32)


class Replayed:
    """NumPy's legacy generator, asked in the order of PYSKL, behind the three questions our sampler has."""

    def __init__(self, length: int, frames: int) -> None:
        self.chance = np.random.RandomState(13)
        self.chance.random_sample()  # the share of the clip, always all of it
        self.widths = np.diff(np.arange(frames + 1) * length // frames)

    def integers(self, end: int) -> int:
        return self.chance.randint(0, end)

    def choice(self, *args: int, replace: bool, shuffle: bool) -> np.ndarray:
        return self.chance.choice(*args, replace=replace)

    def random(self, count: int) -> np.ndarray:
        """The share of its bin at which each frame lies."""
        assert count == len(self.widths)
        return (self.chance.randint(self.widths) + 0.5) / self.widths


@pytest.mark.parametrize("suffix", ["", "_swapped"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pre_normalise(case: dict[str, np.ndarray], suffix: str, dtype: torch.dtype) -> None:
    """Frames without the fuller person are dropped by the sampler, so a batch that holds them all drops none."""
    joints, expected = case[f"pre/kp_in{suffix}"], case[f"pre/kp_out{suffix}"]
    kept = choose(create("even", drop="absent"), seen(joints), int(case["pre/total_frames"]), None).first
    assert len(set(kept)) == len(kept) < joints.shape[1]
    whole = Pipeline(NTU, PRE_NORMALISE)(Batch.of(torch.from_numpy(joints).to(dtype)[None])).keypoints[0]
    atol = 2e-6 if dtype is torch.float32 else 1e-6
    torch.testing.assert_close(whole[:, kept], torch.from_numpy(expected).to(dtype), atol=atol, rtol=1e-6)
    first = Pipeline(NTU, PRE_NORMALISE)(Batch.of(torch.from_numpy(joints[:, kept]).to(dtype)[None])).keypoints[0]
    torch.testing.assert_close(first, whole[:, kept])


def test_scale_rotation_and_flip(case: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    clip = Batch.of(torch.from_numpy(case["aug/kp_in"]).double()[None])
    draws = {"scale": case["aug/scale_u"], "rot": case["aug/rot_theta"] / 0.3, "flip": np.zeros(3)}
    steps = {"scale": {"random_scale": {"amount": 0.1}}, "rot": {"random_rotation": {"angle": 0.3}},
             "flip": {"mirror": {"p": 1.0, "negate": False}}}  # fmt: skip
    for name, step in steps.items():
        drawn = (torch.from_numpy(draws[name]) + 1) / 2
        shape = {"scale": (1, 1, 1, 1, 3), "rot": (1, 3), "flip": (3,)}[name]
        monkeypatch.setattr(torch, "rand", lambda *size, d=drawn, s=shape, **kind: d.view(s)[: size[0]])
        out = Pipeline(NTU, step)(clip, training=True).keypoints[0]
        torch.testing.assert_close(out, torch.from_numpy(case[f"aug/{name}_out"]).double(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("views", [1, 10])
def test_uniform_at_test(case: dict[str, np.ndarray], length: int, views: int) -> None:
    sampler = create("uniform")
    index = [sampler(length, 64, None, view, views).first for view in range(views)]
    assert np.concatenate(index).tolist() == case[f"sample/test_L{length}_clips{views}"].tolist()


@pytest.mark.parametrize("length", LENGTHS)
def test_uniform_in_training_by_the_published_draws(case: dict[str, np.ndarray], length: int) -> None:
    """Our generator is another one; given NumPy's legacy draws the rule gives the published frames."""
    index = create("uniform")(length, 64, Replayed(length, 64)).first
    assert index.tolist() == case[f"sample/train_L{length}_seed13"].tolist()
