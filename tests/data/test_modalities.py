"""Further modalities: aligned with the skeleton step by step, missing where they are, flipped and cropped with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sample_clips import random_clip

from skelgraph.batch import Batch, ClipSpec, Modality, ModalitySpec
from skelgraph.data import Clip, Store, StoreWriter, sampling
from skelgraph.data.loader import BatchReader, Draw
from skelgraph.data.media import open_steps
from skelgraph.data.modalities import Clock, align, places, resized, spread
from skelgraph.data.modality_config import ModalityConfig
from skelgraph.data.sampling import FrameIndex
from skelgraph.data.schema import ModalityFacts
from skelgraph.errors import UserError
from skelgraph.models import create
from skelgraph.topology import Topology
from skelgraph.transforms import Pipeline

COCO = Topology.load("coco17")
SEQUENCE, FRAMES = ModalityFacts(kind="sequence"), ModalityFacts(kind="frames")


def with_(facts: ModalityFacts, **changes: Any) -> ModalityFacts:
    return facts.model_copy(update=changes)


def write(path: Path, clips: list[Clip], modalities: dict[str, str], **facts: ModalityFacts) -> Store:
    with StoreWriter(
        path, topology="coco17", dims=2, classes=("a", "b"), modalities=modalities, modality_facts=facts
    ) as writer:
        for clip in clips:
            writer.write(clip)
    return Store.open(path)


def read(store: Store, frames: int, rows: list[int], sampler: str = "even", **wanted: Any) -> Batch:
    modalities = {name: ModalityConfig(**settings) for name, settings in wanted.items()}
    reader = BatchReader(store, frames, 1, sampling.create(sampler), modalities=modalities)
    return reader[[Draw(row, -1, 0, 0) for row in rows]]


# ---- in time ------------------------------------------------------------------------------------------------------


def test_points_divide_the_frames_evenly_and_never_lie_between_end_and_beginning() -> None:
    place = np.array([10.0, 12, 14, 16])
    np.testing.assert_array_equal(spread(place, 4), place)
    np.testing.assert_array_equal(spread(place, 2), [11, 15])
    np.testing.assert_allclose(spread(place, 8), [10, 10.5, 11.5, 12.5, 13.5, 14.5, 15.5, 16])
    around = spread(np.array([3.0, 4, 0, 1]), 8)
    assert set(around) <= {*np.arange(3, 4.1, 0.25), *np.arange(0, 1.1, 0.25)}
    index = FrameIndex(np.array([0, 2]), np.array([1, 3]), np.array([0.25, 0.5], np.float32))
    np.testing.assert_array_equal(places(index), [0.25, 2.5])


@pytest.mark.parametrize(
    ("clock", "count", "times", "facts", "expected"),
    [
        (Clock(5, np.nan), 5, None, SEQUENCE, [0, 2, 4]),
        (Clock(5, np.nan), 5, None, with_(SEQUENCE, lag=2), [2, 4, 6]),
        (Clock(5, 10.0), 99, None, with_(SEQUENCE, rate=50.0), [0, 10, 20]),
        (Clock(5, 10.0), 9, None, with_(SEQUENCE, rate=50.0, spans=True), [0, 4, 8]),
        (Clock(5, 10.0), 3, np.array([0.1, 0.2, 0.4]), SEQUENCE, [-2 / 3, 1, 2]),
        (Clock(5, np.nan, np.array([7.0, 7.1, 7.2, 7.3, 7.6])), 99, None, with_(SEQUENCE, rate=10.0), [0, 2, 6]),
        (Clock(5, 10.0, np.array([7.0, 7.1, 7.2, 7.3, 7.6])), 2, np.array([7.2, 7.6]), SEQUENCE, [-0.5, 0, 1]),
    ],
    ids=["number", "lag", "rates", "span", "times and fps", "timestamps and rate", "one clock"],
)
def test_steps_that_belong_to_frames(
    clock: Clock, count: int, times: np.ndarray | None, facts: ModalityFacts, expected: list[float]
) -> None:
    np.testing.assert_allclose(align(np.array([0.0, 2, 4]), clock, count, times, facts), expected, atol=1e-9)


def test_a_gap_of_the_sensor_is_missing_and_lengths_without_a_clock_are_refused() -> None:
    times = np.array([0, 0.1, 0.2, 0.9, 1.0])
    step = align(np.arange(11.0), Clock(11, 10.0), 5, times, SEQUENCE)
    assert np.isnan(step).tolist() == [3 <= frame <= 8 for frame in range(11)]
    with pytest.raises(UserError, match=r"4 steps and 5 frames of the skeleton, and no common clock"):
        align(np.zeros(1), Clock(5, 30.0), 4, None, SEQUENCE)


# ---- from store to batch ------------------------------------------------------------------------------------------


def made(frames: int, rate: float = 50.0, fps: float = 25.0) -> Clip:
    """A clip whose sensor tells the seconds, and whose picture t is t everywhere, three late."""
    samples = np.arange(int(frames / fps * rate) + 1) / rate
    sensor = np.stack([samples, -samples], axis=1).astype(np.float32)
    pictures = np.maximum(np.arange(frames) - 3, 0)[:, None, None].repeat(4, 1).repeat(6, 2).astype(np.uint16)
    return random_clip(f"c{frames}", frames=frames, fps=fps, modalities={"sensor": sensor, "picture": pictures})


def test_batch_has_the_very_moments_of_the_skeleton(tmp_path: Path) -> None:
    store = write(
        tmp_path / "s", [made(21), made(40)], {"sensor": "float32", "picture": "uint16"},
        sensor=with_(SEQUENCE, rate=50.0), picture=with_(FRAMES, rate=25.0, lag=3.0),
    )  # fmt: skip
    batch = read(store, 5, [0, 1], sensor={"steps": 5}, picture={"steps": 5})
    for row, frames in enumerate((21, 40)):
        place = np.linspace(0, frames - 1, 5).round()
        sensor, picture = batch.modalities["sensor"], batch.modalities["picture"]
        np.testing.assert_allclose(sensor.values[row, :, 0], place / 25, atol=1e-6)
        np.testing.assert_allclose(sensor.values[row, :, 1], -place / 25, atol=1e-6)
        assert picture.values[row, :4].flatten(1).tolist() == [[value] * 24 for value in place[:4]]
        assert picture.valid[row].tolist() == [True] * 4 + [False]
        assert not picture.values[row, 4].any(), "its own end is three frames before that of the skeleton"
    assert batch.modalities["picture"].values.shape == (2, 5, 1, 4, 6)
    late = read(store, 5, [0], picture={"steps": 5, "lag": 0}).modalities["picture"]
    assert late.values[0, :, 0, 0, 0].tolist() == [0, 2, 7, 12, 17]
    cropped = read(store, 8, [1], sampler="resize", sensor={"steps": 4})
    place = places(sampling.create("resize")(40, 8, None)).reshape(4, 2).mean(1)
    np.testing.assert_allclose(cropped.modalities["sensor"].values[0, :, 0], place / 25, atol=1e-6)


def test_what_is_missing_is_zero_and_not_valid(tmp_path: Path) -> None:
    holed = np.arange(12, dtype=np.float32).reshape(6, 2)
    holed[2, 1] = np.nan
    clips = [random_clip("there", modalities={"sensor": holed}), random_clip("not there")]
    store = write(tmp_path / "s", clips, {"sensor": "float32"}, sensor=SEQUENCE)
    assert store.has_modality("sensor").tolist() == [True, False]
    assert store.modality("sensor", 1) is None
    item = read(store, 6, [0, 1], sensor={}).modalities["sensor"]
    assert item.valid.tolist() == [[True, True, False, True, True, True], [False] * 6]
    assert not item.values[1].any()
    assert not item.values[0, 2].any()
    between = read(store, 6, [0], sensor={"steps": 12}).modalities["sensor"]
    assert between.valid[0].tolist() == [True] * 4 + [False] * 2 + [True] * 6
    np.testing.assert_allclose(between.values[0, :, 0], [0, 0.5, 1.5, 2, 0, 0, 6, 6.5, 7.5, 8.5, 9.5, 10])


def test_numbers_and_size(tmp_path: Path) -> None:
    depth = np.full((6, 4, 4), 3000, np.uint16)
    depth[:, 0], depth[:, 1, :3] = 0, 0
    colour = np.zeros((6, 4, 4, 3), np.uint8)
    colour[..., 1] = 255
    clip = random_clip("c", modalities={"depth": depth, "rgb": colour})
    store = write(tmp_path / "s", [clip], {"depth": "uint16", "rgb": "uint8"})
    batch = read(store, 6, [0], depth={"offset": 2000, "scale": 0.001}, rgb={"offset": [0, 0.5, 0], "scale": [1, 2, 1]})
    plain = batch.modalities["depth"].values[0, 0, 0]
    np.testing.assert_allclose(plain, np.where(depth[0] > 0, 1.0, 0.0), atol=1e-6)
    assert batch.modalities["rgb"].values[0, :, :, 0, 0].unique(dim=0).tolist() == [[0.0, 1.0, 0.0]]
    small = read(store, 6, [0], depth={"size": [2, 2], "steps": 3}).modalities["depth"]
    assert small.values.shape == (1, 3, 1, 2, 2)
    assert set(small.values.round().unique().tolist()) == {0.0, 3000.0}, (
        "a depth must not mix with the nothing beside it"
    )
    half = resized(torch.tensor([[[[0.0, 0, 8], [0, 8, 8], [0, 8, 8]]]]), (1, 1), holes=True)
    assert half.item() == pytest.approx(8)
    signal = write(tmp_path / "t", [random_clip("c", modalities={"x": np.ones((6, 2))})], {"x": "float32"})
    with pytest.raises(UserError, match=r"only frames have a 'size'"):
        read(signal, 6, [0], x={"size": [2, 2]})


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    short = random_clip("short", modalities={"x": np.ones((4, 2))})
    good = random_clip("good", modalities={"x": np.ones((6, 2))})
    wide = random_clip("wide", modalities={"x": np.ones((6, 3))})
    gone = random_clip("gone", modalities={"x": Path("nowhere.npy")})
    nobody = replace(Clip.of("nobody", np.zeros((6, 17, 2))), label=0)
    store = write(tmp_path / "s", [good, short, wide, gone, nobody], {"x": "float32", "y": "float32"}, x=SEQUENCE)
    for row, message in (
        (1, r"clip 'short', modality 'x': 4 steps and 6 frames of the skeleton"),
        (2, r"clip 'wide', modality 'x': a step has shape \(3,\), that of the other clips \(2,\)"),
        (3, r"clip 'gone', modality 'x': .*nowhere\.npy: no such file"),
        (4, r"clip 'nobody': nobody is seen and it has none of x"),
    ):
        with pytest.raises(UserError, match=message):
            read(store, 6, [0, row], x={})
    with pytest.raises(UserError, match=r"no clip has the modality 'y'"):
        read(store, 6, [0], y={})
    with pytest.raises(UserError, match=r"unknown modality 'z'.*Allowed: x, y"):
        read(store, 6, [0], z={})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modalities": {"x": np.array(["a"])}}, r"no steps of numbers"),
        ({"modalities": {"x": np.zeros((0, 2))}}, r"no steps of numbers"),
        ({"modality_times": {"x": np.arange(3.0)}}, r"has 6 steps and 3 times"),
        ({"modality_times": {"x": np.array([0, 1, 1, 2, 3, 4.0])}}, r"seconds that go up"),
    ],
)
def test_faulty_modalities_are_no_clip(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    clip = random_clip("c", **{"modalities": {"x": np.ones((6, 2))}, **changes})
    with pytest.raises(UserError, match=message):
        write(tmp_path / "s", [clip], {"x": "float32"})


def test_hash_and_facts_belong_to_the_content(tmp_path: Path) -> None:
    clip = random_clip("c", modalities={"x": np.ones((6, 2), np.float32)})
    hashes = [
        write(tmp_path / "a", [clip], {"x": "float32"}, x=SEQUENCE).meta.content_hash,
        write(tmp_path / "b", [clip], {"x": "float32"}, x=with_(SEQUENCE, lag=1.0)).meta.content_hash,
        write(tmp_path / "c", [replace(clip, modality_times={"x": np.arange(6.0)})], {"x": "float32"}, x=SEQUENCE)
        .meta.content_hash,
        write(tmp_path / "d", [replace(clip, modalities={"x": clip.modalities["x"] * 2})], {"x": "float32"}, x=SEQUENCE)
        .meta.content_hash,
    ]  # fmt: skip
    assert len(set(hashes)) == 4
    assert write(tmp_path / "e", [clip], {"x": "float32"}, x=SEQUENCE).meta.content_hash == hashes[0]
    with pytest.raises(UserError, match="facts on modalities differ"):
        Store.open([tmp_path / "a", tmp_path / "b"])


# ---- files --------------------------------------------------------------------------------------------------------


def save_pictures(folder: Path, count: int, mode: str = "L") -> Path:
    image = pytest.importorskip("PIL.Image")
    folder.mkdir(parents=True)
    for number in range(count):
        values = np.full((4, 6), number * 10, np.uint16 if mode == "I;16" else np.uint8)
        image.fromarray(values).convert(mode if mode != "I;16" else "I;16").save(folder / f"f{number}.png")
    return folder


def test_pictures_and_arrays_are_read_step_by_step(tmp_path: Path) -> None:
    grey = open_steps(save_pictures(tmp_path / "grey", 12))
    assert (grey.count, grey.shape, grey.dtype) == (12, (4, 6), np.uint8)
    assert grey.take(np.array([11, 2, 2, 10]))[:, 0, 0].tolist() == [110, 20, 20, 100], "in the order of numbers"
    deep = open_steps(save_pictures(tmp_path / "deep", 40, "I;16"))
    assert (deep.dtype, deep.take(np.array([39]))[0, 0, 0]) == (np.uint16, 390)
    colour = open_steps(save_pictures(tmp_path / "colour", 2, "RGB"), size=(2, 3))
    assert colour.take(np.arange(2)).shape == (2, 2, 3, 3)
    np.savez(tmp_path / "a.npz", values=np.arange(6.0).reshape(3, 2), times=[0, 0.1, 0.2])
    file = open_steps(tmp_path / "a.npz")
    assert file.times is not None
    assert file.times.tolist() == [0, 0.1, 0.2]
    np.save(tmp_path / "b.npy", np.arange(6.0).reshape(3, 2))
    assert open_steps(tmp_path / "b.npy").take(np.array([2]))[0].tolist() == [4, 5]
    (tmp_path / "grey" / "f5.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"f5\.png: damaged"):
        grey.take(np.arange(6))


def save_video(path: Path, frames: int, rate: int = 25) -> Path:
    av = pytest.importorskip("av", reason="videos need PyAV: pip install 'skelgraph[video]'")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for number in range(frames):
            picture = np.full((24, 32, 3), 6 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_videos_are_read_by_frame_and_aligned_by_their_clock(tmp_path: Path) -> None:
    path = save_video(tmp_path / "v.mp4", 30)
    video = open_steps(path)
    assert (video.count, video.shape) == (30, (24, 32, 3))
    assert video.times is not None
    np.testing.assert_allclose(video.times, np.arange(30) / 25, atol=1e-6)
    wanted = np.array([29, 3, 3, 17])
    np.testing.assert_allclose(video.take(wanted)[:, 10, 10, 0], 6 * wanted, atol=3)
    clip = random_clip("c", frames=25, fps=50.0, modalities={"rgb": Path("../v.mp4")})
    store = write(tmp_path / "s", [clip], {"rgb": "uint8"}, rgb=FRAMES)
    item = read(store, 5, [0], rgb={"steps": 5, "size": [6, 8]}).modalities["rgb"]
    assert item.values.shape == (1, 5, 3, 6, 8)
    np.testing.assert_allclose(255 * item.values[0, :, 0, 3, 3], 6 * np.array([0, 3, 6, 9, 12]), atol=4)


def test_a_video_that_does_not_decode_is_named(tmp_path: Path) -> None:
    path = save_video(tmp_path / "v.mp4", 30)
    whole = path.read_bytes()
    for name, content in (("cut", whole[: len(whole) // 2]), ("empty", b""), ("other", b"no video" * 50)):
        (tmp_path / f"{name}.mp4").write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}\.mp4: cannot be decoded"):
            open_steps(tmp_path / f"{name}.mp4")
    (tmp_path / "film.ogm").write_bytes(b"")
    with pytest.raises(UserError, match=r"film\.ogm: neither a folder of pictures nor one of"):
        open_steps(tmp_path / "film.ogm")


# ---- one flip and one crop ----------------------------------------------------------------------------------------


def pictured(count: int = 40) -> Batch:
    batch = Batch.of(torch.rand(count, 1, 3, 17, 2) + 0.1)
    frames = torch.rand(count, 3, 2, 4, 6)
    wrist = torch.rand(count, 5, 3)
    there = torch.ones(count, 3, dtype=torch.bool)
    return batch.with_(modalities={
        "rgb": Modality(frames, there, "frames"),
        "wrist": Modality(wrist, torch.ones(count, 5, dtype=torch.bool), "sequence", (1.0, -1.0, 1.0)),
    })  # fmt: skip


def test_mirror_flips_joints_and_frames_of_the_same_clips() -> None:
    torch.manual_seed(0)
    before = pictured()
    after = Pipeline(COCO, {"mirror": {}})(before, training=True)
    flipped = (after.keypoints[..., 0] < 0).all(-1).all(-1).all(-1)
    assert 0 < int(flipped.sum()) < len(flipped)
    rgb, was = after.modalities["rgb"].values, before.modalities["rgb"].values
    assert torch.equal(rgb, torch.where(flipped.view(-1, 1, 1, 1, 1), was.flip(-1), was))
    wrist, was = after.modalities["wrist"].values, before.modalities["wrist"].values
    assert torch.equal(wrist[flipped], was[flipped] * torch.tensor([1.0, -1.0, 1.0]))
    assert torch.equal(wrist[~flipped], was[~flipped])
    crossed = Pipeline(COCO, {"mirror": {"p": 1.0, "negate": False}})(before, training=True)
    assert torch.equal(crossed.modalities["rgb"].values, before.modalities["rgb"].values)


@pytest.mark.parametrize("step", ["mirror", "reverse"])
def test_what_a_modality_cannot_follow_is_refused(step: str) -> None:
    wrist = ModalitySpec("sequence", 5, (3,))
    with pytest.raises(UserError, match=rf"data\.transforms, {step}: .*\(modality 'wrist'\)"):
        Pipeline(COCO, {step: {}}).check_modalities({"wrist": wrist})
    with pytest.raises(UserError, match=rf"one_of: {step}: "):
        Pipeline(COCO, {"one_of": {"choices": {step: {}}}}).check_modalities({"wrist": wrist})
    Pipeline(COCO, {"mirror": {}}).check_modalities({
        "rgb": ModalitySpec("frames", 3, (2, 4, 6)), "wrist": replace(wrist, mirror=(1.0, 1.0, -1.0)),
    })  # fmt: skip


def test_crop_takes_one_window_for_frames_and_joints() -> None:
    """The picture tells its own coordinates, so a window shows where it lies."""
    torch.manual_seed(1)
    side = (torch.arange(16) + 0.5) / 8 - 1
    frame = torch.stack(torch.meshgrid(side, side, indexing="xy"))
    batch = pictured(8)
    shown = Modality(frame.expand(8, 3, 2, 16, 16), batch.modalities["rgb"].valid, "frames")
    batch = batch.with_(keypoints=batch.keypoints - 0.6, modalities={**batch.modalities, "rgb": shown})
    after = Pipeline(COCO, {"crop": {"scale": [0.5, 0.8]}})(batch, training=True)
    view = after.modalities["rgb"].values
    assert view.shape == shown.values.shape
    assert torch.equal(view[:, 0], view[:, 2])
    low, high = view[:, 0, :, 0, 0], view[:, 0, :, -1, -1]
    share, middle = (high - low) / (side[-1] - side[0]), (high + low) / 2
    assert share.min() >= 0.49
    assert share.max() <= 0.81
    assert (middle.abs() + share).max() <= 1.0 + 1e-5, "the window lies inside the picture"
    expected = (batch.keypoints - middle[:, None, None, None]) / share[:, None, None, None]
    torch.testing.assert_close(after.keypoints, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(after.modalities["wrist"].values, batch.modalities["wrist"].values)


# ---- to a network -------------------------------------------------------------------------------------------------


def test_a_real_batch_goes_through_m_mixer(tmp_path: Path) -> None:
    clips = [made(20), replace(made(24), modalities={"sensor": made(24).modalities["sensor"]})]
    store = write(
        tmp_path / "s", clips, {"sensor": "float32", "picture": "uint16"},
        sensor=with_(SEQUENCE, rate=50.0), picture=with_(FRAMES, rate=25.0),
    )  # fmt: skip
    wanted = {"sensor": ModalityConfig(steps=10), "picture": ModalityConfig(steps=4, size=(8, 8), scale=0.1)}
    reader = BatchReader(store, 8, 1, sampling.create("even"), modalities=wanted)
    spec = ClipSpec(COCO, 2, 1, 8, ("a", "b"), {item.name: item.spec for item in reader.modalities})
    assert spec.modalities == {
        "sensor": ModalitySpec("sequence", 10, (2,)), "picture": ModalitySpec("frames", 4, (1, 8, 8))
    }  # fmt: skip
    torch.manual_seed(0)
    model = create("mmixer", spec, dim=8, heads=2, modalities={
        "skeleton": "identity", "sensor": "identity", "picture": {"name": "frame2d", "width": 2},
    }).eval()  # fmt: skip
    batch = reader[[Draw(0, -1, 0, 0), Draw(1, -1, 0, 0)]]
    logits = model(batch).logits
    assert torch.isfinite(logits).all()
    batch.modalities["picture"].values[1] = torch.nan
    assert torch.equal(model(batch).logits, logits), "what is missing has no influence"
