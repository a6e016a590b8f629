"""NTU RGB+D .skeleton: the documented text format, the published choice of bodies, damaged files, splits."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from skelgraph.cli.data import command
from skelgraph.data import Store, import_data
from skelgraph.data.readers import READERS
from skelgraph.data.readers.ntu import SUBJECTS_60, SUBJECTS_120, ntu_protocols
from skelgraph.errors import UserError

NAME = "S001C002P003R001A051"
FIRST = 72057594037931101  # one apart, which a float64 cannot tell
Frame = Sequence[tuple[int, np.ndarray]]


def person(seed: int, frames: int, motion: float = 0.1, width: float = 0.3) -> np.ndarray:
    """Joints ``(T, 25, 3)`` that span 1.6 m in y."""
    chance = np.random.default_rng(seed)
    rest = np.stack([np.linspace(0, width, 25), np.linspace(-0.8, 0.8, 25), np.full(25, 3.0)], axis=-1)
    return rest + chance.normal(size=(frames, 1, 3)) * motion


def lines_of(frames: Sequence[Frame], state: int = 2, tracked: int = 2) -> list[str]:
    """A file as the data set has it; images are functions of the joints."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for number, joints in bodies:
            lines += [f"{FIRST + number} 0 1 1 1 1 0 0.02764709 0.05745083 {tracked}", "25"]
            for x, y, z in joints.astype(np.float32):
                depth, color = (x * 100 + 200, y * 100 + 200), (x * 400 + 900, y * 400 + 500)
                values = (x, y, z, *depth, *color, -0.2, 1.5e-05, 0.97, -0.12)
                lines.append(" ".join(f"{value:.9g}" for value in values) + f" {state}")
    return lines


