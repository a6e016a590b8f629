"""Readers of foreign formats, by name in `READERS`; `import_data` turns their files into a store."""

from skelgraph.data.readers import (  # noqa: F401  (they register)
    coco,
    csv_table,
    hand_gestures,
    jhmdb,
    kinetics_skeleton,
    mediapipe,
    npz,
    ntu,
    nw_ucla,
    openpose,
    penn_action,
    pku_mmd,
    pose_pickle,
    sbu,
    signs_mediapipe,
    stgcn_npy,
    utd_mhad,
    utkinect,
)
from skelgraph.data.readers.base import READERS, Reader
from skelgraph.data.readers.importing import ImportReport, import_data
from skelgraph.data.readers.workers import Skipped

__all__ = ["READERS", "ImportReport", "Reader", "Skipped", "import_data"]
