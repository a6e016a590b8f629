"""Which frames of a clip become the T frames of a batch.

All chance is a function of (seed, epoch, clip, position in the epoch), so that neither the batch a clip falls into nor
an interruption changes its crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from skelgraph.errors import UserError, unknown
from skelgraph.registry import Registry

SAMPLERS: Registry = Registry("sampling")

PYSKL_TEST_SEED = 255
DROPS = ("none", "empty", "absent")


@dataclass(frozen=True)
class FrameIndex:
    """Frame t of the result is ``(1 - weight[t]) * clip[first[t]] + weight[t] * clip[second[t]]``; each of shape (T,).

    ``weight`` None stands for zeros: frames are taken as they are.
    """

    first: np.ndarray
    second: np.ndarray | None = None
    weight: np.ndarray | None = None

    def within(self, kept: np.ndarray) -> FrameIndex:
        """The same choice, where the frames chosen from were the frames ``kept (L,)`` of a longer clip."""
        return FrameIndex(kept[self.first], None if self.second is None else kept[self.second], self.weight)


class Sampler(Protocol):
    """Chooses ``frames`` frames out of ``length``; ``chance`` is None outside training, ``view`` counts test crops."""

    def __call__(
        self, length: int, frames: int, chance: np.random.Generator | None, view: int = 0, views: int = 1
    ) -> FrameIndex: ...


class Chance:
    """Generators by key, at a tenth of what a new one costs: one Philox whose key is set anew.

    The generator of one call is the same object as that of the next, so it must be used up before.
    """

    def __init__(self) -> None:
        self._bits = np.random.Philox(key=0)
        self._generator = np.random.Generator(self._bits)
        self._begin = self._bits.state

    def __call__(self, seed: int, epoch: int, clip: int, position: int) -> np.random.Generator:
        """The generator that belongs to one draw of one clip."""
        key = self._begin["state"]["key"]
        key[0] = (seed & 0xFFFFFFFF) << 32 | epoch & 0xFFFFFFFF
        key[1] = (clip & 0xFFFFFFFF) << 32 | position & 0xFFFFFFFF
        self._bits.state = self._begin
        return self._generator


def generator(seed: int, epoch: int, clip: int, position: int) -> np.random.Generator:
    """A generator of one's own for one draw of one clip."""
    return Chance()(seed, epoch, clip, position)


class FrameSampler:
    """Base of the samplers: which frames there are to choose from.

    Args:
        drop: ``none`` chooses from all stored frames; ``empty`` leaves those out in which nobody is seen; ``absent``
            those without the person seen in most frames (PYSKL's ``PreNormalize3D``, so BRL).

    Raises:
        UserError: no such ``drop``.
    """

    def __init__(self, *, drop: str = "none") -> None:
        if drop not in DROPS:
            raise unknown("value of 'drop'", drop, DROPS, "sampling")
        self.drop = drop


def kept_frames(seen: np.ndarray, drop: str) -> np.ndarray:
    """Frames of a clip that are left to choose from, in order; all of them where none would be left.

    Args:
        seen: (M, L, V), 0 = missing.
        drop: ``empty`` or ``absent``, as `FrameSampler` says.
    """
    there = np.asarray((seen > 0).any(-1))
    rows = np.asarray(there.any(0)) if drop == "empty" else there[there.sum(1).argmax()]
    return np.flatnonzero(rows) if rows.any() else np.arange(seen.shape[1])


def choose(
    sampler: Sampler, seen: np.ndarray, frames: int, chance: np.random.Generator | None, view: int = 0, views: int = 1
) -> FrameIndex:
    """What a sampler takes of the clip with scores ``seen (M, L, V)``, after it dropped what it drops."""
    drop = getattr(sampler, "drop", "none")
    if drop == "none":
        return sampler(seen.shape[1], frames, chance, view, views)
    kept = kept_frames(seen, drop)
    return sampler(len(kept), frames, chance, view, views).within(kept)


def take_frames(clip: np.ndarray, seen: np.ndarray, index: FrameIndex) -> tuple[np.ndarray, np.ndarray]:
    """Frames of ``clip (M, L, V, C)`` and ``seen (M, L, V)``; an interpolated joint ignores a missing end."""
    start, known = clip[:, index.first], seen[:, index.first]
    if index.weight is None or index.second is None:
        return start, known
    end, known_end = clip[:, index.second], seen[:, index.second]
    right = index.weight[None, :, None]
    left_part, right_part = (1 - right) * (known > 0), right * (known_end > 0)
    total = left_part + right_part
    safe = np.where(total > 0, total, 1)[..., None]
    score = (1 - right) * known + right * known_end
    return (left_part[..., None] * start + right_part[..., None] * end) / safe, score


