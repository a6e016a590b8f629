"""How a model learns: one `Method` each, by name in `METHODS`."""

from __future__ import annotations

from skelgraph.methods.balanced import BRL, Balanced
from skelgraph.methods.base import METHODS, Method
from skelgraph.methods.contrastive import Moco
from skelgraph.methods.halp import HaLP
from skelgraph.methods.masked import Masked
from skelgraph.methods.posthoc import ClassifierRetraining, LogitAdjust, TauNorm
from skelgraph.methods.supervised import LinearProbe, Supervised

__all__ = [
    "BRL",
    "METHODS",
    "Balanced",
    "ClassifierRetraining",
    "HaLP",
    "LinearProbe",
    "LogitAdjust",
    "Masked",
    "Method",
    "Moco",
    "Supervised",
    "TauNorm",
]
