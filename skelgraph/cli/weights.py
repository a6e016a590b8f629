"""``skelgraph weights``."""

from __future__ import annotations

from pathlib import Path

import click

from skelgraph.errors import UserError


@click.group("weights")
def command() -> None:
    """Import published weights, and show what is in them."""


@command.command("import")
@click.argument("family")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Where to write them.")
@click.option("--topology", help="Joint layout (name or file); by default the published one for their number.")
@click.option("--part", help="Part of the topology that the network saw: body, hands, legs, ...")
@click.option("--inputs", metavar="NAMES", help="What the network sees of the joints: joint,bone,...; or: raw.")
@click.option("--classes", type=click.Path(path_type=Path), metavar="FILE", help="Class names, one a line; or a store.")
@click.option("--licence", metavar="TEXT", help="Of these weights, for their card; by default that of their code.")
@click.option("--data", metavar="TEXT", help="What they were trained on, and its terms, for their card.")
@click.option("--overwrite", is_flag=True, help="Replace the folder if it is there.")
def import_(
    family: str, file: Path, out: Path, topology: str | None, part: str | None, inputs: str | None,
    classes: Path | None, licence: str | None, data: str | None, overwrite: bool,
) -> None:  # fmt: skip
    """Write FILE, published weights of FAMILY (psumnet, ctrgcn, stgcnpp, stgcn, halp), as a folder for 'from:'."""
    from skelgraph.weights import import_released

    report = import_released(
        family, file, out, topology=topology, part=part, overwrite=overwrite,
        inputs=None if inputs is None else [] if inputs == "raw" else inputs.split(","),
        classes=None if classes is None else _names(classes), licence=licence, data=data,
    )  # fmt: skip
    for line in report.lines():
        click.echo(line)


def _names(path: Path) -> list[str]:
    """Class names of a text file or a store."""
    if path.is_dir():
        from skelgraph.data import Store

        return list(Store.open(path).classes)
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--classes {path}: cannot be read ({error}).") from None


@command.command("show")
@click.argument("path", type=click.Path(path_type=Path))
def show(path: Path) -> None:
    """Say what PATH holds: a published checkpoint, imported weights, a run (its last trained stage) or RUN:STAGE."""
    from skelgraph.weights import describe

    for line in describe(path):
        click.echo(line)
