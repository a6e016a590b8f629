"""Recipes of the part streams and the supervised family: what they compose, what they quote, what their heads say."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path

import pytest

import skelgraph as sg
from skelgraph import assets, recipe
from skelgraph.batch import ClipSpec
from skelgraph.data.synthetic import write_demo
from skelgraph.engine.run_folder import read_tensors
from skelgraph.errors import UserError
from skelgraph.models import MODELS
from skelgraph.recipe import EvaluateStage, FitStage, FuseStage, Study
from skelgraph.topology import Topology

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/part_streams.md"
NAMES = sorted(name for name in assets.names("recipes") if name.startswith(("psumnet_", "ctrgcn_", "stgcnpp_")))
SPLITS = ("ntu60_xsub", "ntu60_xview", "ntu120_xsub", "ntu120_xset")
ASKED = {
    *(f"{network}_{split}" for network in ("psumnet", "ctrgcn", "stgcnpp") for split in (*SPLITS, "nwucla")),
    *(f"psumnet_{data}" for data in ("ntu60x", "ntu120x", "shrec14", "shrec28")),
    *(f"stgcnpp_{data}" for data in ("pennaction", "jhmdb", "utdmhad", "sbu", "signs")),
}
FUSED = "published_weights/top1"
PUBLISHED = {  # what the README of PSUMNet prints; nothing else could be checked
    "psumnet_ntu60_xsub": {FUSED: 92.9},
    "psumnet_ntu120_xsub": {FUSED: 89.4},
    "psumnet_ntu60x": {FUSED: 94.7},
    "psumnet_ntu120x": {FUSED: 89.1},
    "psumnet_shrec14": {"top1": 95.5},
    "psumnet_shrec28": {"top1": 93.1},
    "ctrgcn_ntu60_xsub": {"top1": 92.4},
    "ctrgcn_ntu120_xsub": {"top1": 88.9},
}


@cache
def load(name: str) -> Study:
    """A recipe, read once."""
    return recipe.load(name)


def train(name: str) -> FitStage:
    """Its one training."""
    (stage,) = load(name).fit_stages().values()
    return stage


def head(name: str) -> str:
    """The comment above a recipe, without its marks; continued lines are joined."""
    lines = assets.names("recipes")[name].read_text(encoding="utf-8").splitlines()
    text = "\n".join(
        line.removeprefix("#") for line in lines[: next(i for i, line in enumerate(lines) if line[0] != "#")]
    )
    return text.replace("\\\n", " ")


def spec(topology: str, classes: int, persons: int) -> ClipSpec:
    names = tuple(map(str, range(classes)))
    return ClipSpec(topology=Topology.load(topology), channels=3, persons=persons, frames=64, classes=names)


def size(name: str, topology: str, classes: int, persons: int = 2, **settings: object) -> int:
    """Parameters of a model."""
    model = MODELS.create(name, spec(topology, classes, persons), **settings)
    return sum(parameter.numel() for parameter in model.parameters())


def test_all_that_were_asked_for_are_there() -> None:
    assert set(NAMES) == ASKED
    assert "finetune_own" in assets.names("recipes")


@pytest.mark.parametrize("name", NAMES)
def test_published_figures(name: str) -> None:
    """Only those that were checked, of the fused score, and no figure inherited from another split."""
    found = load(name).recipe.published
    assert found == PUBLISHED.get(name, {})
    for key in found:
        stage, _, _ = key.rpartition("/")
        assert not stage or stage in load(name).recipe.stages
    fused = train(name).model.name == "multi_stream" or FUSED in found or "shrec" in name
    assert fused or not found


@pytest.mark.parametrize("name", [*NAMES, "finetune_own"])
def test_the_head_of_a_recipe_says_what_runs(name: str) -> None:
    """Its commands and overrides are accepted, for the recipe and its demo, and its data come from where it says."""
    text, study = head(name), load(name)
    store = study.recipe.data.store
    asked = [line.strip() for line in text.splitlines() if line.startswith("   ")]
    imports = [shlex.split(line)[3:] for line in asked if line.startswith("skelgraph data import")]
    runs = [shlex.split(line, comments=True) for line in asked if line.startswith(("skelgraph run", "..."))]
    assert imports or "as in recipes/" in text
    assert all(words[2] == store for words in imports)
    assert store in study.recipe.needs
    assert ["skelgraph", "run", f"recipes/{name}.yaml"] in runs
    for words in runs:
        overrides = [word for word in words if re.match(r"[a-z_.]+=", word)]
        own = words[0] == "..." or f"recipes/{name}.yaml" in words
        assert own or not overrides
        for demo in (False, True) if own else ():
            recipe.check(recipe.load(name, overrides, demo=demo))


@pytest.mark.parametrize("name", [*NAMES, "finetune_own"])
def test_models_are_built_for_their_topology(name: str) -> None:
    """Parts and inputs exist there; the demo has the same network, narrower."""
    sizes = []
    for demo in (False, True):
        study = recipe.load(name, demo=demo)
        (stage,) = study.fit_stages().values()
        model, data = stage.model, study.recipe.data
        sizes.append(size(model.name, study.recipe.topology, 3, data.persons, **model.settings))
        assert study.recipe.demo.persons == data.persons
    assert sizes[1] < sizes[0] / 2


@pytest.mark.parametrize("split", SPLITS)
def test_protocols_of_ntu(split: str) -> None:
    """Frames, persons, lengths, optimiser and views as the papers have them."""
    for network, batch, decay in (("psumnet", 200, 5e-4), ("ctrgcn", 64, 4e-4)):
        study, stage = load(f"{network}_{split}"), train(f"{network}_{split}")
        data = study.recipe.data
        assert (data.frames, data.persons, data.channels, data.protocol) == (64, 2, 3, split.split("_")[1])
        assert (data.sampling.name, data.sampling.settings) == ("resize", {"drop": "empty"})
        assert list(data.transforms) == ["persons", "center", "random_rotation"]
        assert data.transforms["persons"].get("absent") == ("copy" if "ntu120" in split else None)
        assert (stage.batch, stage.epochs, stage.optimizer.lr, stage.optimizer.weight_decay) == (batch, 65, 0.1, decay)
        assert (stage.schedule.name, stage.schedule.warmup, stage.schedule.milestones) == ("step", 5, [35, 55])
    study, stage = load(f"stgcnpp_{split}"), train(f"stgcnpp_{split}")
    assert study.recipe.topology == "ntu25_pyskl"
    assert study.recipe.data.transforms == {"persons": {}, "center": {"per": "first"}, "align": {}}
    assert (study.recipe.data.frames, stage.batch, stage.epochs, stage.schedule.warmup) == (100, 128, 16 * 5, 0)
    test = study.recipe.stages["test"]
    assert isinstance(test, EvaluateStage)
    assert test.views == 10


def test_published_fusion_weights_are_those_of_the_table() -> None:
    """The stage is a row of its own after a test with equal weights, and its weights stand in docs/fusing.md."""
    page = (ROOT / "docs/fusing.md").read_text(encoding="utf-8").split("| split | body")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in page.splitlines()[2:]]
    names = ["psumnet_" + split for split in SPLITS] + ["psumnet_ntu60x", "psumnet_ntu120x"]
    for (title, *weights), name in zip(rows, names, strict=True):
        assert ("120" in title) == ("120" in name)
        assert ("X" in title) == name.endswith("x")
        stages = load(name).recipe.stages
        assert list(stages) == ["train", "test", "published_weights"]
        last = stages["published_weights"]
        assert isinstance(last, FuseStage)
        assert last.weights == dict(zip(("body", "hands", "legs"), map(float, weights), strict=True))
        assert "fusion" not in train(name).model.settings


def test_sizes_of_the_page() -> None:
    """The table of docs/part_streams.md, built."""
    table = PAGE.read_text(encoding="utf-8").split("## Sizes")[1].split("## ")[0]
    numbers = {
        row.split("|")[1].strip(): [int(cell.replace(",", "")) for cell in row.split("|")[3:5]]
        for row in table.splitlines()
        if row.startswith("|") and "stream" not in row and "---" not in row and "sum" not in row
    }
    for part, depth in (("body", 10), ("hands", 6), ("legs", 4)):
        for topology in ("ntu25", "ntux67"):
            built = [size("psumnet_stream", topology, classes, part=part, depth=depth) for classes in (60, 120)]
            assert numbers.pop(f"{part}, `{topology}`") == built
    built = [size("psumnet_stream", "hand22", classes, 1, part="hands", depth=6) for classes in (14, 28)]
    assert numbers.pop("`hand22`, 14 and 28 classes") == built
    assert not numbers
    for classes, total in ((60, "2,926,798"), (120, "2,973,058")):
        assert f"{size('psumnet', 'ntu25', classes):,}" == total
        assert total in table
    for name, topology in (("stgcn", "ntu25_pyskl"), ("stgcnpp", "ntu25_pyskl"), ("ctrgcn", "ntu25")):
        assert f"`{name}` {size(name, topology, 60):,}" in table.replace("\n", " ")


def test_yaml_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its recipes are accepted and their networks are built."""
    monkeypatch.chdir(tmp_path)
    texts = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    assert len(texts) == 3
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.yaml").write_text(text, encoding="utf-8")
        study = recipe.load(f"{number}.yaml")
        recipe.check(study)
        model = study.fit_stages()["train"].model
        assert MODELS.create(model.name, spec(study.recipe.topology, 3, 1), **model.settings).feature_dim >= 128


