"""HaLP's sampling, augmentation and pre-normalisation from its golden arrays."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from skelgraph.batch import Batch
from skelgraph.data.readers import import_data
from skelgraph.data.sampling import FrameIndex, create
from skelgraph.data.store import Store
from skelgraph.topology import Topology
from skelgraph.transforms import Pipeline
from skelgraph.transforms.augment import apply_matrix, corrupted

SHARED = Path(os.environ.get("SKELGRAPH_SHARED", Path(__file__).parents[3] / "shared"))
CASE = SHARED / "golden" / "halp" / "case_a.npz"
pytestmark = pytest.mark.skipif(not CASE.exists(), reason=f"no golden data at {CASE}; set SKELGRAPH_SHARED")
NTU = Topology.load("ntu25")
NEAR = {"atol": 1e-5, "rtol": 0}
PRE_NORMALISE = {"loop": {}, "center": {"per": "frame"}, "align": {}}


@pytest.fixture(scope="module")
def case() -> dict[str, np.ndarray]:
    with np.load(CASE) as data:
        return {key: data[key] for key in data if key.startswith(("aug.", "pre."))}


class Drawn:
    """Stands for a generator whose share and first frame are known."""

    def __init__(self, share: float, begin: int, between: tuple[float, float]) -> None:
        self.share, self.begin, self.between = share, begin, between

    def uniform(self, low: float, high: float) -> float:
        assert (low, high) == self.between
        return self.share

    def integers(self, end: int) -> int:
        assert self.begin < end
        return self.begin


def take(clip: np.ndarray, index: FrameIndex) -> np.ndarray:
    """Frames of ``clip (C, T, V, M)``, interpolated."""
    weight = index.weight[None, :, None, None]
    return (1 - weight) * clip[:, index.first] + weight * clip[:, index.second]


def joints(clip: np.ndarray) -> torch.Tensor:
    """``(..., C, T, V, M)`` as ``(..., M, T, V, C)``."""
    return torch.from_numpy(np.ascontiguousarray(np.swapaxes(clip, -1, -4)))


def spoilt(chosen: np.ndarray | None = None) -> torch.Tensor:
    """Joints as a mask, (1, V)."""
    mask = torch.zeros(1, 25, dtype=torch.bool)
    mask[0, [] if chosen is None else chosen] = True
    return mask


@pytest.mark.parametrize(("name", "crop"), [("crop", (0.1, 1.0)), ("crop2", (0.1, 1.0)), ("ft", (0.5, 1.0))])
def test_crop_and_resize_in_training(case: dict[str, np.ndarray], name: str, crop: tuple[float, float]) -> None:
    start, length = int(case[f"aug.{name}.start"]), int(case[f"aug.{name}.length"])
    drawn = Drawn(float(case[f"aug.{name}.scale"][0]), start, crop)
    index = create("resize", crop=crop)(int(case["aug.num_frames"]), 64, drawn)
    assert index.first[0] == start
    assert index.second[-1] == start + length - 1
    np.testing.assert_allclose(take(case["aug.x"], index), case[f"aug.{name}.out"], **NEAR)


def test_crop_and_resize_at_test(case: dict[str, np.ndarray]) -> None:
    index = create("resize", test_crop=0.95)(int(case["aug.num_frames"]), 64, None)
    np.testing.assert_allclose(take(case["aug.x"], index), case["aug.eval.out"], **NEAR)


def test_shear(case: dict[str, np.ndarray]) -> None:
    clip, matrix = joints(case["aug.crop.out"])[None], torch.from_numpy(case["aug.shear.matrix"]).float()
    torch.testing.assert_close(apply_matrix(clip, matrix[None])[0], joints(case["aug.shear.out"]), **NEAR)


def test_shear_draws_such_a_matrix(case: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.from_numpy(case["aug.shear.matrix"]).float()
    draws = {(1, 3, 3): (matrix[None] + 1) / 2, (1,): torch.zeros(1)}
    monkeypatch.setattr(torch, "rand", lambda *size, **kind: draws[size])
    out = Pipeline(NTU, {"shear": {}})(Batch.of(joints(case["aug.crop.out"])[None]), training=True)
    torch.testing.assert_close(out.keypoints[0], joints(case["aug.shear.out"]), **NEAR)


def test_joints_set_to_zero(case: dict[str, np.ndarray]) -> None:
    clip, hidden = Batch.of(joints(case["aug.crop.out"])[None]), spoilt(case["aug.zero.joints"])
    out = corrupted(clip, hidden, spoilt(), torch.eye(3)[None])
    torch.testing.assert_close(out.keypoints[0], joints(case["aug.zero.out"]), **NEAR)
    assert torch.equal(out.score[0, 0] == 0, hidden.expand(64, 25))


def test_joints_mapped_at_random(case: dict[str, np.ndarray]) -> None:
    """The published code multiplies rows from the right, so our A is the stored matrix transposed."""
    clip, mixed = Batch.of(joints(case["aug.crop.out"])[None]), spoilt(case["aug.mix.joints"])
    matrix = torch.from_numpy(case["aug.mix.matrix"]).float().T[None]
    out = corrupted(clip, spoilt(), mixed, matrix)
    torch.testing.assert_close(out.keypoints[0], joints(case["aug.mix.out"]), **NEAR)
    assert torch.equal(out.score, clip.score)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pre_normalise(case: dict[str, np.ndarray], dtype: torch.dtype) -> None:
    """Late beginning, one person only, a hole inside, empty tails."""
    raw = joints(case["pre.x"]).to(dtype)
    score = (raw != 0).any(-1).to(dtype)
    out = Pipeline(NTU, PRE_NORMALISE)(Batch.of(raw).with_(score=score))
    torch.testing.assert_close(out.keypoints, joints(case["pre.out"]).to(dtype), **NEAR)
    assert torch.equal(out.valid, (joints(case["pre.out"]) != 0).any(-1).any(-1))


def test_pre_normalise_at_import(case: dict[str, np.ndarray], tmp_path: Path) -> None:
    """The clips as text of PKU-MMD, normalised by its reader; a person who is never seen is left out."""
    for folder in ("skeleton", "label"):
        (tmp_path / "pku" / folder).mkdir(parents=True)
    for number, clip in enumerate(np.moveaxis(case["pre.x"], (2, 4, 3, 1), (1, 2, 3, 4)), 1):
        lines = [" ".join(f"{value:.9g}" for value in frame.ravel()) for frame in clip]
        (tmp_path / "pku" / "skeleton" / f"A0{number}N01-L.txt").write_text("\n".join(lines), encoding="ascii")
        (tmp_path / "pku" / "label" / f"A0{number}N01-L.txt").write_text("1,0,18,1", encoding="ascii")
    (tmp_path / "pku" / "cross_view_v2.txt").write_text("train\nA01N01-L,A02N01-L\n", encoding="ascii")
    import_data("pku-mmd", tmp_path / "pku", tmp_path / "store", progress=False, normalise=True, strict=True)
    for clip, expected in zip(Store.open(tmp_path / "store"), joints(case["pre.out"]), strict=True):
        assert not expected[len(clip.keypoints) :].any()
        np.testing.assert_allclose(clip.keypoints, expected[: len(clip.keypoints)], **NEAR)
