"""From a finished run to labels for new poses.

result = Predictor.load("runs/stgcnpp_nwucla/seed0").predict(keypoints)
result.labels, result.probabilities, result.classes
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skelgraph import plugins, recipe
from skelgraph.batch import Batch
from skelgraph.engine.evaluate import Evaluate, answers_to, load_model
from skelgraph.engine.fit import Place
from skelgraph.engine.run_folder import Run, StageFolder
from skelgraph.errors import UserError, unknown
from skelgraph.models import Model
from skelgraph.models.multi_stream import MultiStream
from skelgraph.prediction.base import ClipPredictor
from skelgraph.prediction.inputs import ClipArrays, InputSpec
from skelgraph.prediction.results import Prediction
from skelgraph.prediction.stream import Moment, Stream
from skelgraph.recipe import DataConfig, EvaluateStage, FitStage, FuseStage, Study
from skelgraph.transforms import Pipeline

__all__ = ["Moment", "Prediction", "Predictor", "Stream"]


class Predictor(ClipPredictor):
    """A trained network with the sampling, views and transforms of its test; make one by `load`.

    Args:
        model: the network, with a classifier.
        spec: what it takes of a clip.
        data: how the test reads its clips; its transforms are made again.
        device: ``cpu``, ``cuda``, ...
        metrics: figures of the test.
        name: of the run and stage, for people.
        folder: of the trained stage.
        stream_name: set where ``model`` is one network of several that were trained together.

    Attributes:
        model, spec, classes, data, device, metrics, name, folder, stream_name: as given.
    """

    def __init__(
        self, model: Model, spec: InputSpec, data: DataConfig, device: str = "cpu",
        metrics: Sequence[str] = ("top1", "mean_class"), name: str = "", folder: StageFolder | None = None,
        stream_name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(spec, model.spec.classes)
        self.folder, self.stream_name = folder, stream_name
        self.model, self.data, self.device, self.metrics, self.name = model, data, device, tuple(metrics), name
        self.pipeline = Pipeline(spec.topology, data.transforms)

    @classmethod
    def load(
        cls, run: str | os.PathLike[str] | Run, *, trust: bool = False, device: str | None = None,
        modalities: bool = False,
    ) -> Predictor:  # fmt: skip
        """The classifier of a finished run, as its test uses it.

        Of several tests of a recipe the last one counts; ``RUN:STAGE`` names another, or a trained stage, and
        ``RUN:STAGE:STREAM`` one network of several that were trained together.

        Args:
            run: folder, ``folder:stage``, ``folder:stage:stream``, or a `Run`.
            trust: run the recipe's ``plugins:``, Python files with all rights of yours. Without it they never are.
            device: by default a GPU where there is one.
            modalities: also load a network that reads more than joints, which `predict` has nothing to give to.

        Raises:
            UserError: no such run, a half-written one, one without classifier, or one that needs its plugins.
        """
        path, stage, stream = _place(run.path if isinstance(run, Run) else run)
        opened = Run.open(path)
        study = recipe.from_data(opened.recipe, str(path / "recipe.json"), bool(opened.about.get("demo")))
        if trust:
            plugins.load(study.recipe.plugins, beside=Path(str(opened.about.get("recipe_file", ""))).parent)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        folder, config, test = _trained(opened, study, stage)
        try:
            spec = input_spec(folder, config, 1 if test is None else test.views, modalities)
            figures = ("top1", "mean_class") if test is None else test.evaluate
            model = load_model(folder) if stream is None else _stream(load_model(folder), stream, f"{path}:{stage}")
            name = ":".join(filter(None, (str(path), folder.name, stream)))
            return cls(model, spec, config, device, figures, name, folder, stream)
        except UserError as error:
            if not study.recipe.plugins or trust:
                raise
            files = ", ".join(study.recipe.plugins)
            raise UserError(
                f"{path}: cannot be built without its plugins ({files}; {str(error).split('.')[0]}). They are Python "
                "programs: look at them, then say --trust (trust=True)."
            ) from None

    def scores(self, arrays: ClipArrays) -> np.ndarray:
        """Probabilities (N, K), the mean over the views of each clip."""
        score = torch.from_numpy(arrays.score)
        count = len(score)
        batch = Batch(
            keypoints=torch.from_numpy(arrays.keypoints), score=score, valid=(score > 0).any(-1),
            label=torch.full((count,), -1), index=torch.arange(count) // self.spec.views,
            image_size=torch.from_numpy(arrays.image_size), fps=torch.from_numpy(arrays.fps),
        )  # fmt: skip
        found = answers_to(self.model, self.pipeline, [batch], self.spec.views, self.device)
        return found.whole.probabilities.numpy()


def input_spec(folder: StageFolder, config: DataConfig, views: int = 1, modalities: bool = False) -> InputSpec:
    """What a trained stage takes of a clip.

    Args:
        folder: of the stage.
        config: how clips are read, as its test does.
        views: crops of a clip.
        modalities: allow more than joints.

    Raises:
        UserError: a classifier is missing, or it needs more than joints.
    """
    from skelgraph.engine.fit import spec_from_card

    card = folder.card()
    spec = spec_from_card(card["spec"], str(folder.path / "model.json"))
    if not spec.classes:
        raise UserError(f"{folder.path}: has trained no classifier; train a linear_probe or supervised stage on it.")
    if spec.modalities and not modalities:
        raise UserError(
            f"{folder.path}: reads {', '.join(spec.modalities)} beside the joints, which predict does not; test it on "
            "a store that has them: skelgraph run with a stage 'evaluate:' and 'from:'."
        )
    facts = card.get("clips") or {}
    return InputSpec(
        topology=spec.topology, channels=spec.channels, persons=config.persons, frames=config.frames,
        sampling={"name": config.sampling.name, **config.sampling.settings}, views=views,
        steps=tuple(facts.get("steps", ())), missing=tuple(facts.get("missing", ())), length=facts.get("frames"),
        fps=facts.get("fps"), image="image" in _names(config.transforms),
    )  # fmt: skip


def _names(transforms: dict[str, Any]) -> set[str]:
    """Names of the transforms that are not left out."""
    used = {key: value for key, value in transforms.items() if value is not None and value is not False}
    return {value.get("name", key) if isinstance(value, dict) else key for key, value in used.items()}


def _place(run: str | os.PathLike[str]) -> tuple[Path, str | None, str | None]:
    """Folder, stage and stream of ``RUN``, ``RUN:STAGE`` or ``RUN:STAGE:STREAM``."""
    path, rest = Path(run), list[str]()
    while not path.is_dir():
        folder, colon, word = str(path).rpartition(":")
        if not colon or len(rest) == 2:
            raise UserError(f"{run}: no such run folder; 'skelgraph run RECIPE' makes one.")
        path, rest = Path(folder), [word, *rest]
    stage, stream, *_ = [*rest, None, None]
    return path, stage, stream


def _stream(model: Model, name: str, where: str) -> Model:
    if not isinstance(model, MultiStream):
        raise UserError(f"{where}: is one network ({type(model).__name__}) and has no stream '{name}'.")
    return model.stream(name).eval()


def _trained(run: Run, study: Study, wanted: str | None) -> tuple[StageFolder, DataConfig, EvaluateStage | None]:
    """The trained stage, how its clips are read, and the test that says so."""
    stages = study.recipe.stages
    if wanted is not None and wanted not in stages:
        raise unknown("stage", wanted, stages, str(run.path))
    if wanted is not None and isinstance(stages[wanted], FuseStage):
        raise UserError(f"{run.path}: stage '{wanted}' adds up the scores of others; name one of these.")
    tests = [(name, stage) for name, stage in stages.items() if isinstance(stage, EvaluateStage) and stage.by == "head"]
    if wanted is None and not tests:
        fits = study.fit_stages()
        if not fits:
            raise UserError(f"{run.path}: has no stage with a classifier to predict by.")
        wanted = list(fits)[-1]
    for name, stage in reversed(tests):
        test = Evaluate(study, name, run, Place())
        source = test.source()
        if wanted in (None, name, source.name):
            return _finished(source, run), test.config(source), stage
    assert wanted is not None
    if not isinstance(stages[wanted], FitStage):
        raise UserError(f"{run.path}: stage '{wanted}' answers by a vote of training clips, not by a classifier.")
    return _finished(run.stage(wanted), run), study.data_for(wanted), None


def _finished(folder: StageFolder, run: Run) -> StageFolder:
    if not all((folder.path / name).is_file() for name in ("exports.safetensors", "model.json")):
        command = run.about.get("command") or "skelgraph run RECIPE"
        raise UserError(
            f"{run.path}: half-written, stage '{folder.name}' has left no weights yet; finish it: {command}"
            + ("" if "--resume" in command else " --resume")
        )
    return folder
