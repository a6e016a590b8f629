"""A finished run on new poses: `Predictor`, ``skelgraph predict`` and ``skelgraph test``."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY

import skelgraph as sg
from skelgraph.cli import main as entry
from skelgraph.data import Store, import_data
from skelgraph.engine.run_folder import Run, read_tensors, write_json
from skelgraph.errors import UserError
from skelgraph.export import export_onnx
from skelgraph.predictor import Predictor


def kept_scores(run: Run) -> tuple[list[str], np.ndarray]:
    """Names and probabilities that the stage ``test`` has kept."""
    with (run.stage("test").path / "clips.csv").open(newline="", encoding="utf-8") as file:
        names = [row["clip"] for row in csv.DictReader(file)]
    return names, read_tensors(run.stage("test").path / "scores.safetensors")["probabilities"].numpy()


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object, stdin: str = ""
) -> tuple[int, str, str]:
    """Status, stdout and stderr of ``skelgraph WORDS``."""
    import io

    monkeypatch.setattr("sys.argv", ["skelgraph", *map(str, words)])
    monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
    status = 0
    try:
        entry.main()
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    said = capsys.readouterr()
    return status, said.out, said.err


def save_clips(path: Path, store: Store, names: list[str]) -> None:
    """Clips of a store as one npz without labels."""
    clips = [store[store.names.index(name)] for name in names]
    np.savez(
        path, keypoints=np.concatenate([clip.keypoints[0] for clip in clips]), names=names, topology="coco17",
        score=np.concatenate([clip.score[0] for clip in clips]), image_size=[clip.image_size for clip in clips],
        offsets=np.cumsum([0, *(clip.frames for clip in clips)]),
    )  # fmt: skip


def test_scores_on_files_are_those_of_the_test(
    demo_run: Run, demo_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names, wanted = kept_scores(demo_run)
    store, file = Store.open(demo_clips), tmp_path / "raw.npz"
    save_clips(file, store, names)
    status, out, err = command(monkeypatch, capsys, "predict", demo_run.path, file, "--json", tmp_path / "x.json",
                               "--html", tmp_path / "x.html", "--csv", tmp_path / "x.csv")  # fmt: skip
    assert (status, err) == (0, "")
    written = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert [item["clip"] for item in written["clips"]] == names
    found = np.array([[item["probabilities"][name] for name in store.classes] for item in written["clips"]])
    np.testing.assert_allclose(found, wanted, atol=1e-6, rtol=0)
    assert out.splitlines()[0].split()[0] == names[0]
    assert (tmp_path / "x.html").stat().st_size > 5000
    assert len((tmp_path / "x.csv").read_text(encoding="utf-8").splitlines()) == 1 + len(names)
    predictor = Predictor.load(demo_run)
    whole = predictor.predict(store)
    rows = [whole.names.index(name) for name in names]
    np.testing.assert_allclose(whole.probabilities[rows], wanted, atol=1e-6, rtol=0)
    clip = store[store.names.index(names[0])]
    one = sg.Predictor.load(f"{demo_run.path}:train").predict(clip.keypoints, clip.score, image_size=clip.image_size)
    np.testing.assert_allclose(one.probabilities[0], wanted[0], atol=1e-6, rtol=0)
    assert one.labels[0] in one.classes == store.classes
    assert (predictor.spec.length, predictor.spec.views) == (
        int(np.median(store.frames[store.protocol("demo")["train"]])),
        3,
    )


@pytest.fixture(scope="module")
def two_streams(demo_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Joints and bones, trained together."""
    folder = tmp_path_factory.mktemp("two")
    text = TINY.format(store=demo_clips, topology="coco17", protocol="demo", transforms="", views=1)
    (folder / "two.yaml").write_text(text, encoding="utf-8")
    networks = "{name: multi_stream, base: {name: stgcnpp, width: 8}, streams: [joint, bone]}"
    return sg.run(folder / "two.yaml", [f"stages.train.model={networks}"], out=folder / "run")


