"""Demo data whose label needs two modalities: it says whether a sign in one differs from a sign in the other.

Clips come in fours that share everything but the two signs. So each content of one modality stands in as many clips of
one class as of the other, and a single modality holds exactly nothing that bears on the label, not even by heart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from skelgraph.data.clip import Clip
from skelgraph.topology import Topology

CLASSES = ("same", "different")
GROUP = 4
BUMP, NOISE = 3.0, 0.3
FRAMES, CHANNELS = 6, 8
PICTURES, PIXELS, PATCH = 4, 16, 6
PIXEL_NOISE = 12.0


@dataclass(frozen=True)
class Task:
    """One way to hide a sign in joints and in a second modality.

    Attributes:
        modality: its name. dtype, facts: what the store says of it.
        joints: (rng, topology, dims) -> (2, T, V, C), with either sign.
        other: rng -> (2, S, ...), likewise.
    """

    modality: str
    dtype: str
    facts: dict[str, Any]
    joints: Callable[[np.random.Generator, Topology, int], np.ndarray]
    other: Callable[[np.random.Generator], np.ndarray]


def _bump(rng: np.random.Generator, channels: int) -> np.ndarray:
    """(2, FRAMES, channels) noise with a bump, down or up, at a random frame of the first channel."""
    both = np.repeat(rng.normal(0, NOISE, (1, FRAMES, channels)), 2, axis=0)
    both[:, rng.integers(FRAMES), 0] += (-BUMP, BUMP)
    return both


def _bump_in_joints(rng: np.random.Generator, topology: Topology, dims: int) -> np.ndarray:
    joints = len(topology.joints)
    return _bump(rng, joints * dims).reshape(2, FRAMES, joints, dims)


def _shift(rng: np.random.Generator, topology: Topology, dims: int) -> np.ndarray:
    """One random joint lies low or high in all frames, the others about the origin."""
    joints = len(topology.joints)
    both = np.repeat(rng.normal(0, NOISE / 6, (1, PICTURES, joints, dims)), 2, axis=0)
    both[:, :, rng.integers(joints)] += np.array((-1.0, 1.0))[:, None, None]
    return both


def _patch(rng: np.random.Generator) -> np.ndarray:
    """(2, PICTURES, PIXELS, PIXELS) bytes: a dark or a bright patch at a random place, in all frames."""
    both = np.repeat(rng.normal(128, PIXEL_NOISE, (1, PICTURES, PIXELS, PIXELS)), 2, axis=0)
    top, left = rng.integers(PIXELS - PATCH + 1, size=2)
    both[:, :, top : top + PATCH, left : left + PATCH] += np.array((-90.0, 90.0))[:, None, None, None]
    return both.clip(0, 255).astype(np.uint8)


TASKS: dict[str, Task] = {
    "xor_sequence": Task(
        "signal", "float32", {"kind": "sequence", "spans": True}, _bump_in_joints,
        lambda rng: _bump(rng, CHANNELS).astype(np.float32),
    ),
    "xor_frames": Task("picture", "uint8", {"kind": "frames", "spans": True}, _shift, _patch),
}  # fmt: skip
"""``xor_sequence``: a bump at a random frame of the joints and of a signal (M-Mixer's specification); ``xor_frames``:
a joint and a patch in the picture, in all frames (that of the 3D deformable transformer)."""


def clips(task: Task, topology: Topology, dims: int, count: int, seed: int) -> Iterator[tuple[Clip, bool]]:
    """Clips, and whether they are tested: every third four is. An incomplete four at the end is left out."""
    for group in range(count // GROUP):
        rng = np.random.default_rng([seed, group, 4])
        joints, other = task.joints(rng, topology, dims), task.other(rng)
        for case in range(GROUP):
            a, b = divmod(case, 2)
            clip = Clip.of(
                f"xor_{group:06d}_{a}{b}", joints[a][None], label=a ^ b, group=f"xor_{group:06d}",
                modalities={task.modality: other[b]},
            )  # fmt: skip
            yield clip, group % 3 == 2
