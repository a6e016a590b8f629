"""Pickles in the published form, and the folder of real data sets."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def save_pickle(tmp_path: Path) -> Callable[..., Path]:
    """Writes annotations and splits as a pickle and returns its path."""

    def save(annotations: list[dict[str, Any]], split: dict[str, list[str]] | None = None, protocol: int = 4) -> Path:
        path = tmp_path / f"poses_{protocol}.pkl"
        path.write_bytes(pickle.dumps({"split": split or {}, "annotations": annotations}, protocol=protocol))
        return path

    return save


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """A folder of the real data sets, which are not part of the repository; skips where they are absent."""
    root = Path(os.environ.get("SKELGRAPH_SHARED", REPOSITORY.parent / "shared")) / "data"

    def folder(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(f"real data '{name}' is not here; set SKELGRAPH_SHARED to the folder that holds data/{name}")
        return root / name

    return folder
