"""Finds topologies and recipes: a path as given, working folder, ``SKELGRAPH_PATH``, package, repository."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from skelgraph.errors import unknown

PACKAGE = Path(__file__).resolve().parent


def folders(kind: str) -> Iterator[Path]:
    """Existing folders that hold assets of ``kind`` (``topologies``, ``recipes``), nearest first."""
    extra = [Path(item) for item in os.environ.get("SKELGRAPH_PATH", "").split(os.pathsep) if item]
    roots = [Path.cwd(), *extra, PACKAGE / "shipped", PACKAGE.parent]
    seen = set()
    for root in roots:
        folder = root / kind
        if folder.is_dir() and folder.resolve() not in seen:
            seen.add(folder.resolve())
            yield folder


def names(kind: str) -> dict[str, Path]:
    """Every asset of ``kind`` by name; a nearer folder hides a farther one."""
    found: dict[str, Path] = {}
    for folder in folders(kind):
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def find(kind: str, name: str | os.PathLike[str], what: str, beside: Path | None = None) -> Path:
    """The file meant by ``name``: a path (also relative to the folder ``beside``) or an asset's name.

    Args:
        kind: ``topologies`` or ``recipes``.
        name: ``coco17``, ``recipes/mine.yaml`` or an absolute path.
        what: the word for it in the error (``topology``, ``recipe``).
        beside: folder of the file that mentions ``name``.

    Raises:
        UserError: nothing found; lists the names there are.
    """
    given = Path(name)
    candidates = [given] if beside is None or given.is_absolute() else [beside / given, given]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    for folder in [] if given.is_absolute() else folders(kind):
        if (folder / given).is_file():
            return folder / given
    stem = given.stem if given.suffix in {".yaml", ".yml"} else given.name
    looks_like_path = len(given.parts) > 1 and given.parts[0] != kind
    available = names(kind)
    if stem in available and not looks_like_path:
        return available[stem]
    raise unknown(what, str(name), available)
