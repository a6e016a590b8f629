"""Where a performance is seen from, and what a pose estimator makes of it: projection, noise, occlusion, scores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from skelgraph.data.synthetic.kinematics import Array, smooth_noise
from skelgraph.topology import Topology

IMAGE_SIZE = (1080, 1920)
Mask = NDArray[np.bool_]
NOISE = {2: 0.008, 3: 0.012}
"""Standard deviation of a joint's error over the height of a person (pixels), or in metres."""


def about_up(yaw: float) -> Array:
    """Rotation matrix (3, 3) about the vertical; a positive yaw turns to the left."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks horizontally but for a small pitch; axes as depth sensors have them.

    In its coordinates z is the distance, y points up and x to the left in the picture.
    """

    height: float
    distance: float
    aside: float
    pitch: float
    focal: float

    @classmethod
    def of(cls, rng: np.random.Generator, extent: float = 0.0) -> Camera:
        """A camera somewhere in front of a scene that is ``extent`` metres wide or deep."""
        height, distance = rng.uniform(0.9, 1.7), rng.uniform(3.3, 4.3) + 0.7 * extent
        pitch = (height - 1.0) / distance + rng.normal(0, 0.012)
        return cls(height, distance, rng.normal(0, 0.15), pitch, rng.uniform(1000, 1150))

    def see(self, world: Array) -> Array:
        """World (..., 3), seen from +z, in the camera's coordinates (..., 3), metres."""
        x, y, z = -world[..., 0] - self.aside, world[..., 1] - self.height, self.distance - world[..., 2]
        c, s = np.cos(self.pitch), np.sin(self.pitch)
        return np.stack([x, c * y + s * z, c * z - s * y], -1)

    def project(self, seen: Array) -> Array:
        """Pixels (..., 2), x to the right and y down, of points in the camera's coordinates."""
        depth = np.maximum(seen[..., 2], 0.3)
        middle = np.array(IMAGE_SIZE[::-1]) / 2
        return middle - self.focal * seen[..., :2] / depth[..., None]


class Observer:
    """What an estimator reports of the joints of a topology."""

    def __init__(self, topology: Topology) -> None:
        self.parents = np.asarray(topology.parents)
        self.tips = np.asarray(topology.depth) / max(int(np.max(topology.depth)), 1)

    @cached_property
    def below(self) -> Mask:
        """(V, V) whether a joint (column) is another (row) or hangs below it."""
        reach = np.eye(len(self.parents), dtype=bool)
        at = self.parents
        while (at != self.parents[at]).any():
            reach[at, np.arange(len(at))] = True
            at = self.parents[at]
        reach[at, np.arange(len(at))] = True
        return reach

    def report(self, joints: Array, rng: np.random.Generator, strength: float) -> tuple[Array, Array]:
        """Joints (T, V, 2 or 3) with errors, and scores (T, V); 0 = missing. No errors at strength 0."""
        frames, count, dims = joints.shape
        if strength == 0:
            return joints, np.ones((frames, count))
        hidden = self._hidden(rng, frames, count, strength)
        near = self._near(hidden)
        size = NOISE[dims] * strength * (np.ptp(joints[..., 1], axis=1).mean() if dims == 2 else 1.0)
        error = rng.normal(0, size, joints.shape) * (1 + 2.0 * near + 0.5 * self.tips)[..., None]
        error += smooth_noise(rng, frames, count * dims, 20.0).reshape(joints.shape) * size * 0.8
        score = rng.uniform(0.8, 0.97) - 0.1 * self.tips - 0.4 * near + rng.normal(0, 0.05, (frames, count))
        seen = joints + error
        if dims == 2:
            hidden |= ((seen < 0) | (seen >= (IMAGE_SIZE[1], IMAGE_SIZE[0]))).any(-1)
        return seen, np.where(hidden, 0.0, np.clip(score, 0.05, 1.0))

    def _hidden(self, rng: np.random.Generator, frames: int, count: int, strength: float) -> Mask:
        """(T, V) joints behind something: single ones now and then, and often a limb for a while."""
        hidden = rng.random((frames, count)) < 0.01 * strength
        for chance in (0.45, 0.2):
            joint, begin, length = rng.integers(count), rng.uniform(-0.2, 0.9), rng.uniform(0.1, 0.4)
            if rng.random() < chance * strength and self.below[joint].mean() < 0.45:
                span = slice(max(0, int(begin * frames)), max(0, int((begin + length) * frames)))
                hidden[span, self.below[joint]] = True
        return hidden

    def _near(self, hidden: Mask) -> Array:
        """(T, V) in [0, 1]: how close in time or along a bone a joint is to a hidden one."""
        close = hidden | hidden[:, self.parents]
        near = close.astype(np.float64)
        for step, weight in ((1, 0.8), (2, 0.5), (3, 0.3)):
            near[step:] = np.maximum(near[step:], weight * close[:-step])
            near[:-step] = np.maximum(near[:-step], weight * close[step:])
        return near
