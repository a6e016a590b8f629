"""Weights that others have published, as networks of ours: `load_released`, and `import_released` for recipes."""

from skelgraph.weights.families import FAMILIES
from skelgraph.weights.importing import Report, describe, import_released, inspect
from skelgraph.weights.released import Found, load_released

__all__ = ["FAMILIES", "Found", "Report", "describe", "import_released", "inspect", "load_released"]
