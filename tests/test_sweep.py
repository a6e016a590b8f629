"""The search: its little language, what trials may see, and processes that die."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from skelgraph import recipe, yamlfile
from skelgraph.cli.main import cli
from skelgraph.data.store import Store
from skelgraph.engine.run_folder import Run
from skelgraph.errors import UserError
from skelgraph.sweep import Parameter, parse, sweep
from skelgraph.sweep.plan import make_plan
from skelgraph.sweep.search import Search

TINY = """
name: tiny
topology: coco17
data: {{store: {store}, protocol: demo, frames: 8, persons: 1, transforms: {{image: {{}}}}}}
protocol: {{selection: {selection}, validation: 0.3}}
stages:
  train:
    method: supervised
    model: {{name: stgcnpp, width: 8, depth: 4}}
    steps: 4
    batch: 8
    optimizer: {{name: sgd, lr: 0.1}}
  test: {{evaluate: [top1]}}
  near: {{evaluate: [top1], by: knn}}
  both: {{fuse: [test, near]}}
"""
LR = "stages.train.optimizer.lr=loguniform(1e-4,1e-1)"
DEPTH = "stages.train.model.depth=choice(4,6)"


@pytest.fixture
def tiny(tmp_path: Path, demo_clips: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe with validation in a working folder of its own."""
    pytest.importorskip("optuna", reason="needs the extra 'sweep'")
    monkeypatch.chdir(tmp_path)
    for selection in ("holdout", "none"):
        Path(f"{selection}.yaml").write_text(TINY.format(store=demo_clips, selection=selection), encoding="utf-8")
    return "holdout.yaml"


def rows() -> list[dict[str, str]]:
    with Path("sweeps/tiny/trials.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# -- the language ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a.b=loguniform(1e-4, 1e-1)", Parameter("a.b", "loguniform", (1e-4, 1e-1))),
        ("a=uniform(0,1)", Parameter("a", "uniform", (0.0, 1.0))),
        ("a=int(1,4)", Parameter("a", "int", (1, 4))),
        ("a=logint( 8 , 256 )", Parameter("a", "logint", (8, 256))),
        ("a=choice(sgd, adamw)", Parameter("a", "choice", ("sgd", "adamw"))),
        ("a=choice(1, 0.5, true, null)", Parameter("a", "choice", ("1", "0.5", "true", "null"))),
        ("a=choice('1', \"x, y\")", Parameter("a", "choice", ('"1"', '"x, y"'))),
        ("a=choice({name: sgd, lr: 1e-3}, [1, 2])",
         Parameter("a", "choice", ('{"name": "sgd", "lr": 0.001}', "[1, 2]"))),
        ("a=choice(__import__('os').getcwd())", Parameter("a", "choice", ("\"__import__('os').getcwd()\"",))),
        ("a=0.5", None),
        ("a=[uniform, choice]", None),
    ],
)  # fmt: skip
def test_parse(word: str, expected: Parameter | None) -> None:
    assert parse(word) == expected


