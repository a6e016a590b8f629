"""The named points of the body model: the toolkit's joint vocabulary placed on segments.

Offsets are fractions of the body height in the segment's frame (x to the left, y up, z forward).
"""

from __future__ import annotations

import math

from skelgraph.data.synthetic.body import FINGERS, SEGMENTS, Anchor

Offset = tuple[float, float, float]


def _middle() -> dict[str, Anchor]:
    """Points on the axis of the body."""
    table: dict[str, tuple[str, Offset]] = {
        "mid_hip hip_center hips pelvis root hip": ("pelvis", (0.0, 0.0, 0.0)),
        "spine_base": ("pelvis", (0.0, 0.012, 0.0)),
        "belly": ("spine", (0.0, 0.02, 0.05)),
        "spine waist": ("spine", (0.0, 0.03, 0.0)),
        "spine_mid torso spine_navel": ("chest", (0.0, 0.0, 0.0)),
        "chest thorax spine_chest": ("chest", (0.0, 0.08, 0.0)),
        "spine_shoulder shoulder_center mid_shoulder": ("chest", (0.0, 0.15, -0.002)),
        "neck": ("neck", (0.0, 0.005, 0.0)),
        "face face_center": ("head", (0.0, 0.04, 0.05)),
        "head": ("head", (0.0, 0.055, 0.015)),
        "head_top top_head": ("head", (0.0, 0.12, 0.0)),
        "head_bottom upper_neck": ("head", (0.0, -0.01, 0.0)),
        "nose": ("head", (0.0, 0.042, 0.064)),
        "mouth": ("head", (0.0, 0.018, 0.057)),
        "chin jaw": ("head", (0.0, -0.004, 0.05)),
        "forehead": ("head", (0.0, 0.085, 0.05)),
    }
    return {name: Anchor(*place) for names, place in table.items() for name in names.split()}


def _sided() -> dict[str, Anchor]:
    """Points that come in pairs, given for the left side."""
    table: dict[str, tuple[str, Offset]] = {
        "eye": ("head", (0.018, 0.058, 0.053)),
        "eye_inner": ("head", (0.010, 0.059, 0.055)),
        "eye_outer": ("head", (0.027, 0.058, 0.047)),
        "pupil": ("head", (0.018, 0.0585, 0.0535)),
        "ear": ("head", (0.043, 0.045, 0.002)),
        "mouth mouth_corner": ("head", (0.014, 0.018, 0.054)),
        "collar clavicle": ("{side}_clavicle", (0.03, 0.004, 0.0)),
        "shoulder": ("{side}_arm", (0.0, 0.0, 0.0)),
        "elbow": ("{side}_forearm", (0.0, 0.0, 0.0)),
        "wrist": ("{side}_hand", (0.0, 0.0, 0.0)),
        "hand palm hand_center": ("{side}_hand", (0.0, -0.045, 0.0)),
        "hand_root": ("{side}_hand", (0.0, -0.006, 0.0)),
        "hip": ("{side}_thigh", (0.0, 0.0, 0.0)),
        "knee": ("{side}_shank", (0.0, 0.0, 0.0)),
        "ankle": ("{side}_foot", (0.0, 0.0, 0.0)),
        "heel": ("{side}_foot", (0.0, -0.03, -0.033)),
        "foot": ("{side}_foot", (0.0, -0.022, 0.07)),
        "toe big_toe foot_index toes toe_base": ("{side}_foot", (-0.010, -0.03, 0.108)),
        "small_toe": ("{side}_foot", (0.022, -0.03, 0.088)),
    }
    points = {}
    for side, sign in (("left", 1), ("right", -1)):
        for names, (segment, (x, y, z)) in table.items():
            for name in names.split():
                points[f"{side}_{name}"] = Anchor(segment.format(side=side), (sign * x, y, z))
                points[f"{name}_{side}"] = points[f"{side}_{name}"]
    return points


