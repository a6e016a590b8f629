"""Several processes that share one run folder: the first writes, the others wait for what it has written."""

from __future__ import annotations

import os
import time
from pathlib import Path

from skelgraph.errors import UserError

PATIENCE = 24 * 3600.0


def rank() -> int:
    """Number of this process among those of the run, as torchrun, SLURM or Lightning has set it; 0 if alone."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0


def several() -> bool:
    """Whether an outer launcher has started more than one process."""
    return max(int(os.environ.get(name) or 1) for name in ("WORLD_SIZE", "SLURM_NTASKS")) > 1


def wait_for(path: Path, patience: float = PATIENCE) -> None:
    """Wait until the first process has written ``path``.

    Raises:
        UserError: it has not come within ``patience`` seconds.
    """
    limit = time.monotonic() + patience
    while not path.exists():
        if time.monotonic() > limit:
            raise UserError(f"{path}: the first process has not written this in {patience:.0f} s.")
        time.sleep(0.05)
