"""``skelgraph recipe``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from skelgraph import assets, yamlfile
from skelgraph.errors import UserError


@click.group("recipe")
def command() -> None:
    """List, show, copy and check recipes."""


@command.command("list")
@click.argument("pattern", default="*")
def list_recipes(pattern: str) -> None:
    """Names and titles, those that match PATTERN."""
    from fnmatch import fnmatch

    rows = [(name, path) for name, path in sorted(assets.names("recipes").items()) if fnmatch(name, pattern)]
    width = max((len(name) for name, _ in rows), default=0)
    for name, path in rows:
        data = yamlfile.read(path).data
        title = data.get("title") if isinstance(data, dict) else None
        click.echo(f"{name:<{width}}  {title or ''}")


@command.command("show")
@click.argument("name")
@click.argument("overrides", nargs=-1)
@click.option("--demo", is_flag=True, help="As --demo would run it.")
def show(name: str, overrides: tuple[str, ...], demo: bool) -> None:
    """The recipe NAME with everything it extends and every default, as YAML."""
    import yaml

    from skelgraph import recipe

    study = recipe.load(name, overrides, demo=demo)
    data = study.recipe.model_dump(by_alias=True, exclude_none=True)
    click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110), nl=False)


@command.command("copy")
@click.argument("name")
@click.argument("target", required=False, type=click.Path(path_type=Path))
def copy(name: str, target: Path | None) -> None:
    """Copy the text of recipe NAME to TARGET (by default into this folder) to make it yours."""
    source = assets.find("recipes", name, "recipe")
    place = target or Path(source.name)
    if place.is_dir():
        place = place / source.name
    if place.exists():
        raise UserError(f"{place}: exists already; give another name.")
    try:
        place.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{place}: cannot be written ({error.strerror}).") from None
    click.echo(f"{place} (run it with: skelgraph run {place})")


@command.command("check")
@click.argument("names", nargs=-1, required=True)
def check(names: tuple[str, ...]) -> None:
    """Check recipes without touching data: every key, name and setting."""
    from skelgraph import recipe

    for name in names:
        recipe.check(recipe.load(name))
        click.echo(f"{name}: fine")


@command.command("schema")
def schema() -> None:
    """JSON Schema of recipes, for editors."""
    from skelgraph import recipe

    click.echo(json.dumps(recipe.schema(), indent=2))
