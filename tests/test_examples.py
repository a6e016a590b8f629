"""The examples run as they stand, from any folder, and their loss falls."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import skelgraph as sg
from skelgraph import plugins, recipe
from skelgraph.models import MODELS, create

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, path], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    losses = [float(text) for text in re.findall(r"loss (\d+\.\d+)", done.stdout)]
    assert not losses or losses[-1] < losses[0], done.stdout
    assert not list(tmp_path.iterdir()), "an example leaves nothing behind"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short(path: Path) -> None:
    code = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(code) <= 60


def test_an_example_is_a_plugin() -> None:
    from skelgraph.nn.pyg_conv import CONVS

    plugins.load(["custom_layer.py"], beside=ROOT / "examples")
    assert "bone_conv" in CONVS
    assert "small_net" in MODELS


def test_a_network_is_composed_in_thirty_lines() -> None:
    text = (ROOT / "examples" / "compose_gcn.py").read_text(encoding="utf-8")
    said: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            said |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(text.splitlines(), 1)
    code = [line for number, line in lines if line.strip() and not line.strip().startswith("#") and number not in said]
    assert len(code) <= 30


def test_the_recipe_without_python_makes_the_same_network() -> None:
    plugins.load(["compose_gcn.py"], beside=ROOT / "examples")
    study = recipe.load(ROOT / "examples" / "my_gcn.yaml")
    recipe.check(study)
    settings = dict(study.recipe.stages["train"].model)
    assert settings.pop("name") == "graph_stack"
    spec = sg.ClipSpec(sg.Topology.load(study.recipe.topology), 3, 1, 16, ("still", "moving"))
    ours, theirs = create("hop_net", spec).double(), create("graph_stack", spec, **settings).double()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 1, 16, spec.joints, 3, dtype=torch.float64)
    torch.testing.assert_close(theirs(x).logits, ours(x).logits, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("model", ["graph_stack", "hop_net"])
def test_the_composed_network_trains_from_a_recipe(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["demo.clips=16", "demo.classes=4", "data.frames=8", "stages.train.steps=3", "stages.train.batch=4"]
    if model == "hop_net":
        examples = ROOT / "examples"
        small += [f"plugins=[{examples / 'compose_gcn.py'}]", "stages.train.model={name: hop_net, width: 8, reach: 3}"]
    run = sg.run(ROOT / "examples" / "my_gcn.yaml", small, demo=True)
    assert run.finished
    assert 0 <= run.metrics["test/top1"] <= 100
