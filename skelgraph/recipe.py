"""What a recipe may say, checked before any data is touched."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from skelgraph import recipe_file
from skelgraph.errors import UserError, unknown
from skelgraph.methods.optim import OptimizerConfig, ScheduleConfig
from skelgraph.recipe_data import Component, DataConfig, Strict
from skelgraph.recipe_file import Source
from skelgraph.registry import Registry

Metric = Literal["top1", "top5", "mean_class", "macro_f1", "loss"]
Score = Literal["logit", "prob", "log_prob"]
METRICS: tuple[str, ...] = get_args(Metric)
SCORES: tuple[str, ...] = get_args(Score)


class ProtocolConfig(Strict):
    """``protocol:``: what chooses the step that is tested; the test part never does."""

    selection: Literal["holdout", "none", "refit"] = "none"
    validation: float = Field(0.1, gt=0, lt=1, description="share of the training part kept for validation")
    seed: int = 0


class FitStage(BaseModel):
    """A stage that trains; keys beyond these are settings of its method."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    method: str
    model: Component
    from_: str | None = Field(None, alias="from", description="an earlier stage, or a run folder, or run:stage")
    epochs: int | None = Field(None, ge=1)
    steps: int | None = Field(None, ge=1)
    batch: int = Field(64, ge=1, description="clips of one step, over all devices together")
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    clip_gradient: float | None = Field(None, gt=0, description="largest gradient norm")
    precision: Literal["32-true", "64-true", "bf16-mixed", "16-mixed"] = "32-true"
    validate_every: int | None = Field(None, ge=1, description="steps between validations; by default total / 10")
    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints for --resume")
    data: dict[str, Any] = Field({}, description="overrides data: for this stage")

    @model_validator(mode="after")
    def _one_length(self) -> FitStage:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either 'epochs' or 'steps'")
        return self

    @property
    def method_settings(self) -> dict[str, Any]:
        """Keys that belong to the method."""
        return dict(self.model_extra or {})


class EvaluateStage(Strict):
    """A stage that tests the latest trained stage, or the one named by ``from``."""

    evaluate: list[Metric]
    from_: str | None = Field(None, alias="from")
    by: Literal["head", "knn"] = Field("head", description="the model's classifier, or a vote of training clips")
    neighbours: int = Field(1, ge=1, description="training clips that vote, with by: knn")
    views: int = Field(1, ge=1, description="crops of each clip whose probabilities are averaged")
    batch: int = Field(128, ge=1)
    data: dict[str, Any] = Field({}, description="overrides data: for this stage")

    @model_validator(mode="after")
    def _vote(self) -> EvaluateStage:
        if self.by == "head" and self.neighbours != 1:
            raise ValueError("'neighbours' vote only with 'by: knn'")
        if self.by == "knn" and "loss" in self.evaluate:
            raise ValueError("a vote of neighbours has no 'loss'; leave it out of 'evaluate'")
        return self


class FuseStage(Strict):
    """A stage that adds up the scores of several tests, or of the streams of one test."""

    fuse: list[str] = Field(min_length=1, description="test stages, run folders or run:stage; one test: its streams")
    weights: dict[str, float] | list[float] | Literal["search"] | None = Field(
        None, description="source: number, or numbers in order, or search (on validation clips); by default equal"
    )
    score: Score = Field("logit", description="what is added up")
    evaluate: list[Metric] = Field(["top1", "mean_class"])

    @field_validator("weights", mode="before")
    @classmethod
    def _form(cls, value: Any) -> Any:
        numbers = list(value.values()) if isinstance(value, Mapping) else value
        if value is None or value == "search" or (isinstance(numbers, list) and all(map(_is_weight, numbers))):
            return value
        raise ValueError("write numbers from 0 by name ({body: 2.0, legs: 0.7}) or as a list, or 'search'")


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


