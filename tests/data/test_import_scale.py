"""Imports that are large: several processes, kills, shares, growth. In the end the store is always the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killed_import import content

from skelgraph.data import Store, import_data, journal, writer
from skelgraph.data.readers import nw_ucla
from skelgraph.data.shard_files import ShardFiles
from skelgraph.errors import UserError

ACTIONS = nw_ucla.ACTIONS


def write_source(folder: Path, clips: int, first: int = 0) -> Path:
    """NW-UCLA json, 4 frames each; every seventh file is damaged."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + clips):
        action = number % 10
        name = f"{ACTIONS[action]}_s{number // 10 % 10 + 1:02d}_e{number // 100:02d}_v{number % 3 + 1:02d}"
        points = np.random.default_rng(number).normal(size=(4, 20, 3)).round(3).tolist()
        text = json.dumps({"file_name": name, "skeletons": points, "label": action + 1})
        (folder / f"{name}.json").write_text(text[:99] if number % 7 == 3 else text)
    return folder


@pytest.fixture
def src(tmp_path: Path) -> Path:
    return write_source(tmp_path / "src", 60)


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record batch every three clips, a shard every four batches; and no waiting for the disk."""
    monkeypatch.setattr("os.fsync", lambda file: None)
    monkeypatch.setattr(writer, "BATCH_BYTES", 3000)
    monkeypatch.setattr(writer, "SHARD_BYTES", 12_000)


def make(src: Path, dst: Path, **settings: Any) -> Store:
    import_data("nw-ucla", src, dst, progress=False, **settings)
    return Store.open(dst)


class Stopping:
    """Makes the reader stop like Ctrl-C at its n-th item."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        self.read = nw_ucla.NwUcla.read
        monkeypatch.setattr(nw_ucla.NwUcla, "read", lambda reader, item: self.one(reader, item))

    def one(self, reader: Any, item: Any) -> Iterator[Any]:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise KeyboardInterrupt
        return self.read(reader, item)


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Stopping:
    return Stopping(monkeypatch)


def test_several_processes_write_the_same_bytes(src: Path, tmp_path: Path) -> None:
    make(src, tmp_path / "one")
    make(src, tmp_path / "two", workers=2)
    assert len(list((tmp_path / "one").glob("clips-*.arrow"))) > 2
    assert content(tmp_path / "two") == content(tmp_path / "one")


