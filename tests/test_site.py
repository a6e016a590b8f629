"""The docs site: its reference names what exists and leaves nothing registered out, and it builds without a warning."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import skelgraph as sg
from skelgraph.data.readers import READERS
from skelgraph.data.sampling import SAMPLERS
from skelgraph.methods.balanced_losses import LOSSES
from skelgraph.methods.mixing import MIXING
from skelgraph.methods.resampling import RESAMPLING
from skelgraph.models import gcn_family
from skelgraph.models.extractors import EXTRACTORS
from skelgraph.registry import Registry

ROOT = Path(__file__).resolve().parent.parent
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs/api").glob("*.md")}
SHOWN: Mapping[str, tuple[Registry, ...]] = {
    "models": (sg.models.MODELS, EXTRACTORS),
    "methods": (sg.methods.METHODS, LOSSES, RESAMPLING, MIXING),
    "blocks": (sg.nn.SPATIAL, sg.nn.TEMPORAL),
    "transforms": (sg.transforms.TRANSFORMS,),
    "readers": (READERS,),
    "data": (SAMPLERS,),
}


def resolve(path: str) -> Any:
    """What a dotted name stands for."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def directives(page: str) -> list[Any]:
    """What a page documents."""
    return [resolve(path) for path in re.findall(r"^::: ([\w.]+)$", PAGES[page], re.M)]


def headings(text: str) -> dict[str, Any]:
    """What a page documents under a name of its own."""
    found = re.findall(r"^::: ([\w.]+)\n    options: \{heading: ([\w-]+),", text, re.M)
    return {f"{name} {path}": resolve(path) for path, name in found}


def is_ours(name: str, factory: Callable[..., Any]) -> bool:
    """Not registered by another test; a preset stands in its module under the name that it is registered by."""
    if isinstance(factory, partial):
        return getattr(gcn_family, name, None) is factory
    return factory.__module__.startswith("skelgraph.")


@pytest.mark.parametrize("page", SHOWN)
def test_registered_names_stand_in_the_reference(page: str) -> None:
    shown = {(key.split()[0], factory) for key, factory in headings(PAGES[page]).items()}
    every = {(name, registry.get(name)) for registry in SHOWN[page] for name in registry.names()}
    expected = {pair for pair in every if is_ours(*pair)}
    presets = {pair for pair in expected if isinstance(pair[1], partial)}
    assert shown == expected - presets
    assert all(f"| `{name}` |" in PAGES[page] for name, _ in presets)


def test_public_names_stand_in_the_reference() -> None:
    shown = [item for page in PAGES for item in directives(page)]
    public = [getattr(sg, name) for name in sg.__all__]
    public += [getattr(sg.nn, name) for name in sg.nn.__all__] + [getattr(sg.data, name) for name in sg.data.__all__]
    public = [item for item in public if callable(item) and not isinstance(item, ModuleType)]
    assert len(public) > 40
    assert not [item for item in public if item not in shown]


def test_every_page_stands_in_the_navigation() -> None:
    named = set(re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert named == pages | {"overview.md", "examples.md"}


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mkdocstrings") is None, reason="mkdocs is not installed: pip install -e '.[docs]'")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "api/graphs/index.html").read_text(encoding="utf-8")
    assert 'id="skelgraph.Topology.load"' in page
    assert "_plain" not in page
    assert 'href="../examples/#compose_gcn"' in (tmp_path / "part_streams/index.html").read_text(encoding="utf-8")
