"""J-HMDB puppet joints (Jhuang et al., ICCV 2013): the 14 classes that DD-Net ships, as one npz without pickle."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from skelgraph.data.clip import Clip
from skelgraph.data.readers.base import READERS, Reader, need_file, need_items
from skelgraph.data.readers.npz import load_arrays
from skelgraph.errors import UserError


@READERS.register("jhmdb")
class Jhmdb(Reader):
    """J-HMDB as one npz, 14 classes of 2-D joints; protocols split1, split2, split3.

    Arrays: ``pose (frames, 15, 2)``, ``offsets``, ``label``, ``class_names``, ``split (N, 3)`` with 0 train, 1 test.

    Args:
        src: ``jhmdb_gt_pose.npz``, or its folder.
    """

    in_memory = True
    topology, dims, units, up = "jhmdb15", 2, "frame-scaled", "-y"
    source = "J-HMDB joint positions (Jhuang et al., ICCV 2013), subset of DD-Net (github fandulu/DD-Net)"
    terms = "DD-Net is MIT; J-HMDB's own terms are not repeated there; cite both."

    def __init__(self, src: Path) -> None:
        super().__init__(need_file(src / "jhmdb_gt_pose.npz" if src.is_dir() else src))
        data = load_arrays(self.src, ("pose", "offsets", "label", "split", "class_names"))
        self._pose, self._offsets, self._label, self._split = (data[k] for k in ("pose", "offsets", "label", "split"))
        self.classes = tuple(str(name) for name in data["class_names"])
        clips, ends = len(self._label), self._offsets
        if ends.shape != (clips + 1,) or self._split.shape != (clips, 3) or ends[-1] != len(self._pose):
            raise UserError(f"{self.src}: pose, offsets, label and split do not agree in length.")

    def items(self) -> Sequence[int]:
        return need_items(range(len(self._label)), self.src, "sequence")

    def title(self, item: int) -> str:
        return f"{self.src}, sequence {item}"

    def read(self, item: int) -> Iterator[Clip]:
        pose = self._pose[self._offsets[item] : self._offsets[item + 1]]
        yield Clip.of(_name(item), pose, label=int(self._label[item]))

    def protocols(self, names: Collection[str]) -> Mapping[str, Mapping[str, Sequence[str]]]:
        return {
            f"split{number + 1}": {
                part: [_name(int(item)) for item in np.flatnonzero(self._split[:, number] == code)]
                for part, code in (("train", 0), ("test", 1))
            }
            for number in range(3)
        }


def _name(item: int) -> str:
    return f"jhmdb_{item:04d}"
