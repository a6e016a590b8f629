"""``skelgraph topology``: list, show, draw, check and map joint layouts."""

from __future__ import annotations

import click


@click.group("topology")
def command() -> None:
    """Joint layouts: list, show, draw, check, map one onto another."""


@command.command("list")
def list_() -> None:
    """List every topology that can be found by name."""
    from rich.table import Table

    from skelgraph import assets
    from skelgraph.topology import Topology

    table = Table("name", "joints", "edges", "title", box=None)
    for name, path in assets.names("topologies").items():
        loaded = Topology.load(path)
        table.add_row(name, str(len(loaded.joints)), str(len(loaded.edges)), loaded.title)
    _print(table)


@command.command()
@click.argument("name")
def show(name: str) -> None:
    """Show joints, parents, mirror partners and parts of NAME (a name or a file)."""
    from rich.table import Table

    from skelgraph.topology import Topology

    loaded = Topology.load(name)
    click.echo(f"{loaded.name}: {loaded.title}")
    click.echo(f"{len(loaded.joints)} joints, {len(loaded.bones)} bones, {len(loaded.links)} links; root {loaded.root}")
    click.echo(f"origin: mean of {', '.join(loaded.center)}")
    table = Table("index", "joint", "parent", "mirror", box=None)
    parents = dict(loaded.bones)
    for i, joint in enumerate(loaded.joints):
        twin = loaded.joints[loaded.mirror_permutation[i]]
        table.add_row(str(i), joint, parents.get(joint, "-"), twin if twin != joint else "-")
    _print(table)
    for a, b in loaded.links:
        click.echo(f"link: {a} - {b}")
    for part, content in loaded.parts.items():
        click.echo(f"part {part} ({len(content.joints)}): {', '.join(content.joints)}")
    if loaded.graph is not None:
        click.echo(f"graph: {', '.join(f'{child} > {parent}' for child, parent in loaded.graph)}")
    if loaded.source:
        click.echo(f"source: {loaded.source}")


@command.command()
@click.argument("name")
@click.option("-o", "--output", help="Picture file (.png, .svg, .pdf); NAME.png where left out.")
@click.option("--part", help="Draw one part only.")
def draw(name: str, output: str | None, part: str | None) -> None:
    """Draw NAME (a name or a file)."""
    from skelgraph.topology import Topology
    from skelgraph.topology_draw import draw as draw_to

    loaded = Topology.load(name)
    chosen = loaded.part(part) if part else loaded
    path = output or f"{chosen.name.replace('/', '_')}.png"
    draw_to(chosen, path)
    click.echo(path)


@command.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def check(names: tuple[str, ...]) -> None:
    """Check topologies (names or files); stops at the first fault."""
    import warnings

    from skelgraph.topology import Topology

    for name in names:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loaded = Topology.load(name)
            sizes = ", ".join(f"{part} {len(loaded.part(part).joints)}" for part in loaded.part_names)
        for warning in caught:
            click.echo(f"warning: {warning.message}", err=True)
        state = "good" if loaded.checks else "names are good (tree checks are off)"
        click.echo(f"{loaded.name}: {state}; {len(loaded.joints)} joints; parts: {sizes or 'none'}")


@command.command("map")
@click.argument("source")
@click.argument("target")
def map_(source: str, target: str) -> None:
    """Show where each joint of TARGET comes from when data are in SOURCE."""
    from rich.table import Table

    from skelgraph.topology import Topology, TopologyMap

    found = TopologyMap.between(Topology.load(source), Topology.load(target))
    table = Table(found.target.name, found.source.name, box=None)
    for joint in found.target.joints:
        partners = found.derived.get(joint, (joint,))
        text = f"mean of {', '.join(partners)}" if len(partners) > 1 else partners[0]
        table.add_row(joint, "- (no partner)" if joint in found.missing else text)
    _print(table)
    given = len(found.target.joints) - len(found.missing)
    click.echo(f"{given} of {len(found.target.joints)} joints have a partner, {len(found.derived)} of them derived.")
    click.echo(f"missing: {', '.join(found.missing) or 'none'}")
    click.echo(f"unused: {', '.join(found.unused) or 'none'}")


def _print(table: object) -> None:
    """A table at the width of the terminal, uncut when the output goes into a file."""
    from rich.console import Console

    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)
