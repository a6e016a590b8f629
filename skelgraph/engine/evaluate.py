"""A stage that tests: per-clip scores of the model and of its streams, or of a vote of its nearest training clips."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from skelgraph import models
from skelgraph.batch import Batch
from skelgraph.engine import knn, scores
from skelgraph.engine.class_groups import group_figures
from skelgraph.engine.clips import StageClips
from skelgraph.engine.fit import Place, spec_from_card, stage_seed
from skelgraph.engine.run_folder import Run, StageFolder, find_exports, read_json, read_tensors, write_tensors
from skelgraph.engine.scores import ClassScores, Scores, figures
from skelgraph.errors import UserError
from skelgraph.methods import METHODS
from skelgraph.models import Model, load_exact
from skelgraph.recipe import DataConfig, EvaluateStage, FitStage, ProtocolConfig, Study
from skelgraph.transforms import Pipeline


def load_model(folder: StageFolder) -> Model:
    """The trained model of a stage, in eval mode; without classifier where the stage has trained none."""
    card = folder.card()
    spec = spec_from_card(card["spec"], str(folder.path / "model.json"))
    settings = dict(card["model"])
    model = models.create(settings.pop("name"), spec, **settings)
    exports = folder.exports()
    part = next((name for name in ("backbone", "encoder") if name in exports), None)
    if part is None:
        raise UserError(f"{folder.path}: its method '{card['method']}' exports no whole model to test.")
    state = exports[part]
    if part == "encoder":
        model.reset_classifier(())
    if "head.weight" in state and isinstance(model.head, torch.nn.Module):
        _fit_head(model, state)
    load_exact(model, state)
    return model.eval()


def _fit_head(model: Model, state: dict[str, Tensor]) -> None:
    """A linear probe has replaced the model's own head by one linear layer."""
    if model.state_dict().keys() != state.keys():
        model.head = torch.nn.Linear(model.feature_dim, len(state["head.weight"]))


class Answers(NamedTuple):
    """Scores of the model and of each of its streams, and features ``(clips, D)``, in the order of the rows."""

    whole: ClassScores
    streams: Mapping[str, ClassScores]
    features: Tensor


def answers(
    model: Model, pipeline: Pipeline, clips: StageClips, rows: Any, batch: int, views: int, device: str
) -> Answers:
    """What a model says of clips, averaged over the views of each."""
    return answers_to(model, pipeline, clips.test_loader(rows, batch, views), views, device)


@torch.inference_mode()
def answers_to(model: Model, pipeline: Pipeline, batches: Iterable[Batch], views: int, device: str) -> Answers:
    """What a model says of batches in which the ``views`` of each clip follow one another."""
    model, pipeline = model.to(device).eval(), pipeline.to(device)
    logits: dict[str, list[Tensor]] = {}
    probabilities: dict[str, list[Tensor]] = {}
    features = []

    def mean(values: Tensor) -> Tensor:
        return values.unflatten(0, (-1, views)).mean(1).cpu()

    for item in batches:
        output = model(pipeline(item.to(device), training=False))
        for name, answer in {"": output.logits, **output.streams}.items():
            logits.setdefault(name, []).append(mean(answer.float()))
            probabilities.setdefault(name, []).append(mean(F.softmax(answer.float(), -1)))
        features.append(mean(output.features.float()))
    streams = {name: ClassScores(torch.cat(logits[name]), torch.cat(probabilities[name])) for name in logits}
    return Answers(streams.pop(""), streams, torch.cat(features))


