"""Hostile and damaged files, for every registered format; see `hostile`.

FUZZ_MINUTES=10 FUZZ_LOG=fuzz.csv pytest tests/data/test_hostile.py -k fuzz        # what `make fuzz` does
"""

from __future__ import annotations

import functools
import json
import os
import pickle
import re
import shutil
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hostile import Change, apply, changes, corpus, survive, survive_prediction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from reader_samples import SAMPLES, Sample

from skelgraph.data.readers import READERS, import_data
from skelgraph.data.readers.matlab import load_mat
from skelgraph.errors import UserError
from skelgraph.topology import Topology

pytest.importorskip("resource")
FORMATS = sorted(SAMPLES)
MINUTES = float(os.environ.get("FUZZ_MINUTES", 0))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny stores by the thousand must not wait for the disk, nor for YAML."""
    monkeypatch.setattr("os.fsync", lambda file: None)
    monkeypatch.setattr(Topology, "load", staticmethod(functools.cache(Topology.load)))


def fresh(format: str, folder: Path) -> Sample:
    """A sound source in ``folder``."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if format in ("penn-action", "utd-mhad"):
        pytest.importorskip("scipy")
    return SAMPLES[format](folder)


def test_every_format_has_a_sample() -> None:
    assert set(SAMPLES) >= set(READERS.names())


@pytest.mark.parametrize("format", FORMATS)
def test_sound_files_are_read(format: str, tmp_path: Path) -> None:
    assert survive(format, fresh(format, tmp_path / "src"), tmp_path / "s") == ""


@pytest.mark.parametrize("format", [name for name in FORMATS if name not in ("finegym", "diving48", "ntu120_hrnet")])
def test_corpus(format: str, tmp_path: Path) -> None:
    trace, src, complaints = tmp_path / "trace", tmp_path / "src", 0
    sample = fresh(format, src)
    for place, path in enumerate(sample.files):
        content = path.read_bytes()
        # The first file suffers everything, the others every third damage.
        for name, damage in list(corpus(path, trace))[:: 3 if place else 1]:
            try:
                damage(path)
                complaints += bool(survive(format, sample, tmp_path / "s"))
            except BaseException as error:
                error.add_note(f"{format}: {path.name} (file {place}): {name}")
                raise
            assert not trace.exists(), f"{format}: {path.name}: {name}: the code of the file was run"
            shutil.rmtree(path) if path.is_dir() else None
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    assert complaints > 5


def poses_alone(format: str, folder: Path) -> Sample:
    """A sound source of a form that prediction alone reads."""
    folder.mkdir()
    points = np.random.default_rng(0).uniform(0.1, 0.9, (9, 17, 2)).round(3)
    if format == "npy":
        np.save(folder / "own.npy", points)
    else:
        (folder / "own.jsonl").write_text("\n".join(json.dumps(frame) for frame in points.tolist()))
    return Sample(folder / f"own.{format}", topology="coco17")


@pytest.mark.parametrize(
    "format", ["npy", "jsonl", *(name for name in FORMATS if name not in ("finegym", "diving48", "ntu120_hrnet"))]
)
def test_corpus_in_prediction(format: str, tmp_path: Path) -> None:
    """What labels an import needs is not there for prediction, so that it reads by ways of its own."""
    make = fresh if format in SAMPLES else poses_alone
    trace, sample, complaints = tmp_path / "trace", make(format, tmp_path / "src"), 0
    path = max(sample.files, key=lambda path: path.stat().st_size)
    content = path.read_bytes()
    for name, damage in list(corpus(path, trace))[:: 3 if format in SAMPLES else 1]:
        try:
            damage(path)
            complaints += bool(survive_prediction(format, sample))
        except BaseException as error:
            error.add_note(f"{format}: {path.name}: {name}")
            raise
        assert not trace.exists(), f"{format}: {path.name}: {name}: the code of the file was run"
        shutil.rmtree(path) if path.is_dir() else None
        path.write_bytes(content)
    assert complaints


