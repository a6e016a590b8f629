"""The figures of an evaluation beside what they are held against: chance, and what the paper printed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skelgraph.data.schema import Meta
from skelgraph.engine.class_groups import GROUPS
from skelgraph.engine.run_folder import Run
from skelgraph.errors import UserError

TITLES = {
    "top1": "Top-1 accuracy",
    "top5": "Top-5 accuracy",
    "mean_class": "Mean class accuracy",
    "macro_f1": "Macro F1",
    "loss": "Loss",
    **{name: words for name, (_, _, words) in GROUPS.items()},
}
UNITS = {"loss": "nats"}
LAST = "last"


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
        return unit(self.metric)

    @property
    def title(self) -> str:
        """The figure in words, and what it is of where that is not the tested model as a whole."""
        plain, of = parted(self.metric)
        name = TITLES.get(plain, plain.replace("_", " "))
        if of == LAST:
            return f"{name}, last step"
        return f"{name}, stream {of}" if of else name


def parted(metric: str) -> tuple[str, str]:
    """``body_top1`` as ``top1`` and what it is of: a stream, or ``last``, the last step of training instead of the
    one chosen on validation; nothing where it is of the tested model."""
    for plain in TITLES:
        if metric.endswith(f"_{plain}"):
            return plain, metric.removesuffix(f"_{plain}")
    return (metric.removeprefix(f"{LAST}_"), LAST) if metric.startswith(f"{LAST}_") else (metric, "")


def unit(metric: str) -> str:
    """Unit of a figure."""
    return UNITS.get(parted(metric)[0], "%")


def headlines(run: Run) -> list[Headline]:
    """Every test figure of the finished evaluations of a run, in order."""
    recipe, found = run.recipe, []
    done = {folder.name: folder.result() for folder in run.stages()}
    for stage, result in done.items():
        for metric, value in ((result or {}).get("metrics") or {}).items():
            assert result is not None
            beside = chance(metric, result), published(recipe, done, stage, metric)
            tested = int(result.get("test_clips", 0)), split(recipe, stage, result)
            found.append(Headline(stage, metric, float(value), *beside, *tested))
    return found


def chance(metric: str, result: dict[str, Any]) -> float | None:
    """What answering without looking reaches on these test clips.

    Top-k: always naming the k most frequent classes; mean class: naming any one class; loss: equal probabilities.
    """
    metric, _ = parted(metric)
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
    """``data:`` of a stage; an evaluation without overrides takes that of the stage it tests, a fusion that of the
    first test it adds up."""
    stages = recipe["stages"]
    first = (stages.get(stage, {}).get("fuse") or [""])[0].partition(":")[0]
    if first in stages:
        return stage_data(recipe, first)
    own = stages.get(stage, {}).get("data") or {}
    over = own or (stages.get(tested or "", {}).get("data") or {})
    return {**recipe["data"], **over}


def split(recipe: dict[str, Any], stage: str, result: dict[str, Any]) -> str:
    """Protocol and part of the tested clips; a fusion has kept those of its sources, which may be other runs."""
    if "split" in result:
        return str(result["split"])
    data = stage_data(recipe, stage, result.get("tested"))
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
        if (run.stage(stage).result() or {}).get("demo"):
            return True
        for path in store_paths(stage_data(recipe, stage)):
            try:
                if Meta.read(path / "meta.json").demo:
                    return True
            except UserError:
                continue
    return False
