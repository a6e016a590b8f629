"""``skelgraph doctor``."""

from __future__ import annotations

import click


@click.command("doctor")
def command() -> None:
    """Show versions, devices, and which message-passing backends and extras are live."""
    from skelgraph.engine.doctor import findings

    rows = findings()
    width = max(len(name) for name, _, _ in rows)
    for name, live, text in rows:
        click.echo(f"{'ok ' if live else '-- '} {name:<{width}}  {text}")