def write(folder: Path, lines: Sequence[str], name: str = NAME, end: str = "\r\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.skeleton"
    path.write_text("".join(line + end for line in lines), newline="")
    return path


def present(spans: Sequence[tuple[int, int, np.ndarray]], frames: int) -> list[Frame]:
    """Frames out of (first, last + 1, joints) of each tracking id; joints count from the first frame."""
    return [
        [(number, joints[t - first]) for number, (first, end, joints) in enumerate(spans) if first <= t < end]
        for t in range(frames)
    ]


def imported(tmp_path: Path, **options: Any) -> Store:
    report = import_data(
        "ntu", tmp_path / "src", tmp_path / "s", strict=True, progress=False, overwrite=True, **options
    )
    return Store.open(report.path)


def test_one_body_as_written(tmp_path: Path) -> None:
    joints = person(0, 30)
    write(tmp_path / "src" / "nturgb+d_skeletons", lines_of([[(0, frame)] for frame in joints]))
    store = imported(tmp_path)
    clip = store[0]
    np.testing.assert_array_equal(clip.keypoints[0], joints.astype(np.float32))
    assert (clip.score == 1).all()
    assert (clip.name, clip.subject, clip.camera, clip.setup) == (NAME, "P003", "C002", "S001")
    assert (clip.group, clip.fps, clip.label) == ("S001P003R001A051", 30, 50)
    assert (store.meta.units, store.meta.up, len(store.classes)) == ("metres", "+y", 60)
    assert store.classes[50] == "kicking"
    for image, scale, origin in (("color", 400, (900, 500)), ("depth", 100, (200, 200))):
        clip = imported(tmp_path, coordinates=image)[0]
        np.testing.assert_allclose(clip.keypoints[0], joints[..., :2] * scale + origin, rtol=1e-5)
        assert clip.image_size == {"color": (1080, 1920), "depth": (424, 512)}[image]


def test_bodies_appear_vanish_and_return(tmp_path: Path) -> None:
    # The first person loses their id at frame 20 and is found again at 25 with another; the second comes late; frames
    # 0 to 4 and 45 to 49 show nobody. The first moves more.
    first, second, again = person(1, 15, 0.5), person(2, 15, 0.2), person(3, 20, 0.4)
    frames = present([(5, 20, first), (12, 27, second), (25, 45, again)], 50)
    write(tmp_path / "src", lines_of(frames))
    store = imported(tmp_path)
    clip = store[0]
    assert (clip.persons, clip.frames, clip.fps) == (2, 40, None)
    assert clip.timestamps is not None
    np.testing.assert_allclose(clip.timestamps, np.arange(5, 45) / 30)
    np.testing.assert_array_equal((clip.score > 0).all(-1), [
        [t < 15 or t >= 20 for t in range(40)], [7 <= t < 22 for t in range(40)],
    ])  # fmt: skip
    np.testing.assert_array_equal(clip.keypoints[0, :15], first.astype(np.float32))
    np.testing.assert_array_equal(clip.keypoints[0, 20:], again.astype(np.float32))
    np.testing.assert_array_equal(clip.keypoints[1, 7:22], second.astype(np.float32))
    kept = imported(tmp_path, empty_frames="keep")[0]
    assert (kept.frames, kept.fps, kept.timestamps) == (50, 30, None)
    np.testing.assert_array_equal(kept.keypoints[:, 5:45], clip.keypoints)
    assert not kept.score[:, :5].any()
    everyone = imported(tmp_path, bodies="all")[0]
    np.testing.assert_array_equal((everyone.score > 0).any(-1).sum(1), [15, 15, 20])


def test_a_body_that_returns_under_its_id_keeps_its_frames(tmp_path: Path) -> None:
    body, other = person(0, 30), person(1, 40, 0.01)
    frames = [[(1, other[t])] + ([(0, body[t if t < 15 else t - 10])] if t < 15 or t >= 25 else []) for t in range(40)]
    write(tmp_path / "src", lines_of(frames))
    clip, published = imported(tmp_path)[0], imported(tmp_path, official=True)[0]
    assert clip.score[0].any(-1).tolist() == [t < 15 or t >= 25 for t in range(40)]
    assert published.score[0].any(-1).tolist() == [t < 30 for t in range(40)]
    np.testing.assert_array_equal(published.keypoints[0, :30], body.astype(np.float32))


def rules(store: Store) -> list[str]:
    return [step["name"].split()[-1] for step in store.meta.steps if step["name"].startswith("denoise")]


def test_denoising_rules_are_switched_and_named(tmp_path: Path) -> None:
    # Ids: a person, one seen too shortly, one wider than tall, one that is small and still.
    spans = [(0, 40, person(0, 40, 0.3)), (0, 11, person(1, 11)), (0, 30, person(2, 30, 0.1, width=1.5)),
             (0, 40, person(3, 40, 0.0) * [0.1, 0.1, 1.0])]  # fmt: skip
    write(tmp_path / "src", lines_of(present(spans, 40)))

    def lengths(**options: Any) -> tuple[list[int], list[str]]:
        store = imported(tmp_path, bodies="all", **options)
        return store[0].score.any(-1).sum(1).tolist(), rules(store)

    assert lengths(denoise="none") == ([40, 11, 30, 40], [])
    assert lengths(denoise="length") == ([40, 30, 40], ["length"])
    assert lengths(denoise=["spread"]) == ([40, 11, 40], ["spread"])
    assert lengths(denoise="motion") == ([40, 11, 30], ["motion"])
    assert lengths() == ([40, 40], ["length", "spread"])
    assert lengths(denoise="length,spread,motion") == ([40], ["length", "spread", "motion"])
    energetic = imported(tmp_path, bodies="energy")
    assert rules(energetic) == []
    np.testing.assert_array_equal(energetic[0].keypoints[0], spans[0][2].astype(np.float32))
    # Places in a frame, not ids: the second place is taken by three bodies in turn.
    places = [spans[1][2][:11], spans[2][2][11:30], spans[3][2][30:]]
    np.testing.assert_array_equal(energetic[0].keypoints[1], np.concatenate(places).astype(np.float32))


def published(frames: Sequence[Frame]) -> np.ndarray:
    """Two actors by the published rules, said once more frame by frame in lists; (2, T, 25, 3)."""
    data: dict[int, dict[str, Any]] = {}
    for t, shown in enumerate(frames):
        for number, joints in shown:
            data.setdefault(number, {"start": t, "joints": []})["joints"].append(joints.astype(np.float32))
    for body in data.values():
        body["joints"] = np.array(body["joints"], np.float64)
        body["end"] = body["start"] + len(body["joints"]) - 1
        body["motion"] = sum(body["joints"][..., axis].var() for axis in range(3))
    if len(data) > 1:
        data = {n: body for n, body in data.items() if len(body["joints"]) > 11}
    for number in list(data):
        if len(data) == 1:
            break
        x, y = data[number]["joints"][..., 0], data[number]["joints"][..., 1]
        good = [i for i in range(len(x)) if x[i].max() - x[i].min() <= 0.8 * (y[i].max() - y[i].min())]
        if 1 - len(good) / len(x) >= 0.69754:
            del data[number]
        elif len(good) < len(x):
            narrow = sum(data[number]["joints"][good][..., axis].var() for axis in range(3))
            data[number]["motion"] = min(data[number]["motion"], narrow)
    made, ends = np.zeros((2, len(frames), 25, 3), np.float32), [None, None]
    for body in sorted(data.values(), key=lambda body: -body["motion"]):
        for actor in (0, 1):
            if ends[actor] is None or min(ends[actor][1], body["end"]) - max(ends[actor][0], body["start"]) <= 0:
                made[actor, body["start"] : body["end"] + 1] = body["joints"]
                before = ends[actor] or (body["start"], body["end"])
                ends[actor] = (min(before[0], body["start"]), max(before[1], body["end"]))
                break
    return made


def test_actors_are_those_of_the_published_rules(tmp_path: Path) -> None:
    chance, counts = np.random.default_rng(0), set()
    for number in range(24):
        spans = []
        for _ in range(chance.integers(1, 6)):
            start = int(chance.integers(0, 20))
            length = int(chance.integers(8, 40 - start))
            joints = person(int(chance.integers(1 << 30)), length, chance.uniform(0.02, 0.5), chance.uniform(0.2, 1.4))
            wide = chance.random(length) < chance.random() * 0.8
            joints[wide, :, 0] *= chance.uniform(1, 4)
            spans.append((start, start + length, joints))
        if not any(end - start > 11 for start, end, _ in spans):
            continue
        frames = [shown for shown in present(spans, 40) if shown]
        write(tmp_path / "src", lines_of(frames), f"S001C001P001R{number:03d}A050", end="\n")
        want = published(frames)
        want = want[:, want.any((0, 2, 3))]
        got = imported(tmp_path)
        clip = next(got[row] for row, name in enumerate(got.names) if name[13:16] == f"{number:03d}")
        counts.add(clip.persons)
        np.testing.assert_array_equal(clip.keypoints, want[: clip.persons])
        assert not want[clip.persons :].any()
        (tmp_path / "src" / f"{clip.name}.skeleton").unlink()
    assert counts == {1, 2}


def test_tracking_states_become_scores(tmp_path: Path) -> None:
    lines = lines_of([[(0, frame)] for frame in person(0, 3)])
    lines[4], lines[5] = lines[4][:-1] + "0", lines[5][:-1] + "1"
    lines[30] = lines[30][:-1] + "0"  # the body of the second frame
    write(tmp_path / "src", lines)
    score = imported(tmp_path)[0].score[0]
    assert score[0].tolist() == [0, 0.5] + [1] * 23
    assert not score[1].any()
    assert (score[2] == 1).all()
    assert (imported(tmp_path, states=False)[0].score == 1).all()


def test_joints_outside_an_image_are_missing_there(tmp_path: Path) -> None:
    lines = lines_of([[(0, frame)] for frame in person(0, 3)])
    fields = lines[10].split()
    lines[10] = " ".join([*fields[:5], "-inf", "nan", *fields[7:]])
    write(tmp_path / "src", lines)
    assert imported(tmp_path)[0].score.min() == 1
    assert np.argwhere(imported(tmp_path, coordinates="color")[0].score == 0).tolist() == [[0, 0, 6]]


def changed(at: int, text: str) -> list[str]:
    """A sound file of two frames with another text in line ``at``, counted from 1."""
    lines = lines_of([[(0, frame)] for frame in person(0, 2)])
    lines[at - 1] = text
    return lines


SOUND = lines_of([[(0, frame)] for frame in person(0, 2)])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (SOUND[:20], ":21: ends within frame 1 of 2"),
        (SOUND[:29], ":30: ends where it should tell the number of bodies, in frame 2 of 2"),
        ([], ":1: ends where it should tell the number of frames"),
        ([*SOUND, "7"], ":58: goes on after the last of 2 frames"),
        (changed(1, "999999999"), ":58: ends where it should tell the number of bodies, in frame 3 of 999999999"),
        (changed(2, "99999999"), ":30: not the 10 values of a body"),
        (changed(2, "-1"), ":2: '-1' is no number of bodies"),
        (changed(1, "two"), ":1: 'two' is no number of frames"),
        (changed(4, "24"), ":4: '24' joints, a body has 25"),
        (changed(3, "7205 0 1 1"), ":3: not the 10 values of a body"),
        (changed(9, "1 2 3"), ":9: 3 values, a joint has 12"),
        (changed(9, "0 0 x 0 0 0 0 0 0 0 0 2"), ":9: 'x' is not a number"),
        (changed(9, "0 0 nan 0 0 0 0 0 0 0 0 2"), ":9: 'nan' is not a finite number"),
        (changed(9, "0 0 3 0 0 0 0 0 0 0 0 5"), ":9: '5' is no tracking state"),
        (changed(9, ""), ":9: 0 values, a joint has 12"),
        (lines_of([[], [], []]), ": no body in any of its 3 frames"),
        (lines_of([[(0, person(0, 1)[0])] * 2]), ":30: body '72057594037931101' stands twice in frame 1"),
    ],
)
def test_damaged_files_are_named_with_their_line(tmp_path: Path, lines: list[str], message: str) -> None:
    write(tmp_path / "src", SOUND)
    path = write(tmp_path / "src", lines, "S001C001P001R001A001")
    report = import_data("ntu", tmp_path / "src", tmp_path / "s", progress=False)
    assert report.clips == 1
    assert [item.reason[: len(f"{path}{message}")] for item in report.skipped] == [f"{path}{message}"]


