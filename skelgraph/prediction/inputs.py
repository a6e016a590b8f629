"""What a finished run takes of any clip: its joints, persons, frames and views, as in its test; numpy only.

Letters: N clips, M persons, T frames, L frames of one clip, V joints, C coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from skelgraph.data import sampling
from skelgraph.data.clip import Clip, as_numbers
from skelgraph.data.clip_steps import ClipStep, FrameRate, MapJoints, apply, bind, recorded
from skelgraph.data.sampling import choose, take_frames
from skelgraph.errors import UserError
from skelgraph.topology import Topology
from skelgraph.topology_map import TopologyMap

Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True)
class ClipArrays:
    """Clips as a network takes them; the views of a clip follow one another.

    Shapes:
        keypoints (N * views, M, T, V, C) and score (N * views, M, T, V), 0 = missing; image_size (N * views, 2) height
        and width, NaN = unknown; fps (N * views,), NaN = unknown. All float32.
    """

    keypoints: np.ndarray
    score: np.ndarray
    image_size: np.ndarray
    fps: np.ndarray


@dataclass(frozen=True, eq=False)
class InputSpec:
    """What a run takes of a clip.

    Attributes:
        topology: joints of the network.
        channels, persons, frames: C, M and T.
        sampling: name and settings of the sampler, as in ``data.sampling``.
        views: crops of a clip whose probabilities are averaged.
        steps: of the import of the training data (`Meta.steps`); clip steps among them are made again.
        missing: joints that no training clip could have, since the data came from a smaller topology.
        length, fps: median frames of a training clip, and its rate where that is known.
        image: whether the transforms read the size of the image.
    """

    topology: Topology
    channels: int
    persons: int
    frames: int
    sampling: Mapping[str, Any]
    views: int = 1
    steps: tuple[Mapping[str, Any], ...] = ()
    missing: tuple[str, ...] = ()
    length: int | None = None
    fps: float | None = None
    image: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `from_dict` turns back."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**plain, "topology": self.topology.to_dict(), "sampling": dict(self.sampling)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str) -> InputSpec:
        """What `to_dict` wrote; ``source`` names the file in errors."""
        lists = {key: tuple(data[key]) for key in ("steps", "missing")}
        return cls(**{**data, **lists, "topology": Topology.from_dict(data["topology"], source)})

    def window(self, clip_fps: float | None) -> int:
        """Frames of a window as long as a training clip, at the rate of a recording."""
        if self.length is None:
            return self.frames
        faster = clip_fps / self.fps if clip_fps and self.fps else 1.0
        return max(1, round(self.length * faster))

    def adapter(self, topology: Topology | None, stored: bool = False, allow_missing: bool = False) -> Adapter:
        """How clips with the joints of ``topology`` (None: those of the run) become what the run takes.

        Args:
            topology: of the clips.
            stored: they come out of a store, so that the steps of an import are behind them.
            allow_missing: joints without partner are missing instead of an error.

        Raises:
            UserError: the topology does not have all joints of the run.
        """
        named, source = topology is not None, topology or self.topology
        steps = [] if stored else [step for step in recorded(self.steps) if self._wanted(step, source)]
        bound, made = bind(steps, source)
        mapping = None if made.joints == self.topology.joints else TopologyMap.between(made, self.topology)
        lost = [joint for joint in mapping.missing if joint not in self.missing] if mapping else []
        if lost and not (allow_missing and len(lost) < len(self.topology)):
            raise UserError(
                f"joints of '{made.name}' do not cover those of the run ('{self.topology.name}'): no partner for "
                f"{_listing(lost)}" + (". None is left." if allow_missing else
                                       "; --allow-missing (allow_missing=True) takes them as not seen.")
            )  # fmt: skip
        return Adapter(self, source, tuple(bound), mapping, named)

    @staticmethod
    def _wanted(step: ClipStep, topology: Topology) -> bool:
        return not isinstance(step, MapJoints) or step.source == topology.name


@dataclass(frozen=True, eq=False)
class Adapter:
    """Makes clips of one topology into what a run takes; made by `InputSpec.adapter`."""

    spec: InputSpec
    topology: Topology
    steps: tuple[ClipStep, ...]
    mapping: TopologyMap | None
    named: bool

    def clip(self, clip: Clip) -> Clip:
        """The clip after the steps of the import, held against the run. Joints are mapped by `arrays`.

        Raises:
            UserError: another number of joints or coordinates, or no frame.
        """
        joints, channels = clip.keypoints.shape[2:]
        if joints != len(self.topology):
            which = f"'{self.topology.name}'" if self.named else f"the run ('{self.topology.name}')"
            raise UserError(
                f"clip '{clip.name}': {joints} joints, {which} has {len(self.topology)}; say which layout they have by "
                "--topology (topology=)."
            )
        if channels != self.spec.channels:
            how = "depth is not guessed" if channels == 2 else "no axis is dropped by itself; give x and y alone"
            wanted = self.spec.channels
            raise UserError(f"clip '{clip.name}': {channels}-D joints, the run takes {wanted}-D ones; {how}.")
        if not clip.score.size:
            raise UserError(f"clip '{clip.name}': empty, it has {clip.persons} persons and {clip.frames} frames.")
        clip = without_nan(clip)
        for step in self.steps:
            if isinstance(step, FrameRate) and clip.fps is None and clip.timestamps is None:
                clip = replace(clip, fps=step.fps)
            clip = apply([step], clip)
        return clip

    def arrays(self, clips: Sequence[Clip]) -> ClipArrays:
        """Clips as arrays, each with all its views: the first M persons, T frames, the joints of the run."""
        spec = self.spec
        settings = dict(spec.sampling)
        sampler = sampling.create(settings.pop("name"), **settings)
        shape = (len(clips) * spec.views, spec.persons, spec.frames, len(clips[0].score[0, 0]))
        score = np.zeros(shape, dtype=np.float32)
        keypoints = np.zeros((*shape, spec.channels), dtype=np.float32)
        for row in range(len(score)):
            clip, view = clips[row // spec.views], row % spec.views
            points, seen = clip.keypoints[: spec.persons], clip.score[: spec.persons]
            index = choose(sampler, seen, spec.frames, None, view, spec.views)
            keypoints[row, : len(points)], score[row, : len(points)] = take_frames(points, seen, index)
        if self.mapping is not None:
            keypoints, score = self.mapping.apply(keypoints, score)
        sizes = [clip.image_size or (np.nan, np.nan) for clip in clips]
        rates = [np.nan if clip.fps is None else clip.fps for clip in clips]
        every = [np.repeat(np.asarray(values, np.float32), spec.views, axis=0) for values in (sizes, rates)]
        return ClipArrays(keypoints, score, *every)


def without_nan(clip: Clip) -> Clip:
    """The clip in which a joint with a coordinate that is no finite number is missing."""
    finite = np.isfinite(clip.keypoints).all(-1)
    if finite.all():
        return clip
    return replace(
        clip, keypoints=np.where(finite[..., None], clip.keypoints, np.float32(0)),
        score=np.where(finite, clip.score, np.float32(0)),
    )  # fmt: skip


def as_clips(
    data: Any, score: Any = None, fps: float | None = None, image_size: tuple[int, int] | None = None
) -> list[Clip]:
    """Clips out of what a user has at hand.

    Args:
        data: a `Clip`, an array or nested list (T, V, C), (M, T, V, C) or (N, M, T, V, C), or a list of clips or of
            such arrays. NaN, or all coordinates exactly 0, is a missing joint.
        score: the same shape without C, for arrays only; for a list of arrays a list.
        fps, image_size: (height, width) of clips that do not know their own.

    Raises:
        UserError: no such shape.
    """
    if isinstance(data, Clip):
        return [_known(data, fps, image_size)]
    several = isinstance(data, list | tuple) and len(data) > 0 and _is_clip(data[0])
    if not several:
        data = np.asarray(data)
        several = data.ndim == 5
    if not several:
        return [_known(_clip("clip", data, score), fps, image_size)]
    scores = [None] * len(data) if score is None else list(score)
    if len(scores) != len(data):
        raise UserError(f"{len(data)} clips, but scores of {len(scores)}.")
    clips = [
        item if isinstance(item, Clip) else _clip(f"clip_{number:06d}", item, one)
        for number, (item, one) in enumerate(zip(data, scores, strict=True))
    ]
    return [_known(clip, fps, image_size) for clip in clips]


def where_possible(
    make: Callable[[Given], Made], items: Iterable[Given], skipped: list[str] | None = None
) -> Iterator[Made]:
    """``make`` of every item; what it cannot be made of is listed in ``skipped``.

    Raises:
        UserError: it can be made of none; or of one, and there is no list.
    """
    first, made = None, False
    for item in items:
        try:
            result = make(item)
        except UserError as error:
            if skipped is None:
                raise
            first = first or error
            skipped.append(str(error))
        else:
            made = True
            yield result
    if first is not None and not made:
        raise first


def split_persons(clip: Clip) -> list[tuple[int, Clip]]:
    """Every person who is seen as a clip of their own, with the place in the list; all frames are kept."""
    there = [person for person in range(clip.persons) if (clip.score[person] > 0).any()]
    return [(person, replace(clip, keypoints=clip.keypoints[[person]], score=clip.score[[person]])) for person in there]


def while_seen(clip: Clip) -> Clip:
    """The clip from the first to the last frame in which anybody is seen."""
    frames = np.flatnonzero((clip.score > 0).any((0, 2)))
    if not len(frames):
        return clip
    part = slice(int(frames[0]), int(frames[-1]) + 1)
    return cut(clip, part)


def cut(clip: Clip, part: slice) -> Clip:
    """Some frames of a clip."""
    times = None if clip.timestamps is None else clip.timestamps[part]
    return replace(clip, keypoints=clip.keypoints[:, part], score=clip.score[:, part], timestamps=times, segments=None)


def _is_clip(item: Any) -> bool:
    return isinstance(item, Clip) or getattr(item, "ndim", 0) >= 3


def _clip(name: str, data: Any, score: Any) -> Clip:
    try:
        points = as_numbers(data)
    except ValueError as error:
        raise UserError(f"{name}: keypoints are no regular array of numbers ({error}).") from None
    return without_nan(Clip.of(name, points, score))


def _known(clip: Clip, fps: float | None, image_size: tuple[int, int] | None) -> Clip:
    changes: dict[str, Any] = {}
    if fps is not None and clip.fps is None:
        changes["fps"] = float(fps)
    if image_size is not None and clip.image_size is None:
        changes["image_size"] = tuple(image_size)
    return replace(clip, **changes) if changes else clip


def _listing(joints: Sequence[str], most: int = 5) -> str:
    return ", ".join(joints[:most]) + (f" and {len(joints) - most} more" if len(joints) > most else "")
