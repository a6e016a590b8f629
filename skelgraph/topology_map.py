"""Carries joints of one topology over to another by their names.

All files share one vocabulary of joint names, so a joint's partner is the joint of the same name. Where there is none,
`RULES` says which joints stand for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from skelgraph.topology import Floats, Topology

Joints = tuple[str, ...]

_CENTRAL: dict[str, list[Joints]] = {
    "head": [("nose",), ("left_ear", "right_ear"), ("left_eye", "right_eye")],
    "nose": [("head",), ("nose_bridge_4",)],
    "neck": [("spine_shoulder",), ("left_shoulder", "right_shoulder")],
    "spine_shoulder": [("left_shoulder", "right_shoulder"), ("neck",)],
    "spine_mid": [
        ("spine_base", "spine_shoulder"),
        ("mid_hip", "neck"),
        ("left_hip", "right_hip", "left_shoulder", "right_shoulder"),
    ],
    "spine_base": [("mid_hip",), ("left_hip", "right_hip")],
    "mid_hip": [("spine_base",), ("left_hip", "right_hip")],
    "palm": [("wrist", "middle_mcp")],
}
_SIDED: dict[str, list[Joints]] = {
    "eye": [("*eye_inner", "*eye_outer")],
    "wrist": [("*hand_root",), ("*hand",)],
    "hand_root": [("*wrist",), ("*hand",)],
    "hand": [("*index_mcp", "*pinky_mcp"), ("*index", "*pinky"), ("*hand_root",), ("*wrist",)],
    "hand_tip": [("*middle_tip",)],
    "thumb": [("*thumb_tip",)],
    "index": [("*index_mcp",)],
    "pinky": [("*pinky_mcp",)],
    "ankle": [("*foot",)],
    "foot": [("*big_toe",), ("*ankle",)],
    "big_toe": [("*foot",)],
}


def _rules() -> dict[str, list[Joints]]:
    sided = {
        side + name: [tuple(joint.replace("*", side) for joint in joints) for joints in choices]
        for side in ("left_", "right_")
        for name, choices in _SIDED.items()
    }
    return _CENTRAL | sided


RULES: Mapping[str, list[Joints]] = _rules()
"""For a joint without namesake: groups of joints whose mean stands for it, the best group first."""


@dataclass(frozen=True, eq=False)
class TopologyMap:
    """How joints of ``source`` give joints of ``target``: ``x_target = matrix @ x_source``.

    Attributes:
        matrix: (V_target, V_source); rows sum to one, but are zero for missing joints.
        derived: joints of the target that stand on joints of another name, with these.
        missing: joints of the target without any partner.
        unused: joints of the source that nothing is taken from.
    """

    source: Topology
    target: Topology
    matrix: Floats
    derived: Mapping[str, Joints]
    missing: Joints
    unused: Joints

    @classmethod
    def between(cls, source: Topology, target: Topology) -> TopologyMap:
        """The map from ``source`` to ``target``, by joint names and `RULES`."""
        matrix = np.zeros((len(target.joints), len(source.joints)), dtype=np.float32)
        derived: dict[str, Joints] = {}
        missing = []
        for row, joint in enumerate(target.joints):
            partners = _partners(joint, source.joints)
            if not partners:
                missing.append(joint)
                continue
            if partners != (joint,):
                derived[joint] = partners
            matrix[row, source.indices(partners)] = 1 / len(partners)
        unused = tuple(joint for i, joint in enumerate(source.joints) if not matrix[:, i].any())
        return cls(source, target, matrix, derived, tuple(missing), unused)

    def apply(self, keypoints: Floats, score: Floats) -> tuple[Floats, Floats]:
        """Joints of the target: weighted means over the seen joints of the source.

        Args:
            keypoints: (..., V_source, C).
            score: (..., V_source), 0 = missing.

        Returns:
            keypoints (..., V_target, C) and score (..., V_target), a mean as well.
        """
        seen = (score > 0).astype(np.float32)
        weight = np.einsum("uv,...v->...u", self.matrix, seen)
        mapped = np.einsum("uv,...vc->...uc", self.matrix, keypoints * seen[..., None], optimize=True)
        safe = np.where(weight > 0, weight, 1)
        mean = np.einsum("uv,...v->...u", self.matrix, score)
        return (mapped / safe[..., None]).astype(np.float32), mean.astype(np.float32)


def _partners(joint: str, available: Joints) -> Joints:
    groups = [(joint,), *RULES.get(joint, [])]
    return next((group for group in groups if set(group) <= set(available)), ())
