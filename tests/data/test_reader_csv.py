"""Tables of joints: wide and long, csv and parquet, many clips in one file or one in each; what is damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import csv, parquet

from skelgraph.data import Store, import_data
from skelgraph.errors import UserError
from skelgraph.topology import Topology

HAND = Topology.load("hand21")
POINTS = np.random.default_rng(0).uniform(10, 90, (4, 21, 3)).round(3)


def wide(*, clip: str = "", dims: int = 2, score: str = "", head: str = "{joint}_{axis}", **facts: str) -> list[str]:
    """Lines of a table with a row a frame."""
    kinds = [*"xyz"[:dims], *([score] if score else [])]
    columns = [head.format(joint=joint, axis=kind) for joint in HAND.joints for kind in kinds]
    lines = [",".join([*(["clip"] if clip else []), "frame", *facts, *columns])]
    for frame, points in enumerate(POINTS[..., :dims]):
        cells = np.column_stack([points, np.full((21, 1), 0.5)]) if score else points
        numbers = [str(number) for number in cells.ravel()]
        lines.append(",".join([*([clip] if clip else []), str(frame + 5), *facts.values(), *numbers]))
    return lines


def long() -> list[str]:
    lines = ["frame,joint,person,x,y,confidence"]
    return lines + [
        f"{frame},{joint},{who},{POINTS[frame, place, 0] + 100 * who},{POINTS[frame, place, 1]},0.25"
        for frame in (0, 1, 3)
        for who in ([0, 1] if frame else [1])
        for place, joint in enumerate(HAND.joints)
    ]


def save(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(tmp_path: Path, src: Path, **options: Any) -> Store:
    import_data("csv", src, tmp_path / "s", strict=True, progress=False, overwrite=True, **options)
    return Store.open(tmp_path / "s")


def test_a_file_for_each_clip(tmp_path: Path) -> None:
    for name in ("fist/a", "fist/b", "open/a"):
        save(tmp_path / f"in/{name}.csv", wide(score="likelihood"))
    parquet.write_table(csv.read_csv(tmp_path / "in/open/a.csv"), tmp_path / "in/open/z.parquet")
    store = read(tmp_path, tmp_path / "in", fps=30)
    assert (store.names, store.classes) == (("fist/a", "fist/b", "open/a", "open/z"), ("fist", "open"))
    assert (store.topology.name, store.meta.dims, store.meta.units, store.meta.up) == ("hand21", 2, "pixels", "-y")
    for clip in store:
        np.testing.assert_allclose(clip.keypoints[0], POINTS[..., :2], rtol=1e-6)
        assert set(clip.score.ravel().tolist()) == {0.5}
    assert (store[3].fps, store[3].label) == (30.0, 1)


@pytest.mark.parametrize("head", ["{joint}_{axis}", "{axis}_{joint}", "{joint}.{axis}", "{joint} {axis}"])
def test_column_names(tmp_path: Path, head: str) -> None:
    store = read(tmp_path, save(tmp_path / "a.csv", wide(dims=3, head=head)), units="metres", up="+y")
    np.testing.assert_allclose(store[0].keypoints[0], POINTS, rtol=1e-6)
    assert (store.meta.dims, store.meta.units, store.meta.up) == (3, "metres", "+y")


def test_numbered_joints_need_a_topology(tmp_path: Path) -> None:
    columns = [f"{axis}{joint}" for joint in range(21) for axis in "xy"]
    rows = [",".join(map(str, points.ravel())) for points in POINTS[..., :2]]
    path = save(tmp_path / "a.csv", [",".join(columns), *rows])
    with pytest.raises(UserError, match="no known topology has just these 21 joints; say which with --topology"):
        read(tmp_path, path)
    np.testing.assert_allclose(read(tmp_path, path, topology="hand21")[0].keypoints[0], POINTS[..., :2], rtol=1e-6)


def test_many_clips_in_one_file_with_labels_and_parts(tmp_path: Path) -> None:
    one = wide(clip="one", label="fist", subject="Ann", split="train")
    two = wide(clip="two", label="open", subject="Bob", split="test")
    store = read(tmp_path, save(tmp_path / "all.csv", [*one, *two[1:]]))
    assert (store.names, store.classes, store.column("subject")) == (("one", "two"), ("fist", "open"), ("Ann", "Bob"))
    assert {part: rows.tolist() for part, rows in store.protocol("own").items()} == {"train": [0], "test": [1]}
    table = save(tmp_path / "labels.csv", ["clip,label", "one,x", "two,y"])
    assert read(tmp_path, tmp_path / "all.csv", labels=str(table)).classes == ("x", "y")
    assert read(tmp_path, tmp_path / "all.csv", labels="none").labels.tolist() == [-1, -1]


def test_long_with_two_persons_one_of_whom_comes_late(tmp_path: Path) -> None:
    clip = read(tmp_path, save(tmp_path / "a.csv", long()))[0]
    assert clip.keypoints.shape == (2, 4, 21, 2)
    assert clip.score.any(-1).tolist() == [[True, True, False, True], [False, True, False, True]]
    np.testing.assert_allclose(clip.keypoints[0, 3, :, 0], POINTS[3, :, 0] + 100, rtol=1e-6)
    assert set(clip.score[0, 0].tolist()) == {0.25}
    assert read(tmp_path, tmp_path / "a.csv", persons=1)[0].persons == 1


def test_empty_cells_and_times(tmp_path: Path) -> None:
    lines = wide()
    lines[0] = lines[0].replace("frame", "time")
    cells = lines[2].split(",")
    lines[2] = ",".join(["6.5", "", *cells[2:4], "NaN", *cells[5:]])
    clip = read(tmp_path, save(tmp_path / "a.csv", lines))[0]
    assert clip.score[0, 1].tolist() == [0, 0] + [1] * 19
    assert clip.timestamps is not None
    assert clip.timestamps.tolist() == [5, 6.5, 7, 8]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [lines[0].replace("wrist", "wirst"), *lines[1:]], "unknown joint.*Did you mean 'wrist'"),
        (lambda lines: [*lines[:2], "6,abc" + lines[2][lines[2].index(",", 3) :]], ":3: column 'wrist_x' holds 'abc'"),
        (lambda lines: [*lines[:3], lines[2]], ":4: the same person, frame and joint as in a row before"),
        (lambda lines: [*lines[:2], lines[2].replace("6,", "6.5,", 1)], ":3: frame 6.5 is no whole number"),
        (lambda lines: [*lines[:2], lines[2] + ",1"], "no sound csv table"),
        (lambda lines: lines[:1], "has no rows"),
        (lambda lines: [lines[0].replace("wrist_y", "wrist_x"), *lines[1:]], ":1: the column 'wrist_x' is there twice"),
        (lambda lines: ["a,b", "1,2"], ":1: no columns of joints"),
        (lambda lines: [*lines[:2], lines[2].replace("6,", "600000000,", 1)], "too many for one clip"),
    ],
)  # fmt: skip
def test_damaged(tmp_path: Path, change: Any, message: str) -> None:
    path = save(tmp_path / "a.csv", change(wide()))
    with pytest.raises(UserError, match=message):
        read(tmp_path, path, topology="hand21")


def test_labels_that_change_inside_a_clip(tmp_path: Path) -> None:
    lines = wide(label="fist")
    lines[3] = lines[3].replace("fist", "open")
    with pytest.raises(UserError, match=r"a\.csv:4: label 'open' differs from the 'fist' before"):
        read(tmp_path, save(tmp_path / "a.csv", lines))
