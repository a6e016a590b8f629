"""Published long-tailed training lists: text files of clip names, held against what is published beside them."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Sequence
from itertools import pairwise, zip_longest
from pathlib import Path

import numpy as np

from skelgraph.errors import UserError

NAMED = 3


def read_list(path: Path) -> list[str]:
    """Names out of a text file, one a line, perhaps gzipped.

    Raises:
        UserError: cannot be read, is empty, or holds a name twice.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        names = raw.decode().split()
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read as a list of names ({error}).") from None
    if not names:
        raise UserError(f"{path}: holds no name.")
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise UserError(f"{path}: damaged, '{twice}' stands there twice.")
    return names


def check_nested(path: Path) -> None:
    """Raise unless the lists of the same family beside ``path`` lie within one another, larger factors inside.

    Raises:
        UserError: names both files and a clip.
    """
    family = re.fullmatch(r"(.*_)(\d+)(\.[a-z.]*)", path.name)
    if family is None:
        return
    begin, _, end = family.groups()
    factors = {int(other.name[len(begin) : -len(end)]): other for other in path.parent.glob(f"{begin}*{end}")
               if other.name[len(begin) : -len(end)].isdecimal()}  # fmt: skip
    ordered = [factors[number] for number in sorted(factors)]
    for larger, smaller in pairwise(ordered):
        stray = sorted(set(read_list(smaller)) - set(read_list(larger)))
        if stray:
            raise UserError(f"{smaller}: damaged, {some(stray)} should also stand in {larger.name}.")


def check_counts(path: Path, names: Sequence[str], labels: np.ndarray | None) -> None:
    """Hold a list against the counts published beside it (``class_counts.json``); without ``labels`` its length alone.

    Raises:
        UserError: another number of names, or of clips of a class.
    """
    beside = path.parent / "class_counts.json"
    if not beside.is_file():
        return
    wanted = json.loads(beside.read_text(encoding="utf-8")).get(path.name)
    if wanted is None:
        return
    if len(names) != sum(wanted):
        raise UserError(f"{path}: damaged, it holds {len(names)} names and should hold {sum(wanted)}.")
    counts = wanted if labels is None else np.bincount(labels[labels >= 0]).tolist()
    for label, (count, right) in enumerate(zip_longest(counts, wanted, fillvalue=0)):
        if count != right:
            raise UserError(f"{path}: class {label} of the store has {count} of its clips and should have {right}; "
                            "are the store's classes numbered as the list's?")  # fmt: skip


def some(names: Sequence[str]) -> str:
    """The first few names of many, for a message."""
    return ", ".join(names[:NAMED]) + (" ..." if len(names) > NAMED else "")
