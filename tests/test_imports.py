"""Imports run one way, and the light modules stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "skelgraph"
BASE = {"errors", "registry", "yamlfile", "assets", "plugins"}
LAYERS = [BASE, {"topology"}, {"graph"}, {"batch"}, {"transforms"}, {"data"}, {"pages"}, {"prediction"}, {"nn"},
          {"models"}, {"methods", "explain"}, {"recipe"}, {"engine"}, {"weights"}, {"predictor", "viewer"},
          {"bench", "sweep", "export"}, {"cli"}]  # fmt: skip
NEVER = {("nn", "data"), ("models", "data"), ("methods", "data")}


def layer(module: str) -> int | None:
    """The floor a module stands on; ``topology_map`` belongs to ``topology``."""
    for level, names in enumerate(LAYERS):
        if module in names or any(module.startswith(f"{name}_") for name in names):
            return level
    return None


def imports(path: Path) -> set[str]:
    """First names below ``skelgraph`` that a file imports, leaving out what only type checkers see."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "skelgraph":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("skelgraph.")}
    return found


def test_imports_run_downwards() -> None:
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        assert layer(own) is not None, f"{own} has no floor in the house"
        for other in imports(path) - {"__version__"}:
            level = layer(other)
            assert level is not None, f"{path} imports {other}, which has no floor"
            if level > layer(own) or (own, other) in NEVER:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {other}")
    assert not wrong, wrong


def test_light_imports_do_not_load_torch() -> None:
    code = (
        "import sys, skelgraph, skelgraph.cli.main, skelgraph.cli.recipe, skelgraph.cli.topology, skelgraph.topology;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_file_is_too_long() -> None:
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert not {name: length for name, length in lengths.items() if length > 400}