class Evaluate:
    """An evaluation stage, from recipe to finished folder.

    Args:
        study: the checked recipe.
        name: the stage.
        run: its run folder.
        place: the device.
    """

    def __init__(self, study: Study, name: str, run: Run, place: Place) -> None:
        stage = study.recipe.stages[name]
        assert isinstance(stage, EvaluateStage)
        self.study, self.name, self.run, self.stage = study, name, run, stage
        cuda = torch.cuda.is_available() and place.accelerator in {"auto", "gpu", "cuda"}
        self.device = "cuda" if cuda else "cpu"

    def source(self) -> StageFolder:
        """The trained stage that is tested."""
        if self.stage.from_ is not None:
            return find_exports(self.stage.from_, self.run)
        before = []
        for name, stage in self.study.recipe.stages.items():
            if name == self.name:
                break
            if isinstance(stage, FitStage):
                before.append(name)
        return self.run.stage(before[-1])

    def config(self, source: StageFolder) -> DataConfig:
        """How the clips are read: as the tested stage read its own, unless the test says otherwise."""
        data = self.study.data_for(source.name) if source.name in self.study.recipe.stages else None
        return self.study.data_for(self.name) if self.stage.data or data is None else data

    def __call__(self, resume: bool) -> dict[str, Any]:
        source, folder = self.source(), self.run.stage(self.name)
        folder.open()
        model = load_model(source)
        config = self.config(source)
        clips = self._clips(config, self.study.recipe.protocol, model)
        rows = clips.parts(labelled=False, holdout=False).test
        rows = rows[clips.store.labels[rows] >= 0]
        if len(rows) == 0:
            raise UserError(f"{config.store}: protocol '{config.protocol}' has no labelled clip to test.")
        self._check(model, clips, source)
        tested, features = self._answer(model, clips, rows)
        metrics, counts = self._figures(tested), self._train_counts(source, clips)
        metrics |= group_figures(tested.whole.probabilities, tested.label, counts)
        held_out = self._held_out(source, config, model)
        if held_out is not None:
            answer, _ = self._answer(model, *held_out)
            scores.write(folder.path, answer, clips.store.classes, "validation")
        last = source.path / "last.safetensors"
        if last.is_file() and self.study.recipe.protocol.selection == "holdout":
            load_exact(model.cpu(), read_tensors(last))
            others = figures(self._answer(model, clips, rows)[0].whole.probabilities, tested.label, self.stage.evaluate)
            metrics |= {f"last_{name}": value for name, value in others.items()}
        scores.write(folder.path, tested, clips.store.classes)
        write_tensors(folder.path / "features.safetensors", {"features": features, "label": tested.label})
        return {
            "kind": "evaluate",
            "metrics": metrics,
            "tested": source.name,
            "views": self.stage.views,
            "streams": list(tested.streams),
            "validation_clips": 0 if held_out is None else len(held_out[1]),
            **self._vote_of(clips, rows),
            **scores.counted(tested, clips.store.classes),
            "train_counts": counts,
        }

    def _train_counts(self, source: StageFolder, clips: StageClips) -> list[int] | None:
        """Labelled training clips of each class that is tested; None where the source has learnt no such classes."""
        counts = (source.result() or {}).get("train_counts")
        return counts if counts and tuple(source.card()["spec"]["classes"]) == clips.store.classes else None

    def _clips(self, config: DataConfig, protocol: ProtocolConfig, model: Model) -> StageClips:
        """Clips in the joints of the model, which has been trained elsewhere perhaps."""
        return StageClips(config, protocol, model.spec.topology, stage_seed(self.study.recipe.seed, self.name))

    def _check(self, model: Model, clips: StageClips, source: StageFolder) -> None:
        """Whether this model can be tested on these clips."""
        store, spec = clips.data.store, model.spec
        if clips.store.meta.dims != spec.channels:
            raise UserError(
                f"{store}: holds {clips.store.meta.dims}-D joints, '{source.name}' was trained on {spec.channels}-D."
            )
        for name in spec.modalities.keys() & clips.modalities.keys():
            trained, given = spec.modalities[name].shape, clips.modalities[name].shape
            if trained != given:
                raise UserError(f"{store}: a step of '{name}' is {given}, '{source.name}' was trained on {trained}.")
        if self.stage.by == "knn":
            return
        if not spec.classes:
            raise UserError(
                f"{source.path}: has trained no classifier; test it by its features (by: knn), or train a linear_probe "
                "on them first."
            )
        if clips.store.classes != spec.classes:
            raise UserError(f"{store}: its classes are not those '{source.name}' was trained on.")

    def _gallery(self, clips: StageClips, rows: Any) -> np.ndarray:
        """The labelled training clips that vote on others."""
        return np.setdiff1d(clips.parts(labelled=True, holdout=False).train, rows)

    def _vote_of(self, clips: StageClips, rows: Any) -> dict[str, Any]:
        """What a finished test says of its vote."""
        if self.stage.by == "head":
            return {"by": "head"}
        voters = {"neighbours": self.stage.neighbours, "gallery_clips": len(self._gallery(clips, rows))}
        return {"by": "knn", **voters}

    def _answer(self, model: Model, clips: StageClips, rows: Any) -> tuple[Scores, Tensor]:
        """Scores and features of some clips."""
        pipeline = clips.pipeline()

        def asked(which: Any) -> Answers:
            return answers(model, pipeline, clips, which, self.stage.batch, self.stage.views, self.device)

        found, labels = asked(rows), torch.tensor(clips.store.labels)
        if self.stage.by == "knn":
            gallery = self._gallery(clips, rows)
            shares = knn.vote(asked(gallery).features, labels[gallery], found.features, len(clips.store.classes),
                              self.stage.neighbours, self.device)  # fmt: skip
            logits = shares.clamp(min=torch.finfo(shares.dtype).tiny).log()
            found = Answers(ClassScores(logits, shares), {}, found.features)
        names = tuple(clips.store.names[row] for row in rows)
        return Scores(names, labels[rows], torch.as_tensor(rows), found.whole, found.streams), found.features

    def _figures(self, tested: Scores) -> dict[str, float]:
        """The wanted figures of the model, then ``STREAM_figure`` of each of its streams."""
        metrics = figures(tested.whole.probabilities, tested.label, self.stage.evaluate)
        for stream, answer in tested.streams.items():
            if stream == "last":
                raise UserError("a stream cannot be called 'last': figures of the last step are; choose another name.")
            own = figures(answer.probabilities, tested.label, self.stage.evaluate)
            metrics |= {f"{stream}_{name}": value for name, value in own.items()}
        return metrics

    def _held_out(self, source: StageFolder, config: DataConfig, model: Model) -> tuple[StageClips, Any] | None:
        """The validation clips of the training that is tested, read as the test reads its own.

        They are those of the run the weights come from; None where it had none, or where they are no longer there.
        """
        file = source.path.parent.parent / "recipe.json"
        kept = (source.result() or {}).get("validation_clips")
        protocol = ProtocolConfig(**read_json(file)["protocol"]) if kept and file.is_file() else ProtocolConfig()
        if protocol.selection != "holdout":
            return None
        card = source.card()
        places = {key: card["data"][key] for key in ("store", "protocol", "test_part")}
        try:
            clips = self._clips(config.model_copy(update=places), protocol, model)
            rows = clips.parts(labelled=METHODS.get(card["method"]).needs_labels, holdout=True).val
        except UserError as error:
            warnings.warn(f"{source.path}: no scores of its validation clips are kept ({error}).", stacklevel=2)
            return None
        if len(rows) != kept or (self.stage.by == "head" and clips.store.classes != model.spec.classes):
            warnings.warn(
                f"{source.path}: no scores of its validation clips are kept ({places['store']} has changed).",
                stacklevel=2,
            )
            return None
        return clips, rows[clips.store.labels[rows] >= 0]
