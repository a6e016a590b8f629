"""``skipped.csv`` in the making: what an import left out, on disk as soon as it is known."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from skelgraph.data.readers.workers import Skipped

HEAD = ["item", "clip", "reason"]


class SkippedLog:
    """Context manager that writes the file.

    Args:
        path: the file.
        before: text to begin with, of a store that grows.
        kept: bytes of the file that belong to work which goes on; None = a new file.

    Attributes:
        items: what this import has left out so far, before a kill and after.
        size: bytes of the file.
    """

    def __init__(self, path: Path, before: str | None = None, kept: int | None = None) -> None:
        head = (before or _line(HEAD)).encode()
        whole = path.read_bytes()[:kept] if kept is not None and path.is_file() else head
        rows = csv.reader(io.StringIO(whole[len(head) :].decode(), newline=""))
        self.items = [Skipped(*row) for row in rows]
        self.size = len(whole)
        self._file = open(path, "wb")  # noqa: SIM115 (closed by __exit__)
        self._file.write(whole)
        self._file.flush()

    def __enter__(self) -> SkippedLog:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, item: Skipped) -> None:
        """One more."""
        line = _line([item.item, item.clip, item.reason]).encode()
        self.items.append(item)
        self.size += len(line)
        self._file.write(line)
        self._file.flush()


def _line(fields: list[str]) -> str:
    text = io.StringIO()
    # Names of files may hold what is no character.
    csv.writer(text).writerow([field.encode("utf-8", "backslashreplace").decode() for field in fields])
    return text.getvalue()
