"""What further sensors record of the motion that the joints were taken from: RGB, depth, infrared, inertial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skelgraph.data.synthetic import inertial, pictures
from skelgraph.data.synthetic.figure import PAINTS, Figure
from skelgraph.data.synthetic.kinematics import Array
from skelgraph.data.synthetic.scene import Camera
from skelgraph.errors import unknown

SIZE = 48
EVERY = 3
"""A picture is taken of every third frame."""
PICTURES = ("rgb", "depth", "infrared")
DTYPES = {"rgb": "uint8", "depth": "uint16", "infrared": "uint8", "inertial": "float32"}


def facts(name: str, fps: float) -> dict[str, Any]:
    """What a store says of a modality.

    Raises:
        UserError: no such modality; lists those there are.
    """
    if name not in DTYPES:
        raise unknown("modality of demo data", name, DTYPES)
    if name == "inertial":
        return {"kind": "sequence", "unit": "g, deg/s", "rate": inertial.RATE}
    unit = {"unit": "mm"} if name == "depth" else {}
    return {"kind": "frames", **unit, "rate": fps / EVERY}


class Sensors:
    """A camera of each asked kind, beside the one that sees the joints, and a sensor on the right wrist of the actor.

    Args:
        names: of the modalities.
        figure: what moves.
        fps: of the frames.
        strength: of noise; 0 = none.
        size: pixels along a side of a picture.
    """

    def __init__(self, names: Sequence[str], figure: Figure, fps: float, strength: float, size: int = SIZE) -> None:
        self.names, self.figure, self.fps, self.strength, self.size = tuple(names), figure, fps, strength, size

    def record(self, points: Array, actor: int, view: Camera, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Every modality of one clip.

        Args:
            points: (M, T, P, 3) joints and riders of the figure in the world, metres.
            actor: which person wears the sensor.
            view: the camera.
            rng: for noise and colours.
        """
        made: dict[str, np.ndarray] = {}
        drawing = self.draw(points[:, ::EVERY], view)[0] if set(self.names) & set(PICTURES) else None
        for name in self.names:
            if name == "inertial":
                worn = points[actor][:, self.figure.sensor]
                made[name] = inertial.measure(worn, self.fps, rng, self.strength)
                continue
            assert drawing is not None
            if name == "depth":
                made[name] = pictures.to_depth(drawing, rng, self.strength)
            elif name == "infrared":
                made[name] = pictures.to_infrared(drawing, rng, self.strength)
            else:
                persons = np.arange(len(points))[:, None] * len(PAINTS)
                made[name] = pictures.to_rgb(drawing, (persons + self.figure.paint).ravel(), rng, self.strength)
        return made

    def draw(self, points: Array, view: Camera) -> tuple[pictures.Drawing, pictures.Crop]:
        """The figures (M, F, P, 3) as the camera sees them, and the square of its picture that was kept."""
        seen = view.see(points)
        pixels = view.project(seen)
        crop = pictures.Crop.around(pixels[:, :, np.unique(self.figure.limbs)], self.size)
        # (M, F, K, 2, ...) to (M K, F, 2, ...): the capsules of all persons one after the other.
        ends, places = (self._by_limb(item) for item in (seen[..., 2:], crop.place(pixels)))
        radius = np.tile(self.figure.radius, len(points))
        thick = radius[:, None, None] * view.focal / np.maximum(ends[..., 0], 0.3) * (self.size / crop.side)
        return pictures.draw(ends[..., 0], places, radius, thick, self.size), crop

    def _by_limb(self, values: Array) -> Array:
        taken = values[:, :, self.figure.limbs].swapaxes(1, 2)
        return taken.reshape(-1, *taken.shape[2:])
