"""MATLAB 5 files by way of scipy, for the readers of data sets that come as ``.mat``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skelgraph.data.readers.declared import need_size
from skelgraph.errors import UserError

WIDTH = 8  # bytes of a double and of a pointer


def load_mat(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """The named variables of a MATLAB 5 file.

    Raises:
        UserError: scipy is not installed, the file is damaged, or a variable is missing or empty.
    """
    try:
        from scipy.io import loadmat, whosmat
    except ImportError:
        raise UserError("reading .mat files needs scipy: pip install 'skelgraph[mat]'") from None
    try:
        declared = sum(math.prod(shape) for name, shape, _ in whosmat(path) if name in names)
        need_size(path, WIDTH * declared, "what it declares")
        data = loadmat(path, variable_names=names)
    except UserError:
        raise
    except Exception as error:  # scipy raises whatever the damaged byte leads to, struct.error and zlib.error included
        raise UserError(f"{path}: damaged MATLAB file ({str(error)[:100]}).") from None
    for name in names:
        if name not in data or not np.size(data[name]):
            raise UserError(f"{path}: has no variable '{name}'.")
    return data
