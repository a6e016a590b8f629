"""Small clips, and annotations in the form of PYSKL's pickles."""

from __future__ import annotations

from typing import Any

import numpy as np

from skelgraph.data import Clip


def random_clip(name: str, frames: int = 6, persons: int = 1, joints: int = 17, dims: int = 2, **fields: Any) -> Clip:
    """A clip of random joints, the last one missing in the first frame."""
    chance = np.random.default_rng(len(name) + frames)
    score = chance.uniform(0.2, 1, (persons, frames, joints))
    score[:, 0, -1] = 0
    return Clip.of(name, chance.normal(50, 9, (persons, frames, joints, dims)), score, **{"label": 0, **fields})


def annotation(
    name: str, persons: int = 1, frames: int = 20, label: int = 0, joints: int = 17, dims: int = 2
) -> dict[str, Any]:
    """One entry of a PYSKL pickle; person p has a mean score near 0.1 (p + 1), so the last one comes first."""
    chance = np.random.default_rng(frames + persons)
    entry: dict[str, Any] = {
        "frame_dir": name,
        "label": label,
        "total_frames": frames,
        "keypoint": chance.uniform(1, 100, (persons, frames, joints, dims)).astype(np.float16),
    }
    if dims == 2:
        weight = 0.1 * (1 + np.arange(persons))[:, None, None]
        score = weight + chance.uniform(0, 0.01, (persons, frames, joints))
        entry.update(img_shape=(240, 320), original_shape=(480, 640), keypoint_score=score.astype(np.float16))
    return entry
