"""Search for settings of a recipe, chosen on validation clips."""

from skelgraph.sweep.outcome import Outcome
from skelgraph.sweep.search import sweep
from skelgraph.sweep.space import Parameter, parse

__all__ = ["Outcome", "Parameter", "parse", "sweep"]
