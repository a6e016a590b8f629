"""Recipes: merging, overrides, precise errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from skelgraph import assets, recipe
from skelgraph.errors import UserError

BASE = """
name: small
topology: coco17
data: {store: data/none, protocol: demo, transforms: {image: {}}}
stages:
  fit:
    method: supervised
    model: {name: strl, layers: 1}
    epochs: 5
    schedule: {name: step, milestones: [3]}
  test: {evaluate: [top1]}
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes recipes into a working folder of their own."""
    monkeypatch.chdir(tmp_path)

    def _write(text: str, name: str = "small.yaml") -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return name

    return _write


def test_extends_merges_and_own_keys_win(write) -> None:
    write(BASE)
    child = write("extends: small.yaml\nname: child\nstages: {fit: {epochs: 7}}\n", "child.yaml")
    study = recipe.load(child)
    assert study.recipe.name == "child"
    assert study.fit_stages()["fit"].epochs == 7
    assert study.fit_stages()["fit"].model.settings == {"layers": 1}
    assert list(study.recipe.stages) == ["fit", "test"]


def test_a_component_with_another_name_is_replaced(write) -> None:
    study = recipe.load(write(BASE), ["stages.fit.schedule={name: cosine}", "stages.fit.model={name: skeletonmae}"])
    assert study.fit_stages()["fit"].schedule.milestones == []
    assert study.fit_stages()["fit"].model.settings == {}


def test_steps_replace_epochs(write) -> None:
    stage = recipe.load(write(BASE), ["stages.fit.steps=9"]).fit_stages()["fit"]
    assert (stage.steps, stage.epochs) == (9, None)


def test_interpolation_inside_but_not_outside(write) -> None:
    path = write(BASE.replace("layers: 1", "layers: '${seed}'") + "seed: 2\n")
    assert recipe.load(path).fit_stages()["fit"].model.settings == {"layers": 2}
    path = write(BASE.replace("data/none", "'${oc.env:HOME}'"))
    with pytest.raises(UserError, match=r"small.yaml:4.*outside the recipe"):
        recipe.load(path)


def test_a_stage_that_is_taken_out_still_lends_what_others_refer_to(write) -> None:
    second = "  more: {method: supervised, model: '${stages.fit.model}', from: fit, steps: 3}\n"
    path = write(BASE + second)
    study = recipe.load(path, ["stages.fit.model.layers=2", "stages.fit=null", "stages.more.from=runs/a"])
    assert list(study.recipe.stages) == ["test", "more"]
    assert study.fit_stages()["more"].model.settings == {"layers": 2}
    back = recipe.load(path, ["stages.fit=null", "stages.fit={method: supervised, model: {name: strl}, steps: 1}"])
    assert back.fit_stages()["more"].model.settings == {}


def test_a_demo_leaves_a_stage_out(write) -> None:
    path = write(BASE + "demo: {stages: {test: null}}\n")
    assert list(recipe.load(path, demo=True).recipe.stages) == ["fit"]
    assert list(recipe.load(path).recipe.stages) == ["fit", "test"]


def test_stage_data_overrides(write) -> None:
    study = recipe.load(write(BASE), ["stages.fit.data.frames=8", "stages.fit.data.transforms.image=null"])
    assert study.data_for("fit").frames == 8
    assert study.data_for("fit").transforms == {"image": None}
    assert study.data_for("test").frames == 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("epochs: 5", "epoch: 5"), r"small.yaml:\d+.*either 'epochs' or 'steps'"),
        (("epochs: 5", "epochs: five"), r"small.yaml:9: 'stages.fit.epochs'"),
        (("method: supervised", "method: supervized"), r"small.yaml:7: .*'supervized'. Did you mean 'supervised'"),
        (("layers: 1", "layer: 1"), r"small.yaml:8: unknown key of model 'strl' 'layer'. Did you mean 'layers'"),
        (("name: strl", "name: strlx"), r"small.yaml:8: unknown model 'strlx'. Did you mean 'strl'"),
        (("image: {}", "imag: {}"), r"small.yaml:4: unknown transform 'imag'. Did you mean 'image'"),
        (("topology: coco17", "topology: coco71"), r"unknown topology 'coco71'. Did you mean 'coco17'"),
        (("protocol: demo,", "protocoll: demo,"), r"small.yaml:4: unknown key 'protocoll'. Did you mean 'protocol'"),
        (("[top1]", "[top11]"), r"small.yaml:11: 'stages.test.evaluate.0'"),
        (("epochs: 5", "epochs: 5\n    label_smothing: 0.1"), r":10: unknown key.*Did you mean 'label_smoothing'"),
        (("epochs: 5", "epochs: 5\n    from: later"), r"small.yaml:10: unknown earlier stage 'later'"),
        (("name: small", "name: small\nname: other"), r"small.yaml:3: 'name' is given twice \(first on line 2\)"),
    ],
)  # fmt: skip
def test_errors_name_file_line_and_what_is_allowed(write, change: tuple[str, str], message: str) -> None:
    assert change[0] in BASE
    path = write(BASE.replace(change[0], change[1], 1))
    with pytest.raises(UserError, match=message):
        recipe.check(recipe.load(path))


FUSED = BASE.replace("name: small", "name: fused").replace(
    "test: {evaluate: [top1]}",
    """test: {evaluate: [top1]}
  parts: {method: supervised, model: {name: psumnet}, epochs: 5}
  test_parts: {evaluate: [top1]}
  both: {fuse: [test, test_parts], weights: [2, 1]}
  streams: {fuse: [test_parts], weights: {body: 2.0, hands: 1.8, legs: 0.7}, score: prob, evaluate: [top5]}
