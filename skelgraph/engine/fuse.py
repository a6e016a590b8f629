"""Fusing: the weighted sum of the scores that several tests, or several streams of one test, give to the same clips.

``fused = sum_i w_i s_i / sum_i w_i`` with ``s`` the logits (what most multi-stream code adds up), the probabilities or
their logarithms; clips are matched by name. Weights are given, equal, or searched on validation clips, never on the
clips that are tested. Letters: S sources, N clips, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from skelgraph.engine import headline, scores
from skelgraph.engine.class_groups import group_figures
from skelgraph.engine.fuse_sources import Source, aligned, sources
from skelgraph.engine.run_folder import Run, write_json
from skelgraph.engine.scores import ClassScores, Scores, figures
from skelgraph.errors import UserError, unknown
from skelgraph.recipe import METRICS, SCORES, FuseStage, Metric, Score, Study, fusion_weights

Weights = Mapping[str, float] | Sequence[float] | Literal["search"] | None
Moves = Iterator[tuple[float, ...]]
COARSE = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
FINE = (0.7, 0.8, 0.9, 1.1, 1.2, 1.3)
MOST_MOVES = 100
LEAST = torch.finfo(torch.float32).tiny
ADDED = {"logit": "logits", "prob": "probabilities", "log_prob": "logarithms of probabilities"}


def _summands(found: Sequence[Source], parts: Sequence[Scores], score: Score) -> Tensor:
    """What is added up, ``(S, N, K)`` in float64."""
    result = []
    for item, part in zip(found, parts, strict=True):
        logits, probabilities = part.whole
        if score == "logit" and logits is None:
            raise UserError(f"{item.name}: was tested by an older version that kept no logits; test it again, or fuse "
                            "the probabilities (score prob).")  # fmt: skip
        values = logits if score == "logit" and logits is not None else probabilities
        result.append(values.double().clamp(min=LEAST).log() if score == "log_prob" else values.double())
    return torch.stack(result)


def weighted(summands: Tensor, weights: Sequence[float], score: Score) -> ClassScores:
    """The fused scores ``(N, K)``: logits and probabilities of the weighted mean of ``summands (S, N, K)``."""
    shares = summands.new_tensor(weights) / sum(weights)
    mean = torch.tensordot(shares, summands, 1)
    if score == "prob":
        return ClassScores(mean.clamp(min=LEAST).log().float(), mean.float())
    return ClassScores(mean.float(), mean.softmax(-1).float())


def numbers(text: str) -> list[float]:
    """Weights out of ``2,1.8,0.7``."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            f"--weights {text}: write numbers with commas, for example 2,1.8,0.7, or say --search to find them on "
            "validation clips."
        ) from None


def search(summands: Tensor, label: Tensor, score: Score, metric: Metric) -> list[float]:
    """Weights from 0 that do best on these clips, the first one 1: a deterministic climb from equal weights.

    In each step one weight is replaced (or all but the first halved or doubled, which is a step of the first one), by
    a coarse grid until nothing improves, then by 10 to 30 per cent. Of weights that do equally well the more equal ones
    are taken: those of smaller ``sum_i ((w_i - 1) / (w_i + 1))^2``.

    Args:
        summands: ``(S, N, K)``, of validation clips.
        label: (N,) true classes.
        score: what the summands are.
        metric: what is maximised; ``loss`` is minimised.
    """

    def badness(weights: tuple[float, ...]) -> tuple[float, float]:
        value = figures(weighted(summands, weights, score).probabilities, label, [metric])[metric]
        distance = sum(((weight - 1) / (weight + 1)) ** 2 for weight in weights)
        return (value if metric == "loss" else -value), distance

    best = (1.0,) * len(summands)
    lowest = badness(best)
    for moves in (_coarse_moves, _fine_moves):
        for _ in range(MOST_MOVES):
            value, trial = min((badness(trial), trial) for trial in moves(best))
            if value >= lowest:
                break
            best, lowest = trial, value
    return list(best)


def _coarse_moves(weights: tuple[float, ...]) -> Moves:
    for factor in (0.5, 2.0):
        yield (1.0, *(factor * weight for weight in weights[1:]))
    for place in range(1, len(weights)):
        for value in COARSE:
            yield (*weights[:place], value, *weights[place + 1 :])


def _fine_moves(weights: tuple[float, ...]) -> Moves:
    for place in range(1, len(weights)):
        for factor in FINE:
            yield (*weights[:place], float(f"{factor * weights[place]:.3g}"), *weights[place + 1 :])


