"""A tiny run on demo data, and a predictor whose answers are known."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from skelgraph.data.clip import Clip
from skelgraph.engine.run_folder import Run
from skelgraph.prediction.base import ClipPredictor
from skelgraph.prediction.inputs import ClipArrays, InputSpec
from skelgraph.topology import Topology

TINY = """
name: tiny
topology: {topology}
data:
  store: {store}
  protocol: {protocol}
  frames: 8
  persons: 1
  sampling: {{name: resize}}
  transforms: {{jitter: {{sigma: 2.0}}, {transforms}}}
stages:
  train: {{method: supervised, model: {{name: stgcnpp, width: 8}}, steps: 2, batch: 8}}
  test: {{evaluate: [top1, mean_class], views: {views}}}
"""


@pytest.fixture(scope="session")
def train(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Trains two steps on a store: ``train(store, topology, protocol, transforms, views)``."""
    import skelgraph as sg

    def make(store: Path, topology: str, protocol: str, transforms: str, views: int = 1) -> Run:
        folder = tmp_path_factory.mktemp("run")
        recipe = folder / "tiny.yaml"
        text = TINY.format(store=store, topology=topology, protocol=protocol, transforms=transforms, views=views)
        recipe.write_text(text, encoding="utf-8")
        return sg.run(recipe, out=folder / "run")

    return make


@pytest.fixture(scope="session")
def demo_run(train: Callable[..., Run], demo_clips: Path) -> Run:
    """Trained on the demo clips, 2-D, tested in three views."""
    return train(demo_clips, "coco17", "demo", "image: {}, center: {}", views=3)


class LeftOrRight(ClipPredictor):
    """Says ``right`` the surer the larger the mean x of the seen joints is; counts what it is asked."""

    def __init__(self, spec: InputSpec, classes: Sequence[str] = ("left", "right")) -> None:
        super().__init__(spec, classes)
        self.asked: list[ClipArrays] = []

    def scores(self, arrays: ClipArrays) -> np.ndarray:
        self.asked.append(arrays)
        seen = arrays.score > 0
        total = (arrays.keypoints[..., 0] * seen).sum((1, 2, 3)) / np.maximum(seen.sum((1, 2, 3)), 1)
        right = 1 / (1 + np.exp(-total))
        return np.stack([1 - right, right], 1).astype(np.float32)


@pytest.fixture
def spec() -> InputSpec:
    return InputSpec(Topology.load("coco17"), 2, 1, 4, {"name": "even"}, length=6, fps=10.0)


@pytest.fixture
def oracle(spec: InputSpec) -> LeftOrRight:
    return LeftOrRight(spec)


def standing(places: Sequence[float | None], name: str = "walk", persons: int = 1, **fields: object) -> Clip:
    """A person whose joints all stand at x = place in each frame; None = not seen."""
    points = np.zeros((persons, len(places), 17, 2), np.float32)
    for frame, x in enumerate(places):
        if x is not None:
            points[:, frame] = (x, 1.0)
    return Clip.of(name, points, **fields)


@pytest.fixture(scope="session")
def shared_file() -> Callable[[str], Path]:
    """A file or folder of the real data sets, which are not part of the repository; skips where it is absent."""
    root = Path(os.environ.get("SKELGRAPH_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "data"

    def find(name: str) -> Path:
        if not (root / name).exists():
            pytest.skip(f"real data '{name}' is not here; set SKELGRAPH_SHARED to the folder that holds data/{name}")
        return root / name

    return find