def test_parquet_bomb(tmp_path: Path) -> None:
    """A table of few bytes with 800 MB of zeros."""
    rows = pa.table({"hand_x": np.zeros(1_000_000)})
    (tmp_path / "src").mkdir()
    path = tmp_path / "src" / "own.parquet"
    with parquet.ParquetWriter(path, rows.schema) as writer:
        for _ in range(100):
            writer.write_table(rows)
    assert "far beyond" in survive("csv", Sample(path), tmp_path / "s")


def test_endless_label_is_cut_in_the_message(tmp_path: Path) -> None:
    """Two names of one class, one of 6000 letters: found by ten minutes of fuzzing."""
    sample = fresh("kinetics-skeleton", tmp_path / "src")
    labels = next(path for path in sample.files if path.name == "kinetics_train_label.json")
    note = {"has_skeleton": True, "label": "9" * 6000, "label_index": 0}
    labels.write_text(json.dumps({"a": note, "c": {**note, "label": "run"}}))
    with pytest.raises(UserError, match=r"kinetics_train_label\.json: class 0 is called 'run' and '9+ \.\.\. 9+'"):
        import_data("kinetics-skeleton", sample.src, tmp_path / "s")


@pytest.mark.parametrize("format", ["npz", "pyskl", "stgcn-npy"])
def test_a_class_number_of_millions_makes_no_list_of_classes(format: str, tmp_path: Path) -> None:
    sample = fresh(format, tmp_path / "src")
    path = next(path for path in sample.files if path.suffix in (".pkl", ".npz"))
    if format == "npz":
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files if name != "classes"}
        np.savez(path, **{**arrays, "label": [0, 7_907_834, 1]})
    elif format == "pyskl":
        content = pickle.loads(path.read_bytes())
        content["annotations"][0]["label"] = 7_907_834
        path.write_bytes(pickle.dumps(content))
    else:
        path.write_bytes(pickle.dumps((["a", "b"], [0, 7_907_834])))
    assert re.search("label 7907834 out of range, there are [12] classes", survive(format, sample, tmp_path / "s"))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("type", [0, 14, 480, 2**31 + 5])
def test_a_wrong_type_in_a_matlab_file_does_not_end_the_process(type: int, packed: bool, tmp_path: Path) -> None:
    """scipy takes it for an index: found by ten minutes of fuzzing."""
    savemat = pytest.importorskip("scipy.io").savemat
    savemat(tmp_path / "sound.mat", {"numbers": np.arange(12.0)})
    content = (tmp_path / "sound.mat").read_bytes()
    place = content.index(struct.pack("<II", 9, 96))
    content = content[:place] + struct.pack("<I", type) + content[place + 4 :]
    if packed:
        body = zlib.compress(content[128:])
        content = content[:128] + struct.pack("<II", 15, len(body)) + body
    (tmp_path / "bad.mat").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.mat: damaged MATLAB file"):
        load_mat(tmp_path / "bad.mat", ["numbers"])


@pytest.mark.parametrize("format", FORMATS)
def test_fuzz(format: str, tmp_path: Path) -> None:
    until, count, complaints = time.monotonic() + 60 * MINUTES, 0, 0
    src = tmp_path / "src"
    sound = {path: path.read_bytes() for path in fresh(format, src).files}
    sample = fresh(format, src)

    @settings(
        max_examples=400 if MINUTES else 12, deadline=None, database=None, derandomize=not MINUTES,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    @given(st.floats(0, 1, exclude_max=True), changes)
    def one(which: float, steps: list[Change]) -> None:
        nonlocal count, complaints
        path = list(sound)[int(which * len(sound))]
        apply(path, steps)
        try:
            complaints += bool(survive(format, sample, tmp_path / "s"))
        finally:
            count += 1
            path.write_bytes(sound[path])

    one()
    while time.monotonic() < until:
        one()
    assert complaints
    if "FUZZ_LOG" in os.environ:
        with open(os.environ["FUZZ_LOG"], "a") as log:
            log.write(f"{format},{MINUTES:g},{count},{complaints}\n")
