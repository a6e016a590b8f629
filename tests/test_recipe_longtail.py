"""Recipes of long-tailed recognition: what they compose, what they quote, what their heads say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from test_recipe_family import head

import skelgraph as sg
from skelgraph import assets, recipe
from skelgraph.data.longtail import class_sizes
from skelgraph.data.store import Store
from skelgraph.data.synthetic import write_demo
from skelgraph.errors import UserError
from skelgraph.methods.optim import Length
from skelgraph.recipe import FitStage

SPLITS = {("60", "xsub"): 76.7, ("60", "xview"): 81.4, ("120", "xsub"): 65.3, ("120", "xset"): 66.8}
NTU = [(f"brl_ntu{n}lt_{split}_{factor}", n, split, factor) for n, split in SPLITS for factor in (10, 50, 100)]
UCLA = [f"{method}_nwucla_lt10" for method in ("ce", "brl", "cb", "focal", "ldam", "balsoftmax", "remix", "posthoc")]
NAMES = [*(row[0] for row in NTU), *UCLA]


def test_all_that_were_asked_for_are_there() -> None:
    assert {name for name in assets.names("recipes") if "lt_" in name or "_lt" in name} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_head_of_a_recipe_says_what_runs(name: str) -> None:
    """Its commands and overrides are accepted, for the recipe and its demo, and it says how to make its protocol."""
    text, study = head(name), recipe.load(name)
    data, needs = study.recipe.data, " ".join(study.recipe.needs.split())
    asked = [line.strip() for line in text.splitlines() if line.startswith("   ")]
    runs = [shlex.split(line, comments=True) for line in asked if line.startswith(("skelgraph run", "..."))]
    assert ["skelgraph", "run", f"recipes/{name}.yaml"] in runs
    assert all(f"skelgraph data {verb} " in needs for verb in ("import", "longtail"))
    assert data.store in needs
    for words in runs:
        overrides = [word for word in words if re.match(r"[a-z_.]+=", word)]
        for demo in (False, True):
            recipe.check(recipe.load(name, overrides, demo=demo))


@pytest.mark.parametrize(("name", "n", "split", "factor"), NTU)
def test_protocols_of_ntu_lt(name: str, n: str, split: str, factor: int) -> None:
    """The list of that name, the clips its head counts, and the published figure for factor 100 alone."""
    study = recipe.load(name)
    listed = f"NTU{n}_{split}_exp_{factor}"
    assert study.recipe.data.protocol == listed
    assert study.recipe.data.store == f"data/ntu{n}_3d"
    assert f"--protocol {split} --list {listed}.txt" in " ".join(study.recipe.needs.split())
    assert f" {class_sizes(int(n), 400 if split == 'xset' else 600, factor).sum()} training clips" in head(name)
    assert study.recipe.published == ({"top1": SPLITS[n, split]} if factor == 100 else {})
    (stage,) = study.fit_stages().values()
    assert (stage.method, stage.epochs, stage.batch, stage.optimizer.lr) == ("brl", 24, 16, 0.0125)
    assert stage.method_settings == {"oversample": {"name": "tail", "repeat": 5}}
    assert study.recipe.data.frames == 64
    assert [*study.recipe.data.transforms][-3:] == ["random_scale", "random_rotation", "mirror"]


def test_weights_of_brl_count_from_its_twentieth_epoch() -> None:
    """The default share of the run is 19 of 24 epochs, for the length of NTU-60-LT."""
    from skelgraph.methods.balanced import LAST_EPOCHS, Deferred

    deferred, length = Deferred(LAST_EPOCHS), Length(24 * 6132, 6132)
    turns = [deferred.turn(epoch, epoch * 6132, length) for epoch in range(24)]
    assert turns == [None] * 19 + [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", UCLA)
def test_baselines_differ_in_nothing_but_the_method(name: str) -> None:
    ours, base = recipe.load(name, ["seed=3"]), recipe.load("ce_nwucla_lt10", ["seed=3"])
    assert ours.recipe.data == base.recipe.data
    assert ours.recipe.data.protocol == "v23_v1_lt10_order3"
    assert not ours.recipe.published
    train, plain = ours.fit_stages()["train"], base.fit_stages()["train"]
    for key in FitStage.model_fields:
        assert key == "method" or getattr(train, key) == getattr(plain, key), key
    assert train.method_settings["label_smoothing"] == plain.method_settings["label_smoothing"] == 0
    for stage in ours.recipe.stages.values():
        if isinstance(stage, FitStage):
            assert stage.model == base.fit_stages()["train"].model


def test_a_protocol_that_is_not_there_says_how_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_demo("data/nwucla", topology="kinect20", clips=16, classes=4, dims=3, protocols=("v23_v1",))
    with pytest.raises(
        UserError, match=r"no protocol 'v23_v1_lt10_order0'; there are v23_v1\. Get .*--class-order SEED"
    ):
        sg.run("ce_nwucla_lt10")


def test_demo_clips_are_long_tailed_where_the_recipe_asks_for_it(tmp_path: Path) -> None:
    path = write_demo(tmp_path / "demo", clips=96, classes=4, imbalance_factor=8, protocols=("p",))
    store = Store.open(path)
    parts = store.protocol("p")
    assert np.bincount(store.labels[parts["train"]]).tolist() == [16, 8, 4, 2]
    assert np.bincount(store.labels[parts["test"]]).tolist() == [8, 8, 8, 8]
    assert len(parts["left_out"]) == 34
    few = Store.open(write_demo(tmp_path / "few", clips=16, classes=4, imbalance_factor=100, protocols=("p",)))
    assert np.bincount(few.labels[few.protocol("p")["train"]], minlength=4).min() == 1
    plain = Store.open(write_demo(tmp_path / "plain", clips=96, classes=4, protocols=("p",)))
    assert sorted(plain.protocol("p")) == ["test", "train"]
    assert plain.names == store.names
