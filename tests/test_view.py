"""Clips as moving pages and pictures, with what a run says of them; explanations held against chance."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import skelgraph as sg
from skelgraph import explain, viewer
from skelgraph.batch import Batch, ClipSpec
from skelgraph.cli.main import cli
from skelgraph.data.clip import Clip
from skelgraph.data.loader import Draw
from skelgraph.engine.explainer import Explainer, explained
from skelgraph.engine.run_folder import Run
from skelgraph.errors import UserError
from skelgraph.models import create
from skelgraph.pages import scene
from skelgraph.topology import Topology

TRAINED = """
name: seen
topology: coco17
data:
  {{store: {store}, protocol: demo, frames: 16, sampling: {{name: resize}}, transforms: {{image: {{}}, center: {{}}}}}}
stages:
  train:
    {{method: supervised, model: {{name: stgcnpp, width: 8}}, steps: 80, batch: 16,
     optimizer: {{name: adam, lr: 5e-3}}}}
  test: {{evaluate: [top1], views: 2}}
"""
MIXED = """
name: mixed
topology: kinect20
data: {{store: {store}, protocol: demo, frames: 8, modalities: {{depth: {{steps: 4, size: [16, 16]}}}}}}
stages:
  train: {{method: supervised, model: {model}, steps: 1, batch: 4}}
  test: {{evaluate: [top1]}}
