"""``skelgraph report``."""

from __future__ import annotations

from pathlib import Path

import click

from skelgraph.errors import UserError


@click.command("report")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN")
def command(runs: tuple[Path, ...]) -> None:
    """Write the report page of RUN again, also where it is not finished."""
    if len(runs) > 1:
        raise UserError(f"a report shows one run, not {len(runs)}; compare several with 'skelgraph results'.")
    from skelgraph.engine import report
    from skelgraph.engine.run_folder import Run

    click.echo(report.write(Run.open(runs[0])))