@dataclass(frozen=True)
class Fusion:
    """What fusing gave.

    Attributes:
        sources: what was added up, with ``weights`` and the figures ``each`` has by itself.
        figures: of the fused score, by metric.
        score: what was added: ``logit``, ``prob`` or ``log_prob``.
        weights_from: ``equal``, ``given`` or ``validation``.
        searched: where weights were searched: metric, number of validation clips, and the figure there with the found
            and with equal weights.
        fused: scores of the clips.
        left_out: clips that not every source has.
    """

    sources: tuple[Source, ...]
    weights: tuple[float, ...]
    each: tuple[dict[str, float], ...]
    figures: dict[str, float]
    score: Score
    weights_from: str
    searched: dict[str, Any] | None
    fused: Scores
    left_out: int

    @property
    def classes(self) -> tuple[str, ...]:
        """Names."""
        return self.sources[0].classes


def fuse(
    names: Sequence[str | Path],
    weights: Weights = None,
    *,
    score: Score = "logit",
    metrics: Sequence[Metric] = ("top1", "mean_class"),
    common: bool = False,
    own: Run | None = None,
) -> Fusion:
    """Fuse the scores of several runs, or of the streams of one.

    Args:
        names: see `sources`.
        weights: by name, in order, ``search`` (on the validation clips) or None (equal).
        score: what is added up: ``logit``, ``prob`` or ``log_prob``.
        metrics: figures to compute; a search maximises the first.
        common: take the clips that all runs have where they differ.
        own: see `sources`.

    Raises:
        UserError: other classes, clips or labels; weights that do not fit; a search without validation clips.
    """
    for given, allowed, kind in ((score, SCORES, "score"), *((metric, METRICS, "metric") for metric in metrics)):
        if given not in allowed:
            raise unknown(kind, given, allowed)
    found = sources(names, own)
    classes = found[0].classes
    for source in found[1:]:
        if source.classes != classes:
            raise UserError(f"{found[0].name} and {source.name}: {_other_classes(classes, source.classes)}.")
    advice = "Fuse tests of one split, or take the clips that all have with --common."
    parts, left_out = aligned({item.name: item.test for item in found}, classes, common=common, advice=advice)
    searched = None
    if isinstance(weights, str):
        if weights != "search":
            raise unknown("kind of weights", weights, ["search"])
        chosen, searched = _searched(found, score, metrics[0] if metrics else "top1", common)
    else:
        chosen = fusion_weights(weights, [item.name for item in found], "weights")
    summands = _summands(found, parts, score)
    reference = parts[0]
    fused = Scores(reference.names, reference.label, reference.row, weighted(summands, chosen, score))
    each = [figures(weighted(part[None], [1.0], score).probabilities, reference.label, metrics) for part in summands]
    origin = "validation" if searched else "equal" if weights is None else "given"
    return Fusion(
        tuple(found), tuple(chosen), tuple(each), figures(fused.whole.probabilities, reference.label, metrics), score,
        origin, searched, fused, left_out,
    )  # fmt: skip


def _other_classes(one: Sequence[str], other: Sequence[str]) -> str:
    if len(one) != len(other):
        return f"have {len(one)} and {len(other)} classes"
    place = next(place for place, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])
    return f"class {place} is '{one[place]}' in the first and '{other[place]}' in the second"


def _searched(
    found: Sequence[Source], score: Score, metric: Metric, common: bool
) -> tuple[list[float], dict[str, Any]]:
    """Weights that do best on the validation clips, and how well."""
    held_out = {}
    for item in found:
        if item.validation is None or not item.validation.names:
            raise UserError(
                f"{item.name}: has kept no scores of validation clips to search weights on, and test clips are never "
                "used for it. Train and test it with protocol.selection=holdout, or give weights."
            )
        both = set(item.validation.names) & set(item.test.names)
        if both:
            raise UserError(f"{item.name}: validation clip {min(both)} is among its test clips; give weights.")
        held_out[item.name] = item.validation
    advice = "Weights are searched on the same validation clips: train with one protocol.seed and protocol.validation."
    parts, _ = aligned(held_out, found[0].classes, common=common, advice=advice)
    summands = _summands(found, parts, score)
    label = parts[0].label
    weights = search(summands, label, score, metric)

    def value(used: Sequence[float]) -> float:
        return figures(weighted(summands, used, score).probabilities, label, [metric])[metric]

    equal = [1.0] * len(weights)
    return weights, {"metric": metric, "clips": len(label), "value": value(weights), "equal": value(equal)}


# ---- what is shown and kept ----------------------------------------------------------------------------------------


