"""How one performance of an action differs from another: rest posture, size of the movement, side, fidgeting."""

from __future__ import annotations

import numpy as np

from skelgraph.data.synthetic.beat import Channels
from skelgraph.data.synthetic.kinematics import Array, smooth_noise

SIDES = ("left", "right")
REST: Channels = {
    **{f"{side}_arm": (2, 8, 0) for side in SIDES},
    **{f"{side}_forearm": (15, 0, 0) for side in SIDES},
    **{f"{side}_fingers": (0, -22, 0) for side in SIDES},
    **{f"{side}_thigh": (2, 2, 4) for side in SIDES},
    **{f"{side}_shank": (3, 0, 0) for side in SIDES},
    "trunk": (0, 0, 0),
    "head": (0, 0, 0),
    "hips": (0, 0, 0),
}
POSTURES = (
    ((8, 42, -38), (92, 0, 0)),  # hand on the hip
    ((22, 4, -42), (88, 0, 0)),  # before the belly
    ((-26, 12, -60), (62, 0, 0)),  # behind the back
    ((14, 14, 12), (105, 0, 0)),  # half raised, as one who talks
)
"""Arm and forearm of somebody who does not need this arm just now."""
FIDGET = {
    "arm": (4, 4, 5),
    "forearm": (6, 0, 0),
    "thigh": (2.5, 1.5, 3),
    "shank": (2.5, 0, 0),
    "fingers": (0, 6, 0),
    "hand": (5, 5, 8),
    "trunk": (2.5, 2.5, 4),
    "head": (5, 3, 8),
    "hips": (1.5, 1.5, 5),
}


def complete(channels: Channels, frames: int) -> dict[str, Array]:
    """A full pose, (T, 3) a channel: what a program leaves out is at rest."""
    pose = {}
    for name, angles in {**REST, **channels}.items():
        pose[name] = np.empty((frames, 3))
        for axis, value in enumerate(angles):
            pose[name][:, axis] = value
    return pose


def follow(pose: dict[str, Array]) -> None:
    """Set the joints no program needs to think of: ankles keep the soles level, collar bones lift with the arms."""
    hips = pose["hips"][:, 0]
    for side in SIDES:
        if f"{side}_foot" not in pose:
            level = pose[f"{side}_shank"][:, 0] - pose[f"{side}_thigh"][:, 0] + hips
            pose[f"{side}_foot"] = np.stack([np.clip(level, -40, 38), 0 * level, 0 * level], 1)
        raised = np.clip(np.hypot(pose[f"{side}_arm"][:, 0], pose[f"{side}_arm"][:, 1]) - 50, 0, 120)
        pose[f"{side}_clavicle"] = np.stack([0 * raised, 0.12 * raised, 0 * raised], 1)


def occupy(channels: Channels, rng: np.random.Generator) -> Channels:
    """Channels with the arms that an action leaves alone put somewhere else than down, in every other performance."""
    posed = dict(channels)
    for side in SIDES:
        arm, forearm = POSTURES[rng.integers(len(POSTURES))]
        if rng.random() < 0.4 and f"{side}_arm" not in channels:
            posed[f"{side}_arm"], posed[f"{side}_forearm"] = arm, forearm
    return posed


def mirrored(pose: dict[str, Array]) -> dict[str, Array]:
    """The pose of the mirror image: sides exchanged, bends and turns of the middle reversed."""
    swapped = {}
    for name, angles in pose.items():
        side, _, limb = name.partition("_")
        if side in SIDES:
            swapped[f"{'right' if side == 'left' else 'left'}_{limb}"] = angles
        else:
            swapped[name] = angles * ((-1, 1, 1) if name == "root" else (1, -1, -1))
    return swapped


def fidget(pose: dict[str, Array], rng: np.random.Generator, strength: float) -> dict[str, Array]:
    """A person's own posture and slow wander added to every channel, and each movement a little larger or smaller."""
    names = [name for name in pose if name.split("_")[-1] in FIDGET]
    frames = len(pose["trunk"])
    size = np.array([FIDGET[name.split("_")[-1]] for name in names]) * strength
    posture = rng.normal(0, 1, size.shape) * size
    wander = smooth_noise(rng, frames, size.size, 45.0).reshape(frames, *size.shape) * size * 0.6
    gain = np.clip(rng.normal(1, 0.06 * strength, len(names)), 0.8, 1.2)
    changed = dict(pose)
    for row, name in enumerate(names):
        changed[name] = pose[name] * (gain[row] if name != "hips" else 1.0) + posture[row] + wander[:, row]
    return changed
