"""``skelgraph sweep``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("sweep")
@click.argument("recipe")
@click.argument("words", nargs=-1, required=True, metavar="KEY=VALUE|KEY=KIND(...)...")
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True, help="Of all processes together.")
@click.option("--stage", help="Whose validation figure is judged; by default the last stage that has one.")
@click.option("--demo", is_flag=True, help="Generated data and short lengths.")
@click.option("--seed", type=int, help="In the place of the recipe's seed.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="By default sweeps/NAME.")
@click.option("--accelerator", default="auto", show_default=True, help="cpu, gpu, ... as Lightning names them.")
def command(
    recipe: str, words: tuple[str, ...], trials: int, stage: str | None, demo: bool, seed: int | None,
    out: Path | None, accelerator: str,
) -> None:  # fmt: skip
    """Search for the settings of RECIPE that are best on validation clips; the test part is not read.

    KIND(...): uniform(0,0.5) loguniform(1e-4,1e-1) int(1,4) logint(8,256) choice(a,b). KEY=VALUE holds in every
    trial. Start it again to go on, or beside itself to work in parallel.
    """
    from skelgraph.engine.fit import Place
    from skelgraph.sweep import sweep

    place = Place(accelerator)
    try:
        found = sweep(recipe, words, trials=trials, stage=stage, demo=demo, seed=seed, out=out, place=place)
    except KeyboardInterrupt:
        click.echo("skelgraph: interrupted; the same command goes on.", err=True)
        raise SystemExit(130) from None
    click.echo(found.text())
