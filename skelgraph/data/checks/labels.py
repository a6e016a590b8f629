"""Labels and what they stand on: unlabelled clips, empty and rare classes, the same motion under two names."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from skelgraph.data.checks.base import STORE_CHECKS, Finding, Severity
from skelgraph.data.checks.survey import Survey


@STORE_CHECKS.register("label")
def label(survey: Survey) -> Iterator[Finding]:
    """Clips without label, classes without clip."""
    labels, classes = survey.store.labels, survey.store.classes
    bare = np.flatnonzero(labels < 0)
    if len(bare):
        advice = "They can be pre-trained on; supervised stages and tests leave them out."
        yield Finding("label", Severity.NOTE, f"{len(bare)} of {len(labels)} clips have no label", advice,
                      survey.store.names[int(bare[0])], weight=len(bare))  # fmt: skip
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    for number in np.flatnonzero(counts == 0).tolist():
        advice = "Take it out of the list of classes, or look why its clips were not read."
        yield Finding("label", Severity.WARNING, f"class '{classes[number]}' has no clip", advice)


@STORE_CHECKS.register("imbalance")
def imbalance(survey: Survey, *, factor: float = 10.0) -> Iterator[Finding]:
    """The largest class has many times the training clips of the smallest."""
    labels, classes = survey.store.labels, survey.store.classes
    for protocol, parts in survey.parts.items():
        rows = parts.get("train", np.zeros(0, dtype=np.int64))
        counts = np.bincount(labels[rows][labels[rows] >= 0], minlength=len(classes))
        present = np.flatnonzero(counts)
        if len(present) < 2:
            continue
        least, most = (int(present[pick(counts[present])]) for pick in (np.argmin, np.argmax))
        ratio = counts[most] / counts[least]
        if ratio >= factor:
            message = (
                f"{ratio:.0f} times as many training clips of '{classes[most]}' ({counts[most]}) "
                f"as of '{classes[least]}' ({counts[least]})"
            )
            advice = "Report mean-class accuracy beside top-1; see docs/longtail.md for methods."
            yield Finding("imbalance", Severity.NOTE, message, advice, protocol=protocol, weight=float(ratio))


@STORE_CHECKS.register("copy")
def copy(survey: Survey) -> Iterator[Finding]:
    """Two clips of the store hold the same numbers."""
    names = survey.store.names
    for first, rows in survey.exact.members().items():
        for row in rows[1:]:
            advice = "Leave one of them out; whether a split is touched, leak_copy says."
            yield Finding("copy", Severity.WARNING, f"the same numbers as '{names[first]}'", advice, names[row],
                          others=(names[first],))  # fmt: skip


@STORE_CHECKS.register("likeness")
def likeness(
    survey: Survey, *, overlap: float = 0.25, distance: float = 0.01, motion: float = 0.1
) -> Iterator[Finding]:
    """Two clips share frames, or are nearly the same."""
    names = survey.store.names
    for pair in survey.copies(overlap, distance, motion).alike:
        advice = "Look whether one was cut out of the other or resampled; keep them in one part of every split."
        yield Finding("likeness", Severity.WARNING, f"like '{names[pair.a]}': {pair.words}", advice, names[pair.b],
                      others=(names[pair.a],), weight=pair.weight)  # fmt: skip


@STORE_CHECKS.register("conflict")
def conflict(
    survey: Survey, *, overlap: float = 0.25, distance: float = 0.01, motion: float = 0.1
) -> Iterator[Finding]:
    """The same motion bears two labels."""
    found = survey.copies(overlap, distance, motion)
    labels, names, classes = survey.store.labels, survey.store.names, survey.store.classes
    pairs = [(first, row, "the same numbers") for first, rows in found.members().items() for row in rows[1:]]
    pairs += [(pair.a, pair.b, pair.words) for pair in found.alike]
    for a, b, words in pairs:
        if labels[a] != labels[b] and min(labels[a], labels[b]) >= 0:
            message = f"labelled '{classes[labels[b]]}', and '{names[a]}' '{classes[labels[a]]}': {words}"
            severity = Severity.ERROR if words == "the same numbers" else Severity.WARNING
            yield Finding("conflict", severity, message, "Find out which label is right, or leave both out.",
                          names[b], others=(names[a],))  # fmt: skip
