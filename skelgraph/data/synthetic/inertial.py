"""What a worn accelerometer and gyroscope measure of a motion."""

from __future__ import annotations

import numpy as np

from skelgraph.data.synthetic.kinematics import Array

GRAVITY = 9.81
RATE = 50.0
RANGE = np.repeat((8.0, 1000.0), 3)
"""Largest reading: g of the accelerometer, degrees a second of the gyroscope."""
NOISE = np.repeat((0.02, 2.0), 3)
BIAS = np.repeat((0.01, 1.0), 3)


def orientation(points: Array) -> Array:
    """Rotation (T, 3, 3) from the sensor's axes to the world of points (T, 3, 3): its place, one on x, one on z."""
    x, z = (points[:, row] - points[:, 0] for row in (1, 2))
    x, z = (axis / np.linalg.norm(axis, axis=-1, keepdims=True) for axis in (x, z))
    return np.stack([x, np.cross(z, x), z], axis=-1)


def acceleration(path: Array, fps: float) -> Array:
    """Second difference (T - 2, 3) of a path (T, 3): metres a square second at frames 1 to T - 2."""
    return np.diff(path, n=2, axis=0) * fps**2


def turning(turned: Array, fps: float) -> Array:
    """Angular velocity (T - 1, 3) in the sensor's axes between frames of rotations (T, 3, 3), radians a second."""
    step = turned[:-1].swapaxes(1, 2) @ turned[1:]
    skew = np.stack([step[:, 2, 1] - step[:, 1, 2], step[:, 0, 2] - step[:, 2, 0], step[:, 1, 0] - step[:, 0, 1]], 1)
    sine = np.linalg.norm(skew, axis=1) / 2
    angle = np.arctan2(sine, (np.trace(step, axis1=1, axis2=2) - 1) / 2)
    return skew / 2 * (angle / np.where(sine < 1e-9, 1.0, sine))[:, None] * fps


def measure(points: Array, fps: float, rng: np.random.Generator, strength: float) -> Array:
    """Readings of a sensor that is moved along.

    Args:
        points: (T, 3, 3) of the sensor in the world, y up, metres: its place, a point on its x axis, one on its z axis.
        fps: of the frames.
        rng: for noise and bias.
        strength: of both; 0 = none.

    Returns:
        (S, 6) float32 at 50 Hz from the first frame to the last: specific force in g (at rest 1 upwards), then angular
        velocity in degrees a second, in the sensor's axes.
    """
    frames = len(points)
    turned = orientation(points)
    # Two frames have no second difference: what moves evenly feels gravity alone.
    felt = acceleration(points[:, 0], fps) if frames > 2 else np.zeros((1, 3))
    place = np.clip(np.arange(frames) - 1, 0, len(felt) - 1)
    force = (turned.swapaxes(1, 2) @ (felt[place] + (0.0, GRAVITY, 0.0))[..., None])[..., 0] / GRAVITY
    rate = np.degrees(turning(turned, fps))
    at = np.arange(int((frames - 1) / fps * RATE) + 1) * fps / RATE
    columns = [np.interp(at, np.arange(frames), column) for column in force.T]
    columns += [np.interp(at, np.arange(frames - 1) + 0.5, column) for column in rate.T]
    readings = np.stack(columns, axis=1)
    error = rng.normal(0, 1, readings.shape) * NOISE + rng.normal(0, 1, 6) * BIAS
    return np.clip(readings + strength * error, -RANGE, RANGE).astype(np.float32)
