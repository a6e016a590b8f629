"""A live recogniser: frames in one by one, labels out, and the same as lines of JSON.

    >>> from skelgraph.prediction.stream import parse_frame
    >>> parse_frame('{"keypoints": [[1, 2], [null, null]]}', "line 1")[0].shape
    (1, 2, 2)

Letters: M persons, V joints, C coordinates, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from skelgraph.data.clip import Clip, as_numbers
from skelgraph.errors import UserError, shortened
from skelgraph.prediction.base import ClipPredictor
from skelgraph.prediction.inputs import Adapter, split_persons, while_seen
from skelgraph.prediction.results import best

Frame = tuple[np.ndarray | None, np.ndarray | None]


@dataclass(frozen=True, eq=False)
class Moment:
    """What a stream says at one frame.

    Attributes:
        frame: its number, from 0.
        classes: K names.
        probabilities: (K,) by person; the key None stands for all persons together. Empty while the first window is not
            full, and where nobody is seen.
        per_person: whether every person has an answer of their own.
    """

    frame: int
    classes: tuple[str, ...]
    probabilities: Mapping[int | None, np.ndarray]
    per_person: bool = False

    @property
    def label(self) -> str | None:
        """The most probable class (of the first person, where each has an answer); None where there is no answer."""
        scores = next(iter(self.probabilities.values()), None)
        return None if scores is None else self.classes[int(scores.argmax())]

    def to_dict(self, top: int = 3) -> dict[str, Any]:
        """Plain data, with the ``top`` most probable classes (0 = all)."""
        answers = {person: _answer(best(scores, self.classes, top)) for person, scores in self.probabilities.items()}
        if self.per_person:
            return {"frame": self.frame, "persons": [{"person": key, **value} for key, value in answers.items()]}
        return {"frame": self.frame, **answers.get(None, {"label": None, "probability": None, "top": {}})}


def _answer(top: dict[str, float]) -> dict[str, Any]:
    label, probability = next(iter(top.items()))
    rounded = {name: round(value, 6) for name, value in top.items()}
    return {"label": label, "probability": round(probability, 6), "top": rounded}


class Stream:
    """Looks back on the last frames at every ``stride``-th one; made by `ClipPredictor.stream`.

    The last ``window`` frames lie in a ring buffer and are answered as a clip of that length would be. Until it is
    full there is no answer. A person is a place in the list of a frame: a tracker before the stream keeps them apart.

    Args:
        predictor: gives the labels.
        adapter: of the joints that are pushed.
        window, stride: frames.
        fps, image_size: of the recording.
        per_person: an answer for every person seen in the window.
    """

    def __init__(
        self, predictor: ClipPredictor, adapter: Adapter, window: int, stride: int = 1, *, fps: float | None = None,
        image_size: tuple[int, int] | None = None, per_person: bool = False,
    ) -> None:  # fmt: skip
        if stride < 1:
            raise UserError(f"stride {stride}: an answer comes every frame (1) or less often.")
        self.predictor, self.adapter, self.window, self.stride = predictor, adapter, window, stride
        self.fps, self.image_size, self.per_person = fps, image_size, per_person
        self.frames = 0
        # Every frame is written twice, one window apart, so that the last window always lies in one piece.
        self._points = np.zeros((1, 2 * window, len(adapter.topology), predictor.spec.channels), np.float32)
        self._score = np.zeros(self._points.shape[:3], np.float32)

    def push(self, keypoints: Any, score: Any = None) -> Moment | None:
        """Take a frame; what is said at it, or None where no answer is due.

        Args:
            keypoints: (M, V, C), or (V, C) for one person; None where nobody is seen.
            score: (M, V) or (V,), 0 = missing; NaN or all coordinates exactly 0 is missing as well.

        Raises:
            UserError: a frame of another shape.
        """
        points, seen = self._checked(keypoints, score)
        place = self.frames % self.window
        for row in (place, place + self.window):
            self._points[:, row], self._score[:, row] = 0, 0
            self._points[: len(points), row], self._score[: len(points), row] = points, seen
        self.frames += 1
        return self._moment(self.window) if self.due and self.frames >= self.window else None

    @property
    def due(self) -> bool:
        """Whether the last frame is one at which something is said, once the window is full."""
        return (self.frames - self.window) % self.stride == 0

    def finish(self) -> Moment | None:
        """At the end of a stream shorter than one window: what the frames so far say; else None."""
        return self._moment(self.frames) if 0 < self.frames < self.window else None

    def _moment(self, length: int) -> Moment:
        end = (self.frames - 1) % self.window + 1 + self.window
        part = slice(end - length, end)
        clip = Clip("stream", self._points[:, part], self._score[:, part], fps=self.fps, image_size=self.image_size)
        ready = self.adapter.clip(clip)
        people: list[tuple[int | None, Clip]] = [(None, ready)]
        if self.per_person:
            people = [(person, while_seen(one)) for person, one in split_persons(ready)]
        shown = [item for item in people if (item[1].score[: self.predictor.spec.persons] > 0).any()]
        scores = self.predictor.scores(self.adapter.arrays([one for _, one in shown])) if shown else ()
        answers = {person: row for (person, _), row in zip(shown, scores, strict=True)}
        return Moment(self.frames - 1, self.predictor.classes, answers, self.per_person)

    def _checked(self, keypoints: Any, score: Any) -> tuple[np.ndarray, np.ndarray]:
        _, _, joints, channels = self._points.shape
        try:
            points = np.zeros((0, joints, channels)) if keypoints is None else as_numbers(keypoints)
            points = points[None] if points.ndim == 2 else points
            seen = np.ones(points.shape[:-1], np.float32) if score is None else as_numbers(score)
            seen = seen.reshape(points.shape[:-1]).clip(0, 1)
        except ValueError as error:
            raise UserError(f"frame {self.frames}: no regular array of numbers ({error}).") from None
        if points.size and points.shape[1:] != (joints, channels):
            raise UserError(
                f"frame {self.frames}: {points.shape[-2:]} joints and coordinates, '{self.adapter.topology.name}' and "
                f"the run need ({joints}, {channels}); another joint layout is named by --topology (topology=)."
            )
        points = points.reshape(-1, joints, channels)
        known = np.isfinite(points).all(-1) & (points != 0).any(-1) & np.isfinite(seen.reshape(-1, joints))
        more = len(points) - len(self._points)
        if more > 0:
            self._points = np.pad(self._points, ((0, more), (0, 0), (0, 0), (0, 0)))
            self._score = np.pad(self._score, ((0, more), (0, 0), (0, 0)))
        kept = np.where(known, seen.reshape(-1, joints), np.float32(0))
        return np.where((kept > 0)[..., None], points, np.float32(0)), kept


def parse_frame(line: str, where: str) -> Frame:
    """Keypoints (M, V, C) and perhaps scores (M, V) of one line of JSON.

    A line is an array (V, C) or (M, V, C), or an object with ``keypoints`` and, where there is one, ``score``;
    ``null`` or ``[]`` is a frame that shows nobody, ``null`` in the place of a number a missing joint.

    Raises:
        UserError: no such line; says ``where``.
    """
    try:
        data = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid json ({error.msg}).") from None
    except (RecursionError, ValueError):
        raise UserError(f"{where}: not valid json (nested too deep, or a number too long).") from None
    score = data.get("score") if isinstance(data, dict) else None
    if isinstance(data, dict):
        if "keypoints" not in data:
            keys = ", ".join(data) or "none"
            raise UserError(shortened(f"{where}: an object needs the key 'keypoints'; it has {keys}."))
        data = data["keypoints"]
    if data is None or data == []:
        return None, None
    try:
        points = as_numbers(data)
        seen = None if score is None else as_numbers(score)
    except ValueError:
        raise UserError(f"{where}: keypoints or score are no regular array of numbers.") from None
    if points.ndim not in (2, 3):
        raise UserError(f"{where}: keypoints have shape {points.shape}, not (joints, dims) or (persons, joints, dims).")
    if points.ndim == 2:
        points, seen = points[None], None if seen is None else seen.reshape(1, -1)
    if seen is not None and seen.shape != points.shape[:2]:
        raise UserError(f"{where}: score has shape {seen.shape}, the keypoints need {points.shape[:2]}.")
    return points, seen


def read_frames(lines: Iterable[str], name: str) -> Iterator[Frame]:
    """Frames of lines of JSON; empty lines are passed over.

    Raises:
        UserError: a line that is no frame, or none at all; names it.
    """
    number = 0
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield parse_frame(line, f"{name}, line {number}")
    if not number:
        raise UserError(f"{name}: empty, no frame came.")


def clip_of_frames(lines: Iterable[str], name: str, file: str, fps: float | None = None) -> Clip:
    """A recorded stream as one clip.

    Raises:
        UserError: as `read_frames`, or frames that differ in joints.
    """
    frames = list(read_frames(lines, file))
    shown = [points for points, _ in frames if points is not None]
    if not shown:
        raise UserError(f"{file}: nobody is seen in any of its {len(frames)} frames.")
    if len({points.shape[1:] for points in shown}) > 1:
        raise UserError(f"{file}: its frames differ in joints or coordinates.")
    keypoints = np.zeros((max(map(len, shown)), len(frames), *shown[0].shape[1:]), np.float32)
    score = np.zeros(keypoints.shape[:3], np.float32)
    for row, (points, seen) in enumerate(frames):
        if points is not None:
            known = np.isfinite(points).all(-1, keepdims=True)
            keypoints[: len(points), row] = np.where(known, points, 0)
            score[: len(points), row] = 1 if seen is None else seen
    return Clip.of(name, keypoints, score, fps=fps)


def serve(stream: Stream, lines: Iterable[str], write: Callable[[str], None], top: int = 3) -> None:
    """Answer lines of JSON: one line for every frame, or with a stride for every ``stride``-th.

    While the first window fills up, and where nobody is seen, the label is null. A stream shorter than a window gets an
    answer at its end.

    Args:
        stream: a fresh one.
        lines: of frames, as `parse_frame` takes them.
        write: is given each answer without its line end.
        top: classes in an answer, 0 = all.
    """
    for points, score in read_frames(lines, "stdin"):
        moment = stream.push(points, score)
        if moment is None and stream.due:
            moment = Moment(stream.frames - 1, stream.predictor.classes, {}, stream.per_person)
        if moment is not None:
            write(json.dumps(moment.to_dict(top)))
    ending = stream.finish()
    if ending is not None:
        write(json.dumps({**ending.to_dict(top), "end": True}))
