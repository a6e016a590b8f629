"""Further modalities of a clip on their way into a batch: which of their steps, in which form.

Letters: N clips, L frames of the clip's skeleton, T frames of a batch, S steps of a batch, C channels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from skelgraph.batch import Modality, ModalitySpec
from skelgraph.data.media import Steps, open_steps
from skelgraph.data.modality_config import ModalityConfig
from skelgraph.data.sampling import FrameIndex
from skelgraph.data.schema import ModalityFacts
from skelgraph.data.store import ModalityItem, Store
from skelgraph.errors import UserError

# A sensor that is silent for longer than this many of its usual intervals has a gap.
GAP = 1.5


class Clock(NamedTuple):
    """How time runs in the skeleton of a clip: L, frames a second (NaN = unknown), seconds of each frame if known."""

    frames: int
    fps: float
    times: np.ndarray | None = None


def places(index: FrameIndex) -> np.ndarray:
    """Where in the clip the T frames of a batch were taken from, in frames ``(T,)``."""
    if index.second is None or index.weight is None:
        return index.first.astype(np.float64)
    return index.first + index.weight.astype(np.float64) * (index.second - index.first)


def spread(place: np.ndarray, steps: int) -> np.ndarray:
    """Places of ``steps`` points that divide the T frames evenly: point s stands in the middle of its share of them.

    Between two frames the place is interpolated; where a short clip starts again from its beginning, the nearer of the
    two counts.

    Shapes:
        place (T,), result (steps,).
    """
    at = np.clip((np.arange(steps) + 0.5) * len(place) / steps - 0.5, 0, len(place) - 1)
    low = at.astype(np.int64)
    high = np.minimum(low + 1, len(place) - 1)
    share = at - low
    share = np.where(place[high] < place[low], np.round(share), share)
    return (1 - share) * place[low] + share * place[high]


def align(place: np.ndarray, clock: Clock, count: int, times: np.ndarray | None, facts: ModalityFacts) -> np.ndarray:
    """Steps of a modality that belong to places of the skeleton; what lies outside ``[-0.5, count - 0.5]`` is missing.

    By seconds where both have them (timestamps, or a constant rate from the first frame on), else by number where both
    have as many, or from end to end where the modality spans the clip; a declared span comes first.

    Args:
        place: in frames of the clip.
        clock: of its skeleton.
        count: steps that the modality has.
        times: seconds of these, where known.
        facts: kind, rate, lag.

    Shapes:
        place (S,), times (count,), result (S,); NaN in a gap of the times.

    Raises:
        UserError: other lengths and no common clock.
    """
    timed = times is not None or facts.rate is not None
    if facts.spans:
        step = place / max(clock.frames - 1, 1) * (count - 1)
    elif timed and (clock.times is not None or np.isfinite(clock.fps)):
        step = _by_seconds(_seconds(place, clock, from_zero=times is None), times, facts.rate)
    elif count == clock.frames:
        step = place
    else:
        raise UserError(
            f"{count} steps and {clock.frames} frames of the skeleton, and no common clock: import them with rates or "
            "timestamps, or say that it spans the clip."
        )
    return step + facts.lag


def _seconds(place: np.ndarray, clock: Clock, from_zero: bool) -> np.ndarray:
    if clock.times is None:
        return place / clock.fps
    seconds = np.interp(place, np.arange(clock.frames), clock.times)
    return seconds - clock.times[0] if from_zero else seconds


def _by_seconds(seconds: np.ndarray, times: np.ndarray | None, rate: float | None) -> np.ndarray:
    if times is None:
        assert rate is not None
        return seconds * rate
    usual = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    step = np.interp(seconds, times, np.arange(len(times)))
    step = np.where(seconds < times[0], (seconds - times[0]) / usual, step)
    step = np.where(seconds > times[-1], len(times) - 1 + (seconds - times[-1]) / usual, step)
    distance = np.abs(seconds[:, None] - times[None, :]).min(1)
    inside = (seconds >= times[0]) & (seconds <= times[-1])
    return np.where(inside & (distance > GAP / 2 * usual), np.nan, step)


class ModalityReader:
    """Reads one modality of the clips of a store into arrays of fixed shape.

    Args:
        store: the clips.
        name: of the modality.
        config: what the recipe wants of it.
        frames: T, in the place of a missing ``steps``.

    Attributes:
        spec: what a model must know of it.

    Raises:
        UserError: no such modality, no clip that has it, or settings that do not go with its kind.
    """

    def __init__(self, store: Store, name: str, config: ModalityConfig, frames: int) -> None:
        self.store, self.name, self.config = store, name, config
        having = np.flatnonzero(store.has_modality(name))
        if not len(having):
            raise UserError(f"{store}: no clip has the modality '{name}'; attach it, or leave it out of the recipe.")
        first = self._open(int(having[0]))
        self.facts = store.meta.modality_facts.get(name) or ModalityFacts(kind=usual_kind(first))
        if config.lag is not None:
            self.facts = self.facts.model_copy(update={"lag": config.lag})
        steps = frames if config.steps is None else config.steps
        signs = None if self.facts.mirror is None else tuple(self.facts.mirror)
        self.spec = ModalitySpec(self.facts.kind, steps, self._shape(first), signs)
        if signs is not None and (self.facts.kind == "frames" or len(signs) != self.spec.shape[-1]):
            raise UserError(f"{store}: modality '{name}': {len(signs)} mirror signs do not go with {self.spec.shape}.")

    def empty(self, clips: int) -> tuple[np.ndarray, np.ndarray]:
        """Values (N, S, ...) and which are valid (N, S), for clips that all lack it."""
        return np.zeros((clips, self.spec.steps, *self.spec.shape), np.float32), np.zeros(
            (clips, self.spec.steps), bool
        )

    def read(self, row: int, index: FrameIndex, values: np.ndarray, valid: np.ndarray) -> None:
        """Fill in one clip of a batch; a clip that lacks the modality stays as it is.

        Args:
            row: of the store.
            index: frames of its skeleton that are in the batch.
            values, valid: its place in the batch.

        Shapes:
            values (S, ...), valid (S,).

        Raises:
            UserError: damaged, of another shape, or not to be aligned; names the clip.
        """
        item = self.store.modality(self.name, row)
        if item is None:
            return
        source = self._open(row, item)
        clock = Clock(int(self.store.frames[row]), float(self.store.fps[row]), self.store.timestamps(row))
        try:
            step = align(spread(places(index), self.spec.steps), clock, source.count, source.times, self.facts)
        except UserError as error:
            raise UserError(f"{self._where(row)}: {error}") from None
        there = np.isfinite(step) & (step >= -0.5) & (step <= source.count - 0.5)
        if there.any():
            taken, known = self._taken(source, step[there], row)
            values[there], valid[there] = taken * known.reshape(-1, *[1] * (taken.ndim - 1)), known

    def modality(self, values: np.ndarray, valid: np.ndarray) -> Modality:
        """The arrays of a batch as what travels in it."""
        return Modality(torch.from_numpy(values), torch.from_numpy(valid), self.spec.kind, self.spec.mirror)

    def _taken(self, source: Steps, step: np.ndarray, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Values at steps inside the recording ``(s, ...)`` and whether they are known ``(s,)``."""
        if self.facts.kind == "frames":
            nearest = np.clip(np.floor(step + 0.5).astype(np.int64), 0, source.count - 1)
            taken = self._pictures(source.take(nearest))
            known = np.ones(len(step), bool)
        else:
            step = np.clip(step, 0, source.count - 1)
            low = step.astype(np.int64)
            taken, known = _between(source, low, np.minimum(low + 1, source.count - 1), step - low)
            taken = ((taken - _last(self.config.offset)) * _last(self.config.scale)).astype(np.float32)
        if taken.shape[1:] != self.spec.shape:
            raise UserError(
                f"{self._where(row)}: a step has shape {taken.shape[1:]}, that of the other clips {self.spec.shape}; "
                + ("set its size." if self.facts.kind == "frames" else "import it in one shape.")
            )
        return taken, known

    def _pictures(self, raw: np.ndarray) -> np.ndarray:
        """Frames (s, h, w) or (s, h, w, C) as float32 (s, C, h, w)."""
        holes = self._has_holes(raw)
        x = torch.from_numpy(np.moveaxis(raw[..., None] if raw.ndim == 3 else raw, -1, 1).astype(np.float32))
        if raw.dtype == np.uint8:
            x = x / 255
        if self.config.size is not None and tuple(x.shape[-2:]) != tuple(self.config.size):
            x = resized(x, self.config.size, holes)
        moved = (x - _first(self.config.offset)) * _first(self.config.scale)
        return (torch.where(x == 0, x, moved) if holes else moved).numpy()

    def _has_holes(self, raw: np.ndarray) -> bool:
        if self.facts.holes is not None:
            return self.facts.holes
        return raw.dtype.kind in "iu" and raw.dtype.itemsize > 1

    def _shape(self, source: Steps) -> tuple[int, ...]:
        """Shape of one step in a batch."""
        if self.facts.kind != "frames":
            if self.config.size is not None:
                raise UserError(f"data.modalities: '{self.name}' is a {self.facts.kind}; only frames have a 'size'.")
            return source.shape
        if len(source.shape) not in (2, 3):
            raise UserError(f"{self.store}: modality '{self.name}': steps of shape {source.shape} are no frames.")
        height, width = source.shape[:2] if self.config.size is None else self.config.size
        return source.shape[2] if len(source.shape) == 3 else 1, height, width

    def _open(self, row: int, item: ModalityItem | None = None) -> Steps:
        item = item or self.store.modality(self.name, row)
        assert item is not None
        try:
            return open_steps(item.content, item.times, self.config.size)
        except UserError as error:
            raise UserError(f"{self._where(row)}: {error}") from None

    def _where(self, row: int) -> str:
        return f"clip '{self.store.names[row]}', modality '{self.name}'"