class DemoConfig(Strict):
    """``demo:``: what ``--demo`` puts in the place of data and lengths."""

    clips: int = Field(480, ge=8, le=10_000_000)
    classes: int = Field(16, ge=2, le=10_000)
    persons: int = Field(1, ge=1, le=4)
    dims: Literal[2, 3] = 2
    imbalance_factor: float = Field(1.0, ge=1, le=10_000, description="of the training part, down to one clip a class")
    task: Literal["actions", "xor_sequence", "xor_frames"] = Field(
        "actions", description="what the classes are; a xor set needs joints and its one modality together"
    )
    data: dict[str, Any] = Field({})
    stages: dict[str, dict[str, Any] | None] = Field({})


class Recipe(Strict):
    """A study: topology, data, stages in order."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    title: str = ""
    needs: str = Field("", description="what to download and the command that imports it")
    topology: str
    plugins: list[str] = Field([], description="the user's own Python files to load first")
    data: DataConfig
    protocol: ProtocolConfig = ProtocolConfig()
    stages: dict[str, FitStage | EvaluateStage | FuseStage]
    published: dict[str, float] = Field({}, description="figures of the paper, printed beside the measured ones")
    demo: DemoConfig = DemoConfig()
    seed: int = 0


class Study:
    """A checked recipe together with the text it came from."""

    def __init__(self, recipe: Recipe, source: Source, demo: bool) -> None:
        self.recipe, self.source, self.demo = recipe, source, demo
        self.folder = Path(source.file).parent if source.file else Path()

    def fit_stages(self) -> dict[str, FitStage]:
        """The stages that train, in order."""
        return {name: stage for name, stage in self.recipe.stages.items() if isinstance(stage, FitStage)}

    def data_for(self, stage: str) -> DataConfig:
        """``data:`` with the overrides of one stage."""
        base = Source(self.recipe.data.model_dump(), {}, self.source.file)
        entry = self.recipe.stages[stage]
        over = Source({} if isinstance(entry, FuseStage) else dict(entry.data), {}, self.source.file)
        return DataConfig(**recipe_file.merge(base, over).data)


def load(name: str | Path, overrides: Sequence[str] = (), *, demo: bool = False) -> Study:
    """Read and check a recipe's form: keys, types, ranges. `check` then holds it against the registries.

    Args:
        name: a recipe's name or path.
        overrides: ``key.sub=value`` texts.
        demo: put demo data and demo lengths in place.

    Raises:
        UserError: names the file, the line and what is allowed.
    """
    source = recipe_file.load(name, overrides)
    extra: dict[str, Any] = {}
    if demo:
        shape = source.data.get("demo") or {}
        extra = {key: shape[key] for key in ("data", "stages") if isinstance(shape, dict) and shape.get(key)}
    return _validated(recipe_file.load(name, overrides, extra), demo)


def from_data(data: Mapping[str, Any], file: str, demo: bool) -> Study:
    """A study from plain data, as a run folder keeps it."""
    return _validated(Source(dict(data), {}, file), demo)


def _validated(source: Source, demo: bool) -> Study:
    data = dict(source.data)
    stages = data.get("stages")
    if isinstance(stages, dict):
        data["stages"] = {name: _stage(name, stage, source) for name, stage in stages.items() if stage is not None}
    try:
        return Study(Recipe(**data), source, demo)
    except ValidationError as error:
        raise _plain(error, source, Recipe, ()) from None


def _stage(name: str, stage: Any, source: Source) -> FitStage | EvaluateStage | FuseStage:
    where = source.where("stages", name)
    kinds: dict[str, type[FitStage | EvaluateStage | FuseStage]]
    kinds = {"method": FitStage, "fuse": FuseStage, "evaluate": EvaluateStage}
    found = [key for key in kinds if isinstance(stage, dict) and key in stage]
    if not found or (found[0] == "method" and len(found) > 1):
        raise UserError(
            f"{where}: stage '{name}' needs either 'method:' (it trains), 'evaluate:' (it tests) "
            "or 'fuse:' (it adds up the scores of tests)."
        )
    kind = kinds[found[0]]
    try:
        return kind(**stage)
    except ValidationError as error:
        raise _plain(error, source, kind, ("stages", name)) from None


def _plain(error: ValidationError, source: Source, model: type[BaseModel], above: tuple[str, ...]) -> UserError:
    """The most telling problem of a pydantic error as one line: a misspelt key before the one it leaves missing."""
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    path = (*above, *first["loc"])
    where, key = source.where(*path), ".".join(str(part) for part in path)
    if first["type"] == "extra_forbidden":
        return unknown("key", str(path[-1]), _fields(model, first["loc"][:-1]), where)
    if first["type"] == "missing":
        return UserError(f"{where}: '{key}' is missing.")
    message = first["msg"].removeprefix("Value error, ")
    return UserError(f"{where}: '{key}': {message[:1].lower()}{message[1:]}" + ("" if message.endswith(".") else "."))


def _fields(model: type[BaseModel], path: Sequence[Any]) -> list[str]:
    """Names allowed at ``path`` inside a pydantic model."""
    parts = iter(path)
    for part in parts:
        field = model.model_fields.get(str(part))
        inside = _models_in(field.annotation) if field else []
        if len(inside) != 1:
            return []
        if field is not None and get_origin(field.annotation) is dict:
            next(parts, None)
        model = inside[0]
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic models of a type, of a mapping those of its values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def check(study: Study) -> None:
    """Hold every component of a recipe against its registry and signature; needs torch, touches no data.

    Raises:
        UserError: unknown model, method, transform, sampling or setting; a ``from`` that names no earlier stage.
    """
    from skelgraph import plugins, transforms
    from skelgraph.data.sampling import SAMPLERS
    from skelgraph.methods import METHODS
    from skelgraph.models import MODELS
    from skelgraph.topology import Topology

    recipe, where = study.recipe, study.source.where
    plugins.load(recipe.plugins, beside=study.folder)
    Topology.load(recipe.topology)
    seen: list[str] = []
    for name, stage in recipe.stages.items():
        if isinstance(stage, FuseStage):
            _check_fuse(study, name, stage)
            continue
        data = study.data_for(name)
        _check_component(SAMPLERS, data.sampling, where("data", "sampling"))
        transforms.check(data.transforms, lambda *keys: where("data", "transforms", *keys))
        if isinstance(stage, FitStage):
            _check_component(MODELS, stage.model, where("stages", name, "model"))
            METHODS.get(stage.method, where("stages", name, "method"))
            allowed = [*_fields(FitStage, ()), *METHODS.settings(stage.method)]
            for key in stage.method_settings:
                if key not in METHODS.settings(stage.method):
                    raise unknown(f"key of a stage with method '{stage.method}'", key, allowed,
                                  where("stages", name, key))  # fmt: skip
            METHODS.check(stage.method, stage.method_settings, where("stages", name))
        else:
            _check_test(study, name, stage, seen)
        if stage.from_ is not None and stage.from_ not in seen and not looks_like_run(stage.from_):
            raise unknown("earlier stage", stage.from_, seen, where("stages", name, "from"))
        if isinstance(stage, FitStage):
            seen.append(name)


def _check_test(study: Study, name: str, stage: EvaluateStage, trained: Sequence[str]) -> None:
    """Whether there is something to test, and whether it can answer."""
    from skelgraph.methods import METHODS

    where = study.source.where("stages", name)
    if not trained and stage.from_ is None:
        raise UserError(f"{where}: stage '{name}' has no earlier stage to test; give it 'from:'.")
    source = study.recipe.stages.get(stage.from_ if stage.from_ is not None else trained[-1])
    if stage.by == "head" and isinstance(source, FitStage) and not METHODS.get(source.method).needs_labels:
        raise UserError(
            f"{where}: stage '{name}' tests a stage of method '{source.method}', which trains no classifier; test it "
            "by its features (by: knn), or train a linear_probe on them first."
        )


def looks_like_run(name: str) -> bool:
    """Whether ``from:`` names a run folder (a path, perhaps with ``:stage``) and not a stage of this recipe."""
    return "/" in name or Path(name.split(":")[0]).is_dir()


def fusion_weights(
    weights: Mapping[str, float] | Sequence[float] | None, names: Sequence[str], where: str
) -> list[float]:
    """The weight of every source of a fusion, in the order of ``names``; all 1 where none are given.

    Raises:
        UserError: an unknown or missing name, another number of weights than of sources, a weight that is negative or
            no finite number, or nothing but zeros.
    """
    if weights is None:
        return [1.0] * len(names)
    if isinstance(weights, Mapping):
        for key in weights:
            if key not in names:
                raise unknown("source", key, names, where)
        missing = [name for name in names if name not in weights]
        if missing:
            raise UserError(f"{where}: no weight for '{missing[0]}'; give one for each of {', '.join(names)}.")
        weights = [weights[name] for name in names]
    if len(weights) != len(names):
        raise UserError(f"{where}: {len(weights)} weights for {len(names)} sources ({', '.join(names)}).")
    if not all(map(_is_weight, weights)) or not any(weights):
        raise UserError(f"{where}: weights are numbers from 0, and one of them is above 0.")
    return [float(weight) for weight in weights]


def _check_fuse(study: Study, name: str, stage: FuseStage) -> None:
    """Hold a fuse stage against the tests before it."""
    recipe, where = study.recipe, study.source.where
    before = list(recipe.stages)[: list(recipe.stages).index(name)]
    tests = [other for other in before if not isinstance(recipe.stages[other], FitStage)]
    for place, source in enumerate(stage.fuse):
        at = where("stages", name, "fuse", place)
        if source.partition(":")[0] not in tests and not looks_like_run(source):
            raise unknown("earlier test stage", source, tests, at)
        if source in stage.fuse[:place]:
            raise UserError(f"{at}: '{source}' is named twice.")
    single = stage.fuse[0] if len(stage.fuse) == 1 else None
    names = stage.fuse if single is None else _streams_tested_by(recipe, single)
    if names is not None and len(names) < 2:
        raise UserError(f"{where('stages', name, 'fuse')}: '{single}' has no streams to fuse; name two tests or more.")
    if names is not None and stage.weights != "search":
        fusion_weights(stage.weights, names, where("stages", name, "weights"))


def _streams_tested_by(recipe: Recipe, name: str) -> list[str] | None:
    """The streams of the model that a test stage reads; None where the recipe does not say."""
    from skelgraph.models import MODELS

    test = recipe.stages.get(name)
    if not isinstance(test, EvaluateStage) or test.by == "knn":
        one_stream = name.partition(":")[0] in recipe.stages
        return [] if one_stream else None
    before = list(recipe.stages)[: list(recipe.stages).index(name)]
    trained = [stage for other in before if isinstance(stage := recipe.stages[other], FitStage)]
    source = recipe.stages.get(test.from_) if test.from_ is not None else trained[-1]
    if not isinstance(source, FitStage) or "streams" not in MODELS.settings(source.model.name):
        return None
    default = MODELS.settings(source.model.name)["streams"].default
    streams = source.model.settings.get("streams", default)
    plain = isinstance(streams, Mapping | list | tuple) and all(isinstance(item, str) for item in streams)
    return list(streams) if plain else None


def _check_component(registry: Registry, component: Component, where: str) -> None:
    registry.check(component.name, component.settings, where)


def schema() -> dict[str, Any]:
    """JSON Schema of a recipe, for editors."""
    result: dict[str, Any] = Recipe.model_json_schema()
    result["properties"]["extends"] = {"type": "string", "description": "name or path of a recipe to start from"}
    result["required"] = []
    return result
