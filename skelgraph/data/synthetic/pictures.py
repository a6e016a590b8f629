"""Pictures of a performance: capsules drawn into a small square around everything that happens in a clip.

Letters: M persons, F pictures, K capsules of a figure, S pixels along a side. Rows run down, columns to the right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skelgraph.data.synthetic.kinematics import Array

Floats = NDArray[np.float32]
MARGIN = 1.2
THINNEST = 0.6
"""Radius in pixels below which no limb is drawn, so that a hand does not come and go."""
SKINS = ((236, 199, 174), (214, 164, 130), (168, 113, 80), (102, 66, 48))


@dataclass(frozen=True)
class Crop:
    """A square of the camera's picture: left and top edge and side, in pixels of the camera; S pixels along a side."""

    left: float
    top: float
    side: float
    size: int

    @classmethod
    def around(cls, pixels: Array, size: int) -> Crop:
        """The square around all points (..., 2), enlarged."""
        low, high = pixels.reshape(-1, 2).min(0), pixels.reshape(-1, 2).max(0)
        side = float((high - low).max()) * MARGIN
        left, top = (low + high - side) / 2
        return cls(float(left), float(top), side, size)

    def place(self, pixels: Array) -> Array:
        """Points (..., 2) in the square, 0 and S at its edges; the centre of its first pixel is at 0.5."""
        return (pixels - (self.left, self.top)) * (self.size / self.side)


@dataclass(frozen=True)
class Drawing:
    """What is seen in each pixel (F, S, S).

    Attributes:
        depth: metres to the surface; infinite where nobody is.
        limb: number of the capsule, those of the second person after those of the first; -1 where nobody is.
        facing: 1 where the surface looks into the camera, 0 at its rim.
    """

    depth: Floats
    limb: NDArray[np.int16]
    facing: Floats


def draw(ends: Array, places: Array, radius: Array, thick: Array, size: int) -> Drawing:
    """Capsules seen by a camera, the nearest in front.

    The surface bulges towards the camera as a ball does; the tilt of a capsule is not part of it.

    Args:
        ends: (L, F, 2) depth of both ends of L capsules, metres.
        places: (L, F, 2, 2) where they are in the picture, pixels.
        radius: (L,) metres. thick: (L, F, 2) the same in pixels at both ends.
        size: S.
    """
    count, frames = ends.shape[:2]
    depth = np.full((frames, size, size), np.inf, np.float32)
    limb = np.full((frames, size, size), -1, np.int16)
    facing = np.zeros((frames, size, size), np.float32)
    for number in range(count):
        wide = np.maximum(thick[number], THINNEST)
        window = _window(places[number], float(wide.max()), size)
        if window is None:
            continue
        (rows, columns), view = window, (slice(None), *window)
        hit, near, rise = _capsule(ends[number], places[number], radius[number], wide, rows, columns)
        front = hit & (near < depth[view])
        depth[view] = np.where(front, near, depth[view])
        limb[view] = np.where(front, np.int16(number), limb[view])
        facing[view] = np.where(front, rise, facing[view])
    return Drawing(depth, limb, facing)


def _window(places: Array, wide: float, size: int) -> tuple[slice, slice] | None:
    """Rows and columns that a capsule touches in any picture."""
    low = np.floor(places.min((0, 1)) - wide).astype(int).clip(0, size)
    high = np.ceil(places.max((0, 1)) + wide).astype(int).clip(0, size)
    return (slice(low[1], high[1]), slice(low[0], high[0])) if (high > low).all() else None


def _capsule(
    ends: Array, places: Array, radius: float, wide: Array, rows: slice, columns: slice
) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """Whether a pixel of the window sees the capsule, how far away, and how much the surface faces the camera."""

    def each(values: Array) -> Floats:
        return values.astype(np.float32)[:, None, None]

    start, along = places[:, 0], places[:, 1] - places[:, 0]
    x = np.arange(columns.start, columns.stop, dtype=np.float32)[None, None] + np.float32(0.5) - each(start[:, 0])
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[None, :, None] + np.float32(0.5) - each(start[:, 1])
    across, down = each(along[:, 0]), each(along[:, 1])
    length = np.maximum(across**2 + down**2, np.float32(1e-6))
    part = np.clip((x * across + y * down) / length, 0, 1)
    thick = each(wide[:, 0]) + part * each(wide[:, 1] - wide[:, 0])
    off = ((x - part * across) ** 2 + (y - part * down) ** 2) / thick**2
    rise = np.sqrt(np.maximum(1 - off, 0))
    return off < 1, each(ends[:, 0]) + part * each(ends[:, 1] - ends[:, 0]) - np.float32(radius) * rise, rise


def to_depth(drawing: Drawing, rng: np.random.Generator, strength: float) -> NDArray[np.uint16]:
    """(F, S, S) millimetres to the person, 0 where nobody is; errors grow with the distance squared."""
    seen = drawing.limb >= 0
    metres = np.where(seen, drawing.depth, 0.0)
    error = rng.standard_normal(metres.shape, np.float32) * np.float32(0.0015 * strength) * metres**2
    return np.rint(1000 * (metres + error)).clip(0, 65535).astype(np.uint16)


def to_infrared(drawing: Drawing, rng: np.random.Generator, strength: float) -> NDArray[np.uint8]:
    """(F, S, S) light of a lamp at the camera that comes back, fading with the distance squared."""
    light = 190 * (0.3 + 0.7 * drawing.facing) * (3.5 / drawing.depth) ** 2
    grain = rng.integers(-8, 9, light.shape, np.int16) * np.float32(strength)
    return (light + 12 + grain).clip(0, 255).astype(np.uint8)


def to_rgb(drawing: Drawing, paint: NDArray[np.intp], rng: np.random.Generator, strength: float) -> NDArray[np.uint8]:
    """(F, S, S, 3) people in clothes of their own before a wall; ``paint (L,)`` says what each capsule wears.

    Paint 0 is skin; persons draw their colours one after the other.
    """
    colours = rng.uniform(20, 235, (int(paint.max()) + 1, 3))
    colours[::4] = [SKINS[number] for number in rng.integers(len(SKINS), size=len(colours[::4]))]
    # The wall comes last, where limb -1 finds it.
    shown = np.concatenate([colours[paint], rng.uniform(30, 220, (1, 3))]).astype(np.float32)
    top, bottom = rng.uniform(0.7, 1.1, 2)
    wall = np.linspace(top, bottom, drawing.limb.shape[1], dtype=np.float32)[:, None]
    light = np.where(drawing.limb >= 0, np.float32(0.45) + np.float32(0.55) * drawing.facing, wall)
    picture = np.stack([colour[drawing.limb] * light for colour in shown.T], axis=-1)
    grain = rng.integers(-9, 10, picture.shape, np.int8)
    return (picture + np.float32(strength) * grain).clip(0, 255).astype(np.uint8)
