"""What every trial of a search has in common, checked before the first one runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skelgraph import recipe as recipes
from skelgraph.errors import UserError, unknown
from skelgraph.methods import METHODS
from skelgraph.recipe import FitStage, Study
from skelgraph.sweep.space import KINDS, Parameter, parse


@dataclass(frozen=True)
class Plan:
    """A search.

    Attributes:
        recipe: its name or file.
        fixed: overrides of every trial, as they were given.
        space: what varies.
        dropped: overrides that take away what a trial does not need: tests, and stages after the judged one.
        stage, figure, mode: whose validation figure is judged, which, and ``max`` or ``min`` of it.
        demo, seed: of every trial.
        source: the recipe with the fixed overrides, by which a search that goes on is recognised.
        name: of the recipe.
    """

    recipe: str
    fixed: tuple[str, ...]
    space: tuple[Parameter, ...]
    dropped: tuple[str, ...]
    stage: str
    figure: str
    mode: str
    demo: bool
    seed: int
    source: dict[str, Any]
    name: str

    def overrides(self, drawn: Sequence[str]) -> list[str]:
        """All overrides of a trial."""
        return [*self.fixed, *drawn, "protocol.selection=holdout", *self.dropped]

    def identity(self) -> dict[str, Any]:
        """Equal for a search that goes on."""
        space = [[item.key, item.kind, list(item.values)] for item in self.space]
        return {"recipe": self.source, "space": space, "stage": self.stage, "demo": self.demo, "seed": self.seed}


def make_plan(recipe: str | Path, words: Sequence[str], *, stage: str | None, demo: bool, seed: int | None) -> Plan:
    """Read and check a search.

    Args:
        recipe: name or file.
        words: overrides ``key=value`` and parameters ``key=kind(...)``.
        stage: the one whose validation figure is judged; by default the last that has one.
        demo: generated data and short lengths.
        seed: in the place of the recipe's.

    Raises:
        UserError: nothing to vary, a recipe without validation, no stage that is validated, a value that the recipe
            refuses.
    """
    fixed = [word for word in words if parse(word) is None] + ([] if seed is None else [f"seed={seed}"])
    space = [item for item in map(parse, words) if item is not None]
    keys = [item.key for item in space]
    if not space:
        raise UserError("nothing to search: give one or more of " + ", ".join(f"KEY={text}" for text in KINDS.values()))
    if len(set(keys)) < len(keys):
        raise UserError(f"{max(keys, key=keys.count)}: is given two distributions.")
    first = [item.samples()[0] for item in space]
    study = recipes.load(recipe, [*fixed, *first], demo=demo)
    _check_every_value(recipe, fixed, space, demo)
    if study.recipe.protocol.selection == "none":
        raise UserError(
            f"{recipe}: has no validation (protocol.selection: none), and a search must not look at the test part. "
            "Add protocol.selection=holdout, or refit to train on all clips in the end."
        )
    judged = _judged(study, stage, str(recipe))
    figure, mode = METHODS.get(_fit(study, judged).method).monitor
    source = recipes.load(recipe, fixed, demo=demo).source.data
    return Plan(str(recipe), tuple(fixed), tuple(space), _dropped(study, judged), judged, figure, mode, demo,
                study.recipe.seed, source, study.recipe.name)  # fmt: skip


def _check_every_value(recipe: str | Path, fixed: Sequence[str], space: Sequence[Parameter], demo: bool) -> None:
    """Hold every choice and both ends of every range against the recipe."""
    first = [item.samples()[0] for item in space]
    for place, item in enumerate(space):
        for value in item.samples():
            drawn = [*first[:place], value, *first[place + 1 :]]
            recipes.check(recipes.load(recipe, [*fixed, *drawn], demo=demo))


def _fit(study: Study, name: str) -> FitStage:
    return study.fit_stages()[name]


def _judged(study: Study, name: str | None, recipe: str) -> str:
    validated = [key for key, entry in study.fit_stages().items() if METHODS.get(entry.method).monitor is not None]
    if not validated:
        raise UserError(f"{recipe}: no stage has a validation figure; add one that trains with labels (linear_probe).")
    if name is not None and name not in validated:
        raise unknown("stage with a validation figure", name, validated, "--stage")
    return name or validated[-1]


def _dropped(study: Study, judged: str) -> tuple[str, ...]:
    """Tests and fusions go, and so does whatever comes after the judged stage."""
    names = list(study.recipe.stages)
    after = names[names.index(judged) + 1 :]
    fits = study.fit_stages()
    return tuple(f"stages.{name}=null" for name in names if name in after or name not in fits)