def test_one_stream_answers_as_it_did_in_the_test(two_streams: Run, demo_clips: Path) -> None:
    store, names = Store.open(demo_clips), kept_scores(two_streams)[0]
    kept = read_tensors(two_streams.stage("test").path / "scores.safetensors")["stream/bone/probabilities"].numpy()
    answer = Predictor.load(f"{two_streams.path}:test:bone").predict(store)
    found = answer.probabilities[[answer.names.index(name) for name in names]]
    np.testing.assert_allclose(found, kept, atol=1e-6, rtol=0)
    with pytest.raises(UserError, match="'legs'"):
        Predictor.load(f"{two_streams.path}:test:legs")


@pytest.mark.slow
def test_one_stream_is_exported_under_its_name(two_streams: Run) -> None:
    assert export_onnx(f"{two_streams.path}:test:bone").path == two_streams.path / "train.bone.onnx"


def test_a_single_network_has_no_streams(demo_run: Run) -> None:
    with pytest.raises(UserError, match="no stream 'bone'"):
        Predictor.load(f"{demo_run.path}:test:bone")


def test_scores_on_real_files_are_those_of_the_test(
    train: Callable[..., Run], shared_file: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, raw = tmp_path / "all_sqe", tmp_path / "unlabelled"
    folder.mkdir()
    raw.mkdir()
    for path in sorted(shared_file("nw-ucla/all_sqe").glob("a0[1468]_s0[1-4]_e0[1-3]_v0[123].json")):
        shutil.copy(path, folder)
    import_data("nw-ucla", folder, tmp_path / "store", progress=False)
    run = train(tmp_path / "store", "kinect20", "v23_v1", "center: {per: frame}")
    names, wanted = kept_scores(run)
    assert len(names) > 20
    for number, name in enumerate(names):
        data = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        (raw / f"take{number:03d}.json").write_text(json.dumps({"skeletons": data["skeletons"]}), encoding="utf-8")
    from skelgraph.prediction.sources import open_input

    predictor, source = Predictor.load(run), open_input(raw)
    found = predictor.predict_clips(source.clips(), predictor.spec.adapter(source.topology))
    assert (source.format, found.names[0], source.skipped) == ("nw-ucla", "take000", [])
    np.testing.assert_allclose(found.probabilities, wanted, atol=1e-6, rtol=0)


def test_a_stream_on_stdin(
    demo_run: Run, demo_clips: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = Store.open(demo_clips)[0]
    lines = "\n".join(
        json.dumps({"keypoints": points.tolist(), "score": score.tolist()})
        for points, score in zip(clip.keypoints[0, :12], clip.score[0, :12], strict=True)
    )
    words = ("predict", demo_run.path, "-", "--window", 9, "--stride", 3, "--image-size", "640x480", "--top", 0)
    status, out, err = command(monkeypatch, capsys, *words, stdin=lines)
    assert (status, err) == (0, "")
    answers = [json.loads(line) for line in out.splitlines()]
    assert [(item["frame"], item["label"] is None) for item in answers] == [
        (2, True),
        (5, True),
        (8, False),
        (11, False),
    ]
    part = clip.keypoints[:, 3:12], clip.score[:, 3:12]
    whole = Predictor.load(demo_run).predict(*part, image_size=(480, 640))
    assert answers[-1]["top"] == pytest.approx(whole.best(0, 0), abs=1e-5)
    status, out, err = command(monkeypatch, capsys, "predict", demo_run.path, "-")
    assert (status, out, err) == (2, "", "skelgraph: stdin: empty, no frame came.\n")


def test_a_timeline_of_a_file(
    demo_run: Run, demo_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = list(Store.open(demo_clips))[:3]
    np.save(tmp_path / "long.npy", np.concatenate([clip.keypoints for clip in clips], axis=1))
    words = (
        "predict",
        demo_run.path,
        tmp_path / "long.npy",
        "--window",
        "1s",
        "--fps",
        20,
        "--json",
        tmp_path / "t.json",
    )
    status, out, _ = command(monkeypatch, capsys, *words, "--html", tmp_path / "t.html", "--per-person")
    assert status == 0
    written = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))["recordings"][0]
    assert (written["window"], written["stride"], written["fps"], written["person"]) == (20, 5, 20, 0)
    frames = [part["end"] - part["start"] for part in written["segments"]]
    assert sum(frames) == written["frames"] == sum(clip.frames for clip in clips)
    assert "long, person 0, 0.00-" in out
    assert "<svg" in (tmp_path / "t.html").read_text(encoding="utf-8")


def test_the_test_verb_repeats_the_test(
    demo_run: Run, demo_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = command(monkeypatch, capsys, "test", demo_run.path, "--json", tmp_path / "f.json")
    assert status == 0
    assert "DEMO DATA" in out
    found = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))["figures"]
    assert found == pytest.approx({key.removeprefix("test/"): value for key, value in demo_run.metrics.items()})
    status, out, _ = command(monkeypatch, capsys, "test", demo_run.path, "--data", demo_clips, "--all")
    assert status == 0
    assert f"all labelled clips, {len(Store.open(demo_clips))} clips" in out
    for words, message in (
        (("--protocol", "absent"), "no protocol 'absent' (there are: demo); say --protocol, or --all."),
        (("--part", "absent"), "has no part 'absent'; it has test, train"),
        (("--data", tmp_path), "no store there"),
    ):
        status, _, err = command(monkeypatch, capsys, "test", demo_run.path, *words)
        assert status == 2
        assert message in err


