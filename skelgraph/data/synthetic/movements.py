"""Actions of legs and trunk."""

from __future__ import annotations

import numpy as np

from skelgraph.data.synthetic.beat import FIST, FLAT, Beat, Channels
from skelgraph.data.synthetic.kinematics import Array


def kick(b: Beat) -> Channels:
    """Wind up, straight ahead."""
    s = b.strike(0.75)
    wind = b.pulse(0.75, 0.45) * (1 - s)
    return {
        "right_thigh": (-22 * wind + 88 * s, 4, 0),
        "right_shank": (12 + 55 * wind + 130 * s * (1 - s), 0, 0),
        "right_foot": (-25 * s, 0, 0),
        "left_shank": (5, 0, 0),
        "left_thigh": (2, 0, 0),
        "trunk": (-14 * s + 6, 0, 12 * s),
        "right_arm": (-28 * s, 18, 0),
        "left_arm": (40 * s, 22, 0),
        "right_forearm": (35, 0, 0),
        "left_forearm": (45, 0, 0),
    }


def squat(b: Beat) -> Channels:
    """Down with the arms held ahead, and up."""
    q = b.pulse(0.55)
    leg, knee, arm = (98 * q, 6 + 12 * q, 10 * q), (112 * q + 4, 0, 0), (86 * q, 8, 0)
    return {
        "left_thigh": leg,
        "right_thigh": leg,
        "left_shank": knee,
        "right_shank": knee,
        "hips": (14 * q, 0, 0),
        "trunk": (26 * q, 0, 0),
        "head": (-22 * q, 0, 0),
        "left_arm": arm,
        "right_arm": arm,
        "left_forearm": (12, 0, 0),
        "right_forearm": (12, 0, 0),
    }


def _flight(b: Beat, hz: float, share: float) -> tuple[Array, Array]:
    """Height of a repeated hop (0 on the floor, 1 at the top) and the crouch before and after it."""
    part = (b.angle(hz) / (2 * np.pi)) % 1.0
    air = np.clip(part / share, 0, 1)
    ground = np.clip((part - share) / (1 - share), 0, 1)
    return 4 * air * (1 - air), np.sin(np.pi * ground) ** 2


def jump(b: Beat) -> Channels:
    """Crouch, swing the arms, off the floor."""
    high, low = _flight(b, 0.8, 0.42)
    leg, knee = (52 * low + 8 * high, 3, 0), (78 * low + 16 * high + 4, 0, 0)
    arm = (150 * high - 35 * low + 10, 10, 0)
    foot = (np.where(high > 0, -35 * high, 26 * low), 0, 0)
    return {
        "root": (0, 0.28 * high, 0),
        "left_thigh": leg,
        "right_thigh": leg,
        "left_shank": knee,
        "right_shank": knee,
        "left_foot": foot,
        "right_foot": foot,
        "trunk": (32 * low, 0, 0),
        "left_arm": arm,
        "right_arm": arm,
        "left_forearm": (30, 0, 0),
        "right_forearm": (30, 0, 0),
    }


def _steps(b: Beat, hz: float, stride: float, lean: float, lift: float) -> Channels:
    """Alternating legs; arms against them."""
    pose: Channels = {"trunk": (lean, 0, 6 * b.swing(hz)), "hips": (0, 0, -5 * b.swing(hz))}
    for side, lag in (("right", 0.0), ("left", 0.5)):
        leg, bent = b.swing(hz, lag), b.pulse(hz, lag - 0.02) ** 2
        pose[f"{side}_thigh"] = (stride * leg + 0.25 * lift * bent + 2, 2, 4)
        pose[f"{side}_shank"] = (8 + lift * bent, 0, 0)
        pose[f"{side}_arm"] = (-0.9 * stride * leg, 9, 0)
    return pose


def walk(b: Beat) -> Channels:
    """Forward."""
    return {**_steps(b, 0.85, 26, 4, 55), "left_forearm": (22, 0, 0), "right_forearm": (22, 0, 0)}


def run(b: Beat) -> Channels:
    """On the spot."""
    bounce = np.abs(b.swing(1.4, 0.12))
    return {
        **_steps(b, 1.4, 38, 12, 88),
        "root": (0, 0.05 * bounce, 0),
        "left_forearm": (88, 0, 0),
        "right_forearm": (88, 0, 0),
        "left_fingers": FIST,
        "right_fingers": FIST,
    }


def bow(b: Beat) -> Channels:
    """Bend from the hips, and stay a while."""
    q = b.hold()
    return {
        "hips": (28 * q, 0, 0),
        "trunk": (40 * q, 0, 0),
        "head": (22 * q, 0, 0),
        "left_thigh": (20 * q, 1, 0),
        "right_thigh": (20 * q, 1, 0),
        "left_arm": (48 * q, 4, -8),
        "right_arm": (48 * q, 4, -8),
    }


def jumping_jack(b: Beat) -> Channels:
    """Arms up while the legs part."""
    q, hop = b.pulse(0.9), np.abs(b.swing(0.9))
    arm, leg = (8 * q, 10 + 158 * q, 20 * q), (0, 2 + 24 * q, 4)
    return {
        "root": (0, 0.07 * hop, 0),
        "left_arm": arm,
        "right_arm": arm,
        "left_thigh": leg,
        "right_thigh": leg,
        "left_forearm": (14, 0, 0),
        "right_forearm": (14, 0, 0),
        "left_fingers": FLAT,
        "right_fingers": FLAT,
    }


