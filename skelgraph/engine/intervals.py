"""How far a test figure may be off: 95 % intervals over test clips and seeds, and of the difference of two studies.

Test clips are resampled with replacement (bootstrap, the same clips for every run, so a comparison is paired). The mean
over n seeds is off by a further amount that follows Student's t with n - 1 degrees of freedom; a bootstrap over three
seeds would give intervals that are far too narrow. With one seed the interval covers the choice of test clips only.
Clips count as independent of each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skelgraph.engine.class_groups import GROUPS, classes_of
from skelgraph.engine.run_folder import StageFolder, read_rows, read_tensors

Floats = NDArray[np.float64]
DRAWS = 2000
CHUNK_NUMBERS = 4_000_000
METHOD = (
    f"95 % intervals: test clips resampled (bootstrap, {DRAWS} draws), seeds by Student's t with n − 1 degrees of "
    "freedom; with one seed they cover the choice of test clips only."
)


@dataclass(frozen=True)
class Answers:
    """Per-clip answers of one evaluation, sorted by clip name so that two runs can be paired.

    Attributes:
        names: of the clips.
        label: (N,) true classes.
        probabilities: (N, K).
        row: (N,) rows of the store.
        train_counts: training clips of each class, where they are known.
    """

    names: tuple[str, ...]
    label: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    row: NDArray[np.int64]
    train_counts: tuple[int, ...] | None = None

    @classmethod
    def read(cls, folder: StageFolder) -> Answers | None:
        """The answers kept in a stage's folder; None where there are none, or their two files disagree."""
        files = folder.path / "scores.safetensors", folder.path / "clips.csv"
        if not all(file.is_file() for file in files):
            return None
        tensors = {key: value.numpy() for key, value in read_tensors(files[0]).items()}
        names = [row.get("clip", "") for row in read_rows(files[1])]
        if len(names) != len(tensors["label"]) or not names:
            return None
        order = np.array(sorted(range(len(names)), key=names.__getitem__))
        counts = (folder.result() or {}).get("train_counts")
        return cls(
            tuple(names[i] for i in order), tensors["label"][order], tensors["probabilities"][order],
            tensors["row"][order], None if counts is None else tuple(counts),
        )  # fmt: skip

    @property
    def answer(self) -> NDArray[np.int64]:
        """(N,) the class of highest probability."""
        return self.probabilities.argmax(1)

    def same_test(self, other: Answers) -> bool:
        """Whether both were asked about the same clips with the same truth."""
        return self.names == other.names and np.array_equal(self.label, other.label)