@SAMPLERS.register("uniform")
class Uniform(FrameSampler):
    """One random frame out of each of T equal bins (PYSKL's ``UniformSample``).

    A clip shorter than T starts at a random frame and wraps around; between T and 2 T all frames are kept in order
    and a random subset is skipped. At test the same rules run with a fixed seed, as published; view i of k of a short
    clip starts at frame i * length / k.
    """

    def __call__(
        self, length: int, frames: int, chance: np.random.Generator | None, view: int = 0, views: int = 1
    ) -> FrameIndex:
        if chance is None:
            return FrameIndex(_uniform_test(length, frames, views)[view])
        if length < frames:
            return FrameIndex((chance.integers(length) + np.arange(frames)) % length)
        if length < 2 * frames:
            skips = np.zeros(frames + 1, dtype=np.int64)
            skips[chance.choice(frames + 1, length - frames, replace=False, shuffle=False)] = 1
            return FrameIndex(np.arange(frames) + np.cumsum(skips)[:-1])
        bounds = np.arange(frames + 1) * length // frames
        return FrameIndex(bounds[:-1] + (chance.random(frames) * np.diff(bounds)).astype(np.int64))


@lru_cache(maxsize=4096)
def _uniform_test(length: int, frames: int, views: int) -> list[np.ndarray]:
    """The test views of a clip of ``length`` frames, from PYSKL's fixed seed."""
    chance = np.random.RandomState(PYSKL_TEST_SEED)
    result = []
    for view in range(views):
        chance.random_sample()  # PYSKL first draws the share of the clip to sample from, which is all of it
        if length < frames:
            start = view if length < views else view * length // views
            index = np.arange(start, start + frames) % length
        elif length < 2 * frames:
            skips = np.zeros(frames + 1, dtype=np.int64)
            skips[chance.choice(frames + 1, length - frames, replace=False)] = 1
            index = np.arange(frames) + np.cumsum(skips)[:-1]
        else:
            bounds = np.arange(frames + 1) * length // frames
            index = bounds[:-1] + chance.randint(np.diff(bounds))
        result.append(index)
    return result


@SAMPLERS.register("resize")
class Resize(FrameSampler):
    """A random crop resized to T frames by linear interpolation (CTR-GCN, PSUMNet, HaLP).

    Training: a share p uniform in ``crop`` of the clip, at least T frames where it has them, at a random place; test:
    the middle ``test_crop`` share; further views move it evenly from one end to the other. Frame t lies at
    max((t + 0.5) * L / T - 0.5, 0) of the L cropped frames.

    Args:
        crop: smallest and largest share kept in training.
        test_crop: share kept at test.
        drop: as in `FrameSampler`.
    """

    def __init__(self, *, crop: tuple[float, float] = (0.5, 1.0), test_crop: float = 0.95, drop: str = "none") -> None:
        super().__init__(drop=drop)
        if not 0 < crop[0] <= crop[1] <= 1 or not 0 < test_crop <= 1:
            raise UserError(f"sampling 'resize': shares must lie in (0, 1], got crop {crop}, test_crop {test_crop}.")
        self.crop, self.test_crop = crop, test_crop

    def __call__(
        self, length: int, frames: int, chance: np.random.Generator | None, view: int = 0, views: int = 1
    ) -> FrameIndex:
        if chance is None:
            edge = int((1 - self.test_crop) * length / 2)
            size = length - 2 * edge
            start = edge if views == 1 else view * 2 * edge // max(1, views - 1)
        else:
            share = chance.uniform(*self.crop)
            size = min(max(int(length * share), frames), length)
            start = int(chance.integers(length - size + 1))
        place = np.maximum((np.arange(frames) + 0.5) * size / frames - 0.5, 0)
        first = place.astype(np.int64)
        second = np.minimum(first + 1, size - 1)
        return FrameIndex(start + first, start + second, (place - first).astype(np.float32))


@SAMPLERS.register("random")
class Random(FrameSampler):
    """T random frames in order, any of them more than once; evenly spaced at test (NW-UCLA in CTR-GCN and BRL)."""

    def __call__(
        self, length: int, frames: int, chance: np.random.Generator | None, view: int = 0, views: int = 1
    ) -> FrameIndex:
        return _even(length, frames) if chance is None else FrameIndex(np.sort(chance.integers(length, size=frames)))


@SAMPLERS.register("even")
class Even(FrameSampler):
    """T evenly spaced frames, first and last included; no chance at all."""

    def __call__(
        self, length: int, frames: int, chance: np.random.Generator | None, view: int = 0, views: int = 1
    ) -> FrameIndex:
        return _even(length, frames)


def _even(length: int, frames: int) -> FrameIndex:
    return FrameIndex(np.linspace(0, length - 1, frames).round().astype(np.int64))


def create(name: str, where: str = "", **settings: Any) -> Sampler:
    """A registered sampler with checked settings."""
    sampler: Sampler = SAMPLERS.create(name, where=where, **settings)
    return sampler
