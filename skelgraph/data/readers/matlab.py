"""MATLAB 5 files by way of scipy, for the readers of data sets that come as ``.mat``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skelgraph.errors import UserError


def load_mat(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """The named variables of a MATLAB 5 file.

    Raises:
        UserError: scipy is not installed, the file is damaged, or a variable is missing or empty.
    """
    try:
        from scipy.io import loadmat
    except ImportError:
        raise UserError("reading .mat files needs scipy: pip install 'skelgraph[mat]'") from None
    try:
        data = loadmat(path, variable_names=names)
    except Exception as error:  # scipy raises whatever the damaged byte leads to, struct.error and zlib.error included
        raise UserError(f"{path}: damaged MATLAB file ({str(error)[:100]}).") from None
    for name in names:
        if name not in data or not np.size(data[name]):
            raise UserError(f"{path}: has no variable '{name}'.")
    return data
