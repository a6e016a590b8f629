"""`skelgraph data check`: every fault that is planted is found where it was planted, and clean data are clean."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from skelgraph.cli.data import command
from skelgraph.data import Clip, Store, StoreWriter, check_data, import_data
from skelgraph.data.checks import CheckReport, Finding, Severity, known_checks
from skelgraph.data.synthetic import write_demo
from skelgraph.errors import UserError

Shared = Callable[[str], Path]
Fault = Callable[[np.ndarray, np.ndarray], None]
PLACE = 3


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """36 clips of four classes on kinect20, in metres."""
    folder = tmp_path_factory.mktemp("checks") / "clean"
    return Store.open(write_demo(folder, topology="kinect20", dims=3, clips=36, classes=4, frames=(40, 60)))


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The same in pixels on coco17."""
    return Store.open(write_demo(tmp_path_factory.mktemp("checks") / "flat", clips=36, classes=4, frames=(40, 60)))


def write(store: Store, path: Path, clips: list[Clip], units: str | None = None, up: str | None = None,
          protocols: dict[str, dict[str, list[str]]] | None = None) -> Store:  # fmt: skip
    """A store like another one with other clips."""
    meta = store.meta
    with StoreWriter(path, topology=store.topology, dims=meta.dims, classes=store.classes,
                     units=meta.units if units is None else units, up=up or meta.up) as writer:  # fmt: skip
        for clip in clips:
            writer.write(clip)
        writer.protocols = splits(store) if protocols is None else protocols
    return Store.open(path)


def splits(store: Store) -> dict[str, dict[str, list[str]]]:
    names = store.names
    return {"demo": {part: [names[row] for row in rows] for part, rows in store.protocol("demo").items()}}


def planted(clip: Clip, fault: Fault) -> Clip:
    points, score = clip.keypoints.copy(), clip.score.copy()
    fault(points, score)
    return Clip.of(clip.name, points, score, **{
        name: getattr(clip, name) for name in ("label", "fps", "image_size", "subject", "camera", "group")
    })  # fmt: skip


def worst(report: CheckReport, code: str) -> Finding:
    return next(tally for tally in report.tallies if tally.code == code).worst()[0]


@pytest.mark.parametrize(("topology", "dims", "persons"), [("ntu25", 3, 1), ("coco17", 2, 2), ("hand21", 3, 1)])
def test_clean_data_have_no_errors_and_hardly_a_warning(topology: str, dims: int, persons: int, tmp_path: Path) -> None:
    store = write_demo(tmp_path / "s", topology=topology, dims=dims, persons=persons, clips=40, classes=4)
    report = check_data(store)
    assert report.errors == 0
    assert not report.of("leak_likeness", "demo")
    assert report.number(Severity.WARNING) <= 1, report.to_dict()["checks"]


def jump(points: np.ndarray, score: np.ndarray) -> None:
    points[0, 20, 7] += 2.0


def everybody_jumps(points: np.ndarray, score: np.ndarray) -> None:
    points[0, 20:] += 3.0


def freeze(points: np.ndarray, score: np.ndarray) -> None:
    points[:] += np.linspace(0, 1, points.shape[1])[:, None, None]
    points[0, 5:35, 7], score[0, 5:35, 7] = points[0, 5, 7], 1


def trade(points: np.ndarray, score: np.ndarray) -> None:
    points[0, 20:, [13, 17]] = points[0, 20:, [17, 13]]


def stretch(points: np.ndarray, score: np.ndarray) -> None:
    points[0, -25:, 7] += 0.3 * np.array([0.0, 0.0, 1.0])


def lose(points: np.ndarray, score: np.ndarray) -> None:
    score[0, :30, 7] = 0


def lose_most(points: np.ndarray, score: np.ndarray) -> None:
    score[:, :, 5:] = 0


def lose_all(points: np.ndarray, score: np.ndarray) -> None:
    score[:] = 0


def stop(points: np.ndarray, score: np.ndarray) -> None:
    points[:], score[:] = points[:, :1], score[:, :1]


