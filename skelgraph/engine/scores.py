"""What a test says of every clip: the scores it keeps, the files they are kept in, and the figures made of them.

``scores.safetensors`` holds, in the order of the clip names in ``clips.csv``, ``probabilities`` and ``logits`` (N, K),
``label`` and ``row`` (N,), and for a model of several streams ``stream/NAME/logits`` and ``stream/NAME/probabilities``.
``val_scores.safetensors`` with ``val_clips.csv`` holds the same of the validation clips of the training.
Letters: N clips, K classes.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_f1_score,
)

from skelgraph.engine.run_folder import StageFolder, read_rows, read_tensors, replacing, write_tensors
from skelgraph.errors import UserError

PREFIXES = {"test": "", "validation": "val_"}


class ClassScores(NamedTuple):
    """Scores ``(N, K)``, each the mean over the views of a clip; a run of an older version has kept no logits."""

    logits: Tensor | None
    probabilities: Tensor


@dataclass(frozen=True)
class Scores:
    """The scores of clips.

    Attributes:
        names: of the clips, each once.
        label, row: (N,) true class, and row of the store.
        whole: scores of the model.
        streams: scores of each stream of a model that has several, in the order of the model.
    """

    names: tuple[str, ...]
    label: Tensor
    row: Tensor
    whole: ClassScores
    streams: Mapping[str, ClassScores] = field(default_factory=dict)

    def of_stream(self, name: str) -> Scores:
        """The scores of one stream in the place of the model's."""
        return Scores(self.names, self.label, self.row, self.streams[name])

    def take(self, names: Sequence[str]) -> Scores:
        """The clips of these names, in this order."""
        places = {name: place for place, name in enumerate(self.names)}
        rows = torch.tensor([places[name] for name in names], dtype=torch.long)

        def taken(scores: ClassScores) -> ClassScores:
            logits = None if scores.logits is None else scores.logits[rows]
            return ClassScores(logits, scores.probabilities[rows])

        streams = {name: taken(scores) for name, scores in self.streams.items()}
        return Scores(tuple(names), self.label[rows], self.row[rows], taken(self.whole), streams)


def write(folder: Path, scores: Scores, classes: Sequence[str], part: str = "test") -> None:
    """Keep scores: tensors for programs, csv for people.

    Args:
        folder: of the stage.
        scores: of the clips of a part.
        classes: their names.
        part: ``test`` or ``validation``.
    """
    tensors = {"label": scores.label, "row": scores.row}
    named = {"": scores.whole, **{f"stream/{name}/": item for name, item in scores.streams.items()}}
    for prefix, item in named.items():
        tensors[f"{prefix}probabilities"] = item.probabilities
        if item.logits is not None:
            tensors[f"{prefix}logits"] = item.logits
    write_tensors(folder / f"{PREFIXES[part]}scores.safetensors", tensors)
    best, labels = scores.whole.probabilities.max(-1), scores.label.tolist()
    path = folder / f"{PREFIXES[part]}clips.csv"
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["clip", "label", "prediction", "probability"])
        for name, label, value, choice in zip(scores.names, labels, best.values.tolist(), best.indices.tolist(),
                                              strict=True):  # fmt: skip
            writer.writerow([name, classes[label], classes[choice], f"{value:.6f}"])


def read(folder: StageFolder, part: str = "test") -> Scores | None:
    """The scores that `write` has kept in the folder of a stage; None where there are none.

    Raises:
        UserError: the two files do not belong together, or name a clip twice.
    """
    tensor_file = folder.path / f"{PREFIXES[part]}scores.safetensors"
    name_file = folder.path / f"{PREFIXES[part]}clips.csv"
    if not (tensor_file.is_file() and name_file.is_file()):
        return None
    tensors = read_tensors(tensor_file)
    names = tuple(row.get("clip", "") for row in read_rows(name_file))
    if len(names) != len(tensors["label"]) or len(set(names)) < len(names):
        raise UserError(f"{tensor_file}: does not belong to {name_file.name} beside it; test again.")
    kept = [key.split("/", 1)[1].rpartition("/")[0] for key in tensors if key.startswith("stream/")]
    order = (folder.result() or {}).get("streams") or sorted(set(kept))
    scored = {
        name: ClassScores(tensors.get(f"{prefix}logits"), tensors[f"{prefix}probabilities"])
        for name, prefix in {"": "", **{name: f"stream/{name}/" for name in order}}.items()
    }
    return Scores(names, tensors["label"], tensors["row"], scored.pop(""), scored)


def figures(probabilities: Tensor, labels: Tensor, wanted: Sequence[str]) -> dict[str, float]:
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


def counted(scores: Scores, classes: Sequence[str]) -> dict[str, Any]:
    """What a finished test says beside its figures: clips, classes, the confusion matrix, top-1 by chance in %."""
    frequency = torch.bincount(scores.label, minlength=len(classes))
    confusion = multiclass_confusion_matrix(scores.whole.probabilities.argmax(-1), scores.label, len(classes))
    return {
        "chance": 100.0 * float(frequency.max()) / len(scores.label),
        "test_clips": len(scores.label),
        "classes": list(classes),
        "confusion": confusion.tolist(),
    }
