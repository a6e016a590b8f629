"""Arrays in the form of ST-GCN, as 2s-AGCN, CMD and HaLP have them: all clips of a part in one npy."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from skelgraph.data.clip import Clip
from skelgraph.data.readers import restricted_pickle
from skelgraph.data.readers.base import READERS, Reader, need_folder
from skelgraph.data.readers.declared import numbered_classes
from skelgraph.data.readers.npy import load_array
from skelgraph.data.readers.ntu_names import NTU_CLASSES
from skelgraph.data.readers.pku_mmd import PKU_CLASSES
from skelgraph.data.readers.pose_pickle import NTU_NAME, TOPOLOGIES
from skelgraph.errors import UserError, unknown

PARTS = ("train", "val", "test")


class _Part(NamedTuple):
    """Joints (S, C, T, V, M) as a memory map, names, labels and, where known, frames of each clip."""

    joints: np.ndarray
    names: list[str]
    labels: np.ndarray
    frames: np.ndarray | None


@READERS.register("stgcn-npy")
class StgcnNpy(Reader):
    """Arrays in the form of ST-GCN, for example NTU RGB+D or PKU-MMD as HaLP and CMD prepare them.

    For each of the parts ``train`` and ``val`` (the published test set, unless there is a ``test``) a folder holds
    ``PART_data_joint.npy`` (or ``PART_data.npy``) of shape (clips, C, T, V, M), ``PART_label.pkl`` = (names, labels),
    and, where there is one, ``PART_num_frame.npy``, the length of each clip; it may exceed T. Without it a clip ends at
    its last frame in which anybody is seen. A joint counts as seen where its person is: arrays that are centred
    already have a seen joint at 0.

    Args:
        src: the folder.
        protocol: how its split is called in the store, e.g. ``xsub``.
        classes: ``ntu``, ``pku-mmd`` or ``numbers``: how classes are called; by default the clip names tell NTU.
        up: the axis that points up, ``+z`` after the alignment of 2s-AGCN.
    """

    units = "metres"

    def __init__(
        self, src: Path, *, protocol: str = "official", classes: Literal["ntu", "pku-mmd", "numbers", None] = None,
        up: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(need_folder(src))
        self.protocol, self.up, self.source = str(protocol), None if up is None else str(up), str(src.name)
        self._parts = {part: _part(src, part) for part in PARTS if (src / f"{part}_label.pkl").is_file()}
        if not self._parts:
            raise UserError(f"{src}: no train_label.pkl or val_label.pkl in it.")
        shapes = {part.joints.shape[1::2] for part in self._parts.values()}
        if len(shapes) > 1:
            raise UserError(f"{src}: its parts differ in coordinates or joints.")
        self.dims, joints = shapes.pop()
        self.topology = TOPOLOGIES.get(joints)
        self.ntu = all(NTU_NAME.fullmatch(name) for part in self._parts.values() for name in part.names)
        self.classes = self._class_names(classes or ("ntu" if self.ntu else "numbers"))
        self.steps = [{"name": "drop persons never seen"}]

    def items(self) -> Sequence[tuple[str, int]]:
        return [(name, row) for name, part in self._parts.items() for row in range(len(part.names))]

    def title(self, item: tuple[str, int]) -> str:
        return f"{self.src / item[0]}, clip {item[1]}"

    def read(self, item: tuple[str, int]) -> Iterator[Clip]:
        part, row = self._parts[item[0]], item[1]
        name, label = part.names[row], part.labels[row]
        joints = np.asarray(part.joints[row], dtype=np.float32).transpose(3, 1, 2, 0)
        seen = (joints != 0).any((2, 3))
        used = np.flatnonzero(seen.any(0))
        frames = int(part.frames[row]) if part.frames is not None else used[-1] + 1 if len(used) else 1
        if frames < 1:
            raise UserError(f"{self.title(item)}: '{name}' has {frames} frames.")
        there = seen[:, :frames].any(1)
        there[0] |= not there.any()
        keypoints, seen = joints[there, :frames], seen[there, :frames]
        score = np.repeat(seen[..., None], keypoints.shape[2], axis=2).astype(np.float32)
        yield Clip(name, np.ascontiguousarray(keypoints), score, label=int(label), **self._performance(name))

    def protocols(self, names: Collection[str]) -> Mapping[str, Mapping[str, Sequence[str]]]:
        parts = {name: part.names for name, part in self._parts.items()}
        if "val" in parts and "test" not in parts:
            parts["test"] = parts.pop("val")
        return {self.protocol: parts}

    def _performance(self, name: str) -> dict[str, Any]:
        """What an NTU name says of a clip."""
        if not self.ntu:
            return {}
        setup, camera, subject, repetition, action = (name[place : place + 4] for place in range(0, 20, 4))
        return {"setup": setup, "camera": camera, "subject": subject, "fps": 30.0,
                "group": f"{setup}{subject}{repetition}{action}"}  # fmt: skip

    def _class_names(self, kind: str) -> tuple[str, ...]:
        numbers = numbered_classes(int(label) for part in self._parts.values() for label in np.unique(part.labels))
        names = {
            "ntu": NTU_CLASSES[: 60 if len(numbers) <= 60 else 120],
            "pku-mmd": PKU_CLASSES,
            "numbers": numbers,
        }
        if kind not in names:
            raise unknown("value of 'classes'", kind, names, "stgcn-npy")
        return names[kind]


def _part(src: Path, name: str) -> _Part:
    """One part, held against itself.

    Raises:
        UserError: a file is missing, damaged, of another form, or disagrees with the others about the number of clips.
    """
    label_file = src / f"{name}_label.pkl"
    found = restricted_pickle.load(label_file)
    if not isinstance(found, list | tuple) or len(found) != 2 or not isinstance(found[0], list | tuple | np.ndarray):
        raise UserError(f"{label_file}: not a pair (names, labels).")
    names = [str(item).removesuffix(".skeleton") for item in found[0]]
    try:
        labels = np.asarray(found[1], dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{label_file}: its labels are no numbers.") from None
    if not names or labels.shape != (len(names),) or (labels != np.rint(labels)).any() or np.isinf(labels).any():
        raise UserError(f"{label_file}: {len(names)} names need as many whole numbers, labels are {labels.shape}.")
    joints_file = next((path for key in ("data_joint", "data") if (path := src / f"{name}_{key}.npy").is_file()), None)
    if joints_file is None:
        raise UserError(f"{src}: {name}_label.pkl is there, {name}_data_joint.npy is not.")
    joints = _array(joints_file, len(names))
    if joints.ndim != 5 or joints.shape[1] not in (2, 3) or not min(joints.shape) or joints.dtype.kind != "f":
        raise UserError(f"{joints_file}: {joints.shape} of {joints.dtype}, expected numbers (clips, C, T, V, M).")
    count_file = src / f"{name}_num_frame.npy"
    return _Part(
        joints, names, labels.astype(np.int64), _array(count_file, len(names)).ravel() if count_file.is_file() else None
    )


def _array(path: Path, clips: int) -> np.ndarray:
    array = load_array(path)
    if not array.ndim or len(array) != clips:
        raise UserError(f"{path}: {array.shape[:1]} clips, the labels name {clips}.")
    return array
