"""A train and test part for data that come without: by person where people are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from skelgraph.data.longtail import add_protocol
from skelgraph.data.protocols import holdout
from skelgraph.data.store import PathLike, Store
from skelgraph.errors import UserError, unknown

By = Literal["subject", "group", "clip"]
NAME = "own"


@dataclass(frozen=True)
class OwnSplit:
    """What became a protocol of a store.

    Attributes:
        name: of the protocol.
        by: what is never divided between the parts.
        units: how many of these there are.
        train, test: clips.
        untested: classes without a test clip.
        left_out: clips without label, which stand in no part.
    """

    name: str
    by: str
    units: int
    train: int
    test: int
    untested: tuple[str, ...]
    left_out: int

    def lines(self) -> list[str]:
        """The same for people."""
        text = [f"protocol '{self.name}': train {self.train}, test {self.test}, split by {self.by} ({self.units})"]
        if self.by == "clip":
            text.append("the same people may be in train and test: figures then say little about new people; name "
                        "subjects in a table (-o labels=FILE) to split by them")  # fmt: skip
        if self.untested:
            text.append(f"no test clip of: {', '.join(self.untested)}; try another --seed")
        if self.left_out:
            text.append(f"{self.left_out} clips without label are in no part")
        return text


def add_split(
    path: PathLike, fraction: float, *, seed: int = 0, by: By | None = None, name: str = NAME, overwrite: bool = False
) -> OwnSplit:  # fmt: skip
    """Add a protocol with a random test part to a store.

    Each class gives about ``fraction`` of its clips to the test, as far as whole people or recordings allow
    (`skelgraph.data.protocols.holdout`).

    Args:
        path: the store.
        fraction: share of the labelled clips to test on, between 0 and 1.
        seed: of the choice.
        by: what is never divided: all clips of a ``subject``, of a ``group`` (recording), or nothing (``clip``). By
            default subject where it is known of every labelled clip, else group where it is, else clip.
        name: of the protocol.
        overwrite: replace another protocol of that name.

    Raises:
        UserError: a share outside (0, 1), no labels, only one subject or group, or the name is taken.
    """
    if by is not None and by not in get_args(By):
        raise unknown("way to split", by, get_args(By), "--split-by")
    if not 0 < fraction < 1:
        raise UserError(f"--test-fraction {fraction:g}: a share between 0 and 1 is wanted, e.g. 0.2.")
    store = Store.open(path)
    rows = np.flatnonzero(store.labels >= 0)
    if not len(rows):
        raise UserError(f"{path}: no clip has a label, so there is nothing to train and test.")
    chosen, units = _units(store, rows, by)
    count = len({units[row] for row in rows.tolist()})
    if count < 2:
        raise UserError(f"{path}: all labelled clips are of one {chosen}; say --split-by clip.")
    train, test = holdout(store.labels, units, rows, fraction, seed)
    parts = {part: [store.names[row] for row in which] for part, which in (("train", train), ("test", test))}
    step = {"name": "random split", "protocol": name, "test_fraction": fraction, "seed": seed, "by": chosen}
    add_protocol(Path(path), name, parts, step, overwrite)
    absent = set(store.labels[rows].tolist()) - set(store.labels[test].tolist())
    untested = tuple(store.classes[label] for label in sorted(absent))
    return OwnSplit(name, chosen, count, len(train), len(test), untested, len(store) - len(rows))


def _units(store: Store, rows: np.ndarray, by: By | None) -> tuple[str, Sequence[str]]:
    """What is not divided, and for each clip of the store which one it belongs to."""
    for kind in ("subject", "group"):
        values = store.column(kind)
        known = [values[row] is not None for row in rows.tolist()]
        if by == kind and not all(known):
            name = store.names[int(rows[known.index(False)])]
            raise UserError(f"{store.paths[0]}: the {kind} of clip '{name}' is not known; say --split-by clip.")
        if by == kind or (by is None and all(known)):
            return kind, [str(value) for value in values]
    return "clip", list(store.names)
