"""Arrays in npy files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skelgraph.errors import UserError


def load_array(path: Path) -> np.ndarray:
    """Numbers of a npy file, as a memory map, so that a declared size beyond the file's own is seen at once.

    Raises:
        UserError: no npy file of numbers; objects among them, since reading these runs a pickle.
    """
    try:
        values = np.load(path, allow_pickle=False, mmap_mode="r")
    except (ValueError, OSError, EOFError, TypeError) as error:
        raise UserError(f"{path}: no npy file of plain numbers, or cut off ({str(error)[:120]}).") from None
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise UserError(f"{path}: no npy file of plain numbers.")
    return values
