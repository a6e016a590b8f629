"""``skelgraph bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from skelgraph import yamlfile
from skelgraph.errors import UserError


@click.command("bench")
@click.argument("target", metavar="RECIPE|RUN|NAME")
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--stage", help="Of the recipe; by default the last one that trains.")
@click.option("--compare", metavar="A,B", help="eager,compiled; fp32,bf16; dense,pyg,dgl; joined: compiled+bf16.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; by default PyTorch's choice ('models': 1).")
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True, help="Turns of everything compared.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, ...; auto: cuda where it is.")
@click.option("--demo", is_flag=True, help="Measure the recipe as 'run --demo' has it, with its small sizes.")
@click.option("--json", "file", type=click.Path(path_type=Path), metavar="FILE", help="Write the figures there, too.")
def command(
    target: str, settings: tuple[str, ...], stage: str | None, compare: str | None, threads: int | None, rounds: int,
    device: str, demo: bool, file: Path | None,
) -> None:  # fmt: skip
    """Measure what a recipe's or run's stage costs, or one of the named measurements.

    NAME: models (a table of all models), halp-overhead, recurrent-encoder, deformable-attention. KEY=VALUE are
    overrides of the recipe, or settings of the measurement: frames=32.
    """
    from skelgraph import bench

    timing = bench.Timing(rounds, threads, _device(device))
    if target in bench.CASES:
        if stage or compare or demo:
            raise UserError(f"{target}: --stage, --compare and --demo are for recipes and runs.")
        table = bench.CASES.create(target, timing, where=f"bench {target}", **_settings(settings))
    else:
        table = bench.bench_stage(target, settings, stage=stage, compare=compare, demo=demo, timing=timing)
    click.echo(table.text())
    if file is not None:
        bench.write(table, file)


def _settings(texts: tuple[str, ...]) -> dict[str, Any]:
    """``KEY=VALUE`` with YAML values."""
    found = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign:
            raise UserError(f"'{text}': write key=value, for example frames=32.")
        found[key] = yamlfile.parse(value, f"'{text}'").data
    return found


def _device(name: str) -> Any:
    import torch

    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return device
