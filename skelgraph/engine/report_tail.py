"""Sections of the report for long-tailed runs: recall by training clips, groups of classes, where the tail goes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelgraph.engine.class_groups import GROUPS, classes_of
from skelgraph.engine.report_figures import Mark, frequency_chart, heat_map, shorten, swatch
from skelgraph.engine.report_parts import figure_block

THIRDS = ("head_third", "medium_third", "tail_third")
TAIL_SHOWN = 60
TAKERS = 3


def sections(result: dict[str, Any], train_counts: Sequence[int] | None, split: str) -> str:
    """All of them; nothing where the training clips are not long-tailed or not known."""
    confusion = np.array(result.get("confusion") or [], dtype=np.int64)
    classes = [str(name) for name in result.get("classes") or []]
    known = train_counts if train_counts is not None and len(train_counts) == len(classes) == len(confusion) else None
    groups = classes_of(known)
    if not groups or confusion.ndim != 2 or not confusion.size:
        return ""
    assert known is not None
    counts = np.array(known, dtype=np.int64)
    return "".join([
        frequency(confusion, counts, classes, groups, split),
        table(confusion, counts, groups, split),
        where_the_tail_goes(confusion, counts, classes, groups, split),
    ])  # fmt: skip


def frequency(
    confusion: NDArray[np.int64], counts: NDArray[np.int64], classes: Sequence[str],
    groups: dict[str, NDArray[np.int64]], split: str,
) -> str:  # fmt: skip
    """Recall of each class against its training clips."""
    tested = confusion.sum(1)
    recall = 100 * confusion.diagonal() / np.maximum(tested, 1)
    marks = [
        Mark(float(counts[c]), float(recall[c]), kind,
             f"{classes[c]}: {recall[c]:.0f} % of {tested[c]} test clips, {counts[c]} training clips")
        for kind, name in enumerate(THIRDS) for c in groups[name].tolist() if tested[c]
    ]  # fmt: skip
    if not marks:
        return ""
    means = [float(np.mean([mark.y for mark in marks if mark.kind == kind] or [np.nan])) for kind in range(len(THIRDS))]
    label = f"Recall of {len(marks)} classes against their training clips"
    drawing = frequency_chart(marks, means, label)
    legend = "".join(f"<span>{swatch(kind)}{name.split('_')[0]} third</span>" for kind, name in enumerate(THIRDS))
    note = f'<span class="legend">{legend}</span>Each point one class, lines the means of the thirds; {escape(split)}.'
    return figure_block("Recall against training clips", drawing, note)


def table(
    confusion: NDArray[np.int64], counts: NDArray[np.int64], groups: dict[str, NDArray[np.int64]], split: str
) -> str:
    """Both rules of grouping side by side: classes, training and test clips, mean recall."""
    tested, right = confusion.sum(1), confusion.diagonal()
    rows = []
    for name, group in groups.items():
        there = group[tested[group] > 0]
        mean = f"{100 * (right[there] / tested[there]).mean():.1f}" if len(there) else "–"
        own = counts[group]
        cells = len(group), f"{own.min()} – {own.max()}", own.sum(), tested[group].sum(), mean
        numbers = "".join(f'<td class="n">{cell}</td>' for cell in cells)
        rows.append(f'<tr><th scope="row">{escape(GROUPS[name][2])}</th>{numbers}</tr>')
    heads = "".join(f'<th scope="col" class="n">{words}</th>' for words in (
        "classes", "training clips<br>of a class", "training<br>clips", "test<br>clips", "mean recall, %"))  # fmt: skip
    body = f'<table class="stages"><thead><tr><th scope="col">Group</th>{heads}</tr></thead><tbody>{"".join(rows)}'
    note = f"Thirds of the classes in the order of their training clips, and the 100/20 rule; {escape(split)}."
    return figure_block("Many, medium, few", f"{body}</tbody></table>", note)


def where_the_tail_goes(
    confusion: NDArray[np.int64], counts: NDArray[np.int64], classes: Sequence[str],
    groups: dict[str, NDArray[np.int64]], split: str,
) -> str:  # fmt: skip
    """Confusion between the thirds, and what each class of the tail is taken for."""
    thirds = [groups[name] for name in THIRDS]
    between = np.array([[confusion[np.ix_(row, column)].sum() for column in thirds] for row in thirds])
    names = [name.split("_")[0] for name in THIRDS]
    picture = heat_map(between, names, "Confusion between head, medium and tail classes")
    tail, tested = thirds[-1], confusion.sum(1)
    order = sorted((c for c in tail.tolist() if tested[c]), key=lambda c: (int(counts[c]), classes[c]))
    rows = "".join(_tail_row(c, confusion, counts, classes) for c in order[:TAIL_SHOWN])
    heads = "".join(f'<th scope="col" class="n">{words}</th>' for words in ("training<br>clips", "right of<br>tested"))
    body = (
        f'<table class="stages"><thead><tr><th scope="col">Tail class</th>{heads}<th scope="col">mostly taken for'
        f"</th></tr></thead><tbody>{rows}</tbody></table>"
    )
    more = f" The {TAIL_SHOWN} smallest of {len(order)}." if len(order) > TAIL_SHOWN else ""
    return figure_block(
        "Confusion between thirds", picture, f"Rows: third of the true class; columns: of the answer; {escape(split)}."
    ) + figure_block("Where the tail goes", body, f"Wrong answers, with the training clips of that class.{more}")


def _tail_row(c: int, confusion: NDArray[np.int64], counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    """One class: how many are right, and its most frequent wrong answers."""
    wrong = confusion[c].copy()
    wrong[c] = 0
    takers = [i for i in np.argsort(-wrong, kind="stable")[:TAKERS].tolist() if wrong[i]]
    said = ", ".join(f"{escape(shorten(classes[i]))} {wrong[i]} <small>({counts[i]})</small>" for i in takers) or "–"
    return (
        f'<tr><th scope="row">{escape(classes[c])}</th><td class="n">{counts[c]}</td>'
        f'<td class="n">{confusion[c, c]} of {confusion[c].sum()}</td><td>{said}</td></tr>'
    )
