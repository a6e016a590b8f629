"""The figures of an evaluation beside what they are held against: chance, and what the paper printed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skelgraph.data.schema import Meta
from skelgraph.engine.run_folder import Run
from skelgraph.errors import UserError

TITLES = {
    "top1": "Top-1 accuracy",
    "top5": "Top-5 accuracy",
    "mean_class": "Mean class accuracy",
    "macro_f1": "Macro F1",
    "loss": "Loss",
}
UNITS = {"loss": "nats"}


@dataclass(frozen=True)
class Headline:
    """One test figure.

    Attributes:
        stage, metric: where it stands in the run: ``stage/metric``.
        value: per cent, or nats for a loss.
        chance: what an answer without looking reaches; None where there is no simple one.
        published: of the paper, on the paper's data.
        test_clips: how many clips were tested.
        split: protocol and part they come from.
    """

    stage: str
    metric: str
    value: float
    chance: float | None
    published: float | None
    test_clips: int
    split: str

    @property
    def unit(self) -> str:
        """Unit of ``value``."""
        return UNITS.get(self.metric.removeprefix("last_"), "%")

    @property
    def title(self) -> str:
        """The figure in words; ``last_`` is the last step in the place of the one chosen on validation."""
        plain = self.metric.removeprefix("last_")
        name = TITLES.get(plain, plain.replace("_", " "))
        return f"{name}, last step" if plain != self.metric else name


def headlines(run: Run) -> list[Headline]:
    """Every test figure of the finished evaluations of a run, in order."""
    recipe, found = run.recipe, []
    done = {folder.name: folder.result() for folder in run.stages()}
    for stage, result in done.items():
        for metric, value in ((result or {}).get("metrics") or {}).items():
            assert result is not None
            beside = chance(metric, result), published(recipe, done, stage, metric)
            tested = int(result.get("test_clips", 0)), split(recipe, stage, result.get("tested"))
            found.append(Headline(stage, metric, float(value), *beside, *tested))
    return found


def chance(metric: str, result: dict[str, Any]) -> float | None:
    """What answering without looking reaches on these test clips.

    Top-k: always naming the k most frequent classes; mean class: naming any one class; loss: equal probabilities.
    """
    metric = metric.removeprefix("last_")
    counts = sorted((sum(row) for row in result.get("confusion") or []), reverse=True)
    present = sum(count > 0 for count in counts)
    if metric == "top1":
        return None if result.get("chance") is None else float(result["chance"])
    if not present:
        return None
    known = {
        "top5": 100.0 * sum(counts[:5]) / sum(counts),
        "mean_class": 100.0 / present,
        "loss": math.log(len(counts)),
    }
    return known.get(metric)


def published(recipe: dict[str, Any], done: dict[str, Any], stage: str, metric: str) -> float | None:
    """The paper's figure: ``published: {stage/metric: ...}``, or ``{metric: ...}`` for the last stage that has it."""
    figures = recipe.get("published") or {}
    if f"{stage}/{metric}" in figures:
        return float(figures[f"{stage}/{metric}"])
    having = [name for name, result in done.items() if metric in ((result or {}).get("metrics") or {})]
    return float(figures[metric]) if metric in figures and having[-1:] == [stage] else None


def stage_data(recipe: dict[str, Any], stage: str, tested: str | None = None) -> dict[str, Any]:
    """``data:`` of a stage; an evaluation without overrides takes that of the stage it tests."""
    stages = recipe["stages"]
    own = stages.get(stage, {}).get("data") or {}
    over = own or (stages.get(tested or "", {}).get("data") or {})
    return {**recipe["data"], **over}


def split(recipe: dict[str, Any], stage: str, tested: str | None) -> str:
    """Protocol and part of the tested clips."""
    data = stage_data(recipe, stage, tested)
    return f"{data['protocol']}, {data.get('test_part', 'test')}"


def store_paths(data: dict[str, Any]) -> list[Path]:
    """Folders of the store of a ``data:``."""
    store = data["store"]
    return [Path(store)] if isinstance(store, str) else [Path(item) for item in store]


def is_demo(run: Run) -> bool:
    """Whether any figure of the run comes from generated clips."""
    if run.about.get("demo"):
        return True
    recipe = run.recipe
    for stage in recipe["stages"]:
        for path in store_paths(stage_data(recipe, stage)):
            try:
                if Meta.read(path / "meta.json").demo:
                    return True
            except UserError:
                continue
    return False
