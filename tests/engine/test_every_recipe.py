"""Every shipped recipe runs on tiny demo data, and its losses are those it had when they were written down.

After a wanted change of numbers: ``SKELGRAPH_WRITE_LOSSES=1 python -m pytest tests/engine/test_every_recipe.py``.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

import skelgraph as sg
from skelgraph import assets, recipe
from skelgraph.engine.run_folder import Run
from skelgraph.methods import METHODS

STORED = Path(__file__).with_name("recipe_losses.json")
STEPS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One working folder, so that recipes of one topology share their demo clips."""
    return tmp_path_factory.mktemp("recipes")


def tiny(name: str) -> list[str]:
    """Overrides that make a recipe tiny without touching what it composes."""
    study = recipe.load(name, demo=True)
    overrides = ["demo.clips=16", "demo.classes=4", "data.frames=8"]
    for name, stage in study.fit_stages().items():
        small = {"queue": 8, "newest": 8, "prototypes": 4, "warmup": 8} if "queue" in stage.method_settings else {}
        possible = METHODS.settings(stage.method)
        small = {"steps": STEPS, "batch": 4} | {key: value for key, value in small.items() if key in possible}
        overrides += [f"stages.{name}.{key}={value}" for key, value in small.items()]
    return overrides


def losses(run: Run) -> dict[str, list[float]]:
    """Loss of each step of each stage."""
    result = {}
    for stage in run.stages():
        if (stage.path / "metrics.csv").is_file():
            with (stage.path / "metrics.csv").open(newline="") as file:
                result[stage.name] = [float(r["value"]) for r in csv.DictReader(file) if r["figure"] == "train_loss"]
    return result


@pytest.mark.parametrize("name", sorted(assets.names("recipes")))
def test_recipe_on_demo_data(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    run = sg.run(name, tiny(name), demo=True)
    assert run.finished
    assert "DEMO DATA" in run.report.read_text(encoding="utf-8")
    measured = losses(run)
    assert measured
    assert all(len(values) == STEPS for values in measured.values())
    table = json.loads(STORED.read_text()) if STORED.is_file() else {}
    if os.environ.get("SKELGRAPH_WRITE_LOSSES"):
        STORED.write_text(json.dumps({**table, name: measured}, indent=1, sort_keys=True) + "\n")
        return
    assert name in table, "no stored losses; see the head of this file"
    for stage, values in table[name].items():
        assert measured[stage] == pytest.approx(values, rel=5e-3), stage
