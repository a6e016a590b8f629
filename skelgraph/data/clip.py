"""One recorded sequence: `Clip`.

Letters: M persons, T frames, V joints, C coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from skelgraph.errors import UserError
from skelgraph.topology import Topology

Segment = tuple[int, int, int]
LONGEST_TEXT = 1000
LARGEST_SIDE = 1_000_000


@dataclass(frozen=True, eq=False)
class Clip:
    """Joints of one sequence, and what is known about it.

    Attributes:
        name: unique within a store.
        keypoints: (M, T, V, C) float32; a missing joint is stored as 0.
        score: (M, T, V) float32 in [0, 1]; 0 = missing.
        label: class number; None = unlabelled.
        fps: frames a second, where constant and known.
        timestamps: (T,) seconds, where frames are not evenly spaced.
        image_size: (height, width) in pixels, for coordinates in an image.
        subject, camera, setup: who, seen from where, recorded how; as text.
        group: the recording or performance; clips of one group are never separated by a validation split.
        segments: (start, end, label) of an untrimmed take, frames, end not included.
        modalities: further data of the same clip by name: an array, steps first, or a file or folder.
        modality_times: (S,) seconds of each step of a modality, where known, by the clock of ``timestamps``, or from
            the first frame on.
    """

    name: str
    keypoints: np.ndarray
    score: np.ndarray
    label: int | None = None
    fps: float | None = None
    timestamps: np.ndarray | None = None
    image_size: tuple[int, int] | None = None
    subject: str | None = None
    camera: str | None = None
    setup: str | None = None
    group: str | None = None
    segments: tuple[Segment, ...] | None = None
    modalities: Mapping[str, np.ndarray | Path] = field(default_factory=dict)
    modality_times: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, keypoints: Any, score: Any = None, **fields: Any) -> Clip:
        """A clip from raw arrays: casts to float32, clamps the score, zeroes what is missing.

        Args:
            name: unique within a store.
            keypoints: (M, T, V, C), or (T, V, C) for one person.
            score: (M, T, V) or (T, V); None = 1 everywhere. In both cases a joint whose coordinates are all exactly 0
                is missing, since that is how every known source writes it.
            fields: the other attributes of `Clip`.

        Raises:
            UserError: the arrays have no such shape.
        """
        points = _numbers(name, "keypoints", keypoints)
        points = points[None] if points.ndim == 3 else points
        if points.ndim != 4:
            raise UserError(f"clip '{name}': keypoints have shape {points.shape}, not (persons, frames, joints, dims).")
        seen = np.ones(points.shape[:3], np.float32) if score is None else _numbers(name, "score", score)
        seen = seen[None] if seen.ndim == 2 else seen
        if seen.shape != points.shape[:3]:
            raise UserError(f"clip '{name}': score has shape {seen.shape}, the keypoints need {points.shape[:3]}.")
        seen = np.clip(np.nan_to_num(seen, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)
        seen = np.where((points != 0).any(-1), seen, np.float32(0)).astype(np.float32)
        points = np.where(seen[..., None] > 0, points, np.float32(0))
        return cls(name=name, keypoints=points, score=seen, **fields)

    @property
    def persons(self) -> int:
        """M."""
        return self.keypoints.shape[0]

    @property
    def frames(self) -> int:
        """T."""
        return self.keypoints.shape[1]

    def check(self, topology: Topology, dims: int, num_classes: int, source: str = "") -> None:
        """Hold the clip against what its store promises.

        Args:
            topology: its joints are counted.
            dims: C, 2 or 3.
            num_classes: labels run from 0 to this number minus one.
            source: the file it came from, for the message.

        Raises:
            UserError: wrong number of joints or coordinates, no person or no frame, NaN or Inf in a visible joint, a
                label out of range; names file and clip. A clip in which no joint is visible is sound: published
                sets have such clips, and leaving them out would flatter the figures.
        """
        where = f"{source}: clip '{self.name}'" if source else f"clip '{self.name}'"
        self._check_facts(source)
        if self.keypoints.ndim != 4 or self.score.shape != self.keypoints.shape[:3]:
            raise UserError(f"{where}: keypoints {self.keypoints.shape} and score {self.score.shape} do not agree.")
        joints, channels = self.keypoints.shape[2:]
        if joints != len(topology.joints):
            raise UserError(
                f"{where}: {joints} joints, but topology '{topology.name}' has {len(topology.joints)}; "
                "choose another with --topology."
            )
        if channels != dims:
            raise UserError(f"{where}: {channels} coordinates a joint, expected {dims}.")
        if not self.score.size:
            raise UserError(f"{where}: empty, it has {self.persons} persons and {self.frames} frames.")
        self._check_numbers(where)
        self._check_modalities(where)
        self._check_labels(where, num_classes)

    def _check_facts(self, source: str) -> None:
        """Text and picture size, which a store cannot hold at any price."""
        for key in ("name", "subject", "camera", "setup", "group"):
            text = getattr(self, key)
            if text is None and key != "name":
                continue
            sound = isinstance(text, str) and text.isprintable() and len(text) <= LONGEST_TEXT
            if not sound or (key == "name" and not text.strip()):
                where = f"{source}: " if source else ""
                raise UserError(f"{where}{key} {ascii(text)[:60]} is no line of 1 to {LONGEST_TEXT} printable letters.")
        if self.image_size is not None and not all(1 <= side <= LARGEST_SIDE for side in self.image_size):
            where = f"{source}: clip '{self.name}'" if source else f"clip '{self.name}'"
            raise UserError(f"{where}: a picture of {self.image_size[0]} by {self.image_size[1]} pixels.")

    def _check_numbers(self, where: str) -> None:
        if not np.isfinite(self.keypoints).all():
            person, frame, joint = np.argwhere(~np.isfinite(self.keypoints).all(-1))[0]
            raise UserError(
                f"{where}: not a finite number at person {person}, frame {frame}, joint {joint}; "
                "a missing joint must have score 0."
            )
        if not ((self.score >= 0) & (self.score <= 1)).all():
            raise UserError(f"{where}: a score lies outside [0, 1].")
        if ((self.score == 0) & (self.keypoints != 0).any(-1)).any():
            raise UserError(f"{where}: a missing joint (score 0) has coordinates other than 0; make clips by Clip.of.")
        if self.timestamps is not None and np.shape(self.timestamps) != (self.frames,):
            raise UserError(f"{where}: {np.size(self.timestamps)} timestamps for {self.frames} frames.")
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise UserError(f"{where}: {self.fps} frames a second.")

    def _check_modalities(self, where: str) -> None:
        for name, item in self.modalities.items():
            if isinstance(item, np.ndarray) and (not item.size or item.dtype.kind not in "fiu"):
                raise UserError(
                    f"{where}: modality '{name}' is {item.dtype} of shape {item.shape}, no steps of numbers."
                )
            times = self.modality_times.get(name)
            if times is None:
                continue
            if isinstance(item, np.ndarray) and np.shape(times) != item.shape[:1]:
                raise UserError(f"{where}: modality '{name}' has {len(item)} steps and {np.size(times)} times.")
            if np.ndim(times) != 1 or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
                raise UserError(f"{where}: modality '{name}': its times are not seconds that go up.")

    def _check_labels(self, where: str, num_classes: int) -> None:
        if self.label is not None and not 0 <= self.label < num_classes:
            raise UserError(f"{where}: label {self.label} out of range, there are {num_classes} classes.")
        for start, end, label in self.segments or ():
            if not 0 <= start < end <= self.frames:
                raise UserError(f"{where}: segment {start}-{end} lies outside its {self.frames} frames.")
            if not 0 <= label < num_classes:
                raise UserError(f"{where}: segment label {label} out of range, there are {num_classes} classes.")


def as_numbers(values: Any) -> np.ndarray:
    """Anything array-like as float32; a number beyond its range becomes infinite.

    Raises:
        ValueError: text, ragged lists, whole numbers beyond any float.
    """
    try:
        with np.errstate(over="ignore"):
            return np.asarray(values, dtype=np.float32)
    except (TypeError, OverflowError) as error:
        raise ValueError(error) from None


def _numbers(name: str, what: str, values: Any) -> np.ndarray:
    try:
        return as_numbers(values)
    except ValueError as error:
        raise UserError(f"clip '{name}': {what} are no regular array of numbers ({error}).") from None