@pytest.fixture
def copy(demo_run: Run, tmp_path: Path) -> Run:
    """A copy of the run that a test may spoil."""
    return Run(Path(shutil.copytree(demo_run.path, tmp_path / "copy")))


def test_plugins_run_only_when_trusted(copy: Run, tmp_path: Path) -> None:
    marker = tmp_path / "was run"
    text = (
        f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
        "from skelgraph.models import MODELS\nMODELS.register('somebodys_net')(MODELS.get('stgcnpp'))\n"
    )
    (tmp_path / "theirs.py").write_text(text, encoding="utf-8")
    write_json(copy.path / "recipe.json", {**copy.recipe, "plugins": ["theirs.py"]})
    write_json(copy.path / "run.json", {**copy.about, "recipe_file": str(tmp_path / "theirs.yaml")})
    card = copy.stage("train").card()
    write_json(copy.stage("train").path / "model.json", {**card, "model": {**card["model"], "name": "somebodys_net"}})
    with pytest.raises(UserError, match=r"without its plugins \(theirs.py; unknown model 'somebodys_net'.*--trust"):
        Predictor.load(copy)
    assert not marker.exists()
    assert Predictor.load(copy, trust=True).classes
    assert marker.exists()


def spoil(run: Run, how: str) -> str:
    """Spoil a run; returns how it is called."""
    train = run.stage("train").path
    if how == "half":
        (train / "exports.safetensors").unlink()
    elif how == "cut":
        (train / "exports.safetensors").write_bytes((train / "exports.safetensors").read_bytes()[:5000])
    elif how == "knn":
        recipe = run.recipe
        recipe["stages"]["test"].update(by="knn", views=1)
        write_json(run.path / "recipe.json", recipe)
    elif how.endswith(".json"):
        write_json(run.path / how, [1])
    elif how == "no run":
        (run.path / "run.json").unlink()
    return f"{run.path}:{how[1:]}" if how.startswith(":") else str(run.path)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("half", "half-written, stage 'train' has left no weights yet; finish it: "),
        ("cut", "exports.safetensors: cannot be read"),
        ("run.json", "run.json: damaged, not what a run writes"),
        ("recipe.json", "recipe.json: damaged, not what a run writes"),
        ("stages/train/model.json", "model.json: damaged, not what a run writes"),
        ("no run", "not a run folder"),
        (":tset", "unknown stage 'tset'. Did you mean 'test'?"),
        ("absent", "no such run folder; 'skelgraph run RECIPE' makes one"),
    ],
)
def test_a_spoilt_run_is_said_in_one_line(
    how: str, message: str, copy: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "nothing/here" if how == "absent" else spoil(copy, how)
    status, out, err = command(monkeypatch, capsys, "predict", name, "x.npz")
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_run_tested_by_neighbours_still_has_its_classifier(copy: Run) -> None:
    assert len(Predictor.load(spoil(copy, "knn")).predict(np.ones((9, 17, 2))).labels) == 1
    with pytest.raises(UserError, match="stage 'test' answers by a vote of training clips"):
        Predictor.load(f"{copy.path}:test")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("absent.npz",), "absent.npz: no such file or folder"),
        (("clip.npy",), "20 joints, the run ('coco17') has 17; say which layout"),
        (("clip.npy", "--topology", "kinect20"), "do not cover those of the run ('coco17'): no partner for"),
        (("clip.npy", "--topology", "kinect2"), "Did you mean 'kinect20'?"),
        (("clip.npy", "--stride", "3"), "--stride goes with --window"),
        (("deep.npy",), "3-D joints, the run takes 2-D ones"),
        (("flat.npy", "--window", "2s"), "the frame rate is not known; say --fps"),
        (("flat.npy", "--json", "no/where.json"), "no/where.json: cannot be written"),
        (("flat.npy", "--image-size", "wide"), "write width and height in pixels"),
        (("-", "--json", "x.json"), "--json goes with files"),
        (("-", "--stride", "0"), "too few"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_said_in_plain_lines(
    words: tuple[str, ...], message: str, demo_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = demo_run.path.absolute()
    monkeypatch.chdir(tmp_path)
    np.save("clip.npy", np.ones((9, 20, 2)))
    np.save("deep.npy", np.ones((9, 17, 3)))
    np.save("flat.npy", np.ones((9, 17, 2)))
    status, _, err = command(monkeypatch, capsys, "predict", run, *words, stdin="[]")
    assert status == 2
    assert message in err
    assert "Traceback" not in err


def test_what_is_odd_is_said_beside_the_answer(
    demo_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = np.random.default_rng(0).uniform(1, 400, (2, 400, 17, 2))
    points[:, 5:9, 3] = np.nan
    np.save(tmp_path / "odd.npy", points)
    status, out, err = command(monkeypatch, capsys, "predict", demo_run.path, tmp_path / "odd.npy")
    assert (status, len(out.splitlines())) == (0, 1)
    for word in ("more than 1 person", "no image size", "four times as long"):
        assert word in err
    status, out, _ = command(monkeypatch, capsys, "predict", demo_run.path, tmp_path / "odd.npy", "--per-person")
    assert [line.split("  ")[0] for line in out.splitlines()] == ["odd person 0", "odd person 1"]


@pytest.mark.parametrize("window", [(), ("--window", "8")], ids=["clips", "timeline"])
def test_a_faulty_clip_does_not_cost_the_answers_for_the_others(
    window: tuple[str, ...], demo_run: Run, demo_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    store = Store.open(demo_clips)
    save_clips(tmp_path / "three.npz", store, store.names[:2])
    with np.load(tmp_path / "three.npz") as file:
        arrays = dict(file)
    first, last = arrays["offsets"][1:]
    np.savez(tmp_path / "three.npz", **{
        **arrays, "names": ["left", "nothing", "right"], "offsets": [0, first, first, last],
        "image_size": arrays["image_size"][[0, 0, 1]],
    })  # fmt: skip
    status, out, err = command(monkeypatch, capsys, "predict", demo_run.path, tmp_path / "three.npz", *window)
    assert status == 0
    assert "left out: clip 'nothing': empty" in err
    assert [name for name in ("left", "nothing", "right") if f"\n{name}" in f"\n{out}"] == ["left", "right"]
