"""The wheel holds what the package finds by name, and works from an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = "skelgraph/shipped"

pytestmark = pytest.mark.slow


def call(*words: str, cwd: Path, **environment: str) -> str:
    """Output of a command that must succeed."""
    variables = {**os.environ, **environment}
    done = subprocess.run(words, cwd=cwd, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    pytest.importorskip("build", reason="extra dev not installed")
    pytest.importorskip("hatchling", reason="hatchling not installed")
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT), cwd=folder)
    (made,) = folder.glob("*.whl")
    return made


def test_content(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"{SHIPPED}/topologies/coco17.yaml", f"{SHIPPED}/recipes/skeletonmae_finegym.yaml",
        f"{SHIPPED}/recipes/base/skeletonmae.yaml", "skelgraph/pages/page.css", "skelgraph/pages/page.js",
        "skelgraph/py.typed",
    }  # fmt: skip
    assert wanted <= names
    for kind in ("topologies", "recipes"):
        files = {path.relative_to(ROOT).as_posix() for path in (ROOT / kind).rglob("*.yaml")}
        assert {f"skelgraph/shipped/{file}" for file in files} <= names
    assert not {name for name in names if name.startswith(("tests/", "docs/", "examples/")) or name.endswith(".pyc")}
    (licence,) = (name for name in names if name.endswith("LICENSE"))
    assert "dist-info" in licence


def test_names_are_found_inside_it(wheel: Path, tmp_path: Path) -> None:
    target, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    call(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target),
         str(wheel), cwd=empty)  # fmt: skip

    def skelgraph(*words: str) -> str:
        return call(sys.executable, "-m", "skelgraph.cli.main", *words, cwd=empty, PYTHONPATH=str(target),
                    SKELGRAPH_PATH="")  # fmt: skip

    code = "import skelgraph, sys; sys.stdout.write(skelgraph.__file__)"
    where = call(sys.executable, "-c", code, cwd=empty, PYTHONPATH=str(target))
    assert Path(where).is_relative_to(target)
    assert "skeletonmae_finegym" in skelgraph("recipe", "list")
    assert "17 joints, 16 bones, 2 links" in skelgraph("topology", "show", "coco17")
    assert "method: masked" in skelgraph("recipe", "show", "recipes/skeletonmae_finegym.yaml"), "extends base/"
    code = "from skelgraph.assets import names; print(*names('recipes').values(), *names('topologies').values())"
    paths = call(sys.executable, "-c", code, cwd=empty, PYTHONPATH=str(target)).split()
    assert paths
    assert all(Path(path).is_relative_to(target / SHIPPED) for path in paths)
