"""A modality put into a store that is there: by clip name, from files of many kinds, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sample_clips import random_clip
from test_modalities import save_pictures, save_video

from skelgraph.cli.data import command
from skelgraph.data import Store, StoreWriter, sampling
from skelgraph.data.attach import Form, attach
from skelgraph.data.loader import BatchReader, Draw
from skelgraph.data.modality_config import ModalityConfig
from skelgraph.errors import UserError


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Four clips of 6 frames at 30 a second."""
    with StoreWriter(tmp_path / "s", topology="coco17", dims=2, classes=("a",), source="tests") as writer:
        for number in range(4):
            writer.write(random_clip(f"c{number}", fps=30.0, subject=f"s{number}"))
        writer.add_text("skipped.csv", "item,clip,reason\n")
        writer.protocols = {"p": {"train": ["c0", "c1"], "test": ["c2", "c3"]}}
    return tmp_path / "s"


def run(*words: object) -> str:
    done = CliRunner().invoke(command, ["attach", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_tables_by_clip_name(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "emg"
    folder.mkdir()
    for number in (0, 1, 3):
        rows = [f"{step / 100},{step},{-step}" for step in range(30)]
        (folder / f"c{number}.csv").write_text("\n".join(["time,left,right", *rows]), encoding="utf-8")
    (folder / "c3.csv").write_text("time,left,right\n0,1,one\n", encoding="utf-8")
    (folder / "x9.csv").write_text("1,2\n3,4\n", encoding="utf-8")
    before = Store.open(store)
    said = run(store, "emg", folder, "--unit", "mV")
    assert "2 clips of" in said
    assert "2 do not" in said
    assert "column 'right' is not all numbers" in said
    assert "1 files belong to no clip" in said
    after = Store.open(store)
    assert after.protocol("p")["test"].tolist() == [2, 3]
    assert (after.names, after.column("subject"), after.meta.source) == (
        before.names,
        before.column("subject"),
        "tests",
    )
    assert after.meta.content_hash != before.meta.content_hash
    assert after.meta.modality_facts["emg"].model_dump(exclude_defaults=True) == {"kind": "sequence", "unit": "mV"}
    assert after.has_modality("emg").tolist() == [True, True, False, False]
    assert (store / "skipped.csv").is_file()
    assert "c2,no file" in (store / "attached_emg.csv").read_text(encoding="utf-8")
    reader = BatchReader(after, 6, 1, sampling.create("even"), modalities={"emg": ModalityConfig()})
    item = reader[[Draw(1, -1, 0, 0)]].modalities["emg"]
    np.testing.assert_allclose(item.values[0, :, 0], np.arange(6) / 30 * 100, atol=1e-5)


def test_one_file_for_all_clips_and_a_second_modality(store: Path, tmp_path: Path) -> None:
    frames = np.arange(24, dtype=np.uint16)[:, None, None].repeat(4, 1).repeat(4, 2)
    np.savez(tmp_path / "depth.npz", frames=frames, offsets=[0, 6, 12, 18, 24], names=[f"c{i}" for i in range(4)])
    np.savez(tmp_path / "each.npz", **{f"c{i}": np.ones((3, 2)) * i for i in range(4)})
    attach(store, "depth", [tmp_path / "depth.npz"], Form(kind="frames", unit="mm", lag=2.0))
    attach(store, "features", [tmp_path / "each.npz"], Form(kind="features", spans=True))
    opened = Store.open(store)
    assert opened.meta.modalities == {"depth": "uint16", "features": "float32"}
    assert [step["modality"] for step in opened.meta.steps if step["name"] == "attach"] == ["depth", "features"]
    assert (opened[2].modalities["depth"][:, 0, 0] == np.arange(12, 18)).all()
    assert opened[3].modalities["features"].tolist() == [[3, 3]] * 3
    with pytest.raises(UserError, match=r"has a modality 'depth' already; say --overwrite"):
        attach(store, "depth", [tmp_path / "depth.npz"])
    attach(store, "depth", [tmp_path / "depth.npz"], overwrite=True)
    opened = Store.open(store)
    assert opened.meta.modality_facts["depth"].lag == 0
    assert [step["modality"] for step in opened.meta.steps if step["name"] == "attach"] == ["features", "depth"]


def test_videos_stay_where_they_are_or_go_into_the_store(store: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(3):
        save_video(videos / f"c{number}_rgb.avi", 6, rate=30)
    (videos / "c3_rgb.avi").write_bytes(b"no video")
    said = run(store, "rgb", videos, "--suffix", "_rgb")
    assert "3 clips of" in said
    assert "c3_rgb.avi: cannot be decoded" in said
    run(store, "small", videos, "--suffix", "_rgb", "--size", "8x10")
    opened = Store.open(store)
    assert opened.modality("rgb", 0).content == store / ".." / "videos" / "c0_rgb.avi"
    assert opened[1].modalities["small"].shape == (6, 8, 10, 3)
    wanted = {"rgb": ModalityConfig(size=(8, 10)), "small": ModalityConfig()}
    batch = BatchReader(opened, 6, 1, sampling.create("even"), modalities=wanted)[[Draw(1, -1, 0, 0)]]
    assert batch.modalities["rgb"].valid.all()
    assert (batch.modalities["rgb"].values - batch.modalities["small"].values).abs().max() < 0.02
    with pytest.raises(UserError, match=r"c3_rgb\.avi: cannot be decoded"):
        attach(store, "again", [videos], Form(suffix="_rgb"), strict=True)


def test_folders_of_pictures(store: Path, tmp_path: Path) -> None:
    for number in range(3):
        save_pictures(tmp_path / "png" / f"c{number}", 6 if number < 2 else 5)
    report = attach(store, "infrared", [tmp_path / "png"])
    assert (report.clips, report.facts.kind) == (2, "frames")
    assert "5 steps and 6 frames of the skeleton, and no common clock" in report.missing["c2"]
    assert attach(store, "infrared", [tmp_path / "png"], Form(spans=True), overwrite=True).clips == 3


def test_joints_of_another_store(store: Path, tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "color", topology="coco17", dims=2) as writer:
        for number in range(4):
            clip = random_clip(f"c{number}", persons=1 + number % 2, image_size=(200, 100), label=None)
            writer.write(clip)
    attach(store, "positions", [tmp_path / "color"])
    values = Store.open(store)[2].modalities["positions"]
    assert values.shape == (6, 2, 17, 2)
    joints = Store.open(tmp_path / "color")[2].keypoints[0]
    np.testing.assert_allclose(values[1:, 0], joints[1:] / (50, 100) - 1, atol=1e-6)
    assert not values[:, 1].any()
    assert not values[0, 0, -1].any(), "a missing joint"


def test_wrong_use(store: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", run=np.ones((6, 2)), jump=np.ones((6, 2)))
    np.savez(tmp_path / "short.npz", **{f"c{i}": np.ones((5, 2)) for i in range(4)})
    np.savez(tmp_path / "offsets.npz", values=np.ones((6, 2)), offsets=[0, 6], names=["c0", "c1"])
    before = Store.open(store).meta.content_hash
    for words, message in (
        (("x", tmp_path / "other.npz"), r"nothing there is called after a clip such as 'c0'"),
        (("x", tmp_path / "short.npz"), r"no clip can have 'x'; the first reason: c0: .*no common clock"),
        (("x", tmp_path / "offsets.npz"), r"'offsets' must be 3 numbers"),
        (("x", tmp_path / "nothing"), r"nothing: no such file or folder"),
        (("skeleton", tmp_path / "short.npz"), r"'skeleton' cannot name a modality"),
    ):
        with pytest.raises(UserError, match=message):
            attach(store, words[0], [words[1]])
    assert Store.open(store).meta.content_hash == before
    for option, message in ((("--size", "8"), "write height x width"), (("--mirror", "a"), "write a number for each")):
        done = CliRunner().invoke(command, ["attach", str(store), "x", str(tmp_path / "short.npz"), *option])
        assert isinstance(done.exception, UserError)
        assert message in str(done.exception)
