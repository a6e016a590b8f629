"""The clock of a performance, and what a joint-angle program is.

A program takes a `Beat` (time, speed and phase of this performance) and returns the channels it moves, in degrees
(`body` says how to read them); everything else hangs at rest. Programs are written right-handed: style mirrors them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from skelgraph.data.synthetic.kinematics import Array, smoothstep

Channels = dict[str, tuple[Any, Any, Any]]
Program = Callable[["Beat"], Channels]
FIST, FLAT = (0, -85, 0), (0, -6, 0)


@dataclass(frozen=True)
class Beat:
    """The clock of one performance: seconds (T,), how fast, where in the cycle and when it starts and ends."""

    time: Array
    speed: float = 1.0
    phase: float = 0.0
    start: float = 0.1
    stop: float = 0.1

    @property
    def duration(self) -> float:
        """Seconds."""
        return float(self.time[-1]) + 1 / 30

    def angle(self, hz: float) -> Array:
        """Phase in radians of a movement repeated ``hz`` times a second at normal speed."""
        return 2 * np.pi * (hz * self.speed * self.time + self.phase)

    def swing(self, hz: float, lag: float = 0.0) -> Array:
        """Between -1 and 1; ``lag`` in cycles."""
        return np.sin(self.angle(hz) - 2 * np.pi * lag)

    def pulse(self, hz: float, lag: float = 0.0) -> Array:
        """Between 0 and 1 and back, softly."""
        return (1 - np.cos(self.angle(hz) - 2 * np.pi * lag)) / 2

    def strike(self, hz: float, lag: float = 0.0) -> Array:
        """Out fast, back slowly, a rest between."""
        part = (self.angle(hz) / (2 * np.pi) - lag) % 1.0
        return smoothstep(part / 0.25) - smoothstep((part - 0.35) / 0.45)

    def hold(self) -> Array:
        """Up, stay, down again: once in a clip; what the clip cuts off is missing."""
        rise = 0.55 / self.speed
        up = smoothstep((self.time - self.start + 0.1) / rise)
        return up * smoothstep((self.duration - self.stop + 0.1 - self.time) / rise)

    def once(self, seconds: float = 1.1) -> Array:
        """From 0 to 1 in the middle of the clip."""
        length = seconds / self.speed
        begin = (self.duration - length) / 2 + 0.5 * (self.start - self.stop)
        return smoothstep((self.time - begin) / length)

    def bump(self, seconds: float = 1.1) -> Array:
        """0 before and after `once`, 1 in its middle."""
        u = self.once(seconds)
        return 4 * u * (1 - u)
