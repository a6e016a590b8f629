"""Recipes of MoCo, HaLP and the probes: the published protocol, what their heads say, how they hand over."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from skelgraph import assets, recipe
from skelgraph.methods import METHODS
from skelgraph.recipe import FitStage, Study

PAGE = Path(__file__).resolve().parent.parent / "docs/halp.md"
SPLITS = ("ntu60_xsub", "ntu60_xview", "ntu120_xsub", "pku2_xsub")
PAIRS = (*SPLITS, "nwucla", "utdmhad")
ONWARDS = ("halp_ntu60_to_pku2", "halp_ntu60_xsub_semi")
NAMES = [*(f"{method}_{data}" for method in ("moco", "halp") for data in PAIRS), *ONWARDS]
NAMES.append("skeletonmae_pennaction_probe")


@cache
def load(name: str) -> Study:
    """A recipe, read once."""
    return recipe.load(name)


def stage(name: str, key: str) -> FitStage:
    return load(name).fit_stages()[key]


def test_all_that_were_asked_for_are_there() -> None:
    there = {name for name in assets.names("recipes") if name.startswith(("moco_", "halp_")) or name.endswith("_probe")}
    assert there == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_head_of_a_recipe_says_what_runs(name: str) -> None:
    """Its commands and overrides are accepted, for the recipe and its demo; no unverified figure is quoted."""
    lines = assets.names("recipes")[name].read_text(encoding="utf-8").splitlines()
    text = "\n".join(line[1:] for line in lines if line.startswith("#")).replace("\\\n", " ")
    asked = [shlex.split(line) for line in text.splitlines() if line.startswith("   ")]
    assert ["skelgraph", "run", f"recipes/{name}.yaml"] in asked
    for words in asked:
        overrides = [word for word in words if re.match(r"[a-z_.]+=", word)]
        for demo in (False, True) if words[0] == "..." else ():
            filled = [word.replace("RUN", "runs/a") for word in overrides]
            recipe.check(recipe.load(name, filled, demo=demo))
    study = load(name)
    assert study.recipe.published == {}
    assert str(study.recipe.data.store) in study.recipe.needs


@pytest.mark.parametrize("data", SPLITS)
def test_published_protocol(data: str) -> None:
    """Section 5 of the specification; the two stages last as long as the one of MoCo alone."""
    pku = data.startswith("pku2")
    first, second, probe = (stage(f"halp_{data}", key) for key in ("pretrain", "halp", "linear"))
    alone = stage(f"moco_{data}", "pretrain")
    drop, total = (801, 1001) if pku else (351, 451)
    assert (alone.epochs, alone.schedule.milestones) == (total, [drop])
    assert first.epochs is not None
    assert second.epochs is not None
    assert first.epochs == (501 if pku else 201)
    assert first.epochs + second.epochs == total
    assert [first.epochs + at for at in second.schedule.milestones] == [drop]
    for one in (first, second, alone):
        settings, optimizer = one.method_settings, one.optimizer
        assert (settings["queue"], settings["momentum"], settings["temperature"], settings["dim"]) == (
            16384, 0.999, 0.07, 128,
        )  # fmt: skip
        assert (optimizer.name, optimizer.lr, optimizer.momentum, optimizer.nesterov, optimizer.weight_decay) == (
            "sgd", 0.01, 0.9, False, 1e-4,
        )  # fmt: skip
        assert one.batch == 64
    settings = second.method_settings
    assert settings["weight"] == (1.0 if pku else 2.0)
    assert [settings[key] for key in ("prototypes", "newest", "refresh", "positives", "hardness")] == [
        20, 256, 10, 100, 0.8,
    ]  # fmt: skip
    assert (probe.optimizer.lr, probe.optimizer.weight_decay) == (0.001 if pku else 0.005, 0.0)
    assert (probe.epochs, probe.schedule.milestones) == (80, [50, 70])
    assert load(f"halp_{data}").data_for("linear").transforms["one_of"] is None
    assert load(f"halp_{data}").data_for("pretrain").sampling.settings == {"crop": [0.1, 1.0]}


@pytest.mark.parametrize("name", NAMES)
def test_a_queue_that_is_handed_on_is_the_same(name: str) -> None:
    """So are the networks; and a small set's queue is not larger than its training part."""
    stages = load(name).fit_stages()
    for one in stages.values():
        if one.method == "halp":
            before = stages[str(one.from_)]
            assert one.model == before.model
            shared = ("queue", "momentum", "temperature", "dim", "projection")
            assert [one.method_settings[key] for key in shared] == [before.method_settings[key] for key in shared]
        if one.method in ("moco", "halp") and name.endswith("utdmhad"):
            assert one.method_settings["queue"] <= 431


def test_yaml_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    assert len(found) == 2
    for text in found:
        Path("mine.yaml").write_text(text, encoding="utf-8")
        study = recipe.load("mine.yaml")
        recipe.check(study)
    paired = study.fit_stages()
    assert (paired["more"].steps, paired["more"].optimizer) == (paired["halp"].steps, paired["halp"].optimizer)


def test_names_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in NAMES if name.startswith(("moco_", "halp_")) and f"`{name}`" not in page] == []
    default = {key: entry.default for key, entry in METHODS.settings("halp").items()}
    settings = ("queue", "momentum", "temperature", "dim", "projection", "prototypes", "newest", "refresh",
                "positives", "candidates", "skip", "hardness", "weight")  # fmt: skip
    shown = "".join(line for line in page.splitlines() if line.startswith("|"))
    assert [key for key in settings if f"`{key}`" not in shown] == []
    assert [default[key] for key in settings] == [16384, 0.999, 0.07, 128, "mlp", 20, 256, 10, 100, 20, 1, 0.8, 2.0]


def test_the_encoder_is_changed_in_one_place() -> None:
    changed = recipe.load("halp_nwucla", ["stages.pretrain.model={name: stgcnpp, width: 32}"])
    assert {one.model.name for one in changed.fit_stages().values()} == {"stgcnpp"}
