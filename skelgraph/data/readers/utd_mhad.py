"""UTD-MHAD (Chen, Jafari, Kehtarnavaz, ICIP 2015): Kinect v1 skeletons, a wearable sensor and depth, by clip."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from skelgraph.data.clip import Clip
from skelgraph.data.readers.base import READERS, Reader, need_folder, need_items
from skelgraph.data.readers.matlab import load_mat
from skelgraph.data.readers.utd_sensors import DTYPES, FACTS, Sensors
from skelgraph.errors import UserError

NAME = re.compile(r"(a(\d+)_s([1-8])_t\d+)_skeleton")
TRAIN_SUBJECTS = ("s1", "s3", "s5", "s7")
JOINTS = 20


@READERS.register("utd-mhad")
class UtdMhad(Reader):
    """UTD-MHAD: 27 classes of 3-D joints, and if asked inertial and depth; protocol cross_subject.

    File names ``aA_sS_tT_skeleton.mat`` tell action, subject, trial; the variable ``d_skel (20, 3, frames)`` holds
    metres. The joints stand in another order than those of NW-UCLA, from the head downwards.

    Protocol ``cross_subject``, as published: subjects 1, 3, 5, 7 against 2, 4, 6, 8.

    Args:
        src: the folder that has ``Skeleton``, or ``Skeleton`` itself.
        modalities: ``inertial`` (accelerometer and gyroscope, six numbers), ``depth`` (48 x 48 cells around the person,
            millimetres) or both, from ``Inertial`` and ``Depth`` beside ``Skeleton``. A clip without file lacks it.

    Raises:
        UserError: nothing of an asked modality is there.
    """

    topology, dims, units, up = "kinect20_utd", 3, "metres", "+y"
    classes = (
        "right arm swipe to the left", "right arm swipe to the right", "right hand wave", "two hand front clap",
        "right arm throw", "cross arms in the chest", "basketball shooting", "draw x", "draw circle (clockwise)",
        "draw circle (counter clockwise)", "draw triangle", "bowling (right hand)", "front boxing",
        "baseball swing from right", "tennis forehand swing", "arm curl (two arms)", "tennis serve", "two hand push",
        "knock on door", "hand catch", "pick up and throw", "jogging", "walking", "sit to stand", "stand to sit",
        "forward lunge (left foot forward)", "squat",
    )  # fmt: skip
    source = "UTD-MHAD, Skeleton/*.mat (Chen, Jafari, Kehtarnavaz, ICIP 2015)"
    pattern = "*_skeleton.mat"
    terms = "Called freely available by its authors, no licence with the files; cite the paper."

    def __init__(self, src: Path, *, modalities: Sequence[str] = ()) -> None:
        super().__init__(src)
        self._sensors = Sensors(src if (src / "Skeleton").is_dir() else src.parent, modalities)
        self.modalities = {name: DTYPES[name] for name in self._sensors.names}
        self.modality_facts = {name: FACTS[name] for name in self._sensors.names}

    def items(self) -> Sequence[Path]:
        folder = need_folder(self.src, "Skeleton")
        return need_items(sorted(folder.glob("*_skeleton.mat")), self.src, "*_skeleton.mat file")

    def read(self, item: Path) -> Iterator[Clip]:
        match = NAME.fullmatch(item.stem)
        if match is None or not 1 <= int(match[2]) <= len(self.classes):
            raise UserError(f"{item}: the name is not of the form a1_s1_t1_skeleton.mat with a 1 to 27 and s 1 to 8.")
        name, action, subject = match.groups()
        for clip in self.poses(item):
            further = self._sensors.read(name)
            yield replace(clip, name=name, label=int(action) - 1, subject=f"s{subject}", modalities=further)

    def poses(self, item: Path) -> Iterator[Clip]:
        points = load_mat(item, ("d_skel",))["d_skel"]
        if points.ndim != 3 or points.shape[:2] != (JOINTS, 3) or points.dtype.kind not in "fiu":
            raise UserError(f"{item}: d_skel is {points.dtype} of shape {points.shape}, not numbers (20, 3, frames).")
        yield Clip.of(item.stem.removesuffix("_skeleton"), points.transpose(2, 0, 1), fps=30.0)

    def protocols(self, names: Collection[str]) -> Mapping[str, Mapping[str, Sequence[str]]]:
        return {
            "cross_subject": {
                "train": [name for name in sorted(names) if _subject(name) in TRAIN_SUBJECTS],
                "test": [name for name in sorted(names) if _subject(name) not in TRAIN_SUBJECTS],
            }
        }


def _subject(name: str) -> str:
    return name.split("_")[1]
