"""README and docs say what is true: commands parse, names exist, links resolve, Python runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from skelgraph import assets, recipe, yamlfile
from skelgraph.cli.main import cli
from skelgraph.topology import Topology

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OWN_RECIPES = {"mine.yaml", "whole.yaml"}


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every `skelgraph ...` line of a bash block: where it stands, and its words without comment and redirection."""
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["skelgraph"]:
                    yield f"{page.name}: {line}", words[1 : words.index(">") if ">" in words else None]


COMMANDS = list(commands())


def parse(words: list[str]) -> tuple[str, dict[str, object]]:
    """The verb (and its sub-verb) and the parsed parameters, without running anything.

    Raises:
        click.UsageError: no such verb or option, a missing or surplus argument.
    """
    command: click.Command = cli
    context, rest, verbs = click.Context(cli), list(words), []
    while isinstance(command, click.Group):
        verbs.append(rest.pop(0))
        found = command.get_command(context, verbs[-1])
        if found is None:
            raise click.UsageError(f"no verb '{verbs[-1]}'")
        command = found
    try:
        return " ".join(verbs), command.make_context(verbs[-1], rest, parent=context).params
    except click.exceptions.Exit:
        return " ".join(verbs), {}


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 40
    with pytest.raises(click.UsageError):
        parse(["run", "skeletonmae_finegym", "--demmo"])
    with pytest.raises(click.UsageError):
        parse(["data", "exprt"])


@pytest.mark.parametrize(("where", "words"), COMMANDS, ids=[where for where, _ in COMMANDS])
def test_command_parses_and_names_what_exists(where: str, words: list[str]) -> None:
    verb, given = parse(words)
    if verb == "run" and given["recipe"] not in OWN_RECIPES:
        recipe.check(recipe.load(str(given["recipe"]), given["overrides"], demo=bool(given["demo"])))
    elif verb in {"recipe show", "recipe copy"}:
        recipe.load(str(given["name"]))
    elif verb.startswith("topology "):
        names = [given[key] for key in ("name", "source", "target") if key in given] + list(given.get("names", ()))
        loaded = [Topology.load(str(name)) for name in names]
        assert given.get("part") is None or loaded[0].part(str(given["part"]))
    elif verb == "data import" and given:
        from skelgraph.data.readers import READERS

        assert given["format"] in READERS
        options = [option.partition("=")[0] for option in given["options"]]
        assert set(options) <= set(READERS.settings(str(given["format"])))


def test_recipe_names_in_the_text() -> None:
    known = assets.names("recipes")
    for page in PAGES:
        for name in re.findall(r"\b(?:skeletonmae|spacetime_gnn)_[a-z0-9_]+", page.read_text(encoding="utf-8")):
            assert name in known, f"{page.name}: {name}"


def test_every_topology_stands_in_the_table() -> None:
    page = (ROOT / "docs/topologies.md").read_text(encoding="utf-8")
    table = page.split("## What is shipped")[1].split("\n\n")[1]
    rows = [row.split("|") for row in table.splitlines()[2:]]
    named = {}
    for _, names, joints, *_ in rows:
        named |= dict(zip(re.findall(r"`(\w+)`", names), joints.split(","), strict=True))
    assert set(named) == set(assets.names("topologies"))
    for name, joints in named.items():
        assert len(Topology.load(name).joints) == int(joints), name


def test_every_format_stands_in_the_table() -> None:
    from skelgraph.data.readers import READERS

    page = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    table = page.split("## Formats that import")[1].split("\n\n")[1]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`([\w-]+)`", row.split("|")[1])}
    assert named == {name for name in READERS.names() if READERS.get(name).__module__.startswith("skelgraph.")}


def test_verbs_named_as_shipped_are_there() -> None:
    for page in PAGES:
        for words in re.findall(r"`skelgraph ([a-z]+)", page.read_text(encoding="utf-8")):
            assert cli.get_command(click.Context(cli), words), f"{page.name}: {words}"


def slug(title: str) -> str:
    """The anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        found = page.parent / file if file else page
        assert found.exists(), f"{page.name}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.M)
            assert anchor in {slug(title) for title in titles}, f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_are_short(page: Path) -> None:
    long = [line for line in page.read_text(encoding="utf-8").splitlines() if len(line) > 120 and line[0] != "|"]
    assert not long


def test_pictures_are_small() -> None:
    for picture in (ROOT / "docs/images").glob("topology_*.png"):
        assert picture.stat().st_size < 60_000, picture.name


def run_python(code: str, folder: Path) -> str:
    """Run a block in a folder of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True,
                          timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python_of_the_readme_runs(tmp_path: Path) -> None:
    code = "\n".join(blocks(ROOT / "README.md", "python"))
    assert "test/mean_class" in run_python(code, tmp_path)


def test_python_of_the_data_page_runs(tmp_path: Path) -> None:
    """Its blocks in order, in one folder with demo data and two takes; pandas only where it is installed."""
    (tmp_path / "takes").mkdir()
    for name in ("run_a", "jump_b"):
        lines = [" ".join(str(0.1 + line + column) for column in range(34)) for line in range(8)]
        (tmp_path / "takes" / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
    code = "\n".join(blocks(ROOT / "docs/data.md", "python"))
    try:
        import pandas  # noqa: F401
    except ImportError:
        code = "\n".join(line for line in code.splitlines() if "to_pandas" not in line)
    demo = "from skelgraph.data.synthetic import write_demo; write_demo('data/demo', clips=24, classes=4)\n"
    assert "2 clips written" in run_python(demo + code, tmp_path)
    code = "from skelgraph.data import import_data; import_data('npz', 'mine.npz', 'own', topology='coco17')"
    run_python(code, tmp_path)


def test_yaml_of_the_recipes_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_layers.py").write_text("", encoding="utf-8")
    for number, text in enumerate(blocks(ROOT / "docs/recipes.md", "yaml")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, encoding="utf-8")
        recipe.check(recipe.load(path))


def test_python_of_the_recipes_page() -> None:
    from torch import nn

    from skelgraph import models

    space: dict[str, object] = {"nn": nn}
    for text in blocks(ROOT / "docs/recipes.md", "python"):
        exec(text, space)
    assert models.create("mean_pose", topology="coco17", channels=2, num_classes=3, width=8).feature_dim == 8


@pytest.mark.filterwarnings("ignore:.*the mirror does not carry")
def test_yaml_of_the_topologies_page() -> None:
    written, composed = (yamlfile.parse(text, "block").data for text in blocks(ROOT / "docs/topologies.md", "yaml"))
    from skelgraph.topology_file import ComponentKeys, PartKeys, TopologyKeys

    assert set(written) == set(TopologyKeys.model_fields)
    assert set(written["parts"]["mask"]) == set(PartKeys.model_fields)
    assert {key for entry in composed["compose"] for key in entry} == set(ComponentKeys.model_fields)
    assert len(Topology.from_dict({key: value for key, value in written.items() if key != "compose"})) == 4
    assert len(Topology.from_dict({"name": "tailed", **composed})) == 67