def test_goes_on_where_it_was_stopped(src: Path, tmp_path: Path, stop: Stopping) -> None:
    make(src, tmp_path / "whole")
    for left in (20, 11, 1):
        stop.left = left
        with pytest.raises(KeyboardInterrupt):
            make(src, tmp_path / "s")
    assert not (tmp_path / "s").exists()
    report = import_data("nw-ucla", src, tmp_path / "s", progress=False)
    assert report.resumed > 20
    assert report.clips == 51
    assert len(report.skipped) == 9
    assert content(tmp_path / "s") == content(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s", "src", "whole"]


def test_unfinished_work_is_not_mixed_with_other_work(src: Path, tmp_path: Path, stop: Stopping) -> None:
    stop.left = 30
    with pytest.raises(KeyboardInterrupt):
        make(src, tmp_path / "s")
    write_source(src, 1, first=60)
    with pytest.raises(UserError, match=r"something else is there \(items differ\).*--restart"):
        make(src, tmp_path / "s")
    assert (tmp_path / ".s.partial").is_dir()
    store = make(src, tmp_path / "s", restart=True)
    assert content(store.paths[0]) == content(make(src, tmp_path / "whole").paths[0])


def test_one_at_a_time(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "WAIT", 0.05)
    first = journal.Journal(tmp_path / "s", {})
    first.open()
    with pytest.raises(UserError, match="another process"):
        make(src, tmp_path / "s")
    first.release()
    assert len(make(src, tmp_path / "s")) == 51


def test_full_disk_loses_no_work(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, left = ShardFiles.write, [7]

    def full(files: ShardFiles, *args: Any) -> None:
        left[0] -= 1
        if not left[0]:
            raise OSError(28, "No space left on device")
        write(files, *args)

    monkeypatch.setattr(ShardFiles, "write", full)
    with pytest.raises(UserError, match=r"No space left.*same command goes on"):
        make(src, tmp_path / "s")
    report = import_data("nw-ucla", src, tmp_path / "s", progress=False)
    assert report.resumed == 18
    assert content(tmp_path / "s") == content(make(src, tmp_path / "whole").paths[0])


@pytest.mark.parametrize(
    ("trials", "workers"),
    [(2, 1), pytest.param(20, 1, marks=pytest.mark.slow), pytest.param(20, 2, marks=pytest.mark.slow)],
)
def test_killed_at_random_moments(tmp_path: Path, trials: int, workers: int) -> None:
    src = write_source(tmp_path / "src", 20 * trials + 100)
    (tmp_path / "out").mkdir()
    script = Path(__file__).parent / "killed_import.py"
    command = [sys.executable, str(script), str(src), str(tmp_path / "out"), str(trials), str(workers), "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert [result["same"] for result in results] == [True] * trials
    assert all(result["kills"] for result in results)
    assert any(result["resumed"] for result in results)


class TestShares:
    def test_are_one_store_in_the_end(self, src: Path, tmp_path: Path) -> None:
        whole = make(src, tmp_path / "whole")
        for index in (2, 0):
            report = import_data("nw-ucla", src, tmp_path / "s", shard=f"{index}/3", progress=False)
        assert "1 of 3 shards are still to come: 1" in report.lines()
        with pytest.raises(UserError, match="2 of 3 shards are there"):
            Store.open(tmp_path / "s")
        report = import_data("nw-ucla", src, tmp_path / "s", shard="1/3", progress=False)
        assert f"all 3 shards are there: {tmp_path / 's'} is one store of 51 clips" in report.lines()
        store = Store.open(tmp_path / "s")
        assert store.names == whole.names
        assert store.meta.content_hash == whole.meta.content_hash
        np.testing.assert_array_equal(store.row(37)[0], whole.row(37)[0])
        for name in whole.protocols:
            for part, rows in whole.protocol(name).items():
                np.testing.assert_array_equal(store.protocol(name)[part], rows)
        for name in ("skipped.csv", "splits.json", "classes.json"):
            assert (tmp_path / "s" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        again = import_data("nw-ucla", src, tmp_path / "s", shard="1/3", progress=False)
        assert any("there already" in line for line in again.lines())

    def test_of_different_sources_are_refused(self, src: Path, tmp_path: Path) -> None:
        make_share = {"dst": tmp_path / "s", "progress": False}
        import_data("nw-ucla", src, shard="0/2", **make_share)
        write_source(src, 1, first=60)
        with pytest.raises(UserError, match="from other files"):
            import_data("nw-ucla", src, shard="1/2", **make_share)
        with pytest.raises(UserError, match="holds shares of 2, not of 3"):
            import_data("nw-ucla", src, shard="1/3", **make_share)

    @pytest.mark.parametrize("text", ["3/3", "1", "a/b", "-1/3"])
    def test_must_be_said_well(self, src: Path, tmp_path: Path, text: str) -> None:
        with pytest.raises(UserError, match="from 0 to n - 1"):
            import_data("nw-ucla", src, tmp_path / "s", shard=text, progress=False)


class TestAppending:
    def test_gives_the_store_of_both(self, src: Path, tmp_path: Path) -> None:
        more = write_source(tmp_path / "more", 30, first=100)
        opened = make(src, tmp_path / "s")
        before = opened.row(50)[0].copy()
        store = make(more, tmp_path / "s", append=True)
        single = make(more, tmp_path / "single")
        assert store.names == (*opened.names, *single.names)
        np.testing.assert_array_equal(store.labels[51:], single.labels)
        np.testing.assert_array_equal(store.row(60)[0], single.row(9)[0])
        train = store.protocol("v12_v3")["train"]
        np.testing.assert_array_equal(train[train >= 51] - 51, single.protocol("v12_v3")["train"])
        np.testing.assert_array_equal(opened.row(50)[0], before)
        assert (tmp_path / "s" / "skipped.csv").read_text().count("\n") == 1 + 9 + 5
        assert sorted(path.name for path in tmp_path.iterdir()) == ["more", "s", "single", "src"]

    def test_goes_on_after_a_stop(self, src: Path, tmp_path: Path, stop: Stopping) -> None:
        more = write_source(tmp_path / "more", 40, first=100)
        make(src, tmp_path / "s")
        make(src, tmp_path / "t")
        make(more, tmp_path / "t", append=True)
        stop.left = 25
        with pytest.raises(KeyboardInterrupt):
            make(more, tmp_path / "s", append=True)
        assert len(Store.open(tmp_path / "s")) == 51
        make(more, tmp_path / "s", append=True)
        assert content(tmp_path / "s") == content(tmp_path / "t")

    def test_of_the_same_clips_changes_nothing(self, src: Path, tmp_path: Path) -> None:
        make(src, tmp_path / "s")
        before = content(tmp_path / "s")
        with pytest.raises(UserError, match="written before"):
            make(src, tmp_path / "s", append=True)
        assert content(tmp_path / "s") == before
        assert sorted(path.name for path in tmp_path.iterdir()) == ["s", "src"]

    def test_knows_classes_by_name(self, tmp_path: Path) -> None:
        def save(name: str, classes: list[str], joints: int = 17) -> Path:
            points = np.random.default_rng(0).normal(size=(2, 1, 4, joints, 2))
            np.savez(tmp_path / name, keypoints=points, label=[0, 1], classes=classes, topology="coco17")
            return tmp_path / f"{name}.npz"

        def add(path: Path) -> None:
            import_data("npz", path, tmp_path / "s", append=True, progress=False)

        import_data("npz", save("a", ["run", "jump", "sit"]), tmp_path / "s", progress=False)
        add(save("b", ["sit", "run"]))
        assert Store.open(tmp_path / "s").labels.tolist() == [0, 1, 2, 0]
        with pytest.raises(UserError, match="has no class 'swim'"):
            add(save("c", ["run", "swim"]))
        with pytest.raises(UserError, match="no store there"):
            import_data("npz", save("d", ["run", "sit"]), tmp_path / "none", append=True, progress=False)
