"""Penn Action (Zhang, Zhu, Derpanis, ICCV 2013): 2-D joints of sport videos, one MATLAB file a clip."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from skelgraph.data.clip import Clip
from skelgraph.data.readers.base import READERS, Reader, need_folder, need_items
from skelgraph.data.readers.matlab import load_mat
from skelgraph.errors import UserError

UNPLACED = 2.0  # pixels around (1, 1)


@READERS.register("penn-action")
class PennAction(Reader):
    """Penn Action ``labels/*.mat``, 15 classes of 2-D joints; protocol official.

    The split stands in the files. The number that names a file is no feature: numbers are grouped by class.

    Args:
        src: the folder that has ``labels``, or ``labels`` itself.
        occluded: a joint marked invisible is ``missing``, or with ``guess`` stays where its annotator supposed it,
            with score 0.5. Joints at (1, 1), where nobody has placed them, are missing either way.
    """

    topology, dims, units, up = "penn13", 2, "pixels", "-y"
    classes = (
        "baseball_pitch", "baseball_swing", "bench_press", "bowl", "clean_and_jerk", "golf_swing", "jump_rope",
        "jumping_jacks", "pullup", "pushup", "situp", "squat", "strum_guitar", "tennis_forehand", "tennis_serve",
    )  # fmt: skip
    source = "Penn Action, labels/*.mat (Zhang, Zhu, Derpanis, From Actemes to Action, ICCV 2013)"
    pattern = "*.mat"
    terms = "The data set's terms are not repeated with the files; cite the paper."

    def __init__(self, src: Path, *, occluded: Literal["missing", "guess"] = "missing") -> None:
        super().__init__(src)
        if occluded not in ("missing", "guess"):
            raise UserError(f"penn-action: occluded is 'missing' or 'guess', not '{occluded}'.")
        self.occluded = occluded
        self.steps = ({"name": "joints with visibility 0", "become": occluded},)

    def items(self) -> Sequence[Path]:
        return need_items(sorted(need_folder(self.src, "labels").glob("*.mat")), self.src, "*.mat file")

    def read(self, item: Path) -> Iterator[Clip]:
        facts = load_mat(item, ("action", "pose"))
        action = str(facts["action"].item())
        if action not in self.classes:
            raise UserError(f"{item}: unknown action '{action}'.")
        for clip in self.poses(item):
            label, camera = self.classes.index(action), str(facts["pose"].item())
            yield replace(clip, label=label, camera=camera, group=item.stem)

    def poses(self, item: Path) -> Iterator[Clip]:
        data = load_mat(item, ("x", "y", "visibility", "dimensions"))
        shapes = {data[name].shape for name in ("x", "y", "visibility")}
        if len(shapes) > 1:
            raise UserError(f"{item}: x, y and visibility do not agree in shape.")
        points = np.stack([data["x"], data["y"]], axis=-1)
        score = (data["visibility"] > 0).astype(np.float32)
        if self.occluded == "guess":
            placed = (np.abs(points - 1) > UNPLACED).any(-1)
            score = np.where((score == 0) & placed, 0.5, score)
        height, width = (int(side) for side in data["dimensions"].ravel()[:2])
        yield Clip.of(item.stem, points, score, image_size=(height, width))

    def protocols(self, names: Collection[str]) -> Mapping[str, Mapping[str, Sequence[str]]]:
        parts: dict[str, list[str]] = {"train": [], "test": []}
        for item in self.items():
            if item.stem in names:
                train = int(load_mat(item, ("train",))["train"].item()) == 1
                parts["train" if train else "test"].append(item.stem)
        return {"official": parts}