def test_names_on_the_pages() -> None:
    known = {*assets.names("recipes"), *MODELS.names()}
    for page in (PAGE, ROOT / "docs/recipes.md"):
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"\b(?:psumnet|ctrgcn|stgcnpp)_[a-z0-9]\w*", text):
            assert name in known, f"{page.name}: {name}"
    page = PAGE.read_text(encoding="utf-8")
    assert {name for name in NAMES if f"`{name}`" not in page} == set()


def test_finetune_own_takes_weights_to_another_layout_and_other_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything but the classifier starts from the weights, on clips whose joints are mapped by name."""
    monkeypatch.chdir(tmp_path)
    narrow = ["data.frames=8", "stages.train.batch=4", "stages.train.model.width=6", "stages.train.steps=1"]
    small = ["demo.clips=16", "demo.classes=4"]
    sg.run("stgcnpp_ntu60_xsub", [*narrow, *small, "seed=3"], demo=True, out="weights/ntu")
    write_demo("data/mine", topology="kinect20", clips=16, classes=5, dims=3, protocols=("mine",))
    tiny = "stages.train.optimizer.lr=1e-12"
    run = sg.run("finetune_own", [*narrow, tiny, "stages.train.from=weights/ntu"], out="runs/own")
    before, after = (
        read_tensors(Path(folder) / "stages/train/exports.safetensors") for folder in ("weights/ntu", "runs/own")
    )
    heads = {key for key in after if "head." in key}
    assert heads == {key for key in after if after[key].shape != before[key].shape}
    assert heads
    learnt = {key for key in after if not key.endswith(("mean", "var", "tracked")) and key not in heads}
    assert all((after[key] - before[key]).abs().max() < 1e-6 for key in learnt)
    assert run.finished
    with pytest.raises(UserError, match="weights/none"):
        sg.run("finetune_own", [*narrow, "stages.train.from=weights/none"], out="runs/none")
