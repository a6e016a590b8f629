"""The hash of a store's content: one number that can be carried on clip by clip and joined from pieces.

A clip has a digest; the digests d_0 ... d_{N-1} are the coefficients of a polynomial at a fixed place modulo a prime.
So the state is one number, order matters, how clips lie in shards does not, and the state of two pieces one after
another follows from the states of both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from skelgraph.data.clip import Clip

PRIME = 2**127 - 1
PLACE = int.from_bytes(blake2b(b"skelgraph store", digest_size=15).digest(), "big")


@dataclass(frozen=True)
class RollingHash:
    """State after ``clips`` clips."""

    value: int = 0
    clips: int = 0

    def add(self, digest: bytes) -> RollingHash:
        """The state with one clip more."""
        return RollingHash((self.value * PLACE + int.from_bytes(digest, "big")) % PRIME, self.clips + 1)

    def join(self, later: RollingHash) -> RollingHash:
        """The state of these clips followed by those of ``later``."""
        value = (self.value * pow(PLACE, later.clips, PRIME) + later.value) % PRIME
        return RollingHash(value, self.clips + later.clips)

    @property
    def text(self) -> str:
        """For ``meta.json`` and the journal."""
        return f"{self.value:032x}"

    @classmethod
    def of(cls, text: str, clips: int) -> RollingHash:
        """The state that `text` and the number of clips tell.

        Raises:
            ValueError: no hexadecimal number.
        """
        return cls(int(text, 16) % PRIME, clips)

    def content(self, *facts: Any) -> str:
        """The content hash: of the clips and of plain facts about the whole store."""
        whole = json.dumps([self.text, self.clips, *facts]).encode()
        return blake2b(whole, digest_size=16).hexdigest()


def clip_digest(clip: Clip) -> bytes:
    """16 bytes that stand for everything in a clip."""
    facts = [
        clip.name, clip.label, clip.keypoints.shape, clip.fps, clip.image_size, clip.subject, clip.camera, clip.setup,
        clip.group, clip.segments,
    ]  # fmt: skip
    made = blake2b(json.dumps(facts, default=int).encode(), digest_size=16)
    further = [clip.modalities[key] for key in sorted(clip.modalities)]
    times = [clip.modality_times[key] for key in sorted(clip.modality_times)]
    for item in (clip.keypoints, clip.score, clip.timestamps, *further, *times):
        made.update(np.ascontiguousarray(item).data if isinstance(item, np.ndarray) else str(item).encode())
    return made.digest()
