"""Fusing: what a test keeps for it, the sum, alignment by name, the search for weights, the stage and the verb."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import skelgraph as sg
from skelgraph import recipe
from skelgraph.batch import Batch, ClipSpec, Output, as_batch
from skelgraph.cli.fuse import command
from skelgraph.data.store import Store
from skelgraph.engine import fuse, headline, results, scores
from skelgraph.engine.run_folder import Run, read_tensors
from skelgraph.engine.scores import ClassScores, Scores, figures
from skelgraph.errors import UserError
from skelgraph.models.base import MODELS, Model

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("bow", "clap", "drink", "jump", "kick")
Make = Callable[..., Run]


# ---- run folders made by hand --------------------------------------------------------------------------------------


def opinion(clips: int, seed: int, skill: float) -> tuple[Tensor, Tensor]:
    """Logits (clips, 5) of a classifier of some skill, and the labels."""
    random = torch.Generator().manual_seed(seed)
    label = torch.arange(clips) % len(CLASSES)
    logits = 1.5 * torch.randn(clips, len(CLASSES), generator=random)
    logits[torch.arange(clips), label] += skill
    return logits, label


def answer(logits: Tensor) -> ClassScores:
    return ClassScores(logits, logits.softmax(-1))


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a run folder with one finished test: ``make("a", seed=0, skill=2.0, streams={...}, validation=40)``."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, seed: int = 0, skill: float = 2.0, clips: int = 60, streams: Mapping[str, float] | None = None,
              validation: int = 0, order: list[int] | None = None, drop: tuple[str, ...] = (),
              classes: tuple[str, ...] = CLASSES, parameters: int = 1000) -> Run:  # fmt: skip
        data = {"store": "data/none", "protocol": "official", "test_part": "test"}
        stages = {"fit": {"method": "supervised", "data": {}}, "test": {"evaluate": ["top1"], "data": {}}}
        run = Run.create(Path(name), {"name": "made", "data": data, "stages": stages}, {"seed": 0, "demo": False})
        run.stage("fit").open()
        run.stage("fit").finish({"parameters": parameters, "train_clips": 99})
        folder = run.stage("test")
        folder.open()
        for part, count, shift in (("test", clips, 0), ("validation", validation, 500)):
            logits, label = opinion(max(count, 1), seed + shift, skill)
            parts = {key: answer(opinion(max(count, 1), seed + shift + 1 + place, value)[0])
                     for place, (key, value) in enumerate((streams or {}).items())}  # fmt: skip
            names = tuple(f"{part}{i:03d}" for i in range(max(count, 1)))
            whole = Scores(names, label, torch.arange(len(names)), answer(logits), parts)
            kept = [name for name in whole.names if name not in drop]
            if order is not None and part == "test":
                kept = [kept[i] for i in order]
            if count:
                scores.write(folder.path, whole.take(kept), classes, part)
        folder.finish({"tested": "fit", "classes": list(classes), "streams": list(streams or {}), "metrics": {}})
        return run

    return write


def kept(run: str) -> Scores:
    found = scores.read(Run(run).stage("test"))
    assert found is not None
    return found


# ---- the sum -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", ["logit", "prob", "log_prob"])
def test_fused_score_is_the_weighted_sum(make: Make, score: str) -> None:
    make("a", 0), make("b", 7)
    one, other = kept("a").whole, kept("b").whole
    added = {
        "logit": 3 * one.logits + 2 * other.logits,
        "prob": 3 * one.probabilities + 2 * other.probabilities,
        "log_prob": 3 * one.probabilities.log() + 2 * other.probabilities.log(),
    }[score]
    found = fuse.fuse(["a", "b"], [3, 2], score=score)
    wanted = added / 5 if score == "prob" else (added / 5).softmax(-1)
    torch.testing.assert_close(found.fused.whole.probabilities, wanted, rtol=1e-5, atol=1e-6)
    assert torch.equal(found.fused.whole.probabilities.argmax(1), added.argmax(1))
    assert found.figures["top1"] == pytest.approx(100 * float((added.argmax(1) == kept("a").label).float().mean()))
    assert found.figures["top1"] > max(each["top1"] for each in found.each)


@pytest.mark.parametrize("score", ["logit", "prob", "log_prob"])
def test_common_positive_scale_of_the_weights_changes_nothing(make: Make, score: str) -> None:
    make("a", 0), make("b", 7), make("c", 9)
    one = fuse.fuse(["a", "b", "c"], [2.0, 1.8, 0.7], score=score)
    other = fuse.fuse(["a", "b", "c"], [60.0, 54.0, 21.0], score=score)
    assert one.figures == pytest.approx(other.figures)
    torch.testing.assert_close(one.fused.whole, other.fused.whole)


def test_a_constant_per_clip_added_to_one_stream_changes_no_answer(make: Make) -> None:
    for name, seed in (("a", 0), ("b", 7)):
        make(name, seed)
    before = fuse.fuse(["a", "b"], [1, 0.5])
    moved = kept("b")
    shift = 20 * torch.randn(len(moved.names), 1, generator=torch.Generator().manual_seed(3))
    shifted = ClassScores(moved.whole.logits + shift, moved.whole.probabilities)
    scores.write(Run("b").stage("test").path, Scores(moved.names, moved.label, moved.row, shifted), CLASSES)
    after = fuse.fuse(["a", "b"], [1, 0.5])
    assert not torch.allclose(before.fused.whole.logits, after.fused.whole.logits)
    torch.testing.assert_close(before.fused.whole.probabilities, after.fused.whole.probabilities, rtol=1e-4, atol=1e-5)
    assert before.figures == after.figures


@pytest.mark.parametrize("score", ["logit", "prob", "log_prob"])
def test_weight_of_one_alone_returns_its_answer(make: Make, score: str) -> None:
    make("a", 0), make("b", 7), make("c", 9)
    found = fuse.fuse(["a", "b", "c"], [1, 0, 0], score=score)
    torch.testing.assert_close(found.fused.whole.probabilities, kept("a").whole.probabilities)
    assert found.figures == found.each[0]


def test_order_of_the_clips_and_of_the_runs_does_not_matter(make: Make) -> None:
    make("a", 0), make("b", 7), make("shuffled", 7, order=torch.randperm(60).tolist())
    one = fuse.fuse(["a", "b"], {"a": 2, "b": 1})
    other = fuse.fuse(["shuffled", "a"], {"a": 2, "shuffled": 1})
    assert kept("shuffled").names != kept("b").names
    assert one.fused.names != other.fused.names
    again = other.fused.take(one.fused.names)
    torch.testing.assert_close(again.whole.probabilities, one.fused.whole.probabilities)
    assert torch.equal(again.label, one.fused.label)
    assert one.figures == pytest.approx(other.figures)


# ---- what does not fit ---------------------------------------------------------------------------------------------


def test_other_clips_are_named_and_may_be_left_out(make: Make) -> None:
    make("a", 0, drop=("test003",)), make("b", 7, drop=("test010", "test020"))
    with pytest.raises(
        UserError, match=r"a and b .*2 only in a \(test010, test020\), 1 only in b \(test003\).*--common"
    ):
        fuse.fuse(["a", "b"])
    found = fuse.fuse(["a", "b"], common=True)
    assert (len(found.fused.names), found.left_out) == (57, 3)
    make("c", clips=3)
    make("d", clips=60, drop=("test000", "test001", "test002"))
    with pytest.raises(UserError, match="c, d: have no clip in common"):
        fuse.fuse(["c", "d"], common=True)


def test_labels_and_classes_must_agree(make: Make) -> None:
    make("a", 0), make("b", 7), make("c", classes=(*CLASSES[:3], "fall", "kick"))
    with pytest.raises(UserError, match="a and c: class 3 is 'jump' in the first and 'fall' in the second"):
        fuse.fuse(["a", "c"])
    other = kept("b")
    label = other.label.clone()
    label[4] = 0
    scores.write(Run("b").stage("test").path, Scores(other.names, label, other.row, other.whole), CLASSES)
    with pytest.raises(UserError, match="clip test004 is 'kick' in a and 'bow' in b"):
        fuse.fuse(["a", "b"])


def test_runs_that_cannot_be_fused(make: Make, make_run: Callable[..., Run]) -> None:
    make("a", 0), make("b", 7, streams={"body": 2.0, "legs": 1.0})
    old = str(make_run().path)
    for names, message in (
        (["nowhere", "a"], "nowhere: not a run folder"),
        (["a"], "a: has no streams to fuse; name two runs or more"),
        (["b:test:body"], "has no streams to fuse"),
        (["a", "a:test"], "a:test: is named twice"),
        (["a", "b:tset"], "b: unknown stage 'tset'. Did you mean 'test'"),
        (["a", "b:test:leg"], "unknown stream 'leg'. Did you mean 'legs'"),
        (["a", "b:fit"], "fit: has kept no scores of clips"),
        ([old, f"{old}:test", "a"], "is named twice"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            fuse.fuse(names)
    (Run("a").stage("test").path / "done.json").unlink()
    with pytest.raises(UserError, match="test: is not finished"):
        fuse.fuse(["a", "b"])


def test_a_test_of_an_older_version_has_probabilities_only(make_run: Callable[..., Run]) -> None:
    names = [str(make_run(seed=seed).path) for seed in (0, 1)]
    assert fuse.fuse(names, score="prob").figures["top1"] > 0
    with pytest.raises(UserError, match="older version that kept no logits; test it again, or fuse the probabilities"):
        fuse.fuse(names)


def test_damaged_scores_are_not_read(make: Make) -> None:
    make("a"), make("b")
    path = Run("a").stage("test").path / "clips.csv"
    path.write_text(path.read_text().replace("test001", "test002"))
    with pytest.raises(UserError, match=r"does not belong to clips.csv"):
        fuse.fuse(["a", "b"])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1], "1 weights for 2 sources (a, b)"),
        ([1, -1], "numbers from 0"),
        ([0, 0], "one of them is above 0"),
        ([1, float("nan")], "numbers from 0"),
        ({"a": 1}, "no weight for 'b'"),
        ({"a": 1, "b": 1, "c": 1}, "unknown source 'c'"),
        ("seach", "unknown kind of weights 'seach'. Did you mean 'search'"),
    ],
)
def test_weights_that_do_not_fit(make: Make, weights: Any, message: str) -> None:
    make("a"), make("b")
    with pytest.raises(UserError, match=re.escape(message)):
        fuse.fuse(["a", "b"], weights)


def test_unknown_score_or_metric(make: Make) -> None:
    with pytest.raises(UserError, match=r"unknown score 'logits'. Did you mean 'logit'"):
        fuse.fuse(["a", "b"], score="logits")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="unknown metric 'top'"):
        fuse.fuse(["a", "b"], metrics=["top"])  # type: ignore[list-item]


# ---- the search ----------------------------------------------------------------------------------------------------


def several(*skills: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (S, 200, 5) of classifiers of these skills, and the labels."""
    parts = [opinion(200, seed + place, skill) for place, skill in enumerate(skills)]
    return torch.stack([logits for logits, _ in parts]).double(), parts[0][1]


