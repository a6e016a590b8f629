"""The store: what is written is read, nothing is copied, nothing half-written stays."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sample_clips import random_clip

from skelgraph.data import Clip, Store, StoreWriter
from skelgraph.errors import UserError

CLASSES = ("run", "jump", "sit")


def write(path: Path, clips: list[Clip], **settings: object) -> Store:
    protocols = settings.pop("protocols", {})
    options = {"topology": "coco17", "dims": 2, "classes": CLASSES, **settings}
    with StoreWriter(path, **options) as writer:  # type: ignore[arg-type]
        for clip in clips:
            writer.write(clip)
        writer.protocols = protocols  # type: ignore[assignment]
    return Store.open(path)


def test_every_field_comes_back(tmp_path: Path) -> None:
    full = random_clip(
        "full", frames=5, persons=2, label=2, fps=25.0, timestamps=np.arange(5) / 25, image_size=(480, 640),
        subject="s1", camera="c2", setup="x", group="g", segments=((0, 2, 1), (2, 5, 0)),
        modalities={"inertial": np.arange(12, dtype=np.float32).reshape(4, 3), "depth": Path("depth/full.bin")},
    )  # fmt: skip
    bare = random_clip("bare", frames=9, label=None)
    store = write(tmp_path / "s", [full, bare], modalities={"inertial": "float32", "depth": "uint8"})
    for clip, read in zip((full, bare), store, strict=True):
        for field in ("name", "label", "fps", "image_size", "subject", "camera", "setup", "group", "segments"):
            assert getattr(read, field) == getattr(clip, field), field
        np.testing.assert_array_equal(read.keypoints, clip.keypoints)
        np.testing.assert_array_equal(read.score, clip.score)
    np.testing.assert_array_equal(store[0].timestamps, full.timestamps)
    np.testing.assert_array_equal(store[0].modalities["inertial"], full.modalities["inertial"])
    assert store[0].modalities["depth"] == tmp_path / "s" / "depth" / "full.bin"
    assert store[-1].timestamps is None
    assert not store[1].modalities
    assert store.names == ("full", "bare")
    np.testing.assert_array_equal(store.labels, [2, -1])
    np.testing.assert_array_equal(store.frames, [5, 9])
    np.testing.assert_array_equal(store.persons, [2, 1])
    np.testing.assert_array_equal(store.fps, [25, np.nan])
    np.testing.assert_array_equal(store.image_sizes, [[480, 640], [np.nan, np.nan]])
    assert store.groups == ("g", None)
    assert store.column("camera") == ("c2", None)


def test_rows_are_views_of_the_file_across_shards(tmp_path: Path) -> None:
    clips = [random_clip(f"c{i}", frames=3 + i % 5, persons=1 + i % 2) for i in range(40)]
    store = write(tmp_path / "s", clips, shard_bytes=8000)
    assert len(list((tmp_path / "s").glob("clips-*.arrow"))) > 3
    for index in (39, 0, 17, 18):
        keypoints, score = store.row(index)
        np.testing.assert_array_equal(keypoints, clips[index].keypoints)
        np.testing.assert_array_equal(score, clips[index].score)
        assert not keypoints.flags.owndata
        assert not keypoints.flags.writeable
    with pytest.raises(IndexError):
        store.row(40)
    assert [clip.name for clip in store] == [clip.name for clip in clips]


def test_shards_are_read_without_us(tmp_path: Path) -> None:
    clip = random_clip("c")
    write(tmp_path / "s", [clip])
    table = pa.ipc.open_file(str(tmp_path / "s" / "clips-00000.arrow")).read_all()
    assert table.schema.field("keypoints").type == pa.large_list(pa.float32())
    np.testing.assert_array_equal(table["keypoints"][0].values.to_numpy(), clip.keypoints.ravel())


def test_hash_does_not_depend_on_shards_but_on_content(tmp_path: Path) -> None:
    clips = [random_clip(f"c{i}") for i in range(6)]
    one = write(tmp_path / "one", clips).meta.content_hash
    assert write(tmp_path / "many", clips, shard_bytes=500).meta.content_hash == one
    assert write(tmp_path / "less", clips[:5]).meta.content_hash != one
    assert write(tmp_path / "split", clips, protocols={"p": {"train": ["c1"]}}).meta.content_hash != one


def test_protocols(tmp_path: Path) -> None:
    parts = {"train": ["c2", "c0"], "test": ["c1"], "test_clean": []}
    store = write(tmp_path / "s", [random_clip(f"c{i}") for i in range(3)], protocols={"p": parts})
    assert store.protocols == ("p",)
    split = store.protocol("p")
    np.testing.assert_array_equal(split["train"], [0, 2])
    np.testing.assert_array_equal(split["test"], [1])
    assert split["test_clean"].shape == (0,)
    assert split["test_clean"].dtype == np.int64
    with pytest.raises(UserError, match=r"unknown protocol 'q'.*Allowed: p"):
        store.protocol("q")


@pytest.mark.parametrize(
    ("parts", "message"),
    [({"train": ["c0"], "test": ["c0"]}, "in train and in test"), ({"train": ["c9"]}, "no clip 'c9'")],
)
def test_faulty_splits_are_refused(tmp_path: Path, parts: dict[str, list[str]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        write(tmp_path / "s", [random_clip("c0")], protocols={"p": parts})
    assert not list(tmp_path.iterdir())


def test_several_open_as_one(tmp_path: Path) -> None:
    first = [random_clip(f"a{i}") for i in range(3)]
    second = [random_clip(f"b{i}", label=1) for i in range(2)]
    write(tmp_path / "a", first, protocols={"p": {"train": ["a0"], "test": ["a1"]}, "only_a": {"train": ["a0"]}})
    write(tmp_path / "b", second, protocols={"p": {"train": ["b1"]}})
    store = Store.open([tmp_path / "a", tmp_path / "b"])
    assert store.names == ("a0", "a1", "a2", "b0", "b1")
    np.testing.assert_array_equal(store[4].keypoints, second[1].keypoints)
    assert store.protocols == ("p",)
    np.testing.assert_array_equal(store.protocol("p")["train"], [0, 4])
    write(tmp_path / "other", [random_clip("x", joints=13)], topology="penn13")
    with pytest.raises(UserError, match="joints differ"):
        Store.open([tmp_path / "a", tmp_path / "other"])
    with pytest.raises(UserError, match="same clip name"):
        Store.open([tmp_path / "a", tmp_path / "a"])


def test_pickles_by_path(tmp_path: Path) -> None:
    store = write(tmp_path / "s", [random_clip(f"c{i}", frames=60) for i in range(20)])
    store.row(0)
    text = pickle.dumps(store)
    assert len(text) < 1000
    np.testing.assert_array_equal(pickle.loads(text).row(7)[0], store.row(7)[0])


def test_relative_path_still_opens_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "s", [random_clip("c")])
    monkeypatch.chdir(tmp_path)
    text = pickle.dumps(Store.open("s"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(pickle.loads(text)) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [(b"subjekt", "columns unlike those of a store: subject, subjekt"), (b"s\x97bject", "can't decode byte 0x97")],
)
def test_foreign_columns_are_damage(name: bytes, message: str, tmp_path: Path) -> None:
    write(tmp_path / "s", [random_clip("a")])
    path = tmp_path / "s" / "clips-00000.arrow"
    content = path.read_bytes()
    assert content.count(b"subject") > 0
    path.write_bytes(content.replace(b"subject", name))
    with pytest.raises(UserError, match=rf"00000\.arrow: damaged.*{message}"):
        Store.open(tmp_path / "s")[0]


def test_info(tmp_path: Path) -> None:
    clips = [random_clip(f"c{i}", frames=4 + i, label=i % 2) for i in range(3)]
    facts = write(tmp_path / "s", clips, protocols={"p": {"train": ["c0"], "test": ["c1"]}}, terms="ask").info()
    assert facts["clips"] == 3
    assert facts["classes"] == {"run": 2, "jump": 1, "sit": 0}
    assert facts["frames"] == {"min": 4, "median": 5.0, "max": 6}
    assert facts["protocols"] == {"p": {"train": 1, "test": 1}}
    assert facts["terms"] == "ask"
    json.dumps(facts)


def test_meta_needs_no_other_file(tmp_path: Path) -> None:
    store = write(tmp_path / "s", [random_clip("c")])
    meta = json.loads((tmp_path / "s" / "meta.json").read_text())
    assert meta["topology"]["name"] == "coco17"
    assert store.topology.joints == tuple(meta["topology"]["joints"])


class TestWriting:
    def test_a_failure_leaves_nothing(self, tmp_path: Path) -> None:
        wrong = random_clip("d", joints=3)
        with pytest.raises(UserError, match="3 joints"):
            write(tmp_path / "s", [random_clip("c"), wrong])
        assert not list(tmp_path.iterdir())

    def test_a_failure_leaves_the_old_store(self, tmp_path: Path) -> None:
        write(tmp_path / "s", [random_clip("old")])
        with pytest.raises(UserError, match="written before"):
            write(tmp_path / "s", [random_clip("new"), random_clip("new")], overwrite=True)
        assert Store.open(tmp_path / "s").names == ("old",)
        assert len(list(tmp_path.iterdir())) == 1

    def test_overwrite_must_be_said(self, tmp_path: Path) -> None:
        write(tmp_path / "s", [random_clip("old")])
        with pytest.raises(UserError, match="--overwrite"):
            write(tmp_path / "s", [random_clip("new")])
        assert write(tmp_path / "s", [random_clip("new")], overwrite=True).names == ("new",)
        assert len(list(tmp_path.iterdir())) == 1

    def test_a_foreign_folder_is_never_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "s").mkdir()
        (tmp_path / "s" / "thesis.tex").write_text("years of work")
        with pytest.raises(UserError, match="no store"):
            write(tmp_path / "s", [random_clip("c")], overwrite=True)
        assert (tmp_path / "s" / "thesis.tex").is_file()

    def test_unwritable_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match="cannot be made"):
            write(tmp_path / "file" / "s", [random_clip("c")])

    def test_nothing_written(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no clip"):
            write(tmp_path / "s", [])

    def test_unknown_modality(self, tmp_path: Path) -> None:
        clip = random_clip("c", modalities={"audio": np.zeros(3, np.float32)})
        with pytest.raises(UserError, match="unknown modality 'audio'"):
            write(tmp_path / "s", [clip])
