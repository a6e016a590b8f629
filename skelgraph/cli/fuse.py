"""``skelgraph fuse``."""

from __future__ import annotations

from pathlib import Path

import click

from skelgraph.errors import UserError


@click.command("fuse")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--weights", help="A number for each, in order: 2,1.8,0.7. By default all are equal.")
@click.option("--search", is_flag=True, help="Weights that do best on the validation clips, never on test clips.")
@click.option("--score", default="logit", show_default=True, help="What is added up: logit, prob or log_prob.")
@click.option("--metric", "metrics", multiple=True, default=("top1", "mean_class"), show_default=True,
              help="top1, top5, mean_class, macro_f1 or loss; repeatable. --search goes by the first.")  # fmt: skip
@click.option("--common", is_flag=True, help="Take the clips that all have, where they differ.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the fused scores and their clips.csv.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(
    runs: tuple[str, ...], weights: str | None, search: bool, score: str, metrics: tuple[str, ...], common: bool,
    out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Add up the scores of RUN... and say how good the sum is.

    RUN is a run folder with one test, RUN:STAGE, or RUN:STAGE:STREAM. A single RUN whose model has several streams: its
    streams are added up.
    """
    if search and weights is not None:
        raise UserError("--weights and --search: choose one.")
    import json

    from skelgraph.engine import fuse

    given = "search" if search else fuse.numbers(weights) if weights is not None else None
    found = fuse.fuse(runs, given, score=score, metrics=metrics, common=common)  # type: ignore[arg-type]
    if out is not None:
        fuse.write(found, out)
    data = fuse.as_data(found)
    click.echo(json.dumps(data, indent=2) if as_json else fuse.console(data))
