"""The examples run as they stand, from any folder, and their loss falls."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
    from skelgraph import plugins
    from skelgraph.models.base import MODELS
    from skelgraph.nn.pyg_conv import CONVS

    plugins.load(["custom_layer.py"], beside=ROOT / "examples")
    assert "bone_conv" in CONVS
    assert "small_net" in MODELS
