"""Clips of the report: which ones, and what stands below them."""

from __future__ import annotations

from html import escape

import numpy as np

from skelgraph.data.clip import Clip
from skelgraph.data.store import Store
from skelgraph.engine.intervals import Answers


def chosen(answers: Answers, right: bool, count: int = 3) -> list[int]:
    """Clips answered most confidently right or wrong, of different true classes as far as there are any."""
    wanted = np.flatnonzero((answers.answer == answers.label) == right)
    order = wanted[np.argsort(-answers.probabilities[wanted].max(1), kind="stable")].tolist()
    seen: set[int] = set()
    first = [i for i in order if not (answers.label[i] in seen or seen.add(int(answers.label[i])))]  # type: ignore[func-returns-value]
    return (first + [i for i in order if i not in first])[:count]


def caption(answers: Answers, place: int, classes: list[str], clip: Clip) -> str:
    """Name, true class, predicted class with its probability, and how much of a recording it is."""
    truth, answer = int(answers.label[place]), int(answers.answer[place])
    probability = f"{100 * float(answers.probabilities[place, answer]):.0f} %"
    length = f"{clip.frames} frames" + (f", {clip.frames / clip.fps:.1f} s" if clip.fps else "")
    kind = "hit" if truth == answer else "miss"
    return (
        f'<figcaption><span class="answer {kind}">{escape(classes[answer])} <b>{probability}</b></span>'
        f'<span class="truth">true: {escape(classes[truth])}</span>'
        f'<span class="clip">{escape(clip.name)} · {length}</span></figcaption>'
    )


def matching(store: Store, answers: Answers, places: list[int]) -> bool:
    """Whether the rows kept with the answers still are those clips in the store."""
    rows = answers.row[places]
    return bool(rows.max(initial=0) < len(store)) and all(
        store.names[row] == answers.names[place] for row, place in zip(rows.tolist(), places, strict=True)
    )