def as_data(fusion: Fusion) -> dict[str, Any]:
    """Everything but the scores, as plain data."""
    first, training = fusion.sources[0], _training(fusion.sources)
    fused = fusion.fused
    groups = group_figures(fused.whole.probabilities, fused.label, training["train_counts"])
    return {
        "metrics": {**fusion.figures, **groups},
        "score": fusion.score,
        "weights_from": fusion.weights_from,
        "searched": fusion.searched,
        "sources": [
            {"source": item.name, "weight": weight, "metrics": own}
            for item, weight, own in zip(fusion.sources, fusion.weights, fusion.each, strict=True)
        ],
        "left_out": fusion.left_out,
        "demo": any(headline.is_demo(item.run) for item in fusion.sources),
        "split": headline.split(first.run.recipe, first.stage.name, first.stage.result() or {}),
        **training,
        **scores.counted(fused, fusion.classes),
    }


def _training(found: Sequence[Source]) -> dict[str, Any]:
    """Parameters of all networks that take part, each once, and the training clips where all had as many."""
    results = {}
    for item in found:
        tested = str((item.stage.result() or {}).get("tested"))
        known = tested in item.run.recipe["stages"]
        results[item.run.path.resolve(), tested] = item.run.stage(tested).result() or {} if known else {}
    parameters = [int(result.get("parameters") or 0) for result in results.values()]
    clips = {result.get("train_clips") for result in results.values()}
    counts = [(item.stage.result() or {}).get("train_counts") for item in found]
    return {
        "parameters": sum(parameters) if all(parameters) else None,
        "train_clips": clips.pop() if len(clips) == 1 else None,
        "train_counts": counts[0] if all(count == counts[0] for count in counts) else None,
    }


def console(data: Mapping[str, Any]) -> str:
    """The table of `as_data` and its notes for a terminal."""
    import io

    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("source", box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    table.columns[0].footer = "fused"
    table.add_column("weight", justify="right")
    for metric in data["sources"][0]["metrics"]:
        value = data["metrics"][metric]
        unit = headline.unit(metric)
        digits = 1 if unit == "%" else 3
        table.add_column(f"{metric} ({unit})", f"{value:.{digits}f}", justify="right", no_wrap=True)
    for item in data["sources"]:
        cells = [f"{value:.{1 if headline.unit(metric) == '%' else 3}f}" for metric, value in item["metrics"].items()]
        table.add_row(item["source"], f"{item['weight']:g}", *cells)
    text = io.StringIO()
    screen = Console(file=text, width=max(100, Console().width), highlight=False, markup=False)
    screen.print(table)
    for note in notes(data):
        screen.print(note, soft_wrap=True)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()).strip("\n")


def notes(data: Mapping[str, Any]) -> list[str]:
    """What must be read with the table of `as_data`."""
    found = ["DEMO: generated motion, not people; these figures say nothing about real performance."]
    found = found if data["demo"] else []
    left_out = f" ({data['left_out']} left out that not every source has)" if data["left_out"] else ""
    found.append(f"{data['test_clips']} test clips of {data['split']}{left_out}; added up: {ADDED[data['score']]}.")
    searched = data["searched"]
    if searched is not None:
        digits = 3 if searched["metric"] == "loss" else 1
        found.append(
            f"weights: searched on {searched['clips']} validation clips, no test clip among them; "
            f"{searched['metric']} there {searched['value']:.{digits}f}, with equal weights "
            f"{searched['equal']:.{digits}f}."
        )
    else:
        found.append("weights: equal." if data["weights_from"] == "equal" else "weights: as given.")
    return found


def write(fusion: Fusion, folder: Path) -> None:
    """Keep fused scores: ``scores.safetensors`` and ``clips.csv`` as a test does, and ``fusion.json``.

    Raises:
        UserError: the folder holds scores already, or cannot be written.
    """
    if (folder / "scores.safetensors").exists():
        raise UserError(f"{folder}: holds scores already; choose another --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scores.write(folder, fusion.fused, fusion.classes)
        write_json(folder / "fusion.json", as_data(fusion))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another --out.") from None


def run_stage(study: Study, name: str, run: Run) -> dict[str, Any]:
    """A fuse stage of a recipe: leaves the scores in its folder, returns its figures."""
    stage, folder = study.recipe.stages[name], run.stage(name)
    assert isinstance(stage, FuseStage)
    fusion = fuse(stage.fuse, stage.weights, score=stage.score, metrics=stage.evaluate, own=run)
    folder.open()
    scores.write(folder.path, fusion.fused, fusion.classes)
    return {"kind": "fuse", **as_data(fusion)}
