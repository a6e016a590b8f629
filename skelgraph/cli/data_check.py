"""``skelgraph data check``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from skelgraph import yamlfile
from skelgraph.errors import UserError

if TYPE_CHECKING:
    from skelgraph.data.checks import CheckReport

COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


@click.command("check")
@click.argument("source", metavar="STORE|SRC", type=click.Path(path_type=Path))
@click.option("--format", help="SRC holds files of this format: import them into a temporary store and check that.")
@click.option("--topology", help="Joint layout (name or file) of SRC in place of the format's own.")
@click.option("--protocol", "protocols", multiple=True, help="Look at this split only; may be given again.")
@click.option("--skip", multiple=True, metavar="CHECK", help="Leave a check out; may be given again.")
@click.option("--fps", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True,
              help="Frames a second where a clip does not know.")  # fmt: skip
@click.option("-o", "--option", "options", multiple=True, metavar="CHECK.KEY=VALUE",
              help="A threshold of a check; KEY=VALUE is an option of the format.")  # fmt: skip
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="A page with the worst clips moving.")
@click.option("--json", type=click.Path(path_type=Path), metavar="FILE", help="Everything, for programs.")
def check(
    source: Path, format: str | None, topology: str | None, protocols: tuple[str, ...], skip: tuple[str, ...],
    fps: float, options: tuple[str, ...], html: Path | None, json: Path | None,
) -> None:  # fmt: skip
    """Look for faults in the clips, labels and splits of a STORE, or of files in SRC.

    Ends with status 1 where there are errors, with 0 where there are only warnings and notes.
    """
    from skelgraph.data.checks import check_data

    thresholds, of_format = _settings(options)
    with _store(source, format, topology, of_format) as store:
        report = check_data(
            store, protocols=protocols or None, skip=skip, thresholds=thresholds, fps=fps, progress=True
        )  # fmt: skip
        report.facts["paths"] = [str(source)]
        if html is not None:
            from skelgraph.pages import data_check

            data_check.write(report, store, html)
    if json is not None:
        report.write_json(json)
    _show(report)
    if report.errors:
        sys.exit(1)


@contextmanager
def _store(source: Path, format: str | None, topology: str | None, options: dict[str, Any]) -> Iterator[Any]:
    """The store at ``source``, or one made for the time being out of the files there."""
    from skelgraph.data import Store, import_data

    if format is None:
        if not (source / "meta.json").is_file():
            raise UserError(f"{source}: no store there; for files of another format say --format.")
        if options or topology:
            given = ", ".join([*options, *(["--topology"] if topology else [])])
            raise UserError(f"{given}: only with --format; thresholds are written CHECK.KEY=VALUE.")
        yield Store.open(source)
        return
    with TemporaryDirectory(prefix="skelgraph-check-") as folder:
        import_data(format, source, Path(folder) / "store", topology=topology, **options)
        yield Store.open(Path(folder) / "store")


def _settings(texts: tuple[str, ...]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Thresholds by check, and options of the format."""
    thresholds: dict[str, dict[str, Any]] = {}
    of_format: dict[str, Any] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        name, dot, threshold = key.partition(".")
        if not sign or not name.isidentifier() or (dot and not threshold.isidentifier()):
            raise UserError(f"-o {text}: write CHECK.KEY=VALUE, or KEY=VALUE for the format.")
        read = yamlfile.parse(value, f"-o {key}").data
        if dot:
            thresholds.setdefault(name, {})[threshold] = read
        else:
            of_format[name] = read
    return thresholds, of_format


def _show(report: CheckReport) -> None:
    """A table: one row a check, with its worst example and what to do."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from skelgraph.data.checks import Severity
    from skelgraph.data.checks.words import in_words, plural, where_found

    table = Table(box=None, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("clips", justify="right")
    table.add_column("found", justify="right")
    table.add_column("worst, and what to do", overflow="fold")
    for tallies in report.by_code():
        first, worst = tallies[0], tallies[0].worst()[0]
        place = where_found(tallies)
        words = Text.assemble(in_words(worst), (f"\n{place}" if place else "", "dim"), (f"\n{worst.advice}", "dim"))
        name = Text.assemble((first.severity.word, COLOURS[first.severity.word]), f" {first.code}")
        clips, found = max(tally.clips for tally in tallies), sum(tally.findings for tally in tallies)
        table.add_row(name, str(clips or ""), str(found), words)
    console = Console(highlight=False)
    if report.tallies:
        console.print(table)
    counts = ", ".join(plural(report.number(level), level.word) for level in sorted(Severity, reverse=True))
    everything = plural(report.facts["clips"], "clip")
    console.print(f"{counts} in {everything}; {len(report.clear)} checks clear; {report.seconds:.1f} s", markup=False)
