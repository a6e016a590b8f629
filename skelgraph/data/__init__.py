"""Clips, the store that holds them, and the readers that fill it; heavy parts are imported when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skelgraph.data.checks import check_data
    from skelgraph.data.clip import Clip
    from skelgraph.data.readers import import_data
    from skelgraph.data.store import Store
    from skelgraph.data.writer import StoreWriter

__all__ = ["Clip", "Store", "StoreWriter", "check_data", "import_data"]

_HOMES = {"Clip": "clip", "Store": "store", "StoreWriter": "writer", "import_data": "readers", "check_data": "checks"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'skelgraph.data' has no attribute '{name}'")
    return getattr(import_module(f"skelgraph.data.{_HOMES[name]}"), name)
