"""``skelgraph test``."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("test")
@click.argument("run")
@click.option("--data", type=click.Path(path_type=Path), metavar="STORE", help="By default the run's own store.")
@click.option("--protocol", help="Of the store; by default the run's.")
@click.option("--part", help="Of the protocol; by default the run's, usually test.")
@click.option("--all", "everything", is_flag=True, help="All labelled clips of the store, whatever its protocols say.")
@click.option("--allow-missing", is_flag=True, help="Joints that the store does not have count as not seen.")
@click.option("--trust", is_flag=True, help="Run the plugins of the run: Python files with all rights of yours.")
@click.option("--json", "file", type=click.Path(path_type=Path), metavar="FILE", help="Write the figures here.")
def command(
    run: str, data: Path | None, protocol: str | None, part: str | None, everything: bool, allow_missing: bool,
    trust: bool, file: Path | None,
) -> None:  # fmt: skip
    """Test RUN (or RUN:STAGE), a finished run, on labelled clips of a store and print the figures in per cent."""
    from skelgraph.cli.predict import write
    from skelgraph.data import Store
    from skelgraph.predictor import Predictor
    from skelgraph.predictor_figures import rows_of, store_figures

    predictor = Predictor.load(run, trust=trust)
    where = predictor.data.store if data is None else str(data)
    store, name = Store.open(where), None if everything else protocol or predictor.data.protocol
    shown = where if isinstance(where, str) else ", ".join(where)
    rows = rows_of(store, shown, name, part or predictor.data.test_part)
    found = store_figures(predictor, store, rows, predictor.metrics, shown, allow_missing)
    for line in found["notes"]:
        click.echo(line, err=True)
    split = "all labelled clips" if name is None else f"{name}/{part or predictor.data.test_part}"
    demo = "DEMO DATA, " if store.info()["demo"] else ""
    click.echo(f"{predictor.name} on {shown} ({demo}{split}, {found['clips']} clips, chance {found['chance']:.1f})")
    for key, value in found["figures"].items():
        click.echo(f"  {key:<12} {value:.2f}" + ("" if key == "loss" else " %"))
    if file is not None:
        write(file, json.dumps({"run": predictor.name, "store": shown, "split": split, **found}, indent=1) + "\n")
