"""``skelgraph data``."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import click

from skelgraph import yamlfile
from skelgraph.cli.data_attach import attach
from skelgraph.cli.data_check import check
from skelgraph.errors import UserError


@click.group("data")
def command() -> None:
    """Import, inspect and generate clips."""


command.add_command(attach)
command.add_command(check)


class _WithFormats(click.Command):
    """Lists the formats below the options; they are imported only when the help is read."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from skelgraph.data.readers import READERS

        rows = []
        for name in READERS.names():
            text = (inspect.getdoc(READERS.get(name)) or "").split("\n\n")[0].replace("\n", " ")
            options = ", ".join(READERS.settings(name))
            rows.append((name, text.replace("``", "") + (f" Options: {options}." if options else "")))
        with formatter.section("Formats"):
            formatter.write_dl(rows)


@command.command("import", cls=_WithFormats)
@click.argument("format")
@click.argument("src", type=click.Path(path_type=Path))
@click.argument("dst", type=click.Path(path_type=Path))
@click.option("--topology", help="Joint layout (name or file) in place of the format's own.")
@click.option("--strict", is_flag=True, help="Stop at the first damaged file; otherwise it is skipped and listed.")
@click.option("--overwrite", is_flag=True, help="Replace the store if it is there.")
@click.option("--workers", default=1, show_default=True, help="Processes that read; the store is the same.")
@click.option("--shard", metavar="I/N", help="Read the I-th (from 0) of N shares; the last one makes DST one store.")
@click.option("--append", is_flag=True, help="Add the clips to the store DST.")
@click.option("--restart", is_flag=True, help="Begin anew where an import was killed, instead of going on.")
@click.option("-o", "--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the format.")
@click.option("--nan", metavar="HOW", help="Missing joints: mask, hold or interpolate, interpolate:10 up to 10 frames.")
@click.option("--map", "mapped", metavar="[FROM:]TO", help="Joints of another layout, e.g. mediapipe33:coco17.")
@click.option("--fps", type=float, help="Resample every clip to so many frames a second.")
@click.option("--test-fraction", type=float, metavar="F", help="Add the protocol 'own' with a random test part.")
@click.option("--seed", default=0, show_default=True, help="Of the test part.")
@click.option("--split-by", type=click.Choice(["subject", "group", "clip"]), help="What the parts never share.")
def import_(
    format: str, src: Path, dst: Path, options: tuple[str, ...], nan: str | None, mapped: str | None,
    fps: float | None, test_fraction: float | None, seed: int, split_by: Any, **settings: Any,
) -> None:  # fmt: skip
    """Read files of FORMAT at SRC into the store DST. The same command goes on with an import that was killed."""
    from skelgraph.data import import_data
    from skelgraph.data.clip_steps import named_steps
    from skelgraph.data.own_split import add_split

    if test_fraction is not None and settings["shard"] is not None:
        raise UserError("--test-fraction needs the whole store: split it afterwards by 'skelgraph data split'.")
    steps = named_steps(nan, mapped, fps)
    report = import_data(format, src, dst, clip_steps=steps, **settings, **_options(options))
    split = [] if test_fraction is None else add_split(dst, test_fraction, seed=seed, by=split_by).lines()
    for line in [*report.lines(), *split]:
        click.echo(line)


def _options(texts: tuple[str, ...]) -> dict[str, Any]:
    """``key=value`` pairs; values are read like those of a recipe."""
    result = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key.isidentifier():
            raise UserError(f"-o {text}: write KEY=VALUE.")
        result[key] = yamlfile.parse(value, f"-o {key}").data
    return result


@command.command("info")
@click.argument("stores", nargs=-1, required=True, type=click.Path(path_type=Path))
def info(stores: tuple[Path, ...]) -> None:
    """Show what is in a store (several are shown as one)."""
    from rich.console import Console
    from rich.table import Table

    from skelgraph.data import Store

    facts = Store.open(list(stores)).info()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, text in _rows(facts):
        table.add_row(key, text)
    Console(highlight=False, markup=False).print(table)


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    frames, terms = facts["frames"], facts["terms"]
    rows = [
        ("store", ", ".join(facts["paths"])),
        ("clips", f"{facts['clips']}" + (f" ({facts['unlabelled']} unlabelled)" if facts["unlabelled"] else "")),
        ("frames", f"min {frames['min']}, median {frames['median']:g}, max {frames['max']}"),
        ("persons", ", ".join(f"{number}: {count} clips" for number, count in facts["persons"].items())),
        ("topology", f"{facts['topology']}, {facts['joints']} joints"),
        ("coordinates", f"{facts['dims']}-D, {facts['units'] or 'units unknown'}, up {facts['up'] or 'unknown'}"),
        ("modalities", ", ".join(facts["modalities"]) or "none"),
        (f"{len(facts['classes'])} classes", ", ".join(f"{name}: {count}" for name, count in facts["classes"].items())),
    ]
    for name, parts in facts["protocols"].items():
        rows.append(("protocol", f"{name}: " + ", ".join(f"{part} {count}" for part, count in parts.items())))
    rows += [("source", facts["source"] or "unknown"), ("terms", terms or "unknown"), ("hash", facts["content_hash"])]
    return [("DEMO DATA", "made by a generator; not a recording of anybody"), *rows] if facts["demo"] else rows


