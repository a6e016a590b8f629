"""What models and stages cost: `bench_stage` measures a recipe, `CASES` are measurements with a name."""

from skelgraph.bench.cases import CASES
from skelgraph.bench.models import models_table
from skelgraph.bench.stage import bench_stage
from skelgraph.bench.table import Table, write
from skelgraph.bench.timing import Timing

__all__ = ["CASES", "Table", "Timing", "bench_stage", "models_table", "write"]
