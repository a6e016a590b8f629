"""Class names of demo data and the programs behind them: single actions, actions of two, and combinations of both.

A combination `wave+squat` takes arms and head from the first action and the rest from the second, which makes as many
classes as a large data set has.
"""

from __future__ import annotations

from dataclasses import dataclass

from skelgraph.data.synthetic.actions import ACTIONS
from skelgraph.data.synthetic.beat import FIST, FLAT, Beat, Channels, Program
from skelgraph.errors import UserError, unknown

UPPER = (
    "wave",
    "clap",
    "punch",
    "throw",
    "drink",
    "arm_circles",
    "push",
    "salute",
    "cheer",
    "phone_call",
    "stretch",
    "cross_arms",
    "point",
)
LOWER = ("squat", "kick", "jump", "walk", "run", "lunge", "sit_down", "stand_up", "turn", "march", "hop", "bow")
EXTRAS = ("turning", "swaying")
IN_PLACE = ("run", "march", "hop")
ARMS = ("arm", "forearm", "hand", "fingers", "head")


@dataclass(frozen=True)
class Pair:
    """An action of two who face each other, ``distance`` metres apart at average height."""

    actor: Program
    partner: Program
    distance: float


def _shake(b: Beat) -> Channels:
    up, s = b.hold(), b.swing(2.2)
    return {
        "right_arm": ((34 + 7 * s) * up, 8, -12 * up),
        "right_forearm": (15 + (38 - 8 * s) * up, 0, 0),
        "right_fingers": (0, -40 * up, 0),
        "trunk": (6 * up, 0, 6 * up),
    }


def _five(b: Beat) -> Channels:
    s = b.strike(0.7)
    return {
        "right_arm": (40 + 65 * s, 14, 30 * (1 - s)),
        "right_forearm": (105 - 70 * s, 0, 0),
        "right_hand": (0, 20 - 45 * s, 60),
        "right_fingers": FLAT,
        "trunk": (4 * s, 0, 10 * s),
    }


def _give(b: Beat) -> Channels:
    up, away = b.hold(), b.once(0.5)
    return {
        "right_arm": (54 * up, 8, -8 * up),
        "right_forearm": (15 + 28 * up, 0, 0),
        "right_fingers": (0, -65 * (1 - away), 0),
        "right_hand": (0, 0, 70 * up),
        "trunk": (8 * up, 0, 4 * up),
    }


def _take(b: Beat) -> Channels:
    up, got = b.hold(), b.once(0.5)
    return {
        "right_arm": (52 * up - 30 * got * up, 8, -6 * up),
        "right_forearm": (15 + (25 + 60 * got) * up, 0, 0),
        "right_fingers": (0, -70 * got, 0),
        "right_hand": (0, 0, 60 * up),
        "trunk": (6 * (1 - got) * up, 0, 0),
    }


def _stagger(b: Beat) -> Channels:
    s = b.strike(0.65, 0.12)
    return {
        "trunk": (-22 * s, 0, 6 * s),
        "hips": (-8 * s, 0, 0),
        "head": (14 * s, 0, 0),
        "right_thigh": (-20 * s, 4, 0),
        "right_shank": (24 * s, 0, 0),
        "left_arm": (38 * s, 26 * s, 0),
        "right_arm": (30 * s, 30 * s, 0),
    }


def _guard(b: Beat) -> Channels:
    s = b.strike(1.0, 0.08)
    arm = (62, 10, -32)
    return {
        "left_arm": arm,
        "right_arm": arm,
        "left_forearm": (125, 0, 0),
        "right_forearm": (125, 0, 0),
        "trunk": (8 - 24 * s, 0, 0),
        "head": (8, 0, 0),
        "left_fingers": FIST,
        "right_fingers": FIST,
    }


PAIRS: dict[str, Pair] = {
    "handshake": Pair(_shake, _shake, 1.05),
    "high_five": Pair(_five, _five, 1.0),
    "give_object": Pair(_give, _take, 1.1),
    "push_other": Pair(ACTIONS["push"], _stagger, 0.85),
    "punch_other": Pair(ACTIONS["punch"], _guard, 0.85),
    "kick_other": Pair(ACTIONS["kick"], _stagger, 1.0),
}


def combine(upper: Program, lower: Program, extra: str = "") -> Program:
    """Arms and head of one action over legs and trunk of another, the whole turning or swaying where asked for."""

    def program(b: Beat) -> Channels:
        above, pose = upper(b), dict(lower(b))
        for name in [name for name in pose if name.split("_")[-1] in ARMS]:
            del pose[name]
        pose.update((name, value) for name, value in above.items() if name.split("_")[-1] in ARMS)
        hips, trunk = pose.get("hips", (0, 0, 0)), pose.get("trunk", (0, 0, 0))
        if extra == "turning":
            pose["hips"] = (hips[0], hips[1], hips[2] + 200 * b.once(2.2) - 100)
        if extra == "swaying":
            pose["trunk"] = (trunk[0], trunk[1] + 24 * b.swing(0.5), trunk[2])
        return pose

    return program


def class_names(count: int, persons: int = 1) -> tuple[str, ...]:
    """The first ``count`` classes; for two or more persons the actions of two come first.

    Raises:
        UserError: fewer than one, or more than there are.
    """
    names = [*(PAIRS if persons > 1 else ()), *ACTIONS]
    for extra in ("", *EXTRAS):
        for shift in range(len(LOWER)):
            for row, upper in enumerate(UPPER):
                names.append("+".join(filter(None, (upper, LOWER[(row + shift) % len(LOWER)], extra))))
    if not 1 <= count <= len(names):
        raise UserError(f"demo data have 1 to {len(names)} classes, not {count}.")
    return tuple(names[:count])


def programs(name: str) -> tuple[Program, Program | None, float]:
    """Program of the actor, of the partner (None where there is none), and their distance in metres.

    Raises:
        UserError: no such class.
    """
    if name in PAIRS:
        pair = PAIRS[name]
        return pair.actor, pair.partner, pair.distance
    words = name.split("+")
    if len(words) > 1 and words[0] in UPPER and words[1] in LOWER:
        return combine(ACTIONS[words[0]], ACTIONS[words[1]], "".join(words[2:])), None, 0.0
    if name not in ACTIONS:
        raise unknown("demo action", name, [*ACTIONS, *PAIRS])
    return ACTIONS[name], None, 0.0


def grounded(name: str) -> bool:
    """Whether feet stay where they stand; an action on the spot is held by the pelvis instead."""
    return not any(word in IN_PLACE for word in name.split("+"))
