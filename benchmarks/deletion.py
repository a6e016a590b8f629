"""Holds maps of importance against chance: joints are taken away by a map, and in random orders, on test clips.

    python benchmarks/deletion.py RUN... [--clips 60] [--how attention]

For every RUN (folder, or folder:test) and map, over a random choice of its test clips: the mean probability of the
answered class along the curve by importance and along 16 random orders (see ``skelgraph.explain.deletion``), the share
of clips where the map is better than chance, and a bootstrap interval (95 %, over clips) of the difference.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from skelgraph import explain
from skelgraph.batch import Batch
from skelgraph.engine.explainer import Explainer
from skelgraph.engine.run_folder import Run
from skelgraph.errors import UserError
from skelgraph.viewer import split_run

HOWS = ("attention", "saliency")
RESAMPLES = 10_000


def importance(tested: Explainer, batch: Batch, target: torch.Tensor, how: str) -> torch.Tensor:
    """The map (1, M, T, V) that ``skelgraph view`` checks."""
    if how == "saliency":
        return explain.saliency(tested.model, batch, target).joints
    with torch.no_grad():
        maps = explain.attention(tested.model, batch).joints
    if not maps:
        raise UserError("its attention has no map of the joints.")
    return next(iter(maps.values()))


def curves(tested: Explainer, rows: list[int], how: str) -> np.ndarray:
    """Mean probabilities (clips, 2) by importance and at random."""
    found = []
    for row in rows:
        raw = tested.batch(row)
        batch, target = tested.prepared(raw), tested.answer(raw).argmax().view(1)
        curve = explain.deletion(tested.model, batch, target, importance(tested, batch, target, how))
        found.append([float(area[0]) for area in curve.areas])
    return np.array(found)


def line(run: str, how: str, found: np.ndarray) -> str:
    """A row of the table."""
    gain = found[:, 1] - found[:, 0]
    draws = np.random.default_rng(0).integers(0, len(gain), (RESAMPLES, len(gain)))
    low, high = np.percentile(100 * gain[draws].mean(1), [2.5, 97.5])
    by, random = 100 * found.mean(0)
    return (
        f"{run[-44:]:<44} {how:<9} {by:>6.1f} {random:>7.1f} {low:>7.1f} {high:>6.1f} {100 * (gain > 0).mean():>7.0f}"
    )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--how", choices=HOWS, action="append")
    given = parser.parse_args()
    print(f"{'run':<44} {'map':<9} {'by map':>6} {'random':>7} {'gain, 95 %':>14} {'better':>7}")
    for run in given.runs:
        folder, stage = split_run(run)
        tested = Explainer.open(Run.open(folder), stage)
        test = tested.clips.parts(labelled=False, holdout=False).test
        rows = np.random.default_rng(0).permutation(test)[: given.clips].tolist()
        for how in given.how or HOWS:
            try:
                print(line(run, how, curves(tested, rows, how)), flush=True)
            except UserError as error:
                print(f"{run[-44:]:<44} {how}: {error}")


if __name__ == "__main__":
    main()
