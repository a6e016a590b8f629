"""SBU Kinect Interaction: the documented text format, damaged files, and the real set whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from skelgraph.cli.data import command
from skelgraph.data import Store, import_data
from skelgraph.data.protocols import check_groups, holdout
from skelgraph.data.readers.sbu import FOLDS
from skelgraph.errors import UserError
from skelgraph.topology import Topology


def frame(number: float, first: np.ndarray, second: np.ndarray) -> str:
    return ",".join(f"{value:.5g}" for value in (number, *first.ravel(), *second.ravel()))


def write(folder: Path, where: str, lines: list[str] | None = None, start: int = 7) -> Path:
    """A sequence of three frames, ended as the published files are."""
    chance = np.random.default_rng(0)
    sound = [frame(start + step, *chance.uniform(0.2, 0.8, (2, 15, 3))) for step in range(3)]
    path = folder / where / "skeleton_pos.txt"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{line}\r\n" for line in (sound if lines is None else lines)), newline="")
    return path


def test_normalisation_is_undone(tmp_path: Path) -> None:
    first, second = np.full((15, 3), 0.5), np.tile([0.25, 0.75, 2.0], (15, 1))
    second[4] = 0
    write(tmp_path / "src", "s03s05/08/002", [frame(1, first, second)])
    report = import_data("sbu", tmp_path / "src", tmp_path / "s", strict=True, progress=False)
    store = Store.open(report.path)
    clip = store[0]
    np.testing.assert_allclose(clip.keypoints[0], np.broadcast_to([0.0, 0.0, 0.64], (1, 15, 3)), atol=1e-6)
    np.testing.assert_allclose(clip.keypoints[1, 0, 0], [0.64, -0.48, 2.56], atol=1e-6)
    assert not clip.keypoints[1, 0, 4].any()
    assert clip.score.sum() == 29
    assert (clip.name, clip.subject, clip.group, clip.fps) == ("s03s05_08_002", "s03s05", "s03s05", 15)
    assert store.classes[clip.label] == "punching"
    assert (store.meta.units, store.meta.up) == ("metres", "+y")
    assert {"name": "normalisation undone", "x": "1.28 - 2.56 x", "y": "0.96 - 1.92 y", "z": "1.28 z",
            "unit": "metres"} in store.meta.steps  # fmt: skip


def test_folds_are_the_published_list() -> None:
    # "Set# 01, 09, 15, 19 (s01s02, s03s04, s05s02, s06s04)" and so on: sets are the pairs in order of their names.
    pairs = sorted(pair for fold in FOLDS for pair in fold)
    assert len(set(pairs)) == 21
    numbers = [[pairs.index(pair) + 1 for pair in fold] for fold in FOLDS]
    assert numbers == [[1, 9, 15, 19], [5, 7, 10, 16], [2, 3, 20, 21], [4, 6, 8, 11], [12, 13, 14, 17, 18]]


def test_protocols_hold_out_pairs(tmp_path: Path) -> None:
    for where in ("s01s02/01/001", "s03s04/02/001", "s02s01/03/001", "s06s03/04/010"):
        write(tmp_path / "src", where)
    import_data("sbu", tmp_path / "src", tmp_path / "s", strict=True, progress=False)
    store = Store.open(tmp_path / "s")
    tested = {number: [store.names[row] for row in store.protocol(f"fold{number}")["test"]] for number in range(1, 6)}
    assert tested == {1: ["s01s02_01_001", "s03s04_02_001"], 2: [], 3: [], 4: ["s02s01_03_001"], 5: ["s06s03_04_010"]}
    for number in range(1, 6):
        parts = store.protocol(f"fold{number}")
        assert sorted([*parts["train"], *parts["test"]]) == [0, 1, 2, 3]


def damaged(field: int, text: str) -> list[str]:
    """Three sound lines, then one with another text in one field."""
    lines = [frame(number, *np.full((2, 15, 3), 0.5)) for number in range(1, 5)]
    fields = lines[3].split(",")
    fields[field] = text
    return [*lines[:3], ",".join(fields)]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([*damaged(0, "4")[:3], "4,0.5,0.5"], ":4: 3 numbers, a frame of two persons has 91"),
        (damaged(40, "0,5"), ":4: 92 numbers"),
        (damaged(40, "0.5x"), ":4: '0.5x' is not a number"),
        (damaged(40, ""), ":4: '' is not a number"),
        (damaged(40, "nan"), ":4: 'nan' is not a finite number"),
        (damaged(0, "9"), ":4: frame 9 follows frame 3"),
        ([], ": empty, no frame in it"),
        (["", " "], ": empty, no frame in it"),
        (["1,\N{LATIN SMALL LETTER E WITH ACUTE}"], ": damaged"),
    ],
)
def test_damaged_files_are_named_with_their_line(tmp_path: Path, lines: list[str], message: str) -> None:
    write(tmp_path / "src", "s01s02/01/001")
    path = write(tmp_path / "src", "s01s02/02/001", lines)
    report = import_data("sbu", tmp_path / "src", tmp_path / "s", progress=False)
    assert report.clips == 1
    assert [item.reason.startswith(f"{path}{message}") for item in report.skipped] == [True]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("ds02s03/01/001", "'ds02s03' is none of the 21 pairs"),
        ("s01s02/09/001", "not of the form"),
        ("s01s02/1/001", "not of the form"),
        ("s01s02/01/1", "not of the form"),
    ],
)
def test_folders_must_be_named_as_published(tmp_path: Path, where: str, message: str) -> None:
    write(tmp_path / "src", where)
    with pytest.raises(UserError, match=message):
        import_data("sbu", tmp_path / "src", tmp_path / "s", strict=True, progress=False)


def test_source_without_sequences(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no skeleton_pos\.txt in it"):
        import_data("sbu", tmp_path, tmp_path / "s", progress=False)
    with pytest.raises(UserError, match="no such folder"):
        import_data("sbu", tmp_path / "nowhere", tmp_path / "s", progress=False)


@pytest.fixture(scope="module")
def real(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("sbu") / "s"
    done = CliRunner().invoke(command, ["import", "sbu", str(shared("sbu-interaction")), str(path)])
    assert (done.exit_code, done.output.strip()) == (0, f"282 clips written to {path}")
    return Store.open(path)


def test_real_counts(real: Store) -> None:
    assert (len(real), real.frames.sum(), real.frames.min(), np.median(real.frames), real.frames.max()) == (
        282, 6822, 10, 23, 46,
    )  # fmt: skip
    assert list(real.info()["classes"].values()) == [42, 43, 40, 41, 18, 21, 39, 38]
    assert real.info()["persons"] == {2: 282}
    assert len(set(real.groups)) == 21
    assert [len(real.protocol(f"fold{number}")["test"]) for number in range(1, 6)] == [55, 52, 56, 54, 65]
    assert [len(real.protocol(f"fold{number}")["train"]) for number in range(1, 6)] == [227, 230, 226, 228, 217]
    assert all((real.row(index)[1] == 1).all() for index in range(len(real)))


def test_real_folds_are_those_of_the_list_beside_the_files(real: Store, shared: Callable[[str], Path]) -> None:
    rows = (shared("sbu-interaction") / "folds.csv").read_text().split()[1:]
    listed = {(pair, int(number)) for pair, number in (row.split(",") for row in rows)}
    assert listed == {(pair, number) for number, fold in enumerate(FOLDS, 1) for pair in fold}


def test_real_axes_share_one_unit_and_point_as_said(real: Store) -> None:
    topology = Topology.load("sbu15")
    joint = topology.joints.index
    points = np.concatenate([real.row(index)[0] for index in range(0, len(real), 5)], axis=1).astype(np.float64)
    pairs = [("left_shoulder", "left_elbow"), ("left_hip", "left_knee"), ("head", "neck"), ("right_hip", "right_knee")]

    def spread(scale: np.ndarray) -> float:
        lengths = [np.linalg.norm((points[:, :, joint(a)] - points[:, :, joint(b)]) * scale, axis=-1) for a, b in pairs]
        return float(np.mean([length.std() / length.mean() for length in lengths]))

    plain = spread(np.ones(3))
    assert all(plain < spread(np.array(scale)) for scale in ((1, 1, 0.8), (1, 1, 1.25), (1, 0.8, 1), (1, 1.25, 1)))
    thigh = np.linalg.norm(points[:, :, joint("left_hip")] - points[:, :, joint("left_knee")], axis=-1)
    assert 0.38 < np.median(thigh) < 0.48
    assert (points[:, :, joint("head"), 1] > points[:, :, joint("left_foot"), 1]).mean() > 0.99
    towards = points[::-1, :, joint("neck")] - points[:, :, joint("neck")]
    left = np.cross([0.0, 1.0, 0.0], towards)
    across = points[:, :, joint("left_shoulder")] - points[:, :, joint("right_shoulder")]
    assert ((across * left).sum(-1) > 0).mean() > 0.85


def test_real_validation_part_holds_out_whole_pairs(real: Store) -> None:
    kept, val = holdout(real.labels, real.groups, real.protocol("fold1")["train"], 0.15, seed=0)
    check_groups(real.groups, kept, val)
    assert 0.08 < len(val) / 227 < 0.22
