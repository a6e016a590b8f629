"""``skelgraph report``."""

from __future__ import annotations

from pathlib import Path

import click

from skelgraph.errors import UserError


@click.command("report")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="FILE", help="The page of a comparison.")
def command(runs: tuple[Path, ...], out: Path | None) -> None:
    """Write the report page of RUN again, also where it is not finished; or compare several runs on one page.

    Of several, RUN is a run folder or a folder of runs. The page is comparison.html unless said: figures, curves over
    each other, differences by class to the first study, McNemar's test between two networks.
    """
    if len(runs) > 1 or not (runs[0] / "run.json").is_file():
        from skelgraph.engine import report_compare

        click.echo(report_compare.write(runs, out))
        return
    if out is not None:
        raise UserError(f"the report of one run stands in its folder ({runs[0]}); -o goes with several runs.")
    from skelgraph.engine import report
    from skelgraph.engine.run_folder import Run

    click.echo(report.write(Run.open(runs[0])))
