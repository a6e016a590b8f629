"""Pose pickles: what is in them arrives, and a pickle that is more than data does not run."""

from __future__ import annotations

import collections
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample_clips import annotation

from skelgraph.data import Store, import_data
from skelgraph.data.readers.restricted_pickle import load
from skelgraph.errors import UserError

SavePickle = Callable[..., Path]


def read(path: Path, format: str = "finegym", **options: Any) -> Store:
    store = path.with_suffix(".store")
    import_data(format, path, store, progress=False, overwrite=True, **options)
    return Store.open(store)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_persons_lengths_and_split(save_pickle: SavePickle, protocol: int) -> None:
    lengths = {"short": 20, "middle": 100, "long": 130}
    notes = [
        annotation(f"{name}_{persons}", persons, frames, label=persons)
        for name, frames in lengths.items()
        for persons in range(4)
    ]
    names = [note["frame_dir"] for note in notes]
    store = read(save_pickle(notes, {"train": names[::2], "val": names[1::2]}, protocol))
    assert store.names == tuple(names)
    # Nobody found: the clip stays, with one person who is missing throughout, so that test figures count it.
    np.testing.assert_array_equal(store.persons, [1, 1, 2, 3] * 3)
    np.testing.assert_array_equal(store.frames, np.repeat([20, 100, 130], 4))
    assert not store[0].score.any()
    split = store.protocol("gym99")
    assert set(split) == {"train", "test"}
    np.testing.assert_array_equal(split["test"], np.arange(1, 12, 2))
    assert store.topology.name == "coco17"
    assert len(store.classes) == 99
    np.testing.assert_array_equal(store.image_sizes[0], [240, 320])


def test_order_and_values(save_pickle: SavePickle) -> None:
    note = annotation("clip", persons=3)
    clip = read(save_pickle([note]))[0]
    np.testing.assert_array_equal(clip.keypoints, note["keypoint"][::-1].astype(np.float32))
    np.testing.assert_array_equal(clip.score, note["keypoint_score"][::-1].astype(np.float32))


def test_filename_alias_clamped_scores_and_zero_frames(save_pickle: SavePickle) -> None:
    note = annotation("clip", persons=2)
    note["filename"] = note.pop("frame_dir")
    note["keypoint"][:, 5] = 0
    note["keypoint_score"][0, 7] = 3
    note["keypoint"][1] = 0
    clip = read(save_pickle([note]))[0]
    assert clip.name == "clip"
    assert clip.persons == 1
    assert not clip.score[:, 5].any()
    assert clip.score.max() == 1


def test_three_dimensional_ntu(save_pickle: SavePickle) -> None:
    names = ["S001C002P003R001A060", "S001C001P003R001A060", "S001C003P001R002A001"]
    notes = [annotation(name, 2, 12, joints=25, dims=3, label=59 * (i < 2)) for i, name in enumerate(names)]
    notes[0]["keypoint"][1] = 0
    split = {"xsub_train": names[:1], "xsub_val": names[1:], "xview_train": names[1:], "xview_val": names[:1]}
    store = read(save_pickle(notes, split), "ntu60_hrnet")
    assert (store.topology.name, store.meta.dims, store.meta.units) == ("ntu25", 3, "metres")
    assert store.protocols == ("xsub", "xview")
    np.testing.assert_array_equal(store.protocol("xsub")["test"], [1, 2])
    np.testing.assert_array_equal(store.persons, [1, 2, 2])
    assert store.groups[0] == store.groups[1] == "S001P003R001A060"
    assert store[0].camera == "C002"
    assert store.classes[59] == "walking apart"
    assert len(store.classes) == 60