def accuracy(parts: Tensor, label: Tensor, weights: list[float]) -> float:
    total = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    return float((total.argmax(1) == label).double().mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_search_is_near_the_best_of_a_fine_grid(seed: int) -> None:
    parts, label = several(1.5, 3.0, 0.0, seed=50 * seed)
    found = fuse.search(parts, label, "logit", "top1")
    grid = np.linspace(0, 4, 21)
    best = max(accuracy(parts, label, [1, b, c]) for b in grid for c in grid)
    equal, reached = accuracy(parts, label, [1, 1, 1]), accuracy(parts, label, found)
    assert found[0] == 1
    assert reached >= best - 0.005
    assert reached > equal
    assert 2 * found[2] < found[1]
    assert fuse.search(parts, label, "logit", "top1") == found


def test_search_can_do_without_the_first() -> None:
    parts, label = several(0.0, 3.0, 3.0)
    parts[0] *= 5
    found = fuse.search(parts, label, "logit", "top1")
    assert min(found[1:]) >= 4
    assert accuracy(parts, label, found) > accuracy(parts, label, [1, 1, 1]) + 0.1


def test_search_keeps_equal_weights_where_nothing_is_better() -> None:
    parts, label = several(2.0)
    assert fuse.search(parts.expand(3, -1, -1), label, "logit", "top1") == [1, 1, 1]


def test_search_minimises_a_loss() -> None:
    parts, label = several(0.0, 3.0)
    found = fuse.search(parts, label, "logit", "loss")

    def loss(weights: list[float]) -> float:
        return figures(fuse.weighted(parts, weights, "logit").probabilities, label, ["loss"])["loss"]

    assert loss(found) <= min(loss([1, b]) for b in np.linspace(0, 12, 61)) + 0.01


def test_weights_are_chosen_without_the_test_clips(make: Make) -> None:
    make("a", 0, skill=1.0, validation=150), make("b", 7, skill=3.0, validation=150)
    before = fuse.fuse(["a", "b"], "search")
    assert before.weights_from == "validation"
    assert before.searched["clips"] == 150
    assert before.searched["value"] >= before.searched["equal"]
    assert before.weights[1] > 1
    for name in ("a", "b"):
        test = kept(name)
        label = (test.label + 2) % len(CLASSES)
        scores.write(Run(name).stage("test").path, Scores(test.names, label, test.row, test.whole), CLASSES)
    after = fuse.fuse(["a", "b"], "search")
    assert after.weights == before.weights
    assert after.figures != before.figures


def test_search_never_falls_back_to_the_test_clips(make: Make) -> None:
    make("a", 0, validation=40), make("b", 7), make("c", 8, validation=30)
    with pytest.raises(UserError, match=r"b: has kept no scores of validation.*protocol.selection=holdout, or give"):
        fuse.fuse(["a", "b"], "search")
    with pytest.raises(UserError, match=r"10 only in a \(validation030.*same validation clips.*protocol.seed"):
        fuse.fuse(["a", "c"], "search")
    assert fuse.fuse(["a", "c"], "search", common=True).searched["clips"] == 30
    test = kept("a")
    scores.write(Run("a").stage("test").path, test, CLASSES, "validation")
    with pytest.raises(UserError, match="validation clip test000 is among its test clips"):
        fuse.fuse(["a", "c"], "search", common=True)


# ---- streams -------------------------------------------------------------------------------------------------------


def test_streams_of_one_run_keep_the_order_of_the_model(make: Make) -> None:
    make("a", 3, streams={"legs": 1.0, "body": 3.0, "hands": 2.0}, validation=50)
    found = fuse.fuse(["a"], [0.5, 2.0, 1.0])
    assert [item.name for item in found.sources] == ["legs", "body", "hands"]
    own = kept("a").streams
    total = 0.5 * own["legs"].logits + 2 * own["body"].logits + own["hands"].logits
    assert torch.equal(found.fused.whole.logits.argmax(1), total.argmax(1))
    named = fuse.fuse(["a"], {"body": 2.0, "hands": 1.0, "legs": 0.5})
    assert named.figures == found.figures
    assert fuse.fuse(["a"], "search").weights[1] > 1
    two = fuse.fuse(["a:test:hands", "a:test:body"])
    assert [item.name for item in two.sources] == ["a:test:hands", "a:test:body"]


def test_parameters_of_one_network_count_once(make: Make) -> None:
    make("a", streams={"body": 3.0, "hands": 2.0}, parameters=70), make("b", 5, parameters=11)
    assert fuse.as_data(fuse.fuse(["a"]))["parameters"] == 70
    data = fuse.as_data(fuse.fuse(["a:test:body", "a:test:hands", "b"]))
    assert (data["parameters"], data["train_clips"]) == (81, 99)


# ---- from recipe to report -----------------------------------------------------------------------------------------


class TwoStreams(Model):
    """A linear network on the mean pose and one on the mean motion."""

    def __init__(self, spec: ClipSpec, *, streams: tuple[str, ...] = ("pose", "motion"), scale: float = 1.0) -> None:
        super().__init__(spec)
        self.scale = scale
        self.feature_dim = spec.joints * spec.channels
        self.heads = nn.ModuleDict({name: nn.Linear(self.feature_dim, spec.num_classes) for name in streams})

    def forward(self, clips: Batch | Tensor) -> Output:
        joints = as_batch(clips).keypoints
        features = {"pose": joints.mean((1, 2)).flatten(1), "motion": joints.diff(dim=2).abs().mean((1, 2)).flatten(1)}
        streams = {name: self.scale * head(features[name]) for name, head in self.heads.items()}
        return Output(sum(streams.values()), features["pose"], streams)


STUDY = """
name: parts
topology: coco17
data: {{store: {store}, protocol: demo, frames: 8, transforms: {{image: {{}}}}}}
protocol: {{selection: holdout, validation: 0.3}}
stages:
  fit: {{method: supervised, model: {{name: two_streams}}, steps: 8, batch: 8, optimizer: {{lr: 0.1}}}}
  test: {{evaluate: [top1, loss], views: 2}}
  other: {{method: supervised, model: {{name: two_streams, scale: 0.5}}, steps: 8, batch: 8}}
  test_other: {{evaluate: [top1]}}
  streams: {{fuse: [test], weights: {{pose: 2, motion: 0.5}}}}
  ensemble: {{fuse: [test, test_other], weights: search, score: prob, evaluate: [top1, macro_f1]}}
"""


@pytest.fixture
def study(tmp_path: Path, demo_clips: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe of two trainings of a model with two streams, and two fusions."""
    monkeypatch.setitem(MODELS._factories, "two_streams", TwoStreams)
    monkeypatch.chdir(tmp_path)
    Path("parts.yaml").write_text(STUDY.format(store=demo_clips), encoding="utf-8")
    return "parts.yaml"


def test_a_test_keeps_what_fusing_needs(study: str, demo_clips: Path) -> None:
    run = sg.run(study, ["stages.ensemble=null"])
    folder, result = run.stage("test"), run.stage("test").result()
    assert list(result["metrics"]) == ["top1", "loss", "pose_top1", "pose_loss", "motion_top1", "motion_loss",
                                       "last_top1", "last_loss"]  # fmt: skip
    tensors = read_tensors(folder.path / "scores.safetensors")
    assert set(tensors) == {"probabilities", "logits", "label", "row"} | {
        f"stream/{name}/{kind}" for name in ("pose", "motion") for kind in ("probabilities", "logits")
    }
    total = tensors["stream/pose/logits"] + tensors["stream/motion/logits"]
    torch.testing.assert_close(total, tensors["logits"])
    assert not torch.allclose(tensors["logits"].softmax(-1), tensors["probabilities"], atol=1e-7)  # two views
    test = scores.read(folder)
    assert list(test.streams) == ["pose", "motion"]
    own = figures(test.streams["motion"].probabilities, test.label, ["top1", "loss"])
    assert own == pytest.approx({key: result["metrics"][f"motion_{key}"] for key in own})
    names = Store.open(demo_clips).names
    assert test.names == tuple(names[row] for row in test.row)


def test_validation_scores_are_those_that_chose_the_tested_step(study: str, demo_clips: Path) -> None:
    run = sg.run(study, ["stages.ensemble=null", "stages.test.views=1", "stages.fit.validate_every=2"])
    held_out, trained = scores.read(run.stage("test"), "validation"), run.stage("fit").result()
    parts = Store.open(demo_clips).protocol("demo")
    assert len(held_out.names) == trained["validation_clips"] == run.stage("test").result()["validation_clips"] > 0
    assert set(held_out.row.tolist()) < set(parts["train"].tolist())
    best = figures(held_out.whole.probabilities, held_out.label, ["top1"])["top1"]
    assert best == pytest.approx(100 * trained["best_value"])
    with (run.stage("test").path / "val_clips.csv").open(newline="") as file:
        assert [line["clip"] for line in csv.DictReader(file)] == list(held_out.names)


def test_validation_clips_are_those_of_the_run_that_was_trained(study: str) -> None:
    """A test of another run's weights, in a recipe that holds out other clips."""
    run = sg.run(study, ["stages.ensemble=null", "stages.streams=null"], out="trained")
    text = Path(study).read_text().replace("validation: 0.3", "validation: 0.5, seed: 9")
    stages = "stages:\n  test: {evaluate: [top1], from: trained:fit}\n"
    Path("again.yaml").write_text(text[: text.index("stages:")] + stages)
    again = sg.run("again.yaml", out="again")
    one, other = (scores.read(item.stage("test"), "validation") for item in (run, again))
    assert one.names == other.names
    assert torch.equal(one.row, other.row)


@pytest.mark.parametrize("selection", ["none", "refit"])
def test_without_held_out_clips_there_are_no_validation_scores(study: str, selection: str) -> None:
    run = sg.run(study, ["stages.ensemble=null", f"protocol.selection={selection}"], out="run")
    assert not list(run.path.glob("stages/*/val_*"))
    with pytest.raises(UserError, match=r"protocol.selection=holdout"):
        fuse.fuse(["run:test"], "search")


@pytest.mark.filterwarnings("default:.*no scores of its validation clips.*")
def test_a_training_store_that_has_gone_costs_the_search_only(study: str, tmp_path: Path) -> None:
    run = sg.run(study, ["stages.ensemble=null", "stages.streams=null"], out="trained")
    card = run.stage("fit").path / "model.json"
    card.write_text(card.read_text().replace(run.recipe["data"]["store"], str(tmp_path / "gone")))
    text = Path(study).read_text()
    Path("again.yaml").write_text(
        text[: text.index("stages:")] + "stages: {test: {evaluate: [top1], from: trained:fit}}"
    )
    with pytest.warns(UserWarning, match="no scores of its validation clips are kept"):
        again = sg.run("again.yaml", out="again")
    assert again.finished
    assert scores.read(again.stage("test"), "validation") is None


def test_fuse_stages_run_and_stand_in_results_and_report(study: str, capfd: pytest.CaptureFixture[str]) -> None:
    run = sg.run(study, out="run")
    assert run.finished
    fused = run.stage("streams").result()
    again = fuse.fuse(["run:test"], {"pose": 2, "motion": 0.5})
    assert fused["metrics"] == again.figures
    assert set(run.metrics) >= {"streams/top1", "streams/mean_class", "ensemble/top1", "ensemble/macro_f1"}
    assert [item["source"] for item in fused["sources"]] == ["pose", "motion"]
    assert fused["demo"] is True
    both = run.stage("ensemble").result()
    assert both["weights_from"] == "validation"
    assert both["searched"]["clips"] == run.stage("fit").result()["validation_clips"]
    assert both["parameters"] == 2 * fused["parameters"] == 2 * run.stage("fit").result()["parameters"]
    kept = read_tensors(run.stage("ensemble").path / "scores.safetensors")
    assert kept["probabilities"].shape == (both["test_clips"], 4)
    assert "weights: searched on" in capfd.readouterr().err
    rows = {(row.stage, row.metric): row for row in headline.headlines(run)}
    assert rows["test", "pose_top1"].title == "Top-1 accuracy, stream pose"
    assert rows["test", "pose_loss"].unit == "nats"
    assert rows["test", "motion_top1"].chance == rows["test", "top1"].chance is not None
    assert rows["streams", "top1"].split == rows["test", "top1"].split
    group = results.collect(["run"]).groups[0]
    row = next(item for item in group.figures if (item.stage, item.metric) == ("ensemble", "top1"))
    assert row.parameters == both["parameters"]
    assert row.interval is not None
    page = run.report.read_text(encoding="utf-8")
    assert all(
        words in page for words in ("What was added up", "ensemble <small>fusion</small>", "Top-1 accuracy, stream")
    )
    sg.run(study, out="run", resume=True)
    assert "ensemble: finished before" in capfd.readouterr().err


def test_a_fused_stage_is_a_source_too(study: str) -> None:
    run = sg.run(study, ["stages.ensemble={fuse: [streams, test_other], weights: [1, 0], score: logit}"], out="run")
    assert run.metrics["ensemble/top1"] == run.metrics["streams/top1"]
    other = fuse.fuse(["run:streams", "run:test_other"], [1, 0])
    assert other.figures["top1"] == run.metrics["streams/top1"]


def test_a_stream_called_last_is_refused(study: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = TwoStreams.forward

    def renamed(self: TwoStreams, clips: Any) -> Output:
        output = whole(self, clips)
        return Output(output.logits, output.features, {"last": output.streams["pose"]})

    monkeypatch.setattr(TwoStreams, "forward", renamed)
    with pytest.raises(UserError, match="a stream cannot be called 'last'"):
        sg.run(study)


# ---- the verb and the page -----------------------------------------------------------------------------------------


def test_verb_prints_a_table_and_keeps_the_scores(make: Make) -> None:
    make("a", 0, validation=40), make("b", 7, validation=40, drop=("test001",))
    result = CliRunner().invoke(command, ["a", "b", "--weights", "2,1.5", "--common", "--out", "out"])
    assert result.exit_code == 0, result.exception
    lines = result.output.splitlines()
    assert re.search(r"source +weight +top1 \(%\) +mean_class \(%\)", lines[0])
    assert re.match(r"a +2 +\d+\.\d +\d+\.\d", lines[2].strip())
    assert re.match(r"b +1\.5 ", lines[3].strip())
    assert any(re.match(r"fused +\d+\.\d", line.strip()) for line in lines)
    assert "59 test clips of official, test (1 left out that not every source has); added up: logits." in lines
    assert lines[-1] == "weights: as given."
    assert len(Path("out/clips.csv").read_text().splitlines()) == 60
    found = fuse.fuse(["a", "b"], [2, 1.5], common=True)
    assert torch.equal(read_tensors(Path("out/scores.safetensors"))["probabilities"], found.fused.whole.probabilities)
    assert json.loads(Path("out/fusion.json").read_text())["metrics"] == found.figures
    with pytest.raises(UserError, match="out: holds scores already"):
        fuse.write(found, Path("out"))
    Path("file").touch()
    with pytest.raises(UserError, match=r"file.*cannot be written"):
        fuse.write(found, Path("file/out"))


def test_verb_searches_and_gives_json(make: Make) -> None:
    make("a", 0, skill=1.0, validation=90), make("b", 7, skill=3.0, validation=90)
    words = ["a", "b", "--search", "--metric", "mean_class", "--metric", "loss", "--score", "prob"]
    shown = CliRunner().invoke(command, words).output
    assert re.search(r"weights: searched on 90 validation clips, no test clip among them; mean_class there \d", shown)
    data = json.loads(CliRunner().invoke(command, [*words, "--json"]).output)
    assert set(data["metrics"]) == {"mean_class", "loss"}
    assert [item["weight"] for item in data["sources"]] == list(
        fuse.fuse(["a", "b"], "search", score="prob", metrics=["mean_class"]).weights
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--weights", "1,2", "--search"], "--weights and --search: choose one"),
        (["--weights", "1;2"], "--weights 1;2: write numbers with commas"),
        (["--weights", "search"], "or say --search to find them on validation clips"),
        (["--weights", "1,2,3"], r"3 weights for 2 sources \(a, b\)"),
    ],
)
def test_mistakes_at_the_verb(make: Make, words: list[str], message: str) -> None:
    make("a"), make("b")
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(command, ["a", "b", *words], catch_exceptions=False)


def test_demo_runs_say_so(make_run: Callable[..., Run]) -> None:
    names = [str(make_run(seed=seed).path) for seed in (0, 1)]
    shown = CliRunner().invoke(command, [*names, "--score", "prob"]).output
    assert "DEMO: generated motion, not people" in shown


def test_page_of_the_docs(make: Make, tmp_path: Path) -> None:
    text = (ROOT / "docs/fusing.md").read_text(encoding="utf-8")
    found = re.findall(r"^```yaml\n(.*?)^```", text, re.S | re.M)
    assert len(found) == 2
    for number, block in enumerate(found):
        (tmp_path / f"{number}.yaml").write_text(block, encoding="utf-8")
        recipe.check(recipe.load(tmp_path / f"{number}.yaml"))
    make("runs/joint/seed0", 0), make("runs/bone/seed0", 7)
    space: dict[str, Any] = {}
    exec(re.search(r"^```python\n(.*?)^```", text, re.S | re.M)[1], space)
    assert space["fusion"].weights == (3, 2)
