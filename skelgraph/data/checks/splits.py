"""Splits that measure something else than they say: copies and recordings on both sides, parts without clips."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from skelgraph.data.checks.base import STORE_CHECKS, Finding, Severity
from skelgraph.data.checks.survey import Survey
from skelgraph.data.longtail import LEFT_OUT

SHOWN = 3
LEAK_ADVICE = "Leave these clips out of the part they are measured in, or out of training."


@STORE_CHECKS.register("leak_copy")
def leak_copy(survey: Survey) -> Iterator[Finding]:
    """A test or validation clip holds the same numbers as a training clip."""
    names, groups = survey.store.names, survey.exact.members()
    repeated = [rows for rows in groups.values() if len(rows) > 1]
    for protocol, parts in survey.parts.items():
        told: set[int] = set()
        for one, other in survey.separated(protocol):
            learned, measured = set(parts[one].tolist()), set(parts[other].tolist())
            for rows in repeated:
                source = [row for row in rows if row in learned]
                for row in rows:
                    if source and row in measured and row not in told:
                        told.add(row)
                        message = f"in part {other}, the same numbers as '{names[source[0]]}' in part {one}"
                        yield Finding("leak_copy", Severity.ERROR, message, LEAK_ADVICE, names[row], protocol=protocol,
                                      others=tuple(names[i] for i in source))  # fmt: skip


@STORE_CHECKS.register("leak_likeness")
def leak_likeness(
    survey: Survey, *, overlap: float = 0.25, distance: float = 0.01, motion: float = 0.1
) -> Iterator[Finding]:
    """A test or validation clip shares frames with a training clip, or is nearly the same."""
    found = survey.copies(overlap, distance, motion)
    members, names = found.members(), survey.store.names
    for protocol, parts in survey.parts.items():
        told: set[int] = set()
        for one, other in survey.separated(protocol):
            learned, measured = set(parts[one].tolist()), set(parts[other].tolist())
            for pair in sorted(found.alike, key=lambda item: -item.weight):
                for here, there in ((pair.a, pair.b), (pair.b, pair.a)):
                    source = [row for row in members[here] if row in learned]
                    for row in members[there]:
                        if source and row in measured and row not in told:
                            told.add(row)
                            message = f"in part {other}, like '{names[source[0]]}' in part {one}: {pair.words}"
                            yield Finding("leak_likeness", Severity.ERROR, message, LEAK_ADVICE, names[row],
                                          protocol=protocol, others=tuple(names[i] for i in source),
                                          weight=pair.weight)  # fmt: skip


@STORE_CHECKS.register("leak_group")
def leak_group(survey: Survey) -> Iterator[Finding]:
    """A recording has clips on both sides of a split."""
    groups, cameras = survey.store.groups, survey.store.column("camera")
    for protocol, parts in survey.parts.items():
        for one, other in survey.separated(protocol):
            learned, measured = _by(groups, parts[one]), _by(groups, parts[other])
            shared = sorted(learned.keys() & measured.keys())
            if not shared:
                continue
            seen = [{cameras[row] for row in parts[part].tolist()} for part in (one, other)]
            by_view = None not in seen[0] | seen[1] and not seen[0] & seen[1]
            clips = sum(len(measured[name]) for name in shared)
            message = f"{len(shared)} recordings have clips in {one} and in {other} ({clips} clips there)"
            message += ", seen by other cameras" if by_view else ""
            advice = (
                "By design of a split by cameras: it measures a new view of a known performance. A validation part "
                "must keep recordings whole."
                if by_view
                else "Put all clips of a recording into one part."
            )
            first = None if by_view else survey.store.names[measured[shared[0]][0]]
            yield Finding("leak_group", Severity.NOTE if by_view else Severity.ERROR, message, advice, first,
                          protocol=protocol, others=tuple(shared[:SHOWN]), weight=len(shared))  # fmt: skip


@STORE_CHECKS.register("leak_subject")
def leak_subject(survey: Survey) -> Iterator[Finding]:
    """The same people are trained on and measured."""
    subjects = survey.store.column("subject")
    for protocol, parts in survey.parts.items():
        for one, other in survey.separated(protocol):
            shared = sorted(_by(subjects, parts[one]).keys() & _by(subjects, parts[other]).keys())
            if shared:
                message = f"{len(shared)} subjects are in {one} and in {other}: {_some(shared)}"
                advice = "Say so beside the figures: this split does not measure new people."
                yield Finding("leak_subject", Severity.NOTE, message, advice, protocol=protocol, weight=len(shared))


@STORE_CHECKS.register("split")
def split(survey: Survey, *, few: int = 5) -> Iterator[Finding]:
    """Parts without clips, classes that are measured and never trained, clips in two parts."""
    if not survey.store.protocols:
        advice = "Add splits (`protocols` of a reader, `split_NAME` of an npz): nothing can be tested without."
        yield Finding("split", Severity.WARNING, "the store has no split", advice)
    for protocol, parts in survey.parts.items():
        yield from _parts(survey, protocol, parts)
        yield from _classes(survey, protocol, parts, few)


def _parts(survey: Survey, protocol: str, parts: dict[str, np.ndarray]) -> Iterator[Finding]:
    for part in parts:
        if not len(parts[part]) and part != LEFT_OUT:
            yield Finding("split", Severity.ERROR, f"part {part} has no clip", "Mend the split.", protocol=protocol)
    for one, other in survey.separated(protocol):
        both = np.intersect1d(parts[one], parts[other])
        if len(both):
            message = f"{len(both)} clips are in {one} and in {other}"
            yield Finding("split", Severity.ERROR, message, "Keep each clip in one part.",
                          survey.store.names[int(both[0])], protocol=protocol, weight=len(both))  # fmt: skip
    used = np.unique(np.concatenate([*parts.values(), np.zeros(0, dtype=np.int64)]))
    unused = len(survey.store) - len(used)
    if unused:
        yield Finding("split", Severity.NOTE, f"{unused} clips are in no part", "Nothing, if they were left out on "
                      "purpose.", protocol=protocol, weight=unused)  # fmt: skip


def _classes(survey: Survey, protocol: str, parts: dict[str, np.ndarray], few: int) -> Iterator[Finding]:
    """Classes of the measured parts against those that are trained."""
    labels, classes = survey.store.labels, survey.store.classes
    if "train" not in parts or not classes:
        return
    counts = {
        part: np.bincount(labels[rows][labels[rows] >= 0], minlength=len(classes)) for part, rows in parts.items()
    }
    trained = counts["train"]
    for _, other in (pair for pair in survey.separated(protocol) if pair[0] == "train"):
        never = np.flatnonzero((counts[other] > 0) & (trained == 0))
        if len(never):
            message = (
                f"{len(never)} classes are in {other} and have no training clip: {_some([classes[i] for i in never])}"
            )
            yield Finding("split", Severity.ERROR, message, "Mend the split, or leave these classes out.",
                          protocol=protocol, weight=len(never))  # fmt: skip
        lost = np.flatnonzero((counts[other] == 0) & (trained > 0))
        if len(lost) and counts[other].any():
            message = f"{len(lost)} trained classes have no clip in {other}: {_some([classes[i] for i in lost])}"
            yield Finding("split", Severity.NOTE, message, "Mean-class accuracy there is over the other classes.",
                          protocol=protocol, weight=len(lost))  # fmt: skip
    rare = np.flatnonzero((trained > 0) & (trained < few))
    if len(rare):
        message = f"{len(rare)} classes have fewer than {few} training clips: {_some([classes[i] for i in rare])}"
        yield Finding("split", Severity.NOTE, message, "Expect little of them; report mean-class accuracy.",
                      protocol=protocol, weight=len(rare))  # fmt: skip


def _by(values: tuple[str | None, ...], rows: np.ndarray) -> dict[str, list[int]]:
    """Rows by value; unknown ones are left out."""
    found: dict[str, list[int]] = {}
    for row in rows.tolist():
        value = values[row]
        if value is not None:
            found.setdefault(value, []).append(row)
    return found


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
