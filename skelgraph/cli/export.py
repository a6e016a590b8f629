"""``skelgraph export``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("export")
@click.argument("run")
@click.argument("out", required=False, type=click.Path(path_type=Path), metavar="[OUT.onnx]")
@click.option("--to", "kind", type=click.Choice(["onnx"]), default="onnx", show_default=True, help="What to write.")
@click.option("--int8", is_flag=True, help="Linear maps in eight bits; prints what that costs on the test clips.")
@click.option("--trust", is_flag=True, help="Run the plugins of the run: Python files with all rights of yours.")
def command(run: str, out: Path | None, kind: str, int8: bool, trust: bool) -> None:
    """Write the classifier of RUN, a finished run, as a file that answers without torch.

    RUN:STAGE names one of several, RUN:STAGE:STREAM one network of those that were trained together.

    'skelgraph predict OUT.onnx INPUT' then needs numpy and onnxruntime only. By default the file is STAGE.onnx in the
    run folder, with --int8 STAGE.int8.onnx. It is held against the run at three shapes before it is written.
    """
    from skelgraph.export import export_onnx

    click.echo(export_onnx(run, out, int8=int8, trust=trust).text())
