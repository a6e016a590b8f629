"""A stage that tests: per-clip probabilities, and figures from torchmetrics."""

from __future__ import annotations

import csv
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_f1_score,
)

from skelgraph import models
from skelgraph.engine.clips import StageClips
from skelgraph.engine.fit import Place, spec_from_card, stage_seed
from skelgraph.engine.run_folder import Run, StageFolder, find_exports, read_tensors, replacing, write_tensors
from skelgraph.errors import UserError
from skelgraph.models import Model, load_exact
from skelgraph.recipe import EvaluateStage, FitStage, Study
from skelgraph.topology import Topology
from skelgraph.transforms import Pipeline


def load_model(folder: StageFolder) -> Model:
    """The trained model of a stage, in eval mode."""
    card = folder.card()
    spec = spec_from_card(card["spec"], str(folder.path / "model.json"))
    settings = dict(card["model"])
    model = models.create(settings.pop("name"), spec, **settings)
    exports = folder.exports()
    if "backbone" not in exports:
        raise UserError(f"{folder.path}: its method '{card['method']}' exports no whole model to test.")
    state = exports["backbone"]
    if "head.weight" in state and isinstance(model.head, torch.nn.Module):
        _fit_head(model, state)
    load_exact(model, state)
    return model.eval()


def _fit_head(model: Model, state: dict[str, Tensor]) -> None:
    """A linear probe has replaced the model's own head by one linear layer."""
    if model.state_dict().keys() != state.keys():
        model.head = torch.nn.Linear(model.feature_dim, len(state["head.weight"]))


class Answers(NamedTuple):
    """Probabilities ``(clips, K)`` and features ``(clips, D)`` in the order of the rows asked for."""

    probabilities: Tensor
    features: Tensor


@torch.inference_mode()
def answers(
    model: Model, pipeline: Pipeline, clips: StageClips, rows: Any, batch: int, views: int, device: str
) -> Answers:
    """What a model says of clips, averaged over the views of each."""
    model, pipeline = model.to(device).eval(), pipeline.to(device)
    parts, features = [], []
    for item in clips.test_loader(rows, batch, views):
        output = model(pipeline(item.to(device), training=False))
        parts.append(F.softmax(output.logits.float(), -1).view(-1, views, output.logits.shape[-1]).mean(1).cpu())
        features.append(output.features.float().view(-1, views, output.features.shape[-1]).mean(1).cpu())
    return Answers(torch.cat(parts), torch.cat(features))


def figures(probabilities: Tensor, labels: Tensor, wanted: list[str]) -> dict[str, float]:
    """Test figures in per cent (``loss`` in nats); ``mean_class`` is the mean recall of the classes that occur."""
    classes = probabilities.shape[1]
    present = torch.unique(labels)

    def accuracy(k: int) -> Tensor:
        return 100 * multiclass_accuracy(probabilities, labels, classes, average="micro", top_k=min(k, classes))

    compute = {
        "top1": lambda: accuracy(1),
        "top5": lambda: accuracy(5),
        "mean_class": lambda: 100 * multiclass_accuracy(probabilities, labels, classes, average="none")[present].mean(),
        "macro_f1": lambda: 100 * multiclass_f1_score(probabilities, labels, classes, average="none")[present].mean(),
        "loss": lambda: F.nll_loss(probabilities.clamp(min=1e-12).log(), labels),
    }
    return {name: float(compute[name]()) for name in wanted}


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

    def __call__(self, resume: bool) -> dict[str, Any]:
        source, folder = self.source(), self.run.stage(self.name)
        folder.open()
        model = load_model(source)
        data = self.study.data_for(source.name) if source.name in self.study.recipe.stages else None
        config = self.study.data_for(self.name) if self.stage.data or data is None else data
        topology = Topology.load(self.study.recipe.topology)
        clips = StageClips(config, self.study.recipe.protocol, topology, stage_seed(self.study.recipe.seed, self.name))
        rows = clips.parts(labelled=False, holdout=False).test
        rows = rows[clips.store.labels[rows] >= 0]
        if len(rows) == 0:
            raise UserError(f"{config.store}: protocol '{config.protocol}' has no labelled clip to test.")
        if clips.store.classes != model.spec.classes:
            raise UserError(f"{config.store}: its classes are not those '{source.name}' was trained on.")
        pipeline = Pipeline(topology, config.transforms)
        labels = torch.from_numpy(clips.store.labels[rows])

        def test() -> Answers:
            return answers(model, pipeline, clips, rows, self.stage.batch, self.stage.views, self.device)

        probabilities, features = test()
        metrics = figures(probabilities, labels, list(self.stage.evaluate))
        last = source.path / "last.safetensors"
        if last.is_file() and self.study.recipe.protocol.selection == "holdout":
            load_exact(model.cpu(), read_tensors(last))
            others = figures(test().probabilities, labels, list(self.stage.evaluate))
            metrics |= {f"last_{name}": value for name, value in others.items()}
        self._keep(folder, clips, rows, probabilities, labels)
        write_tensors(folder.path / "features.safetensors", {"features": features, "label": labels})
        return self._figures(metrics, probabilities, labels, model, source)

    def _keep(self, folder: StageFolder, clips: StageClips, rows: Any, probabilities: Tensor, labels: Tensor) -> None:
        """Per-clip answers: tensors for programs, csv for people."""
        scores = {"probabilities": probabilities, "label": labels, "row": torch.as_tensor(rows, dtype=torch.int64)}
        write_tensors(folder.path / "scores.safetensors", scores)
        classes, names = clips.store.classes, clips.store.names
        best = probabilities.max(-1)
        with replacing(folder.path / "clips.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["clip", "label", "prediction", "probability"])
            for row, label, value, choice in zip(rows, labels.tolist(), best.values.tolist(), best.indices.tolist(),
                                                 strict=True):  # fmt: skip
                writer.writerow([names[row], classes[label], classes[choice], f"{value:.6f}"])

    def _figures(
        self, metrics: dict[str, float], probabilities: Tensor, labels: Tensor, model: Model, source: StageFolder
    ) -> dict[str, Any]:
        classes = probabilities.shape[1]
        counts = torch.bincount(labels, minlength=classes)
        confusion = multiclass_confusion_matrix(probabilities.argmax(-1), labels, classes)
        return {
            "kind": "evaluate",
            "metrics": metrics,
            "chance": 100.0 * float(counts.max()) / len(labels),
            "test_clips": len(labels),
            "tested": source.name,
            "views": self.stage.views,
            "classes": list(model.spec.classes),
            "confusion": confusion.tolist(),
        }
