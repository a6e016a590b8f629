"""``skelgraph results``."""

from __future__ import annotations

from pathlib import Path

import click

from skelgraph.errors import UserError


@click.command("results")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option("--md", is_flag=True, help="As a Markdown table.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with every run's figure.")
def command(runs: tuple[Path, ...], md: bool, as_json: bool) -> None:
    """Mean, spread and 95 % interval of the runs in RUN..., seeds of one recipe together.

    RUN is a run folder or a folder of runs. Further recipes are compared with the first, paired by test clip.
    """
    if md and as_json:
        raise UserError("--md and --json: choose one.")
    import json

    from skelgraph.engine import results

    found = results.collect(runs)
    if as_json:
        click.echo(json.dumps(results.as_data(found), indent=2))
    else:
        click.echo(results.markdown(found) if md else results.console(found))