def usual_kind(source: Steps) -> str:
    """What a modality without facts is: pictures if its steps look like some, else a sequence."""
    if source.kind is not None:
        return source.kind
    shape, picture = source.shape, source.dtype.kind == "u"
    return "frames" if (picture and len(shape) == 2) or (len(shape) == 3 and shape[2] in (1, 3, 4)) else "sequence"


def resized(x: torch.Tensor, size: tuple[int, int], holes: bool) -> torch.Tensor:
    """Frames ``(s, C, h, w)`` at another size; with holes, the mean of what is there where that is half of a cell."""

    def scaled(values: torch.Tensor) -> torch.Tensor:
        return F.interpolate(values, size, mode="bilinear", antialias=True)

    if not holes:
        return scaled(x)
    share = scaled((x != 0).float())
    return torch.where(share >= 0.5, scaled(x) / share.clamp(min=0.5), torch.zeros_like(share))


def _between(
    source: Steps, low: np.ndarray, high: np.ndarray, share: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Samples between two; one that is not finite is missing, and the other then stands alone if it is the nearer."""
    wanted, back = np.unique(np.concatenate([low, high]), return_inverse=True)
    raw = np.asarray(source.take(wanted), dtype=np.float32)
    finite: np.ndarray = np.all(np.isfinite(raw.reshape(len(raw), -1)), axis=1)
    raw = np.where(finite.reshape(-1, *[1] * (raw.ndim - 1)), raw, np.float32(0))
    start, end = back[: len(low)], back[len(low) :]
    left, right = (1 - share) * finite[start], share * finite[end]
    known = np.where(share < 0.5, finite[start], finite[end])
    total = np.where(left + right > 0, left + right, 1)
    shape = (-1, *[1] * (raw.ndim - 1))
    mean = (left / total).reshape(shape) * raw[start] + (right / total).reshape(shape) * raw[end]
    return mean.astype(np.float32), known


def _last(number: float | list[float]) -> np.ndarray:
    return np.asarray(number, dtype=np.float32)


def _first(number: float | list[float]) -> torch.Tensor:
    """One number, or one for each channel of frames."""
    return torch.as_tensor(number, dtype=torch.float32).reshape(-1, 1, 1)
