"""Recordings made with MediaPipe Pose, Hands or Holistic: json of results, npy, csv or parquet of landmarks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from skelgraph.data.clip import Clip
from skelgraph.data.readers import mediapipe_arrays, mediapipe_json
from skelgraph.data.readers.base import READERS
from skelgraph.data.readers.json_file import load_json
from skelgraph.data.readers.mediapipe_parts import TOPOLOGIES, Recording, mirror, points_of
from skelgraph.data.readers.npy import load_array
from skelgraph.data.readers.own_files import OwnFiles, natural, parse_image
from skelgraph.data.readers.tracks import STEP, Found, follow
from skelgraph.errors import UserError, unknown
from skelgraph.topology import Topology

PIXELS = "pixels"
PEEK = 20
ASK = (
    "MediaPipe's x and y are shares of the picture's width and height, so its size is needed: say -o image=1280x720 "
    "(-o image=pixels if they are pixels already, -o image=1x1 if nobody knows the size)"
)


@READERS.register("mediapipe")
class MediaPipe(OwnFiles):
    """Own recordings by MediaPipe: json of Tasks results, or Holistic landmarks as npy, csv or parquet.

    A clip is a file, a folder of files with a frame each, or a sequence of a table. The layout is ``mediapipe33``,
    ``mediapipe_holistic`` or ``hand21`` (the left and the right hand as two persons): what the first files hold, or
    what --topology says.

    Args:
        src: a file, or a folder with files at any depth.
        topology: one of the three; other layouts by --map.
        image: size of the picture as ``1280x720``, unless the file has ``width`` and ``height``; ``pixels`` = x and y
            are pixels already.
        landmarks: ``image``: 2-D, in pixels. ``world``: 3-D, in metres, origin between the hips.
        z: keep the depth of image landmarks as a third coordinate, in widths times pixels; it is a rough guess of the
            model relative to the hips or the wrist, so it is dropped by default.
        mirrored: the picture was a mirrored selfie: turn it around and swap left and right.
        min_score: landmarks of a smaller visibility are missing.
        labels, fps, persons: see `OwnFiles`.

    Source: ai.google.dev/edge/mediapipe/solutions/vision (pose, hand and holistic landmarker).
    """

    up = "-y"
    suffixes = (".json", ".jsonl", ".npy", ".csv", ".parquet")

    def __init__(
        self, src: Path, *, topology: str | None = None, image: str | None = None,
        landmarks: Literal["image", "world"] = "image", z: bool = False, mirrored: bool = False, min_score: float = 0.0,
        labels: str | None = None, fps: float | None = None, persons: int = 2,
    ) -> None:  # fmt: skip
        if landmarks not in ("image", "world"):
            raise unknown("landmarks", landmarks, ("image", "world"), "mediapipe")
        if topology is not None and topology not in TOPOLOGIES:
            raise UserError(f"--topology {topology}: mediapipe gives {', '.join(TOPOLOGIES)}; for others use --map.")
        if not isinstance(z, bool) or not isinstance(mirrored, bool):
            raise UserError("mediapipe: z and mirrored are true or false.")
        self.world, self.z, self.mirrored, self.min_score = landmarks == "world", z, mirrored, float(min_score)
        self.image = None if image == PIXELS else parse_image(image)
        self.in_pixels = image == PIXELS
        super().__init__(src, labels=labels, fps=fps, persons=persons)
        self.dims = 3 if self.world or z else 2
        self.units = "metres" if self.world else "pixels"
        self.topology = topology or self._peek()
        self._layout = Topology.load(self.topology)
        self.steps = [
            {"name": "landmarks", "which": landmarks, "z": self.dims == 3, "min_score": self.min_score},
            *([{"name": "mirror", "why": "selfie"}] if mirrored else []),
            *([STEP] if self.topology == "mediapipe33" else []),
        ]

    def find(self) -> Sequence[Path]:
        files = self.files(self.src)
        if files and self.src.is_dir() and self._is_frame(files[0]):
            return sorted({file.parent for file in files}, key=natural)
        return files

    def read(self, item: Path) -> Iterator[Clip]:
        for part, recording in self._recordings(item):
            base = self.name_of(item)
            name = f"{base}/{part}" if part else base
            keypoints, score = self._joints(recording, item)
            yield Clip.of(
                name, keypoints, score, fps=None if recording.times is not None else recording.fps or self.fps,
                timestamps=recording.times, image_size=None if self.world else self.image or recording.image_size,
                **self.facts(item, name),
            )  # fmt: skip

    def _joints(self, recording: Recording, item: Path) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints (M, T, V, C) and score (M, T, V)."""
        height, width = self._scale(recording, item)
        frames = []
        for frame in recording.frames:
            people = []
            for points in points_of(frame, self.topology or "", self.world):
                scaled = points * (width, height, width, 1.0)
                # Turning round must not need the width where only differences count.
                people.append(mirror(scaled, self._layout, width if width > 1 else 0) if self.mirrored else scaled)
            if self.mirrored and self.topology == "hand21" and not recording.handed:
                people.reverse()
            frames.append([self._found(points) for points in people])
        if self.topology != "hand21":
            return follow(frames, len(self._layout.joints), self.dims, self.persons)
        keypoints = np.stack([[hand.points for hand in frame] for frame in frames], 1)
        score = np.stack([[hand.score for hand in frame] for frame in frames], 1)
        there = score.any((1, 2))
        kept = there if there.any() else np.array([True, False])
        return keypoints[kept], score[kept]

    def _found(self, points: np.ndarray) -> Found:
        seen = np.isfinite(points).all(-1) & (points[:, 3] > 0) & (points[:, 3] >= self.min_score)
        return Found(
            np.where(seen[:, None], points[:, : self.dims], 0).astype(np.float32),
            np.where(seen, points[:, 3], 0).clip(0, 1).astype(np.float32),
        )

    def _scale(self, recording: Recording, item: Path) -> tuple[float, float]:
        """Height and width that landmarks are shares of."""
        if self.world or self.in_pixels:
            return 1.0, 1.0
        size = self.image or recording.image_size
        if size is None:
            raise UserError(f"{item}: {ASK}.")
        return float(size[0]), float(size[1])

    def _recordings(self, item: Path) -> Iterator[tuple[str, Recording]]:
        if item.is_dir():
            yield "", _joined([self._one(file) for file in self.files(item) if file.parent == item])
        elif item.suffix.lower() in (".csv", ".parquet"):
            yield from mediapipe_arrays.read_table(item)
        else:
            yield "", self._one(item)

    def _one(self, path: Path) -> Recording:
        if path.suffix.lower() == ".npy":
            return mediapipe_arrays.read_array(path)
        return mediapipe_json.read_json(path, self.world)

    def _is_frame(self, path: Path) -> bool:
        if path.suffix.lower() == ".npy":
            return mediapipe_arrays.is_one_frame(load_array(path))
        return path.suffix.lower() == ".json" and mediapipe_json.is_one_frame(load_json(path))

    def _peek(self) -> str:
        """The layout of the first files in which anybody is, once it is clear how they are scaled."""
        fault: UserError | None = None
        for item in islice(self._items, PEEK):
            try:
                for _, recording in self._recordings(item):
                    self._scale(recording, item)
                    if recording.topology() is not None:
                        return str(recording.topology())
            except UserError as error:
                fault = fault or error
        raise fault or UserError(f"{self.src}: nobody is seen in the first {PEEK} clips; say --topology.")

    def name_of(self, item: Any) -> str:
        return self._root.name if Path(item) == self._root else super().name_of(item)


def _joined(frames: list[Recording]) -> Recording:
    """A recording from files with a frame each."""
    first = frames[0]
    return replace(first, frames=[frame for part in frames for frame in part.frames], times=None)