def lunge(b: Beat) -> Channels:
    """One long step, down and back."""
    q = b.pulse(0.5)
    return {
        "right_thigh": (82 * q, 3, 0),
        "right_shank": (86 * q + 4, 0, 0),
        "left_thigh": (-18 * q, 3, 0),
        "left_shank": (72 * q + 4, 0, 0),
        "left_foot": (30 * q, 0, 0),
        "trunk": (4 * q, 0, 0),
        "left_arm": (0, 38, 30),
        "right_arm": (0, 38, 30),
        "left_forearm": (95, 0, 0),
        "right_forearm": (95, 0, 0),
    }


def side_bend(b: Beat) -> Channels:
    """Left and right, one arm over the head."""
    s = b.swing(0.45)
    right, left = np.clip(s, 0, 1), np.clip(-s, 0, 1)
    return {
        "trunk": (0, 42 * s, 0),
        "hips": (0, 6 * s, 0),
        "head": (0, 12 * s, 0),
        "left_thigh": (0, 14, 0),
        "right_thigh": (0, 14, 0),
        "right_arm": (0, 20 + 145 * right, 0),
        "left_arm": (0, 20 + 145 * left, 0),
        "right_forearm": (20 + 25 * right, 0, 0),
        "left_forearm": (20 + 25 * left, 0, 0),
    }


def _seat(q: Array, lean: Array) -> Channels:
    """Between standing (0) and sitting on a chair (1), leaning forward on the way."""
    leg, knee = (88 * q + 14 * lean, 5 + 10 * q, 3 + 9 * q), (88 * q + 20 * lean, 0, 0)
    arm = (30 * q + 22 * lean, 6, -8 * q)
    return {
        "left_thigh": leg,
        "right_thigh": leg,
        "left_shank": knee,
        "right_shank": knee,
        "hips": (16 * lean, 0, 0),
        "trunk": (30 * lean + 4 * q, 0, 0),
        "head": (-16 * lean, 0, 0),
        "left_arm": arm,
        "right_arm": arm,
        "left_forearm": (15 + 45 * q, 0, 0),
        "right_forearm": (15 + 45 * q, 0, 0),
    }


def sit_down(b: Beat) -> Channels:
    """Onto a chair."""
    return _seat(b.once(), b.bump())


def stand_up(b: Beat) -> Channels:
    """From a chair."""
    return _seat(1 - b.once(), b.bump())


def pick_up(b: Beat) -> Channels:
    """Something from the floor, one-handed."""
    down, after = b.bump(2.0), b.once(2.0)
    return {
        "hips": (38 * down, 0, 0),
        "trunk": (52 * down, 0, 14 * down),
        "left_thigh": (62 * down, 5, 0),
        "right_thigh": (62 * down, 5, 0),
        "left_shank": (68 * down, 0, 0),
        "right_shank": (68 * down, 0, 0),
        "right_arm": (72 * down + 15 * after, 6, 0),
        "right_forearm": (14 + 70 * after * (1 - down), 0, 0),
        "right_fingers": (0, -15 - 60 * after, 0),
        "left_arm": (20 * down, 14, 0),
        "head": (-12 * down, 0, 0),
    }


def turn(b: Beat) -> Channels:
    """Once around, in small steps."""
    q = b.once(1.9)
    moving = b.bump(1.9)
    pose: Channels = {"hips": (0, 0, 360 * q), "head": (0, 0, 25 * moving), "trunk": (2, 0, 10 * moving)}
    for side, lag in (("right", 0.0), ("left", 0.5)):
        lift = np.clip(b.swing(1.3, lag), 0, 1) * np.sqrt(moving)
        pose[f"{side}_thigh"] = (26 * lift, 3, 0)
        pose[f"{side}_shank"] = (46 * lift + 3, 0, 0)
    return pose


def march(b: Beat) -> Channels:
    """High knees on the spot."""
    pose: Channels = {"trunk": (-2, 0, 0)}
    for side, lag in (("right", 0.0), ("left", 0.5)):
        lift = np.clip(b.swing(0.8, lag), 0, 1)
        pose[f"{side}_thigh"] = (92 * lift, 2, 0)
        pose[f"{side}_shank"] = (96 * lift + 3, 0, 0)
        pose[f"{side}_arm"] = (-32 * b.swing(0.8, lag), 8, 0)
        pose[f"{side}_forearm"] = (65, 0, 0)
    return pose


def hop(b: Beat) -> Channels:
    """On one leg."""
    high, low = _flight(b, 1.3, 0.45)
    arm = (0, 34 + 18 * high, 0)
    return {
        "root": (0, 0.11 * high, 0),
        "right_thigh": (16, 4, 0),
        "right_shank": (82, 0, 0),
        "left_thigh": (22 * low + 2, -2, 0),
        "left_shank": (34 * low + 5, 0, 0),
        "left_arm": arm,
        "right_arm": arm,
        "trunk": (6 + 8 * low, 0, 0),
    }
