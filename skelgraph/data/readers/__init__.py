"""Readers of foreign formats, by name in `READERS`; `import_data` turns their files into a store."""

from skelgraph.data.readers import jhmdb, npz, nw_ucla, penn_action, pose_pickle  # noqa: F401  (they register)
from skelgraph.data.readers.base import READERS, Reader
from skelgraph.data.readers.importing import ImportReport, Skipped, import_data

__all__ = ["READERS", "ImportReport", "Reader", "Skipped", "import_data"]