def test_overrides_read_back_as_they_were_drawn() -> None:
    for value in (1, 0.5, True, None, "sgd", "1", "x, y", "a: b", "", "#", "true", {"name": "sgd", "lr": 1e-5}, [1]):
        found = parse(f"a=choice({json.dumps(value)}, other)")
        assert found is not None
        text = found.override(found.values[0]).partition("=")[2]
        assert yamlfile.parse(text, "override").data == value
    rate = Parameter("a", "loguniform", (1.2342e-5, 0.1))
    assert rate.override(0.00123456) == "a=0.001235"
    assert rate.override(1.2342e-5) == "a=1.2342e-05"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("a=logunifrom(1,2)", "Did you mean 'loguniform'"),
        ("a=uniform(1)", "lowest and the highest number"),
        ("a=uniform(2,1)", "lowest and the highest"),
        ("a=uniform(a,b)", "lowest and the highest"),
        ("a=uniform(0,.inf)", "lowest and the highest"),
        ("a=loguniform(0,1)", "above 0"),
        ("a=int(0.5,2)", "whole number"),
        ("a=choice()", "different values"),
        ("a=choice(1,1)", "different values"),
        ("a=choice({)", "not valid YAML"),
    ],
)
def test_words_that_make_no_sense(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(word)


# -- the search ------------------------------------------------------------------------------------------------------


def test_a_search(tiny: str, demo_clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three trials, none of which reads a test clip; a fourth later; the best as a command."""
    seen: set[int] = set()
    row = Store.row
    monkeypatch.setattr(Store, "row", lambda self, index: (seen.add(int(index)), row(self, index))[1])
    done = CliRunner().invoke(cli, ["sweep", tiny, LR, DEPTH, "data.frames=6", "--trials", "3"], catch_exceptions=False)
    split = Store.open(demo_clips).protocol("demo")
    assert seen == set(split["train"].tolist())
    assert not seen & set(split["test"].tolist())
    first = rows()
    assert [item["state"] for item in first] == ["complete"] * 3
    assert all(0.0001 <= float(item["stages.train.optimizer.lr"]) <= 0.1 for item in first)
    assert len({item["stages.train.optimizer.lr"] for item in first}) == 3
    assert not list(Path("sweeps").glob("**/stages/test"))
    best = max(first, key=lambda item: float(item["val_top1"]))
    command = shlex.split(done.output.splitlines()[-1])
    assert command[:3] == ["skelgraph", "run", tiny]
    study = recipe.load(command[2], command[3:])
    assert study.recipe.stages["train"].optimizer.lr == float(best["stages.train.optimizer.lr"])
    assert (study.recipe.data.frames, list(study.recipe.stages)) == (6, ["train", "test", "near", "both"])
    trial = Run.open(Path("sweeps/tiny") / best["run"])
    assert trial.stage("train").result()["best_value"] == float(best["val_top1"])

    again = sweep(tiny, [LR, DEPTH, "data.frames=6"], trials=4)
    assert rows()[:3] == first
    assert len(again.trials) == 4
    with pytest.raises(UserError, match="search of another recipe"):
        sweep(tiny, [LR, "data.frames=6"], trials=4)


def test_a_trial_whose_process_died_is_taken_up(tiny: str) -> None:
    plan = make_plan(tiny, [LR], stage=None, demo=False, seed=None)
    dying = Search(plan, Path("sweeps/tiny"), 2, None)
    trial, held = dying._next()
    others, other = Search(plan, Path("sweeps/tiny"), 2, None)._next()
    assert others.number != trial.number, "a living trial is left alone"
    assert Search(plan, Path("sweeps/tiny"), 2, None)._next() is None
    held.close()
    other.close()
    found = sweep(tiny, [LR], trials=2)
    assert [item.state.name for item in found.trials] == ["COMPLETE", "COMPLETE"]
    drawn = {item.params["stages.train.optimizer.lr"] for item in found.trials}
    assert drawn == {one.params["stages.train.optimizer.lr"] for one in (trial, others)}
    assert {item.user_attrs["folder"] for item in found.trials} == {"0000", "0001"}


def test_a_trial_that_diverges_has_failed_and_the_search_goes_on(tiny: str) -> None:
    with pytest.raises(UserError, match="no trial has ended well; the last: the loss is"):
        sweep(tiny, ["stages.train.optimizer.lr=uniform(1e30,2e30)", "stages.train.batch=4"], trials=2).text()
    assert [item["state"] for item in rows()] == ["fail", "fail"]
    assert all("the loss is" in item["reason"] for item in rows())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.yaml", LR], "Add protocol.selection=holdout"),
        (["holdout.yaml", "data.frames=6"], "nothing to search"),
        (["holdout.yaml", LR, LR], "two distributions"),
        (["holdout.yaml", "stages.train.optimizer.rate=uniform(0,1)"], "unknown key 'rate'"),
        (["holdout.yaml", "stages.train.model.name=choice(stgcnpp,nothing)"], "unknown model 'nothing'"),
        (["holdout.yaml", LR, "--stage", "test"], "unknown stage with a validation figure 'test'"),
        (["holdout.yaml", LR, "stages.train.method=masked", "stages.test=null", "stages.near=null",
          "stages.both=null", "stages.train.model={name: skeletonmae}"], "no stage has a validation figure"),
        (["holdout.yaml", LR, "data.store=absent"], "absent: no data here"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_mistakes(words: list[str], message: str, tiny: str) -> None:
    result = CliRunner().invoke(cli, ["sweep", *words, "--trials", "1"])
    assert isinstance(result.exception, UserError), result.output
    assert message in str(result.exception)


def test_a_recipe_without_validation_may_be_given_one(tiny: str) -> None:
    plan = make_plan("none.yaml", [LR, "protocol.selection=holdout"], stage=None, demo=False, seed=3)
    drawn = ["stages.train.optimizer.lr=0.01"]
    study = recipe.load(plan.recipe, plan.overrides(drawn))
    assert list(study.recipe.stages) == ["train"]
    assert (study.recipe.protocol.selection, study.recipe.seed, plan.mode) == ("holdout", 3, "max")
    assert np.isclose(study.recipe.stages["train"].optimizer.lr, 0.01)
