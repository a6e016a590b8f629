"""How a model learns: one `Method` each, by name in `METHODS`."""

from __future__ import annotations

from skelgraph.methods.base import METHODS, Method
from skelgraph.methods.masked import Masked
from skelgraph.methods.supervised import LinearProbe, Supervised

__all__ = ["METHODS", "LinearProbe", "Masked", "Method", "Supervised"]
