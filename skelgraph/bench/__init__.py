"""What models and stages cost: `bench_stage` measures a recipe, `CASES` are measurements with a name."""

from skelgraph.bench import cases, models
from skelgraph.bench.stage import bench_stage
from skelgraph.bench.table import Table, write
from skelgraph.bench.timing import CASES, Timing

__all__ = ["CASES", "Table", "Timing", "bench_stage", "cases", "models", "write"]