@command.command("split")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--test-fraction", default=0.2, show_default=True, metavar="F", help="Share of the clips to test on.")
@click.option("--seed", default=0, show_default=True, help="Of the choice.")
@click.option("--split-by", "by", type=click.Choice(["subject", "group", "clip"]), help="What the parts never share.")
@click.option("--name", default="own", show_default=True, help="Of the protocol.")
@click.option("--overwrite", is_flag=True, help="Replace a protocol of that name.")
def split(store: Path, test_fraction: float, **settings: Any) -> None:
    """Add a protocol with a random test part to STORE."""
    from skelgraph.data.own_split import add_split

    for line in add_split(store, test_fraction, **settings).lines():
        click.echo(line)


@command.command("demo")
@click.argument("dst", type=click.Path(path_type=Path))
@click.option("--topology", default="coco17", show_default=True, help="Joint layout (name or file).")
@click.option("--clips", default=480, show_default=True, help="How many clips.")
@click.option("--classes", default=16, show_default=True, help="How many actions.")
@click.option("--persons", default=1, show_default=True, help="Persons in a clip.")
@click.option("--dims", default=2, show_default=True, type=click.IntRange(2, 3), help="2: pixels, 3: metres.")
@click.option("--modalities", metavar="NAMES", help="Beside the joints: rgb, depth, infrared, inertial; by commas.")
@click.option("--task", default="actions", show_default=True, help="Or a set: xor_sequence, xor_frames.")
@click.option("--seed", default=0, show_default=True, help="Another seed gives other people and other noise.")
@click.option("--overwrite", is_flag=True, help="Replace the store if it is there.")
def demo(dst: Path, modalities: str | None, **settings: Any) -> None:
    """Generate labelled demo data at DST."""
    from skelgraph.data.synthetic import write_demo

    names = [name.strip() for name in (modalities or "").split(",") if name.strip()]
    path = write_demo(dst, modalities=names, **settings)
    click.echo(f"demo data written to {path}; look at it with: skelgraph data info {path}")


@command.command("longtail")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--imbalance-factor", type=float, metavar="F", help="Largest class over smallest.")
@click.option("--shape", default="exp", show_default=True, type=click.Choice(["exp", "step"]), help="How classes fall.")
@click.option("--n-max", type=click.IntRange(min=1), help="Clips of the largest class; by default as the smallest has.")
@click.option("--class-order", type=int, metavar="SEED", help="Random order of the classes; by default their numbers.")
@click.option("--seed", default=0, show_default=True, help="Which clips of a class stay.")
@click.option("--list", "file", type=click.Path(path_type=Path), help="A published list of names in place of a factor.")
@click.option("--strict", is_flag=True, help="With --list: stop where a name is not in the store.")
@click.option("--protocol", help="The protocol to start from; by default the only one.")
@click.option("--name", help="Of the new protocol; by default PROTOCOL_ltF, or that of the list.")
@click.option("--overwrite", is_flag=True, help="Replace a protocol of that name.")
def longtail(
    store: Path, imbalance_factor: float | None, file: Path | None, strict: bool, shape: str, n_max: int | None,
    class_order: int | None, seed: int, **names: Any,
) -> None:  # fmt: skip
    """Add a long-tailed protocol to STORE: training clips are left out, the test part stays."""
    from skelgraph.data.longtail import Target, from_list, make_long_tail

    if (imbalance_factor is None) == (file is None):
        raise UserError("give either --imbalance-factor or --list.")
    target = Target(store, **names)
    if file is not None:
        made = from_list(target, file, strict=strict)
    else:
        assert imbalance_factor is not None
        made = make_long_tail(target, imbalance_factor, shape=shape, n_max=n_max, order_seed=class_order, seed=seed)
    for line in made.lines():
        click.echo(line)
