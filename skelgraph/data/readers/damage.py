"""What is said of files that cannot be read, also where their reader did not foresee the damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from skelgraph.errors import UserError, shortened
from skelgraph.topology import Topology

Read = TypeVar("Read")


def reason(title: str, error: Exception) -> str:
    """Why an item cannot be read, with the item in front unless the message names it itself."""
    text = str(error) if isinstance(error, UserError) else _unforeseen(error)
    return shortened(text if title in text else f"{title}: {text}")


def safely(src: Path, call: Callable[[], Read]) -> Read:
    """The result of ``call``, which reads from ``src``.

    Raises:
        UserError: whatever ``call`` raises, so that damage never ends in a traceback.
    """
    try:
        return call()
    except UserError as error:
        raise UserError(shortened(str(error))) from error.__cause__
    except Exception as error:
        raise UserError(f"{src}: {_unforeseen(error)}") from error


def layout(name: str, src: Path | None) -> Topology:
    """The joint layout ``name``.

    Raises:
        UserError: there is none; says so of the source, where that has named it (``src``).
    """
    try:
        return Topology.load(name)
    except UserError as error:
        raise error if src is None else UserError(shortened(f"{src}: {error}")) from None


def _unforeseen(error: Exception) -> str:
    return f"cannot be read ({type(error).__name__}: {str(error)[:200]})."
