"""skelgraph: skeleton-based action recognition on explicit graphs.

>>> import skelgraph as sg
>>> sg.Topology.load("coco17").joints[0]
'nose'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skelgraph import data, methods, models, nn, transforms, weights
    from skelgraph.batch import Batch, ClipSpec, Output
    from skelgraph.engine.run_folder import Run
    from skelgraph.engine.runner import run
    from skelgraph.errors import UserError
    from skelgraph.graph import TemporalGraph
    from skelgraph.prediction.stream import Stream
    from skelgraph.predictor import Predictor
    from skelgraph.topology import Topology

__version__ = "0.1.0"

_WHERE = {
    "Topology": "skelgraph.topology",
    "TemporalGraph": "skelgraph.graph",
    "Batch": "skelgraph.batch",
    "ClipSpec": "skelgraph.batch",
    "Output": "skelgraph.batch",
    "Run": "skelgraph.engine.run_folder",
    "run": "skelgraph.engine.runner",
    "UserError": "skelgraph.errors",
    "Predictor": "skelgraph.predictor",
    "Stream": "skelgraph.prediction.stream",
}
_MODULES = ("data", "methods", "models", "nn", "transforms", "weights")

__all__ = [
    "Batch", "ClipSpec", "Output", "Predictor", "Run", "Stream", "TemporalGraph", "Topology",
    "UserError",
    "data", "methods", "models", "nn", "run", "transforms", "weights",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Heavy imports happen at first use, so that ``import skelgraph`` and ``skelgraph --help`` are quick."""
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    if name in _MODULES:
        return import_module(f"skelgraph.{name}")
    raise AttributeError(f"module 'skelgraph' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