"""
MODELS = {
    "mmixer": "{name: mmixer, dim: 8, heads: 2, cfem_keys: joint, modalities: {skeleton: {name: graph, model: {name: "
    "stgcnpp, width: 8}}, depth: {name: frame2d, width: 2}}}",
    "deformable3d": "{name: deformable3d, preset: tiny, stem: {widths: [8], strides: [2]}, key_stride: [2, 2, 2]}",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A small network that has learnt four demo actions."""
    from skelgraph.data.synthetic import write_demo

    folder = tmp_path_factory.mktemp("seen")
    store = write_demo(folder / "store", clips=96, classes=4, frames=(20, 40))
    (folder / "seen.yaml").write_text(TRAINED.format(store=store), encoding="utf-8")
    return sg.run(folder / "seen.yaml", out=folder / "run")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Cross-modal networks after one step."""
    from skelgraph.data.synthetic import write_demo

    folder, runs = tmp_path_factory.mktemp("mixed"), {}
    store = write_demo(folder / "store", topology="kinect20", clips=16, classes=4, dims=3, frames=(12, 16),
                       modalities=["depth"])  # fmt: skip
    for name, model in MODELS.items():
        (folder / f"{name}.yaml").write_text(MIXED.format(store=store, model=model), encoding="utf-8")
        runs[name] = sg.run(folder / f"{name}.yaml", out=folder / name)
    return runs


# ---- the scene -----------------------------------------------------------------------------------------------------


def standing(up: str) -> np.ndarray:
    """(2, 3, 17, 3): two persons of coco17 side by side in a frame whose ``up`` points up; the second has no nose."""
    topology = Topology.load("coco17")
    rest = np.pad(topology.coordinates(2), ((0, 0), (0, 1))) + np.array([0.0, 3.0, 0.1])
    turned = np.array(scene.TURNS[up]).T @ rest.T  # the rows are orthonormal: their inverse is the transpose
    points = np.repeat(np.stack([turned.T, turned.T + 0.5])[:, None], 3, axis=1)
    return points.astype(np.float32)


@pytest.mark.parametrize("up", sorted(scene.TURNS))
def test_persons_stand_upright_and_face_the_viewer(up: str) -> None:
    topology = Topology.load("coco17")
    score = np.ones((2, 3, 17))
    score[1, :, 0] = 0
    for said in (up, None):
        made = scene.of_clip(Clip.of("c", standing(up), score), topology, said)
        nose, ankle, left, right = (
            topology.index(j) for j in ("nose", "left_ankle", "left_shoulder", "right_shoulder")
        )
        assert made.points.shape == (3, 2, 17, 3)
        assert (made.points[:, 0, nose, 1] > made.points[:, 0, ankle, 1] + 500).all()
        assert (made.points[:, 0, left, 0] > made.points[:, 0, right, 0] + 50).all()
        assert not made.seen[:, 1, nose].any()
        assert made.seen.sum() == 3 * 33


def test_page_holds_all_frames_and_hides_what_is_not_seen() -> None:
    view = viewer.of_poses("demo", "kick", topology="ntu25")
    data = json.loads(re.search(r'class="motion">(.*?)</script>', viewer.page(view))[1])
    assert len(data["frames"]) == view.scene.frames
    hidden = np.array(data["frames"]).reshape(view.scene.frames, -1, 3)[..., 0] == scene.HIDDEN
    assert hidden.sum() == (~view.scene.seen).sum()


def test_long_clips_are_thinned_and_still_small() -> None:
    points = np.random.default_rng(0).normal(size=(1, 20_000, 17, 3)).astype(np.float32)
    view = viewer.View("long", ("x",), scene.of_clip(Clip.of("long", points), Topology.load("coco17"), "+y"))
    text = viewer.page(view)
    assert len(text) < 5e6
    assert "th frame is kept" in text


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_page_moves_in_a_browser(mixed: dict[str, Run], tmp_path: Path) -> None:
    page = viewer.write(viewer.of_run(str(mixed["deformable3d"].path), None, "attention"), tmp_path / "clip.html")
    result = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
         f"--user-data-dir={tmp_path / 'browser'}", "--window-size=390,2400", "--virtual-time-budget=2000",
         "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert "CONSOLE" not in result.stderr
    assert 'data-ready="yes"' in result.stdout
    assert len(re.findall("<canvas", result.stdout)) > 4


def test_gif_and_png(tmp_path: Path) -> None:
    from PIL import Image

    view = viewer.of_poses("demo", "wave")
    gif, png = (viewer.write(view, tmp_path / f"clip.{kind}") for kind in ("gif", "png"))
    with Image.open(gif) as moving, Image.open(png) as strip:
        assert moving.n_frames == view.scene.frames
        assert strip.size[0] > 1000


# ---- explanations --------------------------------------------------------------------------------------------------


def test_salient_joints_matter_more_than_random_ones(trained: Run) -> None:
    tested = Explainer.open(trained)
    rows = tested.clips.parts(labelled=True, holdout=False).train[:10].tolist()
    batch = tested.pipeline(tested.clips.reader()[[Draw(row, -1, 0, 0) for row in rows]], training=False)
    with torch.no_grad():
        answered = tested.model(batch).logits.argmax(1)
    assert (answered == batch.label).float().mean() > 0.5
    found = explain.saliency(tested.model, batch, answered, steps=16)
    assert not found.joints[batch.score == 0].any()
    curve = explain.deletion(tested.model, batch, answered, found.joints, orders=8)
    important, random = (float(area.mean()) for area in curve.areas)
    least = float(explain.deletion(tested.model, batch, answered, -found.joints, orders=1).areas[0].mean())
    assert important < 0.9 * random
    assert random < least
    for end in (0, -1):
        assert torch.allclose(curve.important[:, end], curve.random[:, end], atol=1e-5)


def test_saliency_adds_up(mixed: dict[str, Run]) -> None:
    for run in mixed.values():
        tested = Explainer.open(run)
        batch = tested.prepared(tested.batch(0))
        target = torch.tensor([1])
        found = explain.saliency(tested.model, batch, target, steps=64)
        assert set(found.modalities) == {"depth"}
        assert abs(float(found.gap)) < 0.05
        assert found.modalities["depth"].abs().sum() > 1e-4


def test_deletion_stops_where_the_network_refuses_an_empty_clip() -> None:
    spec = ClipSpec(Topology.load("kinect20"), channels=3, persons=1, frames=8, classes=("a", "b"))
    model = create("deformable3d", spec, preset="tiny", lattices=[]).eval()
    batch = Batch.of(torch.randn(2, 1, 8, 20, 3, generator=torch.Generator().manual_seed(0)))
    curve = explain.deletion(model, batch, torch.tensor([0, 1]), torch.rand(2, 1, 8, 20), orders=2)
    assert float(curve.removed[-1]) == pytest.approx(0.9)
    assert curve.important.shape == curve.random.shape == (2, 10)
    assert all(((area > 0) & (area < 1)).all() for area in curve.areas)


def test_answer_is_that_of_the_test(trained: Run) -> None:
    import csv

    with (trained.stage("test").path / "clips.csv").open(newline="", encoding="utf-8") as file:
        kept = next(csv.DictReader(file))
    tested = Explainer.open(trained)
    found = explained(tested, tested.clips.store.names.index(kept["clip"]))
    assert tested.classes[int(found.probabilities.argmax())] == kept["prediction"]
    assert float(found.probabilities.max()) == pytest.approx(float(kept["probability"]), abs=1e-5)


def test_attention_of_cross_modal_networks(mixed: dict[str, Run]) -> None:
    mixer, deformable = (explained(Explainer.open(mixed[name]), 0, "attention", delete=True) for name in MODELS)
    assert mixer.shares["skeleton"]["depth"] == pytest.approx(1, abs=1e-5)
    assert [layer.name for layer in mixer.scene.layers] == ["CFEM weight of a joint of skeleton, read for depth"]
    assert mixer.scene.layers[0].values.std() > 0
    assert len(deformable.scene.layers) == 4
    depth = deformable.scene.pictures[0]
    assert depth.frames.shape[0] == deformable.scene.frames == 8
    assert all(len(points) and ((points >= 0) & (points <= 1)).all() for points in depth.points)
    assert deformable.deletion is not None


def test_report_of_a_cross_modal_run_shows_its_attention(mixed: dict[str, Run]) -> None:
    page = mixed["mmixer"].report.read_text(encoding="utf-8")
    assert 'class="explained"' in page
    assert 'class="scene"' in page
    assert len(page) < 5e6


# ---- the verb ------------------------------------------------------------------------------------------------------


def test_verb(trained: Run, tmp_path: Path) -> None:
    out = tmp_path / "why.html"
    done = CliRunner().invoke(cli, ["view", str(trained.path), "--saliency", "--deletion", "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert "by importance" in done.output
    page = out.read_text(encoding="utf-8")
    for words in ("Deletion", "DEMO DATA", "probability, %"):
        assert words in page


@pytest.mark.parametrize(("words", "reason"), [
    (["demo", "--saliency"], "--saliency needs a run"),
    (["demo", "--clip", "no such"], "no such"),
    (["nowhere"], "no such file"),
    (["demo", "-o", "clip.mp4"], ".gif"),
    (["RUN", "--attention"], "--saliency works"),
    (["RUN", "--deletion"], "--saliency"),
    (["RUN", "--clip", "no such"], "no clip"),
    (["RUN", "--class", "no such"], "no such"),
    (["RUN:no_test"], "no_test"),
])  # fmt: skip
def test_wrong_use_is_told_plainly(trained: Run, words: list[str], reason: str) -> None:
    given = [word.replace("RUN", str(trained.path)) for word in words]
    done = CliRunner().invoke(cli, ["view", *given])
    assert isinstance(done.exception, UserError)
    assert reason in str(done.exception)
