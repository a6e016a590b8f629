"""What several tests share: one thread, and one tiny demo store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Tiny tensors: threads cost more than they bring, the more so beside other work.
os.environ.update(DGLBACKEND="pytorch", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")


@pytest.fixture(scope="session")
def demo_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 clips of 4 classes on coco17, 2-D."""
    from skelgraph.data.synthetic import write_demo

    return write_demo(tmp_path_factory.mktemp("demo") / "store", clips=48, classes=4, frames=(20, 40))
