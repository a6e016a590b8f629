"""Sixteen signs as MediaPipe Holistic landmarks of hands and body, one npz without pickle (``asl16.npz``)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from skelgraph.data.clip import Clip
from skelgraph.data.readers.base import READERS, Reader, need_file, need_items
from skelgraph.data.readers.npz import load_arrays
from skelgraph.errors import UserError

POINTS, FACE = 79, 4
PARTS = {"Train": "train", "Valid": "val", "Test": "test"}
EMPTY = "empty"
FOLDS = 5


@READERS.register("mediapipe-signs")
class MediapipeSigns(Reader):
    """Signs as MediaPipe Holistic landmarks, 15 classes of 2-D joints; protocols authors, fold1 to fold5.

    Arrays: ``keypoints (N, T, 79, 2)``, ``label``, ``split`` (a place in ``split_names``: Train, Valid, Test), ``seq``,
    ``class_names``, ``split_names``. Of the 79 points the first 4, an outline of the face, are left out; the rest are
    33 of the pose, 21 of the left and 21 of the right hand. A part that was not found is zeros and so missing. The
    picture is mirrored, so what is called left may be the signer's right. Picture size and frame rate are not known.

    * ``authors``: train, val and test of the authors.
    * ``foldK``: of every class the K-th fifth of its clips in the order of the file is tested, the rest trained.

    All of them have the same few signers in train and test, and measure nothing about a new signer.

    Args:
        src: ``asl16.npz``, or its folder.
        empty: keep the class "empty", nobody in view, in which all clips but one have no joint at all.
    """

    in_memory = True
    topology, dims, units, up = "mediapipe_holistic", 2, "pixels", "-y"
    source = "MediaPipe landmarks of 16 signs (github AdrLfv/sign_language_recognition_AI_with_mediapipe)"
    terms = "No licence stated, and landmarks of identifiable people: do not republish."

    def __init__(self, src: Path, *, empty: bool = False) -> None:
        super().__init__(need_file(src / "asl16.npz" if src.is_dir() else src))
        if not isinstance(empty, bool):
            raise UserError(f"mediapipe-signs: empty is true or false, not '{empty}'.")
        data = load_arrays(self.src, ("keypoints", "label", "split", "seq", "class_names", "split_names"))
        self._keypoints, self._label, self._split, self._seq = (
            data[key] for key in ("keypoints", "label", "split", "seq")
        )
        self._class_names = tuple(str(name) for name in data["class_names"])
        self._split_names = tuple(str(name) for name in data["split_names"])
        self._check()
        self.classes = tuple(name for name in self._class_names if empty or name != EMPTY)
        left_out = () if empty else ({"name": "class left out", "class": EMPTY},)
        self.steps = ({"name": "points left out", "points": "0-3 (face mesh 10, 152, 234, 454)"}, *left_out)

    def items(self) -> Sequence[int]:
        kept = [row for row, label in enumerate(self._label) if self._class_names[label] in self.classes]
        return need_items(kept, self.src, "clip")

    def title(self, item: int) -> str:
        return f"{self.src}, clip {item}"

    def read(self, item: int) -> Iterator[Clip]:
        label = self.classes.index(self._class_names[self._label[item]])
        yield Clip.of(self._name(item), self._keypoints[item, :, FACE:], label=label)

    def protocols(self, names: Collection[str]) -> Mapping[str, Mapping[str, Sequence[str]]]:
        rows = self.items()
        folds = self._folds()
        result = {
            "authors": {part: [self._name(row) for row in rows if self._part(row) == part] for part in PARTS.values()}
        }
        for fold in range(FOLDS):
            result[f"fold{fold + 1}"] = {
                "train": [self._name(row) for row in rows if folds[row] != fold],
                "test": [self._name(row) for row in rows if folds[row] == fold],
            }
        return result

    def _folds(self) -> np.ndarray:
        """Fold of each clip, ``(N,)``; blocks rather than every fifth, since neighbours in the file look most alike."""
        folds = np.zeros(len(self._label), np.int64)
        for label in np.unique(self._label):
            rows = np.flatnonzero(self._label == label)
            folds[rows] = np.arange(len(rows)) * FOLDS // len(rows)
        return folds

    def _part(self, item: int) -> str:
        return PARTS[self._split_names[self._split[item]]]

    def _name(self, item: int) -> str:
        return f"{self._class_names[self._label[item]]}_{self._part(item)}_{self._seq[item]:02d}"

    def _check(self) -> None:
        shape = self._keypoints.shape
        if len(shape) != 4 or shape[2:] != (POINTS, 2):
            raise UserError(f"{self.src}: keypoints have shape {shape}, not (clips, frames, {POINTS}, 2).")
        for key, values in (("label", self._label), ("split", self._split), ("seq", self._seq)):
            if values.shape != shape[:1] or values.dtype.kind not in "iu":
                raise UserError(f"{self.src}: {key} must be one whole number for each of the {shape[0]} clips.")
        unknown = sorted(set(self._split_names) - set(PARTS))
        if unknown:
            raise UserError(f"{self.src}: split_names has '{unknown[0]}', expected {', '.join(PARTS)}.")
        for key, values, limit in (
            ("label", self._label, len(self._class_names)),
            ("split", self._split, len(self._split_names)),
        ):
            wrong = np.flatnonzero((values < 0) | (values >= limit))
            if wrong.size:
                raise UserError(f"{self.src}: {key} of clip {wrong[0]} is {values[wrong[0]]}, not 0 to {limit - 1}.")
