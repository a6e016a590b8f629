"""What several tests share: one thread, and one tiny demo store."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

# Tiny tensors: threads cost more than they bring, the more so beside other work.
os.environ.update(DGLBACKEND="pytorch", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """DGL has no build for Python 3.12 and newer; there its half of the parity tests says so."""
    if find_spec("dgl") is None:
        for item in items:
            if "dgl" in getattr(getattr(item, "callspec", None), "params", {}).values():
                item.add_marker(pytest.mark.skip(reason="DGL is not installed: pip install 'skelgraph[dgl]'"))


@pytest.fixture(scope="session")
def demo_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 clips of 4 classes on coco17, 2-D."""
    from skelgraph.data.synthetic import write_demo

    return write_demo(tmp_path_factory.mktemp("demo") / "store", clips=48, classes=4, frames=(20, 40))
