"""Forward kinematics of any tree of rigid segments, vectorised over frames.

Axes: y up, z forward, x to the left of somebody who looks along z; metres and radians.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def rotations(swing_x: Array, swing_z: Array, twist: Array) -> Array:
    """Rotation matrices of a swing about a horizontal axis after a twist about the vertical.

    Swing and twist add up in the way programs are written (forward plus sideways plus around the own axis) and,
    unlike Euler angles, meet no singularity before a half turn.

    Shapes:
        three arrays (...) of radians -> (..., 3, 3).
    """
    angle = np.sqrt(swing_x**2 + swing_z**2)
    safe = np.where(angle < 1e-6, 1.0, angle)
    s = np.where(angle < 1e-6, 1.0, np.sin(safe) / safe)
    k = np.where(angle < 1e-6, 0.5, (1 - np.cos(safe)) / safe**2)
    c, d = np.cos(twist), np.sin(twist)
    xx, xz, zz = 1 - k * swing_z**2, k * swing_x * swing_z, 1 - k * swing_x**2
    matrix = np.empty((*angle.shape, 3, 3))
    matrix[..., 0, 0] = xx * c - xz * d
    matrix[..., 0, 1] = -s * swing_z
    matrix[..., 0, 2] = xx * d + xz * c
    matrix[..., 1, 0] = s * (swing_z * c + swing_x * d)
    matrix[..., 1, 1] = np.cos(angle)
    matrix[..., 1, 2] = s * (swing_z * d - swing_x * c)
    matrix[..., 2, 0] = xz * c - zz * d
    matrix[..., 2, 1] = s * swing_x
    matrix[..., 2, 2] = xz * d + zz * c
    return matrix


@lru_cache(maxsize=64)
def levels(parents: tuple[int, ...]) -> list[NDArray[np.intp]]:
    """Indices of a forest grouped by depth, roots (their own parents) first; one product a level is all it takes."""
    depth = [0] * len(parents)
    for node in range(len(parents)):
        at = node
        while parents[at] != at:
            depth[node] += 1
            at = parents[at]
    return [np.flatnonzero(np.asarray(depth) == level) for level in range(max(depth) + 1)]


def chain(parents: Sequence[int], offsets: Array, local: Array) -> tuple[Array, Array]:
    """World rotations and origins of segments.

    Args:
        parents: (S,) index of the parent, a root its own.
        offsets: (S, 3) origin of a segment in its parent's frame, that of a root in the world.
        local: (S, T, 3, 3) rotation of a segment against its parent.

    Returns:
        rotations (S, T, 3, 3) and origins (S, T, 3).
    """
    above = np.asarray(parents)
    turned = local.copy()
    origins = np.broadcast_to(offsets[:, None, :], (*local.shape[:2], 3)).copy()
    for rows in levels(tuple(parents))[1:]:
        frame = turned[above[rows]]
        turned[rows] = frame @ local[rows]
        origins[rows] = origins[above[rows]] + (frame @ offsets[rows, None, :, None])[..., 0]
    return turned, origins


def smooth_noise(rng: np.random.Generator, frames: int, count: int, period: float) -> Array:
    """Slow random wander (frames, count), about unit size, that turns round about every ``period / 2`` frames."""
    place = np.arange(frames) / (period / 2) + rng.random()
    knots = rng.normal(0, 1.2, (int(place[-1]) + 2, count))
    before = place.astype(int)
    weight = smoothstep(place - before)[:, None]
    return knots[before] * (1 - weight) + knots[before + 1] * weight


def smoothstep(x: Array | float) -> Array:
    """0 below 0, 1 above 1, with a soft start and end between."""
    u = np.clip(x, 0.0, 1.0)
    return u * u * u * (u * (6 * u - 15) + 10)
