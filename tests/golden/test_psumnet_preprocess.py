"""PSUMNet's data chain from its golden arrays: crop and resize, rotation, centring, packing, test-mode streams."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from skelgraph.batch import Batch
from skelgraph.data.sampling import FrameIndex, create
from skelgraph.nn.streams import Streams
from skelgraph.topology import Topology
from skelgraph.transforms import Pipeline
from skelgraph.transforms.augment import rotation

SHARED = Path(os.environ.get("SKELGRAPH_SHARED", Path(__file__).parents[3] / "shared"))
CASE = SHARED / "golden" / "psumnet" / "preprocess.npz"
pytestmark = pytest.mark.skipif(not CASE.exists(), reason=f"no golden data at {CASE}; set SKELGRAPH_SHARED")
INPUTS = ["joint", "bone", "joint_motion", "bone_motion"]
TAGS = ["long", "short", "equal", "tiny"]


@pytest.fixture(scope="module")
def case() -> dict[str, np.ndarray]:
    with np.load(CASE) as data:
        return {key: data[key] for key in data}


class Drawn:
    """Stands for a generator whose share and first frame are known."""

    def __init__(self, share: float, begin: int) -> None:
        self.share, self.begin = share, begin

    def uniform(self, low: float, high: float) -> float:
        assert (low, high) == (0.5, 1.0)
        return self.share

    def integers(self, end: int) -> int:
        assert self.begin < end
        return self.begin


def take(clip: np.ndarray, index: FrameIndex) -> np.ndarray:
    """Frames of ``clip (C, T, V, M)``, interpolated."""
    weight = index.weight[None, :, None, None]
    return (1 - weight) * clip[:, index.first] + weight * clip[:, index.second]


def close(ours: np.ndarray | torch.Tensor, theirs: np.ndarray, atol: float = 1e-6) -> None:
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=1e-6, atol=atol)


def joints(clip: np.ndarray) -> torch.Tensor:
    """``(..., C, T, V, M)`` as ``(..., M, T, V, C)``."""
    return torch.from_numpy(np.ascontiguousarray(np.swapaxes(clip, -1, -4)))


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize(("name", "share"), [("test95", 0.95), ("full", 1.0)])
def test_crop_and_resize_at_test(case: dict[str, np.ndarray], tag: str, name: str, share: float) -> None:
    index = create("resize", test_crop=share)(int(case[f"{tag}_valid"]), 64, None)
    close(take(case[f"{tag}_x"], index), case[f"{tag}_{name}"])


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("draw", range(3))
def test_crop_and_resize_in_training(case: dict[str, np.ndarray], tag: str, draw: int) -> None:
    share, length, begin = case[f"{tag}_train{draw}_p_len_begin"]
    index = create("resize")(int(case[f"{tag}_valid"]), 64, Drawn(share, int(begin)))
    assert index.first[0] == begin
    assert index.second[-1] <= begin + length - 1
    close(take(case[f"{tag}_x"], index), case[f"{tag}_train{draw}"])


def test_gap_is_the_official_count_used_as_a_prefix(case: dict[str, np.ndarray]) -> None:
    """The released loader cuts the end off a clip with empty frames inside; ours takes the clip as it is stored, or
    with ``drop: empty`` without the empty frames. Given the count as the length, the rule is the same."""
    clip, count = case["gap_x"], int(case["gap_valid"])
    seen = joints(clip).abs().sum(-1).numpy()
    assert count == int(seen.any((0, 2)).sum()) < np.flatnonzero(seen.any((0, 2)))[-1]
    close(take(clip, create("resize")(count, 64, None)), case["gap_test95"])


@pytest.mark.parametrize("draw", range(3))
def test_rotation(case: dict[str, np.ndarray], draw: int, monkeypatch: pytest.MonkeyPatch) -> None:
    angles = torch.from_numpy(case[f"rot{draw}_angles"])[None]
    close(rotation(angles)[0], case[f"rot{draw}_matrix"])
    monkeypatch.setattr(torch, "rand", lambda *size, **kind: (angles / 0.3 + 1) / 2)
    clip = Batch.of(joints(case["long_test95"])[None])
    out = Pipeline(Topology.load("ntu25"), {"random_rotation": {"angle": 0.3}})(clip, training=True)
    close(out.keypoints[0], joints(case[f"rot{draw}_out"]).numpy(), atol=2e-6)


@pytest.mark.parametrize("name", ["seq1", "seq2"])
def test_centring(case: dict[str, np.ndarray], name: str) -> None:
    """Origin: spine_mid of the first body in its first frame, for both bodies; what is empty stays zero."""
    raw = torch.from_numpy(case[f"{name}_raw"])
    persons = raw.shape[1] // 75
    clip = Batch.of(raw.view(1, -1, persons, 25, 3).transpose(1, 2))
    out = Pipeline(Topology.load("ntu25"), {"center": {"per": "first"}})(clip).keypoints
    close(out.transpose(1, 2).reshape(raw.shape), case[f"{name}_centred"])


@pytest.mark.parametrize(("name", "absent"), [("packed_ntu", "zero"), ("packed_ntu120", "copy")])
def test_packing(case: dict[str, np.ndarray], name: str, absent: str) -> None:
    """A clip of one body gets zeros, or a copy of that body, as its second; here both clips are padded to 11 frames."""
    packed = torch.zeros(2, 2, 11, 25, 3)
    for row, key in enumerate(["seq1_centred", "seq2_centred"]):
        body = torch.from_numpy(case[key])
        persons = body.shape[1] // 75
        packed[row, :persons, : len(body)] = body.view(-1, persons, 25, 3).transpose(0, 1)
    out = Pipeline(Topology.load("ntu25"), {"persons": {"order": "stored", "absent": absent}})(Batch.of(packed))
    close(out.keypoints.transpose(1, 2).reshape(2, 11, 150), case[name])
    assert out.valid[0, 1].any() == (absent == "copy")


@pytest.mark.parametrize(("stream", "part"), [("body", "body"), ("hand", "hands"), ("leg", "legs")])
def test_whole_chain_in_test_mode(case: dict[str, np.ndarray], stream: str, part: str) -> None:
    """The official feeder starts from centred arrays: count, crop, resize, part, four modalities."""
    streams = Streams(Topology.load("ntu25_published"), INPUTS, part=part)
    for clip, expected in zip(case["feeder_raw"], case[f"feeder_test_{stream}"], strict=True):
        count = int((clip.sum((0, 2, 3)) != 0).sum())
        frames = take(clip, create("resize")(count, 64, None))
        close(streams(joints(frames)[None].float())[0], joints(expected).numpy(), atol=2e-6)


@pytest.mark.parametrize(("stream", "part"), [("body", "body"), ("hand", "hands"), ("leg", "legs")])
def test_whole_chain_in_training(
    case: dict[str, np.ndarray], stream: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with a random crop and rotation, from the draws the official code makes after the seed 5."""
    legacy, clip = np.random.RandomState(5), case["feeder_raw"][0]
    count = int((clip.sum((0, 2, 3)) != 0).sum())
    share = 0.5 + 0.5 * legacy.random_sample()
    begin = legacy.randint(0, count - min(max(int(count * share), 64), count) + 1)
    frames = joints(take(clip, create("resize")(count, 64, Drawn(share, begin))))[None].float()
    draws = torch.rand(1, 3, generator=torch.Generator().manual_seed(5))
    monkeypatch.setattr(torch, "rand", lambda *size, **kind: draws)
    turned = Pipeline(Topology.load("ntu25_published"), {"random_rotation": {"angle": 0.3}})(Batch.of(frames), True)
    streams = Streams(Topology.load("ntu25_published"), INPUTS, part=part)
    close(streams(turned.keypoints)[0], joints(case[f"feeder_train_{stream}"]).numpy(), atol=2e-6)
