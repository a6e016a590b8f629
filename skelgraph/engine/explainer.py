"""The tested network of a run with the clips of its test, one at a time: what it answers, and why.

Letters: M persons, T frames, V joints, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skelgraph import explain, plugins, recipe
from skelgraph.batch import Batch
from skelgraph.data.clip import Clip
from skelgraph.data.loader import Draw
from skelgraph.engine.clips import StageClips
from skelgraph.engine.evaluate import Evaluate, answers_to, load_model
from skelgraph.engine.fit import Place, stage_seed
from skelgraph.engine.run_folder import Run
from skelgraph.errors import UserError, unknown
from skelgraph.models import Model
from skelgraph.pages import scene
from skelgraph.recipe import EvaluateStage
from skelgraph.transforms import Pipeline


class Explainer:
    """A network and the clips of its test.

    Attributes:
        run: where it comes from. stage: the test.
        model, clips, pipeline: as the test has them. views: crops of a clip.
    """

    def __init__(self, run: Run, stage: str, model: Model, clips: StageClips, pipeline: Pipeline, views: int) -> None:
        self.run, self.stage, self.model, self.clips = run, stage, model, clips
        self.pipeline, self.views = pipeline, views

    @classmethod
    def open(cls, run: Run, stage: str | None = None, trust: bool = False) -> Explainer:
        """The last test of a run that uses a classifier, or the one named.

        Args:
            run: its folder.
            stage: of an evaluation.
            trust: run the recipe's ``plugins:``, Python files with all rights of yours.

        Raises:
            UserError: no such test, a half-written run, a network that needs its plugins.
        """
        study = recipe.from_data(run.recipe, str(run.path / "recipe.json"), bool(run.about.get("demo")))
        if trust:
            plugins.load(study.recipe.plugins, beside=Path(str(run.about.get("recipe_file", ""))).parent)
        tests = {name: item for name, item in study.recipe.stages.items()
                 if isinstance(item, EvaluateStage) and item.by == "head"}  # fmt: skip
        if not tests:
            raise UserError(f"{run.path}: has no test of a classifier, so there is no answer to explain.")
        name = stage or list(tests)[-1]
        if name not in tests:
            raise unknown("test", name, tests, str(run.path))
        test = Evaluate(study, name, run, Place())
        source = test.source()
        try:
            model = load_model(source)
        except UserError as error:
            wants = f" It may need its plugins ({', '.join(study.recipe.plugins)}): look at them, then say --trust."
            raise UserError(f"{error}{wants if study.recipe.plugins and not trust else ''}") from None
        if not model.spec.classes:
            raise UserError(f"{run.path}: '{source.name}' has trained no classifier.")
        clips = StageClips(test.config(source), study.recipe.protocol, model.spec.topology,
                           stage_seed(study.recipe.seed, name))  # fmt: skip
        return cls(run, name, model, clips, clips.pipeline(), tests[name].views)

    @property
    def classes(self) -> tuple[str, ...]:
        """K names."""
        return self.model.spec.classes

    def batch(self, row: int) -> Batch:
        """All views of one clip, before the transforms."""
        reader = self.clips.reader(self.views)
        return reader[[Draw(row, -1, 0, view) for view in range(self.views)]]

    def answer(self, batch: Batch) -> Tensor:
        """Probabilities (K,) of a `batch`, the mean over its views, as the test has them."""
        return answers_to(self.model, self.pipeline, [batch], self.views, "cpu").whole.probabilities[0]

    @torch.no_grad()
    def prepared(self, batch: Batch) -> Batch:
        """The first view as the network takes it; gradients may flow back to it."""
        return self.pipeline(batch[:1], training=False).map(torch.clone)


@dataclass(frozen=True)
class Explained:
    """One clip, what the network says of it, and why.

    Attributes:
        clip: at the T frames of the first view, in the network's topology.
        probabilities: (K,). target: the class that is explained.
        scene: with the maps as layers.
        shares: reader -> source -> share, of a network that mixes modalities.
        modalities: what each modality's inputs speak for the class, nats; with saliency.
        gap: of the integrated gradients, nats; None with attention.
        deletion: None where it was not asked for.
    """

    clip: Clip
    probabilities: np.ndarray
    target: int
    scene: scene.Scene
    shares: dict[str, dict[str, float]]
    modalities: dict[str, float]
    gap: float | None
    deletion: explain.Deletion | None


def explained(
    tested: Explainer, row: int, how: str | None = None, target: int | None = None, delete: bool = False
) -> Explained:
    """The answer for one clip of the store, and a map of what it rests on.

    Args:
        tested: the network.
        row: of the store.
        how: ``saliency``, ``attention`` or None.
        target: class to explain; None: the one answered.
        delete: also take joints away by the first map, see `explain.deletion`.

    Raises:
        UserError: no such explanation of this network.
    """
    batch = tested.batch(row)
    probabilities = tested.answer(batch).numpy()
    wanted = int(probabilities.argmax()) if target is None else target
    prepared, asked = tested.prepared(batch), torch.tensor([wanted])
    layers: list[scene.Layer] = []
    tracks: list[scene.Track] = []
    shares: dict[str, dict[str, float]] = {}
    modalities: dict[str, float] = {}
    points: dict[str, np.ndarray] = {}
    gap, curve, importance = None, None, None
    if how == "saliency":
        found = explain.saliency(tested.model, prepared, asked)
        layers.append(scene.Layer("integrated gradients, nats", _rows(found.joints), signed=True))
        tracks += [scene.Track(f"saliency of {name}, nats, either sign", _steps(x.abs(), batch))
                   for name, x in found.modalities.items()]  # fmt: skip
        gap, modalities = float(found.gap), {"skeleton": float(found.joints.sum())}
        modalities |= {name: float(x.sum()) for name, x in found.modalities.items()}
        modalities = modalities if len(modalities) > 1 else {}
        importance = found.joints
    elif how == "attention":
        with torch.no_grad():
            seen = explain.attention(tested.model, prepared)
        layers += [scene.Layer(name, _rows(x)) for name, x in seen.joints.items()]
        tracks += [scene.Track(name, x[0].float().numpy()) for name, x in seen.frames.items()]
        shares = {one: {other: float(x[0]) for other, x in rows.items()} for one, rows in seen.shares.items()}
        points = {name: x[0].float().numpy() for name, x in seen.points.items()}
        importance = next(iter(seen.joints.values()), None)
    if delete:
        if how is None or importance is None:
            raise UserError("--deletion needs a map of the joints: say --saliency"
                            + (", this network's attention has none." if how else ", or --attention."))  # fmt: skip
        curve = explain.deletion(tested.model, prepared, asked, importance)
    clip = _clip(tested, row, batch)
    picture = [_pictures(name, item, points.get(name), batch) for name, item in batch.modalities.items()
               if item.values.dim() == 5 and item.values.shape[2] in (1, 3) and bool(item.valid[0].any())]  # fmt: skip
    drawn = scene.of_clip(clip, tested.model.spec.topology, tested.clips.store.meta.up, layers=layers, tracks=tracks,
                          pictures=picture)  # fmt: skip
    return Explained(clip, probabilities, wanted, drawn, shares, modalities, gap, curve)


def _rows(x: Tensor) -> np.ndarray:
    """``(1, M, T, V)`` as a layer has it."""
    return np.asarray(x[0].transpose(0, 1).float().numpy())


def _steps(x: Tensor, batch: Batch) -> np.ndarray:
    """``(1, S)`` at the T frames."""
    frames = batch.score.shape[2]
    return np.asarray(x[0, torch.arange(frames) * x.shape[1] // frames].float().numpy())


def _clip(tested: Explainer, row: int, batch: Batch) -> Clip:
    """The first view, at a rate that keeps the length of the clip where its frames are all of it."""
    store, frames = tested.clips.store, batch.score.shape[2]
    rate, length = float(store.fps[row]), int(store.frames[row])
    label = int(store.labels[row])
    return Clip(store.names[row], batch.keypoints[0].numpy(), batch.score[0].numpy(), label if label >= 0 else None,
                fps=rate * frames / length if np.isfinite(rate) else None)  # fmt: skip


def _pictures(name: str, item: Any, points: np.ndarray | None, batch: Batch) -> scene.Pictures:
    """Frames of a modality at the frames of the skeleton, as grey or colour bytes."""
    values = item.values[0][torch.arange(batch.score.shape[2]) * item.values.shape[1] // batch.score.shape[2]]
    whole = values.movedim(1, -1).float().numpy()
    if values.dtype != torch.uint8:
        whole = np.nan_to_num(whole)
        low, high = float(whole.min()), float(whole.max())
        whole = (whole - low) / max(high - low, 1e-9) * 255
    frames = whole.clip(0, 255).astype(np.uint8)
    marks = () if points is None else tuple(here[np.isfinite(here[:, 0])] for here in points)
    return scene.Pictures(name, frames[..., 0] if frames.shape[-1] == 1 else frames, marks)
