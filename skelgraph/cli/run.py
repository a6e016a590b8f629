"""``skelgraph run``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("run")
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--demo", is_flag=True, help="Generated data and short lengths; needs no download.")
@click.option("--seed", type=int, help="In the place of the recipe's seed.")
@click.option("--seeds", help="Several runs, for example 0,1,2.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder (with --seeds: their parent).")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
@click.option("--accelerator", default="auto", show_default=True, help="cpu, gpu, ... as Lightning names them.")
@click.option("--devices", default="1", show_default=True, help="How many devices, or auto.")
@click.option("--strategy", default="auto", show_default=True, help="ddp, fsdp, ... as Lightning names them.")
@click.option("--nodes", default=1, show_default=True, help="Machines.")
def command(
    recipe: str, overrides: tuple[str, ...], demo: bool, seed: int | None, seeds: str | None, out: Path | None,
    resume: bool, accelerator: str, devices: str, strategy: str, nodes: int,
) -> None:  # fmt: skip
    """Run RECIPE (a name or a file) with overrides such as data.frames=32 stages.finetune.steps=500."""
    from skelgraph.engine.fit import Place
    from skelgraph.engine.processes import rank
    from skelgraph.engine.runner import run, seed_list
    from skelgraph.engine.summary import ending

    place = Place(accelerator, int(devices) if devices.isdigit() else devices, strategy, nodes)
    wanted: list[int | None] = [seed] if seeds is None else [*seed_list(seeds)]
    runs = []
    for one in wanted:
        target = out / f"seed{one}" if out is not None and seeds is not None else out
        runs.append(run(recipe, overrides, demo=demo, seed=one, out=target, resume=resume, place=place))
    if rank() == 0:
        click.echo(ending(runs))
