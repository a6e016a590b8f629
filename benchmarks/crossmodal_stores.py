"""Stores that the cross-modal study makes of UTD-MHAD: actions of the wrist, cached features, missing modalities."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from skelgraph import recipe as recipes
from skelgraph.data.clip import Clip
from skelgraph.data.schema import ModalityFacts
from skelgraph.data.store import Store
from skelgraph.data.writer import StoreWriter
from skelgraph.engine.clips import StageClips
from skelgraph.engine.evaluate import load_model
from skelgraph.engine.run_folder import Run
from skelgraph.models.mmixer import MMixer
from skelgraph.topology import Topology
from skelgraph.transforms import Pipeline

FEATURES = {"skeleton": "skeleton_features", "inertial": "inertial_features", "depth": "depth_features"}
WRIST = 21


def copy(
    store: Store, dst: Path, clips: Iterator[Clip], classes: Collection[str], step: dict[str, object],
    facts: Mapping[str, ModalityFacts], dtypes: Mapping[str, str],
) -> None:  # fmt: skip
    """Write clips made of those of a store, with its protocols as far as they are there."""
    meta = store.meta
    writer = StoreWriter(
        dst, topology=store.topology, dims=meta.dims, classes=tuple(classes), units=meta.units, up=meta.up or None,
        source=meta.source, terms=meta.terms, steps=[*meta.steps, step], modalities=dtypes, modality_facts=facts,
    )  # fmt: skip
    with writer:
        for clip in clips:
            writer.write(clip)
        there = writer.names

        def left(rows: np.ndarray) -> list[str]:
            return [store.names[row] for row in rows if store.names[row] in there]

        writer.protocols = {
            name: {part: left(rows) for part, rows in store.protocol(name).items()} for name in store.protocols
        }


def wrist_store(src: Path, dst: Path) -> None:
    """The clips of the first 21 actions."""
    if (dst / "meta.json").is_file():
        return
    store = Store.open(src)
    kept = (clip for clip in store if clip.label is not None and clip.label < WRIST)
    step = {"name": "actions", "first": WRIST}
    copy(store, dst, kept, store.classes[:WRIST], step, store.meta.modality_facts, store.meta.modalities)


def halves(name: str) -> bool:
    """Whether a clip is in the half that loses a modality: every second one of each subject and action."""
    return int(name.rsplit("t", 1)[1]) % 2 == 0


def lacking(src: Path, names: Collection[str]) -> None:
    """Beside a store, one for each modality that half of the clips lack: ``SRC_no_NAME``; ``skeleton``: the joints."""
    store = Store.open(src)
    for name in names:
        dst = src.with_name(f"{src.name}_no_{name}")
        if not (dst / "meta.json").is_file():
            step = {"name": "missing", "modality": name, "of": "half of the clips"}
            clips = (_without(clip, name) if halves(clip.name) else clip for clip in store)
            copy(store, dst, clips, store.classes, step, store.meta.modality_facts, store.meta.modalities)


def _without(clip: Clip, name: str) -> Clip:
    modalities = {key: item for key, item in clip.modalities.items() if key not in (name, FEATURES.get(name))}
    times = {key: item for key, item in clip.modality_times.items() if key in modalities}
    clip = replace(clip, modalities=modalities, modality_times=times)
    if name != "skeleton":
        return clip
    return replace(clip, keypoints=np.zeros_like(clip.keypoints), score=np.zeros_like(clip.score))


def feature_store(runs: Mapping[str, Path], dst: Path) -> None:
    """What the extractors of runs on one modality each say of every clip, from its first frame to its last.

    Beside it, the stores of `lacking`.
    """
    if not (dst / "meta.json").is_file():
        found = {name: list(_features(run)) for name, run in runs.items()}
        store = Store.open(Run.open(next(iter(runs.values()))).recipe["data"]["store"])
        facts = {FEATURES[name]: ModalityFacts(kind="features", spans=True) for name in runs}

        def clips() -> Iterator[Clip]:
            for row, clip in enumerate(store):
                made = {FEATURES[name]: values[row] for name, values in found.items()}
                yield replace(clip, modalities=made, modality_times={})

        step = {"name": "features", "runs": [str(run) for run in runs.values()]}
        copy(store, dst, clips(), store.classes, step, facts, dict.fromkeys(facts, "float32"))
    lacking(dst, runs)


@torch.inference_mode()
def _features(path: Path) -> Iterator[np.ndarray]:
    """(S, D) of every clip of a run's store."""
    run = Run.open(path)
    study = recipes.from_data(run.recipe, str(path / "recipe.json"), demo=False)
    whole = study.data_for("train").model_copy(update={"sampling": recipes.Component(name="resize", test_crop=1.0)})
    model = load_model(run.stage("train"))
    assert isinstance(model, MMixer)
    clips = StageClips(whole, study.recipe.protocol, Topology.load(study.recipe.topology), seed=0)
    pipeline = Pipeline(clips.topology, whole.transforms)
    (extractor,) = model.extractors.values()
    take: Callable[..., object] = extractor
    for batch in clips.test_loader(np.arange(len(clips.store)), 64, 1):
        steps = take(pipeline(batch, training=False))
        yield from steps.values.numpy()  # type: ignore[attr-defined]
