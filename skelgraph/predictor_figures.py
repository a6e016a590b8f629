"""``skelgraph test``: the figures of a finished run on the labelled clips of a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from skelgraph.data.store import Store
from skelgraph.engine import scores
from skelgraph.errors import UserError
from skelgraph.predictor import Predictor


def rows_of(store: Store, where: str, protocol: str | None, part: str) -> np.ndarray:
    """Labelled clips of a part of a protocol; without protocol all labelled clips.

    Raises:
        UserError: no such protocol or part, or no labelled clip in it.
    """
    rows = np.arange(len(store))
    if protocol is not None:
        if protocol not in store.protocols:
            known = ", ".join(store.protocols) or "none"
            raise UserError(f"{where}: no protocol '{protocol}' (there are: {known}); say --protocol, or --all.")
        parts = store.protocol(protocol)
        if part not in parts:
            raise UserError(f"{where}: protocol '{protocol}' has no part '{part}'; it has {', '.join(sorted(parts))}.")
        rows = parts[part]
    rows = rows[store.labels[rows] >= 0]
    if not len(rows):
        raise UserError(f"{where}: no labelled clip to test.")
    return rows


def store_figures(
    predictor: Predictor, store: Store, rows: np.ndarray, wanted: Sequence[str], where: str,
    allow_missing: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Figures in per cent of some clips; classes are compared by name, so their order does not matter.

    Raises:
        UserError: a clip of a class that the run does not know.
    """
    names = [store.classes[label] for label in store.labels[rows]]
    strange = sorted(set(names) - set(predictor.classes))
    if strange:
        raise UserError(
            f"{where}: class '{strange[0]}' is none of the run's ({', '.join(predictor.classes[:8])}, ...)."
        )
    adapter = predictor.adapter(store, None, allow_missing)
    prediction = predictor.predict_clips((store[int(row)] for row in rows), adapter)
    label = torch.tensor([predictor.classes.index(name) for name in names])
    figures = scores.figures(torch.from_numpy(prediction.probabilities), label, wanted)
    share = torch.bincount(label).max().item() / len(label)
    return {"clips": len(rows), "chance": 100 * share, "notes": prediction.notes, "figures": figures}
