"""The ``skelgraph`` command: finds the verb, prints user errors plainly."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from skelgraph import __version__
from skelgraph.errors import UserError

VERBS = {
    "run": "Run a recipe: all its stages, into one run folder.",
    "test": "Test a finished run on a store.",
    "predict": "Labels for poses: files, recordings, a live stream.",
    "export": "Write a run as an ONNX file, which answers without torch.",
    "results": "Mean, spread and paired comparison of finished runs.",
    "fuse": "Add up the scores of several runs or streams.",
    "report": "Write a run's report page again, or compare runs.",
    "view": "Show a clip moving, with what a run says of it and why.",
    "recipe": "List, show, copy and check recipes.",
    "topology": "List, show, draw, check and map topologies.",
    "data": "Import, inspect and generate clips.",
    "weights": "Import weights that others have published.",
    "sweep": "Search for settings that are best on validation clips.",
    "bench": "Measure what a stage, a model or a part of one costs.",
    "doctor": "Show what is installed and which backends are live.",
}


class Verbs(click.Group):
    """Loads a verb's module when it is used, so that --help stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = import_module(f"skelgraph.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="skelgraph")
def cli() -> None:
    """Skeleton-based action recognition: skeletons as explicit graphs, studies as recipes.

    First steps: `skelgraph run recipes/skeletonmae_finegym.yaml --demo`, then `skelgraph recipe list`.
    """


def main() -> None:
    """Entry point: a mistake of the user ends with one or two plain lines and status 2."""
    try:
        cli.main(standalone_mode=False)
    except UserError as error:
        click.echo(f"skelgraph: {error}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt) as error:
        if isinstance(error.__cause__, EOFError):  # of a file that ends too soon; click takes it for the end of typing
            raise error.__cause__ from None
        click.echo("skelgraph: interrupted; go on with --resume.", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
