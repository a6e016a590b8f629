"""Actions of arms and hands."""

from __future__ import annotations

import numpy as np

from skelgraph.data.synthetic.beat import FIST, FLAT, Beat, Channels


def stance(depth: float = 1.0) -> Channels:
    """Feet apart, left one in front, knees soft."""
    return {
        "left_thigh": (24 * depth, 4, 0),
        "left_shank": (22 * depth, 0, 0),
        "right_thigh": (-8 * depth, 6, 10),
        "right_shank": (18 * depth, 0, 0),
    }


def wave(b: Beat) -> Channels:
    """Forearm up, to and fro."""
    up, s = b.hold(), b.swing(1.5)
    return {
        "right_arm": (20 * up, 8 + 72 * up, 85 * up),
        "right_forearm": (15 + (75 + 32 * s) * up, 0, 0),
        "right_hand": (0, 12 * s * up, 0),
        "right_fingers": FLAT,
    }


def clap(b: Beat) -> Channels:
    """Hands meet before the chest."""
    up, s = b.hold(), b.pulse(1.7)
    arm = (48 * up, 8 + 6 * s * up, (-38 + 52 * s) * up)
    fore = (15 + 60 * up, 0, 0)
    return {
        "right_arm": arm,
        "left_arm": arm,
        "right_forearm": fore,
        "left_forearm": fore,
        "right_fingers": FLAT,
        "left_fingers": FLAT,
    }


def punch(b: Beat) -> Channels:
    """Straight, from a guard."""
    s = b.strike(1.0)
    return {
        **stance(),
        "trunk": (8, 0, -22 + 50 * s),
        "hips": (0, 0, -12 + 14 * s),
        "right_arm": (25 + 62 * s, 12, -25 + 10 * s),
        "right_forearm": (128 - 120 * s, 0, 0),
        "left_arm": (40, 10, -20),
        "left_forearm": (118, 0, 0),
        "right_fingers": FIST,
        "left_fingers": FIST,
    }


def throw(b: Beat) -> Channels:
    """Over the shoulder, from a step."""
    s = b.strike(0.7)
    back = 1 - s
    return {
        **stance(1.2),
        "trunk": (-8 + 30 * s, 0, -38 * back + 34 * s),
        "hips": (0, 0, -18 * back + 12 * s),
        "right_arm": (10 + 62 * s, 92 * back + 18 * s, 105 * back + 10 * s),
        "right_forearm": (100 * back + 12, 0, 0),
        "right_hand": (0, 25 - 60 * s, 0),
        "left_arm": (70 * back, 30, 0),
        "left_forearm": (25, 0, 0),
        "right_fingers": (0, -70 * back, 0),
    }


def drink(b: Beat) -> Channels:
    """A cup to the mouth, and sips."""
    up, sip = b.hold(), b.pulse(0.5)
    return {
        "right_arm": ((58 + 12 * sip) * up, 8 + 16 * up, -34 * up),
        "right_forearm": (15 + (108 + 10 * sip) * up, 0, 0),
        "right_hand": (-15 * up, 0, 0),
        "right_fingers": (0, -60 * up, 0),
        "head": ((2 - 20 * sip) * up, 0, 0),
    }


def arm_circles(b: Beat) -> Channels:
    """Both arms, stretched to the sides."""
    up, a = b.hold(), b.angle(0.9)
    arm = (42 * np.sin(a) * up, 8 + (84 + 42 * np.cos(a)) * up, 15 * up)
    return {
        "left_arm": arm,
        "right_arm": arm,
        "left_forearm": (6, 0, 0),
        "right_forearm": (6, 0, 0),
        "left_fingers": FLAT,
        "right_fingers": FLAT,
    }


def push(b: Beat) -> Channels:
    """Both palms away from the chest."""
    s = b.strike(0.65)
    arm, fore = (12 + 74 * s, 12, -6), (128 - 118 * s, 0, 0)
    return {
        **stance(1.1),
        "trunk": (2 + 20 * s, 0, 0),
        "left_arm": arm,
        "right_arm": arm,
        "left_forearm": fore,
        "right_forearm": fore,
        "left_hand": (0, 55, 60),
        "right_hand": (0, 55, 60),
        "left_fingers": FLAT,
        "right_fingers": FLAT,
    }


def salute(b: Beat) -> Channels:
    """Hand to the brow."""
    up = b.hold()
    return {
        "right_arm": (30 * up, 8 + 68 * up, 62 * up),
        "right_forearm": (15 + 122 * up, 0, 0),
        "right_hand": (0, -8 * up, 0),
        "right_fingers": FLAT,
        "trunk": (-4 * up, 0, 0),
    }


def cheer(b: Beat) -> Channels:
    """Fists up, pumping."""
    up, s = b.hold(), b.pulse(1.6)
    arm = (20 * up, 8 + (125 + 25 * s) * up, 40 * up)
    fore = (15 + (25 + 40 * (1 - s)) * up, 0, 0)
    return {
        "left_arm": arm,
        "right_arm": arm,
        "left_forearm": fore,
        "right_forearm": fore,
        "head": (-12 * up, 0, 0),
        "root": (0, 0.04 * s * up, 0),
        "left_fingers": FIST,
        "right_fingers": FIST,
    }


def phone_call(b: Beat) -> Channels:
    """Hand to the ear, a nod now and then."""
    up, nod = b.hold(), b.swing(0.6)
    return {
        "right_arm": (36 * up, 8 + 24 * up, 14 * up),
        "right_forearm": (15 + 128 * up, 0, 0),
        "right_fingers": (0, -55 * up, 0),
        "head": (5 * nod * up, -12 * up, 10 * nod * up),
    }


def stretch(b: Beat) -> Channels:
    """Both arms up, on tiptoe."""
    up = b.hold()
    arm = (95 * up, 8 + 122 * up, 0)
    return {
        "left_arm": arm,
        "right_arm": arm,
        "trunk": (-16 * up, 0, 0),
        "head": (-14 * up, 0, 0),
        "left_forearm": (15 - 8 * up, 0, 0),
        "right_forearm": (15 - 8 * up, 0, 0),
        "left_foot": (-18 * up, 0, 0),
        "right_foot": (-18 * up, 0, 0),
        "left_fingers": FLAT,
        "right_fingers": FLAT,
    }


def cross_arms(b: Beat) -> Channels:
    """Forearms folded before the chest."""
    up = b.hold()
    return {
        "right_arm": (40 * up, 8 + 4 * up, -62 * up),
        "left_arm": (30 * up, 8 + 4 * up, -62 * up),
        "right_forearm": (15 + 80 * up, 0, 0),
        "left_forearm": (15 + 82 * up, 0, 0),
    }


def point(b: Beat) -> Channels:
    """One arm straight ahead."""
    up = b.hold()
    return {
        "right_arm": (86 * up, 8 + 6 * up, 0),
        "right_forearm": (15 - 10 * up, 0, 0),
        "right_fingers": (0, -50 * up, 0),
        "trunk": (0, 0, 10 * up),
        "head": (4 * up, 0, -4 * up),
    }
