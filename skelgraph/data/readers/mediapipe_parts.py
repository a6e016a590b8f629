"""What every form of MediaPipe recording comes down to: landmarks of pose and hands, frame by frame.

Letters: a landmark is (x, y, z, score); NaN = missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from skelgraph.topology import Topology

POSE, HAND, FACE = 33, 21, 468
LEFT_WRIST, RIGHT_WRIST = 15, 16
HOLISTIC = "mediapipe_holistic"
TOPOLOGIES = ("mediapipe33", HOLISTIC, "hand21")


@dataclass
class Frame:
    """Landmarks of one frame.

    Attributes:
        poses: (33, 4) of each person.
        left, right: (21, 4) of the hands; None = not found.
    """

    poses: list[np.ndarray] = field(default_factory=list)
    left: np.ndarray | None = None
    right: np.ndarray | None = None


@dataclass
class Recording:
    """All frames of one clip.

    Attributes:
        frames: in order.
        times: seconds of each frame, where the file tells.
        fps, image_size: as the file tells them; height before width.
        handed: left and right come from a classifier of hands, not from the side of a body.
    """

    frames: list[Frame]
    times: np.ndarray | None = None
    fps: float | None = None
    image_size: tuple[int, int] | None = None
    handed: bool = False

    def topology(self) -> str | None:
        """The layout that holds everything found; None where nobody is."""
        pose = any(frame.poses for frame in self.frames)
        hands = any(frame.left is not None or frame.right is not None for frame in self.frames)
        return (HOLISTIC if hands else "mediapipe33") if pose else ("hand21" if hands else None)


def points_of(frame: Frame, topology: str, world: bool) -> list[np.ndarray]:
    """Landmarks (V, 4) of each person of a frame: bodies, one body with hands, or the left and the right hand.

    World landmarks of a hand have their origin in the hand; beside a pose they are moved to its wrist.
    """
    nothing = np.full((HAND, 4), np.nan)
    left, right = (nothing if hand is None else hand for hand in (frame.left, frame.right))
    if topology == "mediapipe33":
        return frame.poses
    if topology == "hand21":
        return [left, right]
    pose = frame.poses[0] if frame.poses else np.full((POSE, 4), np.nan)
    if world:
        left, right = _at(left, pose[LEFT_WRIST]), _at(right, pose[RIGHT_WRIST])
    return [np.concatenate([pose, left, right])]


def mirror(points: np.ndarray, topology: Topology, width: float) -> np.ndarray:
    """Undo a mirrored picture: x counts from the other side, and left joints are right ones.

    Args:
        points: (V, 4).
        topology: whose mirror is meant; a single hand has none.
        width: of the picture; 0 for world landmarks, whose origin is in the body.
    """
    turned = points[topology.mirror_permutation]
    turned[:, 0] = width - turned[:, 0]
    return turned


def _at(hand: np.ndarray, wrist: np.ndarray) -> np.ndarray:
    moved = hand.copy()
    moved[:, :3] += wrist[:3] - hand[0, :3]
    return moved