def resamples(clips: int, seed: int = 0) -> Iterator[NDArray[np.float32]]:
    """How often each clip is drawn, ``(draws, clips)`` in chunks of bounded size; the same for the same arguments."""
    random = np.random.default_rng(seed)
    chunk = max(1, min(DRAWS, CHUNK_NUMBERS // clips))
    for start in range(0, DRAWS, chunk):
        size = min(chunk, DRAWS - start)
        drawn = random.integers(clips, size=(size, clips)) + clips * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * clips).reshape(size, clips).astype(np.float32)


def figure(answers: Answers, metric: str, weights: NDArray[np.float32]) -> Floats:
    """A test figure ``(B,)`` for every row of ``weights (B, N)``, as `skelgraph.engine.evaluate.figures` defines it."""
    label, probabilities = answers.label, answers.probabilities
    clips, classes = probabilities.shape
    own = probabilities[np.arange(clips), label]
    if metric == "loss":
        return (weights @ -np.log(np.maximum(own, 1e-12))).astype(np.float64) / clips
    if metric == "top5":
        hits = (probabilities > own[:, None]).sum(1) < 5
        return 100.0 * (weights @ hits.astype(np.float32)) / clips
    hits = answers.answer == label
    if metric == "top1":
        return 100.0 * (weights @ hits.astype(np.float32)) / clips
    one_hot = np.eye(classes, dtype=np.float32)
    present = weights @ one_hot[label]
    found = weights @ (one_hot[label] * hits[:, None])
    if metric == "macro_f1":
        ratio = 2 * found / np.maximum(present + weights @ one_hot[answers.answer], 1)
    else:
        ratio = found / np.maximum(present, 1)
    if metric in GROUPS:
        group = classes_of(answers.train_counts)[metric]
        ratio, present = ratio[:, group], present[:, group]
    return 100.0 * (ratio * (present > 0)).sum(1) / np.maximum((present > 0).sum(1), 1)


def spread(groups: Sequence[Sequence[Answers]], metric: str) -> list[Floats]:
    """Likely values of the mean over the runs of each group, with the same resampled clips: ``(DRAWS,)`` each."""
    clips = len(groups[0][0].names)
    chunks = [
        [np.mean([figure(run, metric, weights) for run in runs], axis=0) for runs in groups]
        for weights in resamples(clips)
    ]
    random, whole = np.random.default_rng(1), np.ones((1, clips), np.float32)
    result = []
    for place, runs in enumerate(groups):
        drawn = np.concatenate([chunk[place] for chunk in chunks])
        if len(runs) > 1:
            deviation = float(np.std([figure(run, metric, whole)[0] for run in runs], ddof=1))
            drawn = drawn + deviation / len(runs) ** 0.5 * random.standard_t(len(runs) - 1, size=len(drawn))
        result.append(drawn)
    return result


def interval(runs: Sequence[Answers], metric: str) -> tuple[float, float]:
    """95 % interval of the mean over runs that answered the same clips."""
    drawn = spread([runs], metric)[0]
    return _limits(np.maximum(drawn, 0) if metric == "loss" else np.clip(drawn, 0, 100))


def difference(runs: Sequence[Answers], baseline: Sequence[Answers], metric: str) -> tuple[float, float]:
    """95 % interval of (mean over ``runs``) − (mean over ``baseline``), paired by clip."""
    one, other = spread([runs, baseline], metric)
    return _limits(one - other)


def paired_difference(runs: Sequence[Answers], baseline: Sequence[Answers], metric: str) -> tuple[float, float]:
    """95 % interval of the mean of (run − its partner in ``baseline``), paired by clip and by run.

    For runs that share more than the test clips, such as the order of the classes of a long tail: what that does to
    both of a pair does not count as spread.

    Args:
        runs, baseline: of the same seeds, in the same order, all of the same test clips.
        metric: a figure of `figure`.
    """
    return _limits(_paired(runs, baseline, metric))


def detectable(runs: Sequence[Answers], baseline: Sequence[Answers], metric: str) -> float:
    """The smallest difference that would be found with a power of 80 % at 5 %, two-sided, from two pairs on.

    From the spread of `paired_difference`: the half width of its interval, and once more what 80 % lie above.
    """
    drawn = _paired(runs, baseline, metric)
    middle, low, high = np.quantile(drawn, [0.5, 0.025, 0.975])
    return float((high - low) / 2 + np.quantile(drawn, 0.8) - middle)


def _paired(runs: Sequence[Answers], baseline: Sequence[Answers], metric: str) -> Floats:
    """Likely values of the mean difference, ``(DRAWS,)``."""
    pairs = list(zip(runs, baseline, strict=True))

    def gains(weights: NDArray[np.float32]) -> list[Floats]:
        return [figure(one, metric, weights) - figure(other, metric, weights) for one, other in pairs]

    clips = len(runs[0].names)
    drawn = np.concatenate([np.mean(gains(weights), axis=0) for weights in resamples(clips)])
    if len(pairs) < 2:
        return drawn
    whole = np.ones((1, clips), np.float32)
    deviation = float(np.std([gain[0] for gain in gains(whole)], ddof=1))
    chance = np.random.default_rng(1).standard_t(len(pairs) - 1, size=len(drawn))
    return drawn + deviation / len(pairs) ** 0.5 * chance


def _limits(drawn: Floats) -> tuple[float, float]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