""",
)


def test_a_fuse_stage(write) -> None:
    study = recipe.load(write(FUSED))
    recipe.check(study)
    both, streams = study.recipe.stages["both"], study.recipe.stages["streams"]
    assert (both.fuse, both.weights, both.score, both.evaluate) == (
        ["test", "test_parts"], [2, 1], "logit", ["top1", "mean_class"]
    )  # fmt: skip
    assert (streams.weights["hands"], streams.score, streams.evaluate) == (1.8, "prob", ["top5"])
    assert study.data_for("both") == study.recipe.data
    again = recipe.from_data(study.recipe.model_dump(by_alias=True), "recipe.json", demo=False)
    assert again.recipe == study.recipe
    recipe.check(recipe.load(write(FUSED), ["stages.both={fuse: ['test_parts:body', test], weights: search}"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[test, test_parts]", "[test, test_part]"), r"14: unknown earlier test stage 'test_part'. Did you mean 't"),
        (("[test, test_parts]", "[test, fit]"), r"14: unknown earlier test stage 'fit'"),
        (("[test, test_parts]", "[test, streams]"), r"14: unknown earlier test stage 'streams'"),
        (("[test, test_parts]", "[test, test]"), r"14: 'test' is named twice"),
        (("[test, test_parts]", "[]"), r"14: 'stages.both.fuse'"),
        (("[test, test_parts]", "[test_parts]"), r"14: 2 weights for 3 sources \(body, hands, legs\)"),
        (("[test, test_parts]", "['test_parts:body']"), r"14: 'test_parts:body' has no streams to fuse"),
        (("weights: [2, 1]", "weights: [2, 1, 1]"), r"14: 3 weights for 2 sources \(test, test_parts\)"),
        (("weights: [2, 1]", "weights: [2, -1]"), r"14: 'stages.both.weights': write numbers from 0"),
        (("weights: [2, 1]", "weights: best"), r"14: 'stages.both.weights': write numbers from 0.*or 'search'"),
        (("weights: [2, 1]", "weights: [0, 0]"), r"14: .*one of them is above 0"),
        (("weights: [2, 1]", "weights: {test: 1}"), r"14: no weight for 'test_parts'"),
        (("weights: [2, 1]", "weight: [2, 1]"), r"14: unknown key 'weight'. Did you mean 'weights'"),
        (("legs: 0.7", "leg: 0.7"), r"15: unknown source 'leg'. Did you mean 'legs'"),
        (("score: prob", "score: probs"), r"15: 'stages.streams.score'"),
        (("evaluate: [top5]", "evaluate: [top6]"), r"15: 'stages.streams.evaluate.0'"),
        (("fuse: [test_parts]", "fuse: [test_parts], method: supervised"), r"15: stage 'streams' needs either"),
    ],
)  # fmt: skip
def test_errors_of_a_fuse_stage(write, change: tuple[str, str], message: str) -> None:
    assert change[0] in FUSED
    path = write(FUSED.replace(change[0], change[1], 1))
    with pytest.raises(UserError, match=message):
        recipe.check(recipe.load(path))


def test_extends_in_a_circle(write) -> None:
    write("extends: b.yaml\nname: a\n", "a.yaml")
    write("extends: a.yaml\nname: b\n", "b.yaml")
    with pytest.raises(UserError, match="leads back to itself"):
        recipe.load("a.yaml")


def test_unknown_recipe_lists_those_there_are() -> None:
    with pytest.raises(UserError, match="Did you mean 'skeletonmae_finegym'"):
        recipe.load("skeletonmae_finegim")


@pytest.mark.parametrize("name", sorted(assets.names("recipes")))
def test_every_recipe_is_well_formed(name: str) -> None:
    study = recipe.load(name)
    recipe.check(study)
    assert study.recipe.name == name
    assert study.recipe.title
    assert study.recipe.needs or study.recipe.name.startswith("demo")
    recipe.check(recipe.load(name, demo=True))


def test_json_schema_names_the_stages() -> None:
    assert "stages" in recipe.schema()["properties"]


def test_a_copied_recipe_still_finds_what_it_extends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(assets.find("recipes", "skeletonmae_finegym", "recipe").read_text(), encoding="utf-8")
    assert recipe.load("mine.yaml").recipe.stages.keys() == {"pretrain", "finetune", "test"}


def test_overrides_reach_the_demo_section() -> None:
    study = recipe.load("skeletonmae_finegym", ["demo.stages.pretrain.steps=7", "demo.data.frames=9"], demo=True)
    assert study.fit_stages()["pretrain"].steps == 7
    assert study.recipe.data.frames == 9
