"""Sizes and counts that a file declares, held against sense: a few kilobytes must not ask for all memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from skelgraph.errors import UserError

FLOOR = 256 << 20  # bytes that any file may unpack to
FACTOR = 100  # and so many times its own size beyond that; numbers of poses pack to a half, zeros to a thousandth
MOST_CLASSES = 100_000  # a class number from here on is damage


def numbered_classes(labels: Iterable[int]) -> tuple[str, ...]:
    """Names ``0``, ``1``, ... up to the highest class number; one that is damage makes none, so its clip is faulty."""
    return tuple(str(number) for number in range(1 + max((n for n in labels if n < MOST_CLASSES), default=-1)))


def need_size(path: Path, declared: int, what: str) -> None:
    """Raise unless ``declared`` bytes are believable for this file.

    Raises:
        UserError: they are not; names the file and ``what`` declares them.
    """
    if declared > FLOOR + FACTOR * path.stat().st_size:
        raise UserError(
            f"{path}: {what} unpacks to {declared / 2**30:.1f} GiB, far beyond a file of its size; if it is sound, "
            "save it without compression or in several files."
        )
