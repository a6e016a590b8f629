"""``skelgraph predict``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skelgraph.errors import UserError

if TYPE_CHECKING:
    from skelgraph.prediction.base import ClipPredictor


class _Size(click.ParamType):
    name = "WIDTHxHEIGHT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        width, _, height = str(value).lower().partition("x")
        if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
            self.fail(f"'{value}': write width and height in pixels, for example 1920x1080.", param, ctx)
        return int(height), int(width)


@click.command("predict")
@click.argument("run")
@click.argument("source", metavar="INPUT")
@click.option("--format", help="Of INPUT, in place of a guess; 'skelgraph data import --help' lists the formats.")
@click.option("--topology", help="Joint layout (name or file) of INPUT, where its files do not say.")
@click.option("--allow-missing", is_flag=True, help="Joints that INPUT does not have count as not seen.")
@click.option("--window", metavar="FRAMES|SECONDSs", help="Slide a window over each clip: 48, or 2.5s.")
@click.option("--stride", metavar="FRAMES|SECONDSs", help="By default a quarter of the window; of a stream one frame.")
@click.option("--per-person", is_flag=True, help="A label for every person, each alone.")
@click.option("--fps", type=click.FloatRange(min=0, min_open=True), help="Frames a second, where INPUT does not say.")
@click.option("--image-size", type=_Size(), help="In pixels, where INPUT does not say.")
@click.option("--top", default=3, show_default=True, type=click.IntRange(min=0), help="Classes to show, 0 = all.")
@click.option("--json", "as_json", type=click.Path(path_type=Path), metavar="FILE", help="All probabilities.")
@click.option("--csv", "as_csv", type=click.Path(path_type=Path), metavar="FILE", help="A table.")
@click.option("--html", "as_html", type=click.Path(path_type=Path), metavar="FILE", help="A page with a picture.")
@click.option("--trust", is_flag=True, help="Run the plugins of the run: Python files with all rights of yours.")
def command(run: str, source: str, trust: bool, **options: Any) -> None:
    """Label the poses of INPUT by RUN: a finished run, RUN:STAGE, RUN:STAGE:STREAM, or an .onnx file of 'export'.

    INPUT is a file or folder of any format that can be imported, a store, an array (.npy), a recorded stream (.jsonl),
    or - for frames that come in on stdin: one line of json for each, the keypoints as (joints, dims) or (persons,
    joints, dims); every line is answered by a line of json. Labels are not needed.
    """
    predictor, name = _load(run, trust)
    if source == "-":
        _live(predictor, **options)
    else:
        _files(predictor, name, Path(source), **options)


def _load(run: str, trust: bool) -> tuple[ClipPredictor, str]:
    """The predictor of a run, or of an exported file, which needs no torch; and its name."""
    if run.endswith(".onnx"):
        from skelgraph.prediction.onnx import OnnxPredictor

        exported = OnnxPredictor.load(run)
        return exported, exported.name
    from skelgraph.predictor import Predictor

    trained = Predictor.load(run, trust=trust)
    return trained, trained.name


def _live(predictor: ClipPredictor, **options: Any) -> None:
    """Answer stdin line by line."""
    from skelgraph.prediction.base import in_frames
    from skelgraph.prediction.stream import serve

    for key in ("format", "as_json", "as_csv", "as_html"):
        if options[key] is not None:
            raise UserError(f"--{key.removeprefix('as_')} goes with files; a stream is answered on stdout.")
    common = {key: options[key] for key in ("topology", "allow_missing", "window", "per_person", "fps", "image_size")}
    stride = 1 if options["stride"] is None else in_frames(options["stride"], options["fps"], "stride")
    stream = predictor.stream(stride=stride, **common)

    def answer(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    try:
        serve(stream, sys.stdin, answer, options["top"])
    except UnicodeDecodeError:
        raise UserError("stdin: no text in UTF-8; one line of json for each frame is wanted.") from None
    except BrokenPipeError:
        # Whoever reads the answers has left, as `head` does; Python would complain once more while it ends.
        sys.stdout = None


def _files(predictor: ClipPredictor, run: str, path: Path, **options: Any) -> None:
    """Answer a file or folder."""
    from skelgraph.prediction import page, tables
    from skelgraph.prediction.inputs import as_clips, where_possible
    from skelgraph.prediction.sources import open_input

    source = open_input(path, options["format"], options["topology"], predictor.spec.steps, options["fps"])
    adapter = predictor.spec.adapter(source.topology, source.stored, options["allow_missing"])
    known = (as_clips(clip, None, options["fps"], options["image_size"])[0] for clip in source.clips())
    if options["window"] is None:
        if options["stride"] is not None:
            raise UserError("--stride goes with --window.")
        found = predictor.predict_clips(known, adapter, options["per_person"], source.skipped)
        lines, notes = tables.clip_lines(found, options["top"] or len(found.classes)), found.notes
        texts = {"json": lambda: tables.clip_json(found, run), "csv": lambda: tables.clip_csv(found),
                 "html": lambda: page.clip_page(found, run, path.name)}  # fmt: skip
    else:
        sliding = {key: options[key] for key in ("window", "stride", "per_person")}
        timelines = partial(predictor.timeline, adapter=adapter, **sliding)
        slid = [item for items in where_possible(timelines, known, source.skipped) for item in items]
        lines, notes = tables.timeline_lines(slid), ()
        texts = {"json": lambda: tables.timeline_json(slid, run), "csv": lambda: tables.timeline_csv(slid),
                 "html": lambda: page.timeline_page(slid, run, path.name)}  # fmt: skip
    for line in lines:
        click.echo(line)
    for line in (*notes, *(f"left out: {reason}" for reason in source.skipped)):
        click.echo(line, err=True)
    for kind, make in texts.items():
        if options[f"as_{kind}"] is not None:
            write(options[f"as_{kind}"], make())


def write(path: Path, text: str) -> None:
    """Write a file of the user's choice.

    Raises:
        UserError: it cannot be written there.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}).") from None