def grow(points: np.ndarray, score: np.ndarray) -> None:
    points *= 2.5


def halve_rate(points: np.ndarray, score: np.ndarray) -> None:
    pairs = points.shape[1] // 2
    points[:, 1 : 2 * pairs : 2], score[:, 1 : 2 * pairs : 2] = points[:, : 2 * pairs : 2], score[:, : 2 * pairs : 2]


FAULTS = [
    ("jumping", jump, "left_hand", 20), ("jumping", everybody_jumps, None, 20), ("frozen", freeze, "left_hand", 5),
    ("swapped", trade, "left_knee", 20), ("bone_length", stretch, "left_hand", None),
    ("missing", lose, "left_hand", 0), ("sparse", lose_most, None, None), ("empty", lose_all, None, None),
    ("still", stop, None, None), ("scale", grow, None, None), ("repeated_frames", halve_rate, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("code", "fault", "joint", "frame"), FAULTS, ids=[fault.__name__ for _, fault, _, _ in FAULTS])
def test_a_planted_fault_is_found_at_its_place(
    code: str, fault: Fault, joint: str | None, frame: int | None, clean: Store, tmp_path: Path
) -> None:
    clips = list(clean)
    clips[PLACE] = planted(clips[PLACE], fault)
    report = check_data(write(clean, tmp_path / "s", clips))
    found = worst(report, code)
    assert (found.clip, found.joint) == (clips[PLACE].name, joint)
    assert frame is None or found.frame in (frame, frame + 1)
    assert found.advice
    assert {item.clip for item in report.of(code)} == {clips[PLACE].name}
    assert report.errors == 0


def test_copies_across_the_split_are_found_in_every_disguise(clean: Store, tmp_path: Path) -> None:
    clips, parts = list(clean), splits(clean)["demo"]
    byname = {clip.name: clip for clip in clips}
    source = [byname[name] for name in parts["train"][:5]]
    at = np.linspace(0, source[2].frames - 1, 33)
    low, share = np.floor(at).astype(int), (at % 1)[None, :, None, None]
    high = np.minimum(low + 1, source[2].frames - 1)
    resampled = (1 - share) * source[2].keypoints[:, low] + share * source[2].keypoints[:, high]
    both = np.minimum(source[2].score[:, low], source[2].score[:, high])
    shaken = source[3].keypoints + np.random.default_rng(0).normal(0, 0.002, source[3].keypoints.shape) + 1
    made = {
        "exact": replace(source[0], name="exact"),
        "cut": replace(source[1], name="cut", keypoints=source[1].keypoints[:, 10:30], score=source[1].score[:, 10:30]),
        "resampled": Clip.of("resampled", resampled, both, label=source[2].label, fps=source[2].fps),
        "shaken": Clip.of("shaken", shaken, source[3].score, label=source[3].label, fps=source[3].fps),
        "renamed": replace(source[4], name="renamed", label=(source[4].label or 0) ^ 1),
    }
    test = [*parts["test"], "exact", "cut", "resampled", "shaken", "renamed"]
    protocols = {
        "demo": {"train": parts["train"], "test": test},
        "safe": {"train": parts["train"], "test": parts["test"]},
    }
    report = check_data(write(clean, tmp_path / "s", [*clips, *made.values()], protocols=protocols))
    assert {item.clip for item in report.of("leak_copy", "demo")} == {"exact", "renamed"}
    assert {item.clip for item in report.of("leak_likeness", "demo")} == {"cut", "resampled", "shaken"}
    assert {item.clip: item.others for item in report.of("leak_copy", "demo")}["exact"] == (source[0].name,)
    assert {item.clip for item in report.of("conflict")} == {"renamed"}
    assert not report.of("leak_copy", "safe")
    assert not report.of("leak_likeness", "safe")
    assert check_data(report.facts["paths"], protocols=["safe"], skip=["conflict"]).errors == 0


def test_recordings_on_both_sides(clean: Store, tmp_path: Path) -> None:
    parts = splits(clean)["demo"]
    inside = {name: place for part in parts.values() for place, name in enumerate(part)}

    def take(camera: Callable[[str], str]) -> CheckReport:
        clips = [replace(clip, group=f"take{inside[clip.name] % 4}", camera=camera(clip.name)) for clip in clean]
        return check_data(write(clean, tmp_path / camera(clips[0].name), clips))

    by_view = take(lambda name: "left" if name in parts["train"] else "right")
    assert worst(by_view, "leak_group").severity.word == "note"
    same_camera = take(lambda name: "one")
    assert same_camera.errors == 1
    assert "4 recordings" in worst(same_camera, "leak_group").message


def test_splits_and_labels(clean: Store, tmp_path: Path) -> None:
    clips, parts = list(clean), splits(clean)["demo"]
    kept = [name for name in parts["train"] if clips[clean.names.index(name)].label != 2]
    bare = [replace(clip, label=None) if clip.label == 3 else clip for clip in clips]
    report = check_data(write(clean, tmp_path / "s", bare, protocols={"a": {"train": kept, "test": parts["test"]},
                                                                      "b": {"train": kept, "test": []}}))  # fmt: skip
    assert f"classes are in test and have no training clip: {clean.classes[2]}" in report.of("split", "a")[0].message
    assert report.of("split", "b")[0].message == "part test has no clip"
    assert {item.message for item in report.of("label")} >= {f"class '{clean.classes[3]}' has no clip"}
    assert report.counts["a"]["train"][2] == 0


def test_coordinates(clean: Store, flat: Store, tmp_path: Path) -> None:
    """Units, axes and sides that are not what the store says."""
    turned = [planted(clip, lambda points, score: np.negative(points[..., 0], out=points[..., 0])) for clip in clean]
    report = check_data(write(clean, tmp_path / "turned", turned, units="millimetres", up="+z"))
    assert "bodies stand along +y" in worst(report, "up_axis").message
    assert "body measures" in worst(report, "units").message
    assert "left side is on the right" in worst(report, "sides").message
    small = [planted(clip, lambda points, score: np.divide(points, 2000, out=points)) for clip in flat]
    small[0] = replace(small[0], image_size=None)
    report = check_data(write(flat, tmp_path / "small", small))
    assert "look normalised" in worst(report, "units").message
    slow = [replace(clip, fps=150.0) for clip in flat]
    report = check_data(write(flat, tmp_path / "slow", slow))
    assert "true rate may be lower" in worst(report, "frame_rate").message
    times = np.arange(clean[0].frames) / 30
    late = times + 2.0 * (np.arange(len(times)) >= 9)
    back = np.where(np.arange(len(times)) == 9, 0, times)
    clips = [replace(clean[0], fps=None, timestamps=late), replace(clean[0], name="b", fps=None, timestamps=back)]
    report = check_data(write(clean, tmp_path / "times", [*clips, *list(clean)[1:]]), skip=["copy"])
    assert [(item.clip, item.severity.word, item.frame) for item in report.of("timestamps")] == [
        ("b", "error", 9), (clean[0].name, "warning", 9),
    ]  # fmt: skip


class Closed(HTMLParser):
    """Fails where a tag is not closed, or something is loaded from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not {"src", "href"} & dict(attrs).keys()
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_command(clean: Store, tmp_path: Path) -> None:
    clips, parts = list(clean), splits(clean)["demo"]
    clips[PLACE] = planted(clips[PLACE], jump)
    clips.append(replace(clips[0], name="<copy>"))
    first = clips[0].name
    protocols = {
        "demo": {"train": [first], "test": ["<copy>"]},
        "good": {"train": parts["train"], "test": parts["test"]},
    }
    store = write(clean, tmp_path / "s", clips, protocols=protocols)
    page, file = tmp_path / "check.html", tmp_path / "check.json"
    call = CliRunner().invoke
    result = call(command, ["check", str(store.paths[0]), "--html", str(page), "--json", str(file)])
    assert result.exit_code == 1, result.output
    assert "error leak_copy" in result.output
    text = page.read_text(encoding="utf-8")
    Closed(text)
    assert "&lt;copy&gt;" in text
    assert 'class="ring"' in text
    found = {item["code"]: item for item in json.loads(file.read_text(encoding="utf-8"))["checks"]}
    assert found["leak_copy"]["worst"][0]["others"] == [first]
    assert found["jumping"]["joints"] == {"left_hand": 1}
    assert found["jumping"]["worst"][0]["what_to_do"]
    good = call(command, ["check", str(store.paths[0]), "--protocol", "good", "-o", "jumping.speed=1000"])
    assert good.exit_code == 0, good.output
    assert "jumping" not in good.output


def test_files_that_are_no_store_yet(clean: Store, tmp_path: Path) -> None:
    points = np.concatenate([clip.keypoints[:, :40] for clip in clean])[:, None]
    np.savez(tmp_path / "own.npz", keypoints=points, label=np.zeros(len(points), int), classes=["a"],
             split_mine=["train"] * 20 + ["test"] * 16)  # fmt: skip
    before = set(tmp_path.iterdir())
    words = ["check", str(tmp_path / "own.npz"), "--format", "npz", "--topology", "kinect20", "-o", "units=metres"]
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 0, result.output
    assert (
        "do not know their frame rate" in result.output.replace("\n", " ").replace("  ", "")
        or "frame_rate" in result.output
    )
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"skip": ["jumpin"]}, "Did you mean 'jumping'?"),
        ({"thresholds": {"jumping": {"sped": 3}}}, "Did you mean 'speed'?"),
        ({"thresholds": {"jumping": {"speed": "fast"}}}, "jumping.speed: fast is not a number"),
        ({"protocols": ["dmo"]}, "Did you mean 'demo'?"),
    ],
)
def test_mistakes(words: dict[str, object], message: str, clean: Store) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        check_data(clean, **words)  # type: ignore[arg-type]


def test_every_check_stands_in_the_docs() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/data_check.md").read_text(encoding="utf-8")
    assert not [name for name in known_checks() if f"| `{name}`" not in page]


def test_nw_ucla_has_95_copies(shared: Shared, tmp_path: Path) -> None:
    """And, found by this check, clips cut out of the same stretch of one recording."""
    import_data("nw-ucla", shared("nw-ucla"), tmp_path / "s", progress=False)
    report = check_data(tmp_path / "s")
    copied = report.of("leak_copy", "v12_v3")
    assert len(copied) == 95
    assert all(item.clip is not None and item.others[0][:-1] == item.clip[:-1] for item in copied)
    assert not report.of("leak_copy", "v23_v1")
    assert not report.of("leak_copy", "cross_subject")
    assert {str(item.clip)[:7] for item in report.of("leak_likeness", "v23_v1")} == {"a08_s01", "a09_s01"}
    assert len(report.of("leak_likeness", "v23_v1")) == 9
    assert [item.clip for item in report.of("short")] == ["a02_s09_e04_v02", "a02_s09_e04_v03"]


@pytest.mark.parametrize(
    ("format", "name", "source"),
    [
        ("sbu", "sbu-interaction", ""), ("jhmdb", "jhmdb", "jhmdb_gt_pose.npz"),
        ("mediapipe-signs", "asl16-mediapipe", "asl16.npz"),
        pytest.param("utd-mhad", "utd-mhad", "", marks=pytest.mark.slow),
        pytest.param("penn-action", "penn-action", "", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_other_real_sets_run_through(format: str, name: str, source: str, shared: Shared, tmp_path: Path) -> None:
    if format in ("utd-mhad", "penn-action"):
        pytest.importorskip("scipy")
    import_data(format, shared(name) / source, tmp_path / "s", progress=False)
    report = check_data(tmp_path / "s")
    assert report.errors == 0
    assert "leak_likeness" in report.clear
