"""Pose pickles of PYSKL and MMAction2: a dict of ``split`` and ``annotations`` (spec skeletonmae §4.2).

An annotation has ``frame_dir`` (or ``filename``), ``label``, ``total_frames``, ``keypoint (M, T, V, C)``, and in 2-D
``keypoint_score (M, T, V)`` and ``img_shape (height, width)``. What these files call ``val`` is the published test
set, and is the part ``test`` here unless the file has a ``test`` of its own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skelgraph.data.clip import Clip
from skelgraph.data.readers.base import READERS, Reader, need_file, need_items
from skelgraph.data.readers.declared import numbered_classes
from skelgraph.data.readers.ntu_names import NTU_CLASSES
from skelgraph.data.readers.restricted_pickle import load
from skelgraph.errors import UserError

TOPOLOGIES = {17: "coco17", 25: "ntu25"}
NTU_NAME = re.compile(r"(S\d{3})(C\d{3})(P\d{3})(R\d{3})(A\d{3})")
ORIGIN = "pose pickle in the form of PYSKL (github kennymckormick/pyskl): {name}"


@READERS.register("pyskl")
class PosePickle(Reader):
    """Any pose pickle of PYSKL or MMAction2; 17 joints are coco17, 25 are ntu25, for others say --topology.

    Args:
        src: the pickle.
        class_names: a text file with one class name a line; without it classes are called by their numbers.
    """

    in_memory = True
    protocol = "official"
    class_count: int | None = None
    fps: float | None = None

    def __init__(self, src: Path, *, class_names: str | None = None) -> None:
        super().__init__(need_file(src))
        data = load(src)
        if not isinstance(data, dict) or not isinstance(data.get("annotations"), list):
            raise UserError(f"{src}: not a pose pickle, which is a dict with the keys 'split' and 'annotations'.")
        self._annotations: list[Any] = data["annotations"]
        self._split = _plain_split(data.get("split", {}), src)
        joints, self.dims = next(filter(None, map(_joints, self._annotations)), (17, 2))
        self.topology = TOPOLOGIES.get(joints)
        self.units, self.up = ("pixels", "-y") if self.dims == 2 else ("metres", "+y")
        self.source = ORIGIN.format(name=src.name)
        self.classes = self._class_names(class_names)
        self.steps = [{"name": "drop persons never seen"}, {"name": "order persons", "by": "mean score, largest first"}]

    def items(self) -> Sequence[int]:
        return need_items(range(len(self._annotations)), self.src, "annotation")

    def title(self, item: int) -> str:
        return f"{self.src}, annotation {item}"

    def read(self, item: int) -> Iterator[Clip]:
        return self._read(item, labelled=True)

    def poses(self, item: int) -> Iterator[Clip]:
        return self._read(item, labelled=False)

    def _read(self, item: int, labelled: bool) -> Iterator[Clip]:
        note, where = self._annotations[item], self.title(item)
        if not isinstance(note, dict):
            raise UserError(f"{where}: not a dict.")
        name = note.get("frame_dir", note.get("filename"))
        if not isinstance(name, str) or not name:
            raise UserError(f"{where}: neither 'frame_dir' nor 'filename' names it.")
        for key in ("label", "keypoint") if labelled else ("keypoint",):
            if key not in note:
                raise UserError(f"{where}: clip '{name}' has no key '{key}'.")
        label = _label(note["label"], where, name) if labelled else None
        clip = Clip.of(name, *self._arrays(note, f"{where}: clip '{name}'"), label=label)
        means = clip.score.mean(axis=(1, 2), dtype=np.float64)
        order = np.argsort(-means, kind="stable")
        order = order[: max(1, np.count_nonzero(means))]
        size = _image_size(note.get("img_shape", note.get("original_shape")), where)
        facts = self._performance(name)
        yield replace(
            clip, keypoints=clip.keypoints[order], score=clip.score[order], fps=self.fps, image_size=size, **facts
        )

    def protocols(self, names: Collection[str]) -> Mapping[str, Mapping[str, Sequence[str]]]:
        result: dict[str, dict[str, Sequence[str]]] = {}
        for key, clips in self._split.items():
            before, _, part = key.rpartition("_")
            result.setdefault(before or self.protocol, {})[part] = clips
        for parts in result.values():
            if "val" in parts and "test" not in parts:
                parts["test"] = parts.pop("val")
        return result

    def _arrays(self, note: dict[str, Any], where: str) -> tuple[np.ndarray, np.ndarray | None]:
        points, score = np.asarray(note["keypoint"]), note.get("keypoint_score")
        if points.ndim != 4 or points.dtype.kind not in "fiu":
            raise UserError(f"{where}: keypoint must be numbers (persons, frames, joints, dims), has {points.shape}.")
        total = note.get("total_frames", points.shape[1])
        if total != points.shape[1]:
            raise UserError(f"{where}: {points.shape[1]} frames of keypoints, but total_frames is {total}.")
        if not len(points):
            # Detectors find nobody in some test clips; one missing person keeps the clip in the count.
            return np.zeros((1, *points.shape[1:]), np.float32), None
        return points, None if score is None else np.asarray(score)

    def _performance(self, name: str) -> dict[str, Any]:
        """Subject, camera and recording, where the clip's name tells."""
        return {}

    def _class_names(self, path: str | None) -> tuple[str, ...]:
        if path is not None:
            try:
                lines = Path(str(path)).read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"{path}: cannot be read ({error}).") from None
            return tuple(line.strip() for line in lines if line.strip())
        labels = [item.get("label") for item in self._annotations if isinstance(item, dict)]
        if self.class_count is not None:
            return numbered_classes([self.class_count - 1])
        return numbered_classes(int(label) for label in labels if isinstance(label, int | np.integer))


