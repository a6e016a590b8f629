"""``skelgraph data attach``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from skelgraph.errors import UserError


@click.command("attach")
@click.argument("store", type=click.Path(path_type=Path))
@click.argument("name")
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--kind", type=click.Choice(["frames", "sequence", "features"]), help="What it is; by default as it looks."
)
@click.option("--rate", type=float, metavar="HZ", help="Steps a second from the first frame on.")
@click.option("--spans", is_flag=True, help="First and last step belong to first and last frame.")
@click.option("--lag", default=0.0, show_default=True, help="How many of its own steps it is late.")
@click.option("--unit", default="", help="Of its values.")
@click.option("--suffix", default="", help="What file names have behind the clip's name, e.g. _rgb.")
@click.option("--size", metavar="HxW", help="Put pictures and videos into the store at this size.")
@click.option("--mirror", metavar="SIGNS", help="What a mirror image does to each value, e.g. 1,-1,1.")
@click.option("--strict", is_flag=True, help="Stop at the first file that cannot be used.")
@click.option("--overwrite", is_flag=True, help="Replace a modality of that name.")
def attach(
    store: Path, name: str, sources: tuple[Path, ...], strict: bool, overwrite: bool, size: str | None,
    mirror: str | None, **form: Any,
) -> None:  # fmt: skip
    """Give the clips of STORE a further modality NAME, from files at SOURCES called after the clips.

    A source is a folder with a file (.npy, .npz, .csv, video) or a folder of pictures for each clip, or an .npz with an
    array for each. A clip without file lacks the modality.
    """
    from skelgraph.data.attach import Form
    from skelgraph.data.attach import attach as give

    made = Form(size=_size(size), mirror=_signs(mirror), **form)
    for line in give(store, name, sources, made, strict=strict, overwrite=overwrite).lines():
        click.echo(line)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise UserError(f"--size {text}: write height x width in pixels, for example 112x112.")
    return int(match[1]), int(match[2])


def _signs(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--mirror {text}: write a number for each value, with commas, for example 1,-1,1.") from None
