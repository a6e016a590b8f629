"""Hostile YAML, and stores of which somebody has damaged a file: a `UserError` that names it, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile import Change, apply, bounded, changes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_clips import random_clip

from skelgraph import yamlfile
from skelgraph.data import Store, StoreWriter
from skelgraph.errors import UserError
from skelgraph.topology import Topology

MINUTES = float(os.environ.get("FUZZ_MINUTES", 0))
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
YAML = {
    "alias bomb": BOMB,
    "few aliases, many values": "a: &a [" + "x, " * 30_000 + "x]\n" + "".join(f"b{n}: *a\n" for n in range(9)),
    "deep": "[" * 100_000,
    "deep block": "".join(" " * n + "a:\n" for n in range(2000)),
    "itself": "&a [*a]",
    "object": "!!python/object/apply:os.system [touch /tmp/escaped]",
    "long number": "a: " + "9" * 10_000,
    "base 60": "a: 190:20:30:99999999999999999999",
    "merge": "a: &a {x: 1}\nb: {<<: [*a, *a]}",
    "control": "a: \x07",
    "surrogate": 'a: "\\ud800"',
    "binary": "a: !!binary 'x'",
    "set": "? {a: 1}\n: 2",
}


@pytest.mark.parametrize("name", YAML)
def test_yaml(name: str, tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(YAML[name])
    with bounded(), pytest.raises(UserError, match=r"t\.yaml"):
        Topology.load(tmp_path / "t.yaml")
    assert not Path("/tmp/escaped").exists()


def test_fuzz_yaml(tmp_path: Path) -> None:
    sound = (Path(__file__).parents[2] / "topologies" / "hand21.yaml").read_bytes()
    path = tmp_path / "t.yaml"

    @settings(max_examples=60 if MINUTES else 10, deadline=None, database=None, derandomize=not MINUTES,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(changes)
    def one(steps: list[Change]) -> None:
        path.write_bytes(sound)
        apply(path, steps)
        with bounded():
            try:
                Topology.load(path)
                yamlfile.read(path)
            except UserError as error:
                assert "t.yaml" in str(error)  # noqa: PT017

    _for_minutes(one, "topology")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "sound"
    with StoreWriter(path, topology="coco17", dims=2, classes=["a", "b"], modalities={"imu": "float32"}) as writer:
        for number in range(6):
            clip = random_clip(f"clip{number}", frames=3 + number, persons=1 + number % 2, label=number % 2, group="g")
            writer.write(clip)
        writer.protocols = {"p": {"train": ["clip0", "clip1"], "test": ["clip2"]}}
    return path


USE = """
import sys
from skelgraph.data import Store
from skelgraph.errors import UserError
for path in sys.stdin.read().splitlines():
    try:
        store = Store.open(path)
        store.info(), store.groups, store.image_sizes, store.fps
        for clip in store:
            float(clip.keypoints.sum())
    except UserError as error:
        if path not in str(error):
            print(path, "not named:", error)
    except Exception as error:
        print(path, type(error).__name__, error)
print("done")
"""


def test_fuzz_stores(store: Path, tmp_path: Path) -> None:
    """In a process of its own, since a wrong offset in mapped memory would end it."""
    files = sorted(path.name for path in store.iterdir())
    made: list[Path] = []

    @settings(max_examples=200 if MINUTES else 60, deadline=None, database=None, derandomize=not MINUTES,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.sampled_from(files), changes)
    def one(name: str, steps: list[Change]) -> None:
        made.append(tmp_path / f"s{len(made)}")
        shutil.copytree(store, made[-1])
        apply(made[-1] / name, steps)

    def batch() -> None:
        made.clear()
        one()
        paths = "\n".join(map(str, made))
        done = subprocess.run([sys.executable, "-c", USE], input=paths, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "done\n"), done.stdout + done.stderr[-2000:]
        for path in made:
            shutil.rmtree(path)

    _for_minutes(batch, "store", 200 if MINUTES else 60)


def _for_minutes(one: Callable[[], None], name: str, count: int = 60) -> None:
    until, runs = time.monotonic() + 60 * MINUTES, 0
    while not runs or time.monotonic() < until:
        one()
        runs += 1
    if "FUZZ_LOG" in os.environ:
        with open(os.environ["FUZZ_LOG"], "a") as log:
            log.write(f"{name},{MINUTES:g},{count * runs},\n")


def test_sound_store_is_read(store: Path) -> None:
    assert len(Store.open(store)) == 6