@READERS.register("finegym")
class FineGym(PosePickle):
    """FineGym, gym99 (``gym_hrnet.pkl``)."""

    protocol, class_count = "gym99", 99
    terms = "Annotations and poses have terms of their own (FineGym, PYSKL); check them before use."


@READERS.register("diving48")
class Diving48(PosePickle):
    """Diving48, labels V2 (``diving48_hrnet.pkl``)."""

    protocol, class_count = "diving48", 48


class _Ntu(PosePickle):
    """NTU RGB+D: the clip's name tells subject, camera, setup and performance (seen by three cameras)."""

    fps = 30.0
    terms = "NTU RGB+D: academic research only, by agreement with ROSE Lab."

    def _performance(self, name: str) -> dict[str, Any]:
        match = NTU_NAME.search(name)
        if match is None:
            return {}
        setup, camera, subject, repetition, action = match.groups()
        group = f"{setup}{subject}{repetition}{action}"
        return {"subject": subject, "camera": camera, "setup": setup, "group": group}

    def _class_names(self, path: str | None) -> tuple[str, ...]:
        return NTU_CLASSES[: self.class_count] if path is None else super()._class_names(path)


@READERS.register("ntu60_hrnet")
class Ntu60(_Ntu):
    """NTU RGB+D 60 (``ntu60_hrnet.pkl`` in 2-D, ``ntu60_3danno.pkl`` in 3-D); protocols xsub and xview."""

    class_count = 60


@READERS.register("ntu120_hrnet")
class Ntu120(_Ntu):
    """NTU RGB+D 120 (``ntu120_hrnet.pkl``, ``ntu120_3danno.pkl``); protocols xsub and xset."""

    class_count = 120


def _plain_split(split: Any, src: Path) -> dict[str, list[str]]:
    lists = (list, tuple, set, np.ndarray)
    if not isinstance(split, dict) or not all(isinstance(names, lists) for names in split.values()):
        raise UserError(f"{src}: 'split' must map names to lists of clips.")
    return {str(key): sorted(map(str, names)) for key, names in split.items()}


def _joints(note: Any) -> tuple[int, int] | None:
    """(V, C) of an annotation, if it looks sound."""
    points = note.get("keypoint") if isinstance(note, dict) else None
    if isinstance(points, np.ndarray) and points.ndim == 4 and points.shape[3] in (2, 3):
        return points.shape[2], points.shape[3]
    return None


def _label(value: Any, where: str, name: str) -> int:
    if not isinstance(value, int | np.integer):
        raise UserError(f"{where}: clip '{name}': label {value!r:.40} is no whole number.")
    return int(value)


def _image_size(value: Any, where: str) -> tuple[int, int] | None:
    if value is None:
        return None
    if np.shape(value) != (2,) or not all(side > 0 for side in value):
        raise UserError(f"{where}: img_shape {value!r:.40} is not (height, width).")
    return int(value[0]), int(value[1])
