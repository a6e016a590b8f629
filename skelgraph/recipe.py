"""What a recipe may say, checked before any data is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from skelgraph import recipe_file
from skelgraph.errors import UserError, unknown
from skelgraph.methods.optim import OptimizerConfig, ScheduleConfig
from skelgraph.recipe_file import Source
from skelgraph.registry import Registry

METRICS = ("top1", "top5", "mean_class", "macro_f1", "loss")


class Strict(BaseModel):
    """A border: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Component(BaseModel):
    """``{name: ..., setting: ...}``: a registered factory with settings, checked against its signature."""

    model_config = ConfigDict(extra="allow")

    name: str

    @property
    def settings(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


class DataConfig(Strict):
    """``data:``: which clips, how many frames and persons of each, and what the device does to them."""

    store: str | list[str] = Field(description="folder of the store, or several that are opened as one")
    protocol: str = Field(description="name of a split of the store")
    frames: int = Field(64, ge=1, le=100_000, description="T")
    persons: int = Field(1, ge=1, le=64, description="M")
    channels: Literal[2, 3, None] = Field(None, description="coordinates; by default those of the store")
    sampling: Component = Component(name="uniform")
    transforms: dict[str, Any] = Field({}, description="name: settings, in order; null leaves one out")
    test_part: str = Field("test", description="part of the protocol that evaluate uses")
    label_fraction: float | None = Field(None, gt=0, le=1, description="share of the training labels that is used")
    label_seed: int = Field(0, description="which clips that share holds")
    workers: int = Field(0, ge=0, le=256)


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

    evaluate: list[Literal["top1", "top5", "mean_class", "macro_f1", "loss"]]
    from_: str | None = Field(None, alias="from")
    views: int = Field(1, ge=1, description="crops of each clip whose probabilities are averaged")
    batch: int = Field(128, ge=1)
    data: dict[str, Any] = Field({}, description="overrides data: for this stage")


class DemoConfig(Strict):
    """``demo:``: what ``--demo`` puts in the place of data and lengths."""

    clips: int = Field(480, ge=8, le=10_000_000)
    classes: int = Field(16, ge=2, le=10_000)
    persons: int = Field(1, ge=1, le=4)
    dims: Literal[2, 3] = 2
    data: dict[str, Any] = {}
    stages: dict[str, dict[str, Any]] = {}


class Recipe(Strict):
    """A study: topology, data, stages in order."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    title: str = ""
    needs: str = Field("", description="what to download and the command that imports it")
    topology: str
    plugins: list[str] = Field([], description="the user's own Python files to load first")
    data: DataConfig
    protocol: ProtocolConfig = ProtocolConfig()
    stages: dict[str, FitStage | EvaluateStage]
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
        over = Source(dict(self.recipe.stages[stage].data), {}, self.source.file)
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


def _stage(name: str, stage: Any, source: Source) -> FitStage | EvaluateStage:
    where = source.where("stages", name)
    if not isinstance(stage, dict) or ("method" in stage) == ("evaluate" in stage):
        raise UserError(f"{where}: stage '{name}' needs either 'method:' (it trains) or 'evaluate:' (it tests).")
    kind: type[FitStage] | type[EvaluateStage] = FitStage if "method" in stage else EvaluateStage
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
    for part in path:
        field = model.model_fields.get(str(part))
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return [field.alias or name for name, field in model.model_fields.items()]


def check(study: Study) -> None:
    """Hold every component of a recipe against its registry and signature; needs torch, touches no data.

    Raises:
        UserError: unknown model, method, transform, sampling or setting; a ``from`` that names no earlier stage.
    """
    from skelgraph import plugins
    from skelgraph.data.sampling import SAMPLERS
    from skelgraph.methods import METHODS
    from skelgraph.models import MODELS
    from skelgraph.topology import Topology
    from skelgraph.transforms import TRANSFORMS

    recipe, where = study.recipe, study.source.where
    plugins.load(recipe.plugins, beside=study.folder)
    Topology.load(recipe.topology)
    seen: list[str] = []
    for name, stage in recipe.stages.items():
        data = study.data_for(name)
        _check_component(SAMPLERS, data.sampling, where("data", "sampling"))
        for key, value in data.transforms.items():
            if value is not None and value is not False:
                settings = dict(value) if isinstance(value, Mapping) else {}
                TRANSFORMS.check(settings.pop("name", key), settings, where("data", "transforms", key))
        if isinstance(stage, FitStage):
            _check_component(MODELS, stage.model, where("stages", name, "model"))
            METHODS.get(stage.method, where("stages", name, "method"))
            allowed = [*_fields(FitStage, ()), *METHODS.settings(stage.method)]
            for key in stage.method_settings:
                if key not in METHODS.settings(stage.method):
                    raise unknown(f"key of a stage with method '{stage.method}'", key, allowed,
                                  where("stages", name, key))  # fmt: skip
            METHODS.check(stage.method, stage.method_settings, where("stages", name))
        elif not seen and stage.from_ is None:
            raise UserError(f"{where('stages', name)}: stage '{name}' has no earlier stage to test; give it 'from:'.")
        if stage.from_ is not None and stage.from_ not in seen and not looks_like_run(stage.from_):
            raise unknown("earlier stage", stage.from_, seen, where("stages", name, "from"))
        if isinstance(stage, FitStage):
            seen.append(name)


def looks_like_run(name: str) -> bool:
    """Whether ``from:`` names a run folder (a path, perhaps with ``:stage``) and not a stage of this recipe."""
    return "/" in name or Path(name.split(":")[0]).is_dir()


def _check_component(registry: Registry, component: Component, where: str) -> None:
    registry.check(component.name, component.settings, where)


def schema() -> dict[str, Any]:
    """JSON Schema of a recipe, for editors."""
    result: dict[str, Any] = Recipe.model_json_schema()
    result["properties"]["extends"] = {"type": "string", "description": "name or path of a recipe to start from"}
    result["required"] = []
    return result