def test_odd_blanks_do_no_harm(tmp_path: Path) -> None:
    write(tmp_path / "src", SOUND)
    write(tmp_path / "src", [f" {line.replace(' ', '  ')} " for line in SOUND], NAME.replace("R001", "R002"))
    store = imported(tmp_path)
    np.testing.assert_array_equal(store[0].keypoints, store[1].keypoints)


def test_missing_lists_and_names(tmp_path: Path) -> None:
    for name in (NAME, "S018C001P041R001A061", "S020C003P106R002A120"):
        write(tmp_path / "src", SOUND, name)
    listed = tmp_path / "missing.txt"
    listed.write_text(f"302 of the captured samples have missing data.\n\n{NAME}\nS009C009P009R009A009\n")
    done = CliRunner().invoke(
        command, ["import", "ntu", str(tmp_path / "src"), str(tmp_path / "s"), "-o", f"missing={listed}"],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.output.strip() == f"2 clips written to {tmp_path / 's'}"
    store = Store.open(tmp_path / "s")
    assert {"name": "files left out by a list", "list": "missing.txt", "files": 1} in store.meta.steps
    assert (len(store.classes), store.labels.tolist()) == (120, [60, 119])
    write(tmp_path / "src", SOUND, "walking_1")
    with pytest.raises(UserError, match=r"walking_1\.skeleton: the name is not of the form"):
        imported(tmp_path)
    listed.write_text("nothing")
    for options, message in (
        ({"missing": str(listed)}, "names no clip"), ({"missing": "nowhere.txt"}, "cannot be read"),
        ({"denoise": "length,noise"}, "unknown rule of 'denoise' 'noise'"), ({"bodies": "two"}, "unknown value"),
        ({"coordinates": "rgb"}, "unknown value of 'coordinates'"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            imported(tmp_path, **options)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no \*\.skeleton file in it"):
        import_data("ntu", tmp_path / "empty", tmp_path / "t", progress=False)


def test_poses_need_no_telling_name(tmp_path: Path) -> None:
    path = write(tmp_path, SOUND, "walking_1")
    clip = next(READERS.create("ntu", tmp_path).poses(path))
    assert (clip.name, clip.label, clip.frames) == ("walking_1", None, 2)


def test_protocols() -> None:
    assert (len(SUBJECTS_60), len(SUBJECTS_120)) == (20, 53)
    small = ntu_protocols(["S001C001P001R001A001", "S001C002P003R001A001", "S001C003P038R001A001"], large=False)
    assert small["xsub"]["test"] == ["S001C002P003R001A001"]
    assert small["xview"]["test"] == ["S001C001P001R001A001"]
    large = ntu_protocols(["S001C001P045R001A001", "S032C002P106R001A120"], large=True)
    assert large["xsub"]["train"] == ["S001C001P045R001A001"]
    assert large["xset"]["train"] == ["S032C002P106R001A120"]


def test_published_training_lists_are_training_clips(shared: Callable[[str], Path]) -> None:
    for data, protocol in (("NTU60", "xsub"), ("NTU60", "xview"), ("NTU120", "xsub"), ("NTU120", "xset")):
        text = gzip.decompress((shared("ntu_lt") / f"{data}_{protocol}_exp_10.txt.gz").read_bytes()).decode()
        parts = ntu_protocols(text.split(), large=data == "NTU120")[protocol]
        assert (len(parts["train"]), parts["test"]) == (len(text.split()), [])
        assert len(parts["train"]) in (14142, 28182, 18771)
