"""``skelgraph export``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("export")
@click.argument("run")
@click.argument("out", required=False, type=click.Path(path_type=Path), metavar="[OUT.onnx]")
@click.option("--to", "kind", type=click.Choice(["onnx"]), default="onnx", show_default=True, help="What to write.")
@click.option("--int8", is_flag=True, help="In eight bits, with ranges measured on training clips.")
@click.option("--data", type=click.Path(path_type=Path), metavar="STORE", help="Of these clips; by default the run's.")
@click.option("--trust", is_flag=True, help="Run the plugins of the run: Python files with all rights of yours.")
def command(run: str, out: Path | None, kind: str, int8: bool, data: Path | None, trust: bool) -> None:
    """Write the classifier of RUN (or RUN:STAGE), a finished run, as a file that answers without torch.

    'skelgraph predict OUT.onnx INPUT' then needs numpy and onnxruntime only. By default the file is STAGE.onnx in the
    run folder, with --int8 STAGE.int8.onnx. It is held against the run at three shapes before it is written.
    """
    from skelgraph.errors import UserError
    from skelgraph.export import export_onnx

    if data is not None and not int8:
        raise UserError("--data goes with --int8, which measures ranges on training clips.")
    click.echo(export_onnx(run, out, int8=int8, data=data, trust=trust).text())
