"""Steps of a modality where they lie: in the store, in an .npy or .npz file, as pictures or as a video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from skelgraph.errors import UserError


class Steps(Protocol):
    """Steps that are read when they are asked for.

    Attributes:
        count: how many.
        shape, dtype: of one step.
        times: (count,) seconds, where known.
        kind: what it must be, where the form tells.
    """

    count: int
    shape: tuple[int, ...]
    dtype: np.dtype
    times: np.ndarray | None
    kind: str | None

    def take(self, index: np.ndarray) -> np.ndarray:
        """Steps by number, ``(len(index), *shape)``."""
        ...


@dataclass
class ArraySteps:
    """Steps of an array (S, ...), which may be mapped from a file."""

    array: np.ndarray
    times: np.ndarray | None = None
    kind: str | None = None

    def __post_init__(self) -> None:
        self.count, self.shape, self.dtype = len(self.array), self.array.shape[1:], self.array.dtype

    def take(self, index: np.ndarray) -> np.ndarray:
        return self.array[index]


def open_steps(content: np.ndarray | Path, times: np.ndarray | None = None) -> Steps:
    """The steps of an array, file or folder; nothing but its outline is read yet.

    Args:
        content: what the store holds.
        times: seconds of each step, where the store holds them.

    Raises:
        UserError: absent or damaged; names the file.
    """
    if isinstance(content, np.ndarray):
        return ArraySteps(content, times)
    raise UserError(f"{content}: this kind of file cannot be read.")
