"""Runs the checks over a store: each clip is read once, and no more than one is held."""

from __future__ import annotations

import csv
import inspect
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from skelgraph.data.checks.base import CLIP_CHECKS, STORE_CHECKS, Finding, Severity
from skelgraph.data.checks.clip_facts import ASSUMED_FPS, ClipFacts
from skelgraph.data.checks.report import CheckReport, Tally, ordered
from skelgraph.data.checks.skeleton import Skeleton
from skelgraph.data.checks.survey import Survey
from skelgraph.data.store import PathLike, Store
from skelgraph.errors import UserError, unknown

MOST = 1000
FURTHER = {
    "damaged": "A clip of the store cannot be read.",
    "skipped": "Something was left out when the store was imported.",
}


def check_data(
    store: Store | PathLike | Sequence[PathLike], *, protocols: Sequence[str] | None = None,
    skip: Collection[str] = (), thresholds: Mapping[str, Mapping[str, Any]] | None = None, fps: float = ASSUMED_FPS,
    progress: bool = False,
) -> CheckReport:  # fmt: skip
    """Look for faults in the clips, the labels and the splits of a store.

    Args:
        store: a store, or the folder of one (or of several, opened as one).
        protocols: splits to look at; None = all.
        skip: checks to leave out.
        thresholds: by check, e.g. ``{"jumping": {"speed": 30}}``.
        fps: frames a second where a clip does not know.
        progress: show a bar on the terminal.

    Returns:
        All counts, and up to 1000 of the worst findings of each check.

    Raises:
        UserError: no store there, or no such check, threshold or protocol.
    """
    began = time.monotonic()
    store = store if isinstance(store, Store) else Store.open(store)
    given = dict(thresholds or {})
    _refuse_unknown(store, protocols, [*skip, *given])
    survey = Survey(store, Skeleton(store.topology), tuple(store.protocols if protocols is None else protocols))
    checks = {name: _settings(name, given.get(name, {})) for name in known_checks() if name not in skip}
    tallies: dict[tuple[str, str | None], Tally] = {}
    for finding in _findings(survey, checks, fps, progress):
        key = (finding.code, finding.protocol)
        if key not in tallies:
            tallies[key] = Tally(finding.code, finding.protocol, MOST)
        tallies[key].add(finding)
    found = {code for code, _ in tallies}
    return CheckReport(
        store.info(), _class_counts(survey), ordered(list(tallies.values())),
        [name for name in checks if name not in found], {**known_checks(), **FURTHER}, checks,
        time.monotonic() - began,
    )  # fmt: skip


def known_checks() -> dict[str, str]:
    """What each check is about, by name."""
    registries = [(registry, name) for registry in (CLIP_CHECKS, STORE_CHECKS) for name in registry.names()]
    return {name: (inspect.getdoc(registry.get(name)) or "").split("\n\n")[0] for registry, name in registries}


def _findings(survey: Survey, checks: Mapping[str, Mapping[str, Any]], fps: float, bar: bool) -> Iterator[Finding]:
    """Everything, clip by clip, then about the store."""
    store, classes = survey.store, len(survey.store.classes)
    yield from _skipped(store)
    each = [(CLIP_CHECKS.get(name), checks[name]) for name in checks if name in CLIP_CHECKS]
    for row in _bar(range(len(store)), bar):
        try:
            facts = ClipFacts(row, store[row], survey.skeleton, store.meta.units, classes, fps)
        except UserError as error:
            yield Finding("damaged", Severity.ERROR, str(error).rstrip("."), "Import the data again.", store.names[row])
            continue
        for check, settings in each:
            yield from check(facts, **settings)
        survey.add(facts)
    for name in checks:
        if name in STORE_CHECKS:
            yield from STORE_CHECKS.get(name)(survey, **checks[name])


def _settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All thresholds of a check, those given in place of its own.

    Raises:
        UserError: no such threshold, or one that is no number.
    """
    registry = CLIP_CHECKS if name in CLIP_CHECKS else STORE_CHECKS
    registry.check(name, given)
    for key, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"threshold {name}.{key}: {value} is not a number.")
    return {key: given.get(key, parameter.default) for key, parameter in registry.settings(name).items()}


def _refuse_unknown(store: Store, protocols: Sequence[str] | None, checks: Collection[str]) -> None:
    for name in checks:
        if name not in known_checks():
            raise unknown("check", name, known_checks())
    for name in protocols or ():
        if name not in store.protocols:
            raise unknown("protocol", name, store.protocols, ", ".join(str(path) for path in store.paths))


def _skipped(store: Store) -> Iterator[Finding]:
    """What the import has left out, from the store's own list."""
    for path in store.paths:
        file = path / "skipped.csv"
        if not file.is_file():
            continue
        with file.open(newline="", encoding="utf-8") as text:
            for row in csv.DictReader(text):
                advice = "Mend the source and import again, or live without it."
                yield Finding("skipped", Severity.WARNING, (row["reason"] or "").rstrip("."), advice,
                              row["clip"] or row["item"])  # fmt: skip


def _class_counts(survey: Survey) -> dict[str, dict[str, list[int]]]:
    labels, classes = survey.store.labels, len(survey.store.classes)
    return {
        protocol: {
            part: np.bincount(labels[rows][labels[rows] >= 0], minlength=classes).tolist()
            for part, rows in parts.items()
        }
        for protocol, parts in survey.parts.items()
    }


def _bar(rows: Iterable[int], shown: bool) -> Iterable[int]:
    if not shown:
        return rows
    from rich.console import Console
    from rich.progress import track

    return track(rows, description="checking", console=Console(stderr=True), transient=True)