def test_generic_needs_a_topology_for_unknown_joints(save_pickle: SavePickle, tmp_path: Path) -> None:
    path = save_pickle([annotation("clip", joints=13)], {"train": ["clip"], "val": [], "test": []})
    with pytest.raises(UserError, match="--topology"):
        read(path, "pyskl")
    store = read(path, "pyskl", topology="penn13")
    assert set(store.protocol("official")) == {"train", "val", "test"}
    (tmp_path / "names.txt").write_text("vault\n")
    assert read(path, "pyskl", topology="penn13", class_names=str(tmp_path / "names.txt")).classes == ("vault",)


def test_numpy_1_and_2_write_the_same(save_pickle: SavePickle) -> None:
    path = save_pickle([annotation("clip", 2)], protocol=2)
    text = path.read_bytes()
    other = (b"numpy.core.", b"numpy._core.") if b"numpy._core." not in text else (b"numpy._core.", b"numpy.core.")
    assert other[0] in text
    first = read(path).meta.content_hash
    path.write_bytes(text.replace(*other))
    assert read(path).meta.content_hash == first


def test_plain_containers_and_every_array_kind_are_read(tmp_path: Path) -> None:
    data = {
        "plain": [1, 2.5, None, True, "text", b"raw", (1,), {2}, frozenset({3}), 2**70],
        "arrays": [np.arange(6).reshape(2, 3), np.asfortranarray(np.eye(3)), np.zeros((0, 4)), np.array(["a", "bc"])],
        "objects": np.array([{"a": 1}, [2]], dtype=object),
        "scalars": [np.float16(0.5), np.int64(7), np.bool_(True)],
        "ordered": collections.OrderedDict(a=1),
    }
    for protocol in (2, 4, 5):
        (tmp_path / "p.pkl").write_bytes(pickle.dumps(data, protocol=protocol))
        read_back = load(tmp_path / "p.pkl")
        assert read_back["plain"] == data["plain"]
        for one, other in zip(read_back["arrays"], data["arrays"], strict=True):  # type: ignore[call-overload]
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
        assert read_back["objects"].tolist() == [{"a": 1}, [2]]
        assert read_back["scalars"] == data["scalars"]
        assert read_back["ordered"] == {"a": 1}


class Runs:
    """Unpickling this makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def hostile(tmp_path: Path) -> dict[str, bytes]:
    """Pickles that must be refused, each for its own reason."""
    array = pickle.dumps(np.arange(4, dtype=np.float32), protocol=2)
    return {
        "code": pickle.dumps([Runs(tmp_path / "ran")]),
        "old code": pickle.dumps([Runs(tmp_path / "ran")], protocol=0),
        "builtins": b"cbuiltins\neval\n(S'1'\ntR.",
        "numpy function": b"cnumpy\nload\n(S'x'\ntR.",
        "bare array": b"cnumpy\nndarray\n((I1000000000\nI1000000000\ntt\x81R.",
        "function attribute": b"c_codecs\nencode\n}S'a'\nI1\nsb.",
        "huge table": b"\x80\x02]r\xff\xff\xff\x7f.",
        "false length": b"\x80\x04B\xff\xff\xff\x7fab.",
        "false long length": b"\x80\x05\x96" + struct.pack("<Q", 2**60) + b"ab.",
        "false frame": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"].",
        "false shape": array.replace(b"K\x04\x85", b"K\x05\x85"),
        "deep": b"\x80\x02" + b"(" * 5000 + b"t" * 5000 + b".",
        "persistent": b"Pname\n.",
        "no pickle": b"hello, world",
        "empty": b"",
    }


@pytest.mark.parametrize("name", sorted(hostile(Path())))
def test_hostile_pickles_are_refused_and_do_not_run(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bad.pkl"
    path.write_bytes(hostile(tmp_path)[name])
    with pytest.raises(UserError, match=r"bad\.pkl"):
        load(path)
    assert not (tmp_path / "ran").exists()


def test_every_truncation_is_a_plain_error(save_pickle: SavePickle) -> None:
    path = save_pickle([annotation("clip", frames=2)], {"train": ["clip"]})
    whole = path.read_bytes()
    for length in [*range(0, len(whole) - 1, 37), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(UserError):
            load(path)
