"""A predictor: clips, recordings and streams in, labels out; a subclass puts the network in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from skelgraph.data.clip import Clip
from skelgraph.data.store import Store
from skelgraph.errors import UserError
from skelgraph.prediction.inputs import (
    Adapter,
    ClipArrays,
    InputSpec,
    as_clips,
    cut,
    split_persons,
    where_possible,
    while_seen,
)
from skelgraph.prediction.results import Prediction, Timeline, over_windows
from skelgraph.topology import Topology

if TYPE_CHECKING:
    from skelgraph.prediction.stream import Stream

BATCH = 64
Item = TypeVar("Item")
Person = tuple[int | None, Clip]


class ClipPredictor:
    """Labels for poses, made as the test of a run makes them.

    Args:
        spec: what the run takes of a clip.
        classes: K names.

    Attributes:
        spec, classes: as given.
    """

    def __init__(self, spec: InputSpec, classes: Sequence[str]) -> None:
        self.spec, self.classes = spec, tuple(classes)

    def scores(self, arrays: ClipArrays) -> np.ndarray:
        """Probabilities (N, K), the mean over the views of each clip."""
        raise NotImplementedError

    def predict(
        self, keypoints: Any, score: Any = None, *, fps: float | None = None,
        image_size: tuple[int, int] | None = None, topology: str | Topology | None = None,
        per_person: bool = False, allow_missing: bool = False,
    ) -> Prediction:  # fmt: skip
        """The class of every clip.

        Args:
            keypoints: an array (T, V, C), (M, T, V, C) or (N, M, T, V, C), a `Clip`, a list of either, or a `Store`.
                NaN, or all coordinates exactly 0, is a missing joint. Of more persons than in training the first are
                taken.
            score: the same shape without C, 0 = missing.
            fps, image_size: frames a second; (height, width) in pixels, which a run on image coordinates needs.
            topology: of the joints, where it is not that of the run; they are mapped by name.
            per_person: an answer for every person, each alone and from the first to the last frame that shows them.
            allow_missing: take joints that the topology does not have as not seen.

        Raises:
            UserError: clips that this run cannot read; says why.
        """
        adapter = self.adapter(keypoints, topology, allow_missing)
        clips = keypoints if isinstance(keypoints, Store) else as_clips(keypoints, score, fps, image_size)
        return self.predict_clips(clips, adapter, per_person)

    def adapter(self, data: Any, topology: str | Topology | None, allow_missing: bool = False) -> Adapter:
        """How clips of a topology become what the run takes; those of a store bring their own."""
        if isinstance(data, Store):
            return self.spec.adapter(data.topology, stored=True, allow_missing=allow_missing)
        return self.spec.adapter(None if topology is None else Topology.load(topology), allow_missing=allow_missing)

    def predict_clips(
        self, clips: Iterable[Clip], adapter: Adapter, per_person: bool = False, skipped: list[str] | None = None
    ) -> Prediction:
        """As `predict`, of clips that an `adapter` is known for; read in batches, so they need not fit in memory.

        A clip that this run cannot read ends it all; or it is left out and listed in ``skipped``, where that is given
        and another clip is left.
        """
        people: list[tuple[str, int | None]] = []
        scores, seen, notes = [np.zeros((0, len(self.classes)), np.float32)], [], _Notes(self.spec)
        for some in _in_batches(self._people(where_possible(adapter.clip, clips, skipped), per_person, notes)):
            arrays = adapter.arrays([clip for _, clip in some])
            scores.append(self.scores(arrays))
            people += [(clip.name, person) for person, clip in some]
            seen.append((arrays.score > 0).reshape(len(some), -1).mean(1))
        if not people:
            raise UserError("no clip to predict" + (": nobody is seen in any frame." if notes.clips else "."))
        return Prediction(
            self.classes, np.concatenate(scores), tuple(name for name, _ in people),
            tuple(person for _, person in people), np.concatenate(seen), notes.lines(),
        )  # fmt: skip

    def _people(self, clips: Iterable[Clip], per_person: bool, notes: _Notes) -> Iterator[Person]:
        for ready in clips:
            notes.see(ready, per_person)
            if per_person:
                yield from ((person, while_seen(one)) for person, one in split_persons(ready))
            else:
                yield None, ready

    def timeline(
        self, clip: Clip, adapter: Adapter | None = None, *, window: float | str | None = None,
        stride: float | str | None = None, per_person: bool = False,
    ) -> list[Timeline]:  # fmt: skip
        """What happens when in a long clip: one timeline, or one for every person seen.

        A window slides over the clip; a frame gets the mean probabilities of the windows around it. Windows in which
        nobody is seen are left out.

        Args:
            clip: the recording.
            adapter: of its topology; by default that of the run.
            window: frames, or seconds as ``2.5s``; by default the median length of a training clip.
            stride: likewise; by default a quarter of the window.
            per_person: a timeline for every person seen.

        Raises:
            UserError: a window in seconds without a frame rate, or below one frame; a clip this run cannot read.
        """
        adapter = adapter or self.spec.adapter(None)
        ready = adapter.clip(clip)
        rate = _rate(clip) or _rate(ready)
        size = self.spec.window(rate) if window is None else in_frames(window, rate, "window")
        step = max(1, size // 4) if stride is None else in_frames(stride, rate, "stride")
        people: list[Person] = [*split_persons(ready)] if per_person else [(None, ready)]
        return [
            Timeline(clip.name, who, self.classes, self._slide(one, clip, adapter, size, step), rate, size, step)
            for who, one in people
        ]

    def _slide(self, ready: Clip, clip: Clip, adapter: Adapter, window: int, stride: int) -> np.ndarray:
        """Probabilities (T, K) of the frames of ``clip``, which the import may have given another rate in ``ready``."""
        scale = ready.frames / clip.frames
        size, step = max(1, round(window * scale)), max(1, round(stride * scale))
        last = max(0, ready.frames - size)
        starts = [*range(0, last, step), last]
        windows = ((start, cut(ready, slice(start, start + size))) for start in starts)
        shown = ((start, part) for start, part in windows if (part.score[: self.spec.persons] > 0).any())
        kept, scores = [], [np.zeros((0, len(self.classes)), np.float32)]
        for some in _in_batches(shown):
            kept += [start for start, _ in some]
            scores.append(self.scores(adapter.arrays([part for _, part in some])))
        means = over_windows(kept, size, np.concatenate(scores), ready.frames)
        return means[np.arange(clip.frames) * ready.frames // clip.frames]

    def stream(
        self, *, window: float | str | None = None, stride: int = 1, fps: float | None = None,
        image_size: tuple[int, int] | None = None, topology: str | Topology | None = None,
        per_person: bool = False, allow_missing: bool = False,
    ) -> Stream:  # fmt: skip
        """Frames in one by one, labels out: see `skelgraph.prediction.stream.Stream`.

        Args:
            window: frames, or seconds as ``2.5s``, that an answer looks back on; by default as in `timeline`.
            stride: frames from one answer to the next.
            fps, image_size, topology, per_person, allow_missing: as in `predict`.
        """
        from skelgraph.prediction.stream import Stream

        size = self.spec.window(fps) if window is None else in_frames(window, fps, "window")
        adapter = self.adapter(None, topology, allow_missing)
        return Stream(self, adapter, size, stride, fps=fps, image_size=image_size, per_person=per_person)


class _Notes:
    """What a user should know, gathered while clips go by."""

    def __init__(self, spec: InputSpec) -> None:
        self.spec, self.clips = spec, 0
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def see(self, clip: Clip, per_person: bool) -> None:
        there, persons = np.asarray((clip.score > 0).any((1, 2))), self.spec.persons
        self.clips += 1
        odd = {
            f"more than {persons} person{'s' * (persons > 1)}, of whom the first are taken; --per-person answers for "
            "each": bool(there[persons:].any()) and not per_person,
            "no image size, so the run's own guess is taken; say --image-size":
                self.spec.image and clip.image_size is None,
            "nobody is seen, so the label means nothing": not there.any(),
            "more than four times as long as a training clip; --window gives a timeline":
                self.spec.length is not None and clip.frames > 4 * self.spec.window(clip.fps),
        }  # fmt: skip
        for text, holds in odd.items():
            if holds:
                self.counts[text] += 1
                self.first.setdefault(text, clip.name)

    def lines(self) -> tuple[str, ...]:
        return tuple(
            f"{count} of {self.clips} clip{'s' * (self.clips > 1)} (first {self.first[text]}): {text}."
            for text, count in self.counts.items()
        )


def in_frames(value: float | str, fps: float | None, what: str) -> int:
    """A length in frames: a number of frames, or seconds as ``2.5s``.

    Raises:
        UserError: no such length, or seconds without a frame rate.
    """
    text = str(value).strip().lower()
    try:
        number = float(text.removesuffix("s"))
        sound = np.isfinite(number)
    except ValueError:
        sound = False
    if not sound:
        raise UserError(f"{what} '{value}': write frames (48) or seconds (2.5s).")
    if text.endswith("s"):
        if fps is None:
            raise UserError(f"{what} '{value}': the frame rate is not known; say --fps, or give the {what} in frames.")
        number *= fps
    elif number != int(number):
        raise UserError(f"{what} '{value}': frames are whole; seconds are written {number:g}s.")
    if not 1 <= round(number) < 1_000_000:
        raise UserError(f"{what} '{value}': that is {number:g} frames, which is too {'few' if number < 1 else 'many'}.")
    return round(number)


def _rate(clip: Clip) -> float | None:
    """Frames a second, by the time stamps where there are any."""
    if clip.timestamps is not None and clip.frames > 1:
        return float(1 / np.median(np.diff(clip.timestamps)))
    return clip.fps


def _in_batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    rest = iter(items)
    while some := list(islice(rest, BATCH)):
        yield some
