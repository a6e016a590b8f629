"""``skelgraph view``."""

from __future__ import annotations

from pathlib import Path

import click

from skelgraph.errors import UserError


@click.command("view")
@click.argument("source", metavar="STORE|FILE|RUN|demo")
@click.option("--clip", metavar="NAME", help="By default the first; of a run the first of its test part.")
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="FILE", help="An .html, .gif or .png.")
@click.option("--saliency", is_flag=True, help="Of a run: which joints speak for its answer, and when.")
@click.option("--attention", is_flag=True, help="Of a run: where the network looks, if it has attention.")
@click.option("--deletion", is_flag=True, help="Hold the map against taking joints away at random.")
@click.option("--class", "about", metavar="NAME", help="The class to explain in place of the one answered.")
@click.option("--format", help="Of a file, in place of a guess.")
@click.option("--topology", help="Joint layout (name or file) of a file that does not say, or of the demo.")
@click.option("--trust", is_flag=True, help="Run the plugins of the run: Python files with all rights of yours.")
def command(
    source: str, clip: str | None, out: Path | None, saliency: bool, attention: bool, deletion: bool,
    about: str | None, format: str | None, topology: str | None, trust: bool,
) -> None:  # fmt: skip
    """Show one clip moving: of a store, of pose files, of the demo generator, or with what a RUN says of it."""
    from skelgraph import viewer

    if saliency and attention:
        raise UserError("choose one of --saliency and --attention.")
    if viewer.is_run(source):
        if format or topology:
            raise UserError("--format and --topology go with files; a run knows its own.")
        how = "saliency" if saliency else "attention" if attention else None
        view = viewer.of_run(source, clip, how, about=about, delete=deletion, trust=trust)
    else:
        wanted = {"--saliency": saliency, "--attention": attention, "--deletion": deletion, "--class": bool(about)}
        for option, given in wanted.items():
            if given:
                raise UserError(f"{option} needs a run, and {source} is none.")
        view = viewer.of_poses(source, clip, format=format, topology=topology)
    for line in view.lines:
        click.echo(line)
    click.echo(viewer.write(view, out))
