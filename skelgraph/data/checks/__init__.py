"""Checks of a store, by name in `CLIP_CHECKS` and `STORE_CHECKS`; `check_data` runs them."""

from skelgraph.data.checks import coordinates, joints, labels, motion, splits  # noqa: F401  (they register)
from skelgraph.data.checks.base import CLIP_CHECKS, STORE_CHECKS, Finding, Severity
from skelgraph.data.checks.report import CheckReport, Tally
from skelgraph.data.checks.run import check_data, known_checks

__all__ = [
    "CLIP_CHECKS",
    "STORE_CHECKS",
    "CheckReport",
    "Finding",
    "Severity",
    "Tally",
    "check_data",
    "known_checks",
]