def _fingers() -> dict[str, Anchor]:
    """Knuckles and tips of both hands, in the words of MediaPipe (mcp, pip, dip, tip) and SHREC (base, first, ...)."""
    points = {}
    for side in ("left", "right"):
        for finger in FINGERS:
            words = ("cmc base", "mcp first", "ip second")
            if finger != "thumb":
                words = ("mcp base", "pip first", "dip second")
            for index, names in enumerate(words, start=1):
                for name in names.split():
                    points[f"{side}_{finger}_{name}"] = Anchor(f"{side}_{finger}_{index}")
            x, y, z = SEGMENTS[f"{side}_{finger}_3"].offset
            points[f"{side}_{finger}_tip"] = Anchor(f"{side}_{finger}_3", (x * 0.9, y * 0.9, z * 0.9))
            points[f"{side}_{finger}"] = points[f"{side}_{finger}_tip"]
        points[f"{side}_hand_tip"] = points[f"{side}_middle_tip"]
    return points


def _face_names() -> list[str]:
    """The 68 landmarks of iBUG in their order: jaw, brows, nose, eyes, mouth, the subject's right first."""
    jaw = [f"right_jaw_{i}" for i in range(1, 9)] + ["chin"] + [f"left_jaw_{i}" for i in range(8, 0, -1)]
    brows = [f"right_brow_{i}" for i in range(1, 6)] + [f"left_brow_{i}" for i in range(5, 0, -1)]
    nose = [f"nose_bridge_{i}" for i in range(1, 5)]
    nose += ["right_nostril_1", "right_nostril_2", "nose_base", "left_nostril_2", "left_nostril_1"]
    right = ("outer", "upper_outer", "upper_inner", "inner", "lower_inner", "lower_outer")
    left = ("inner", "upper_inner", "upper_outer", "outer", "lower_outer", "lower_inner")
    eyes = [f"right_eye_{place}" for place in right] + [f"left_eye_{place}" for place in left]
    upper, lower = ("lip_upper_1", "lip_upper_2"), ("lip_lower_1", "lip_lower_2")
    mouth = ["right_mouth", *(f"right_{lip}" for lip in upper), "lip_upper", *(f"left_{lip}" for lip in upper[::-1])]
    mouth += ["left_mouth", *(f"left_{lip}" for lip in lower), "lip_lower", *(f"right_{lip}" for lip in lower[::-1])]
    mouth += ["right_lip_inner", "right_lip_inner_upper", "lip_inner_upper", "left_lip_inner_upper"]
    mouth += ["left_lip_inner", "left_lip_inner_lower", "lip_inner_lower", "right_lip_inner_lower"]
    return [*jaw, *brows, *nose, *eyes, *mouth]


def _face() -> dict[str, Anchor]:
    """The landmarks of a face on curves: a jaw line, two brows, a nose, ellipses for eyes and lips."""
    flat: list[Offset] = []
    for step in range(17):
        turn = math.pi * (step / 16 - 0.5)
        flat.append((0.041 * math.sin(turn), 0.05 - 0.055 * math.cos(turn), 0.008 + 0.042 * math.cos(turn)))
    for start in (-0.032, 0.010):
        flat += [(start + 0.0055 * i, 0.068 + 0.004 * math.sin(math.pi * i / 4), 0.05) for i in range(5)]
    flat += [(0.0, 0.059 - 0.0055 * i, 0.056 + 0.0028 * i) for i in range(4)]
    flat += [(-0.008 + 0.004 * i, 0.036, 0.059 - 0.001 * abs(i - 2)) for i in range(5)]
    for middle in (-0.018, 0.018):
        turns = [math.pi * (1 - i / 3) for i in range(4)] + [-math.pi / 3, -2 * math.pi / 3]
        flat += [(middle + 0.008 * math.cos(a), 0.058 + 0.0035 * math.sin(a), 0.052) for a in turns]
    for width, height, count in ((0.015, 0.007, 12), (0.011, 0.003, 8)):
        turns = [math.pi - 2 * math.pi * i / count for i in range(count)]
        curve = [(width * math.cos(a), height * math.sin(a)) for a in turns]
        flat += [(x, 0.018 + y, 0.056 - 0.2 * abs(x)) for x, y in curve]
    return {name: Anchor("head", point) for name, point in zip(_face_names(), flat, strict=True)}


POINTS: dict[str, Anchor] = {**_face(), **_middle(), **_sided(), **_fingers()}
