"""Sections that say why a network answers as it does: of the page of one clip, and of a run's report."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from skelgraph.engine import report_clips
from skelgraph.engine.explainer import Explained, Explainer, explained
from skelgraph.engine.intervals import Answers
from skelgraph.engine.report_figures import Line, line_chart
from skelgraph.engine.report_parts import figure_block
from skelgraph.engine.run_folder import Run
from skelgraph.errors import UserError
from skelgraph.pages import scene

CLASSES = 8


def answers(found: Explained, classes: Sequence[str], label: str | None) -> str:
    """The most probable classes as bars."""
    order = np.argsort(-found.probabilities, kind="stable")[:CLASSES]
    rows = "".join(
        f'<tr><th scope="row">{escape(classes[i])}{" <small>true class</small>" if classes[i] == label else ""}</th>'
        f'<td class="n">{100 * found.probabilities[i]:.1f}</td>'
        f'<td class="bar"><i style="width:{100 * found.probabilities[i]:.1f}%"></i></td></tr>'
        for i in order
    )
    return (
        '<section><h2>Answer</h2><table class="classes"><thead><tr><th scope="col">Class</th>'
        f'<th scope="col" class="n">Probability, %</th><th scope="col"></th></tr></thead><tbody>{rows}</tbody></table>'
        "</section>"
    )


def shares(found: Explained) -> str:
    """What each modality is told of each other, and what each speaks for the class; nothing for one modality."""
    if not found.shares:
        return ""
    names = list(found.shares)
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row">{escape(reader)}</th>'
        + "".join(f"<td>{'–' if name == reader else f'{100 * row[name]:.0f} %'}</td>" for name in names)
        + "</tr>"
        for reader, row in found.shares.items()
    )
    return (
        '<section><h2>What each modality is told</h2><div class="scroll"><table class="shares"><thead><tr>'
        f'<th scope="col">told to, of</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        '<p class="note">CFEM attention of the last layer, mean over heads: share of the weight that goes to the steps '
        "of each other modality.</p></section>"
    )


def about_map(found: Explained, how: str | None, classes: Sequence[str]) -> str:
    """How to read the map."""
    name = escape(classes[found.target])
    if how == "saliency":
        told = ""
        if found.modalities:
            told = " By modality: " + ", ".join(f"{escape(k)} {v:+.2f} nats" for k, v in found.modalities.items()) + "."
        words = (
            f"Integrated gradients of log p({name}) on the way from an empty clip, in which every joint is missing and "
            "pictures stand still, to this one. Their sum differs from that of the two ends by "
            f"{abs(found.gap or 0):.3f} nats.{told}"
        )
    elif how == "attention":
        words = "Attention, mean over heads: where the network looks, which need not be what moves its answer."
    else:
        return ""
    return f'<section><h2>About the map</h2><p class="note">{words}</p></section>'


def about_deletion(found: Explained, classes: Sequence[str]) -> str:
    """The deletion curve against random orders."""
    curve = found.deletion
    if curve is None:
        return ""
    x = [100 * float(share) for share in curve.removed]
    lines = [Line("random joints first", "c-train", x, [100 * float(p) for p in curve.random[0]]),
             Line("most important joints first", "c-val", x, [100 * float(p) for p in curve.important[0]])]  # fmt: skip
    name = classes[found.target]
    drawing = line_chart(lines, f"Probability of {name} while joints are taken away", "probability, %",
                         axis="seen joints taken away, %")  # fmt: skip
    important, random = (100 * float(area[0]) for area in curve.areas)
    legend = "".join(f'<span class="key {line.style}">{line.name}</span>' for line in reversed(lines))
    note = (
        f"{legend}<br>Probability of {escape(name)}; mean along the curve {important:.1f} % by importance and "
        f"{random:.1f} % at random (mean of {curve.orders} orders). The lower the first against the second, the better "
        "the map."
    )
    block = figure_block("While joints are taken away", f'<div style="max-width:560px">{drawing}</div>', note)
    return f"<section><h2>Deletion</h2>{block}</section>"


def attention(run: Run, stage: str, kept: Answers, split: str) -> str:
    """Attention of a cross-modal network on clips of its test, moving; nothing for networks without.

    Args:
        run: its folder. stage: the test.
        kept: answers of the test.
        split: where the clips come from.
    """
    source = run.stage(str((run.stage(stage).result() or {}).get("tested")))
    if not (source.path / "model.json").is_file() or not source.card()["spec"].get("modalities"):
        return ""
    places = [place for right in (True, False) for place in report_clips.chosen(kept, right, 1)]
    try:
        tested = Explainer.open(run, stage)
        if not report_clips.matching(tested.clips.store, kept, places):
            return ""
        found = [explained(tested, int(kept.row[place]), "attention") for place in places]
    except UserError:
        return ""
    blocks = []
    for item, place in zip(found, places, strict=True):
        truth, said = (escape(tested.classes[int(i)]) for i in (kept.label[place], kept.answer[place]))
        name = escape(item.clip.name)
        blocks.append(
            f"<h5>{name}: answered {said}, true {truth}</h5>{scene.block(item.scene, f'Attention on clip {name}')}"
        )
    tables = shares(found[0]).replace("<section><h2>", "<h5>").replace("</h2>", "</h5>").replace("</section>", "")
    note = f"The most confidently right and wrong answers of {escape(split)}; attention is a mean over heads."
    return f'<div class="explained"><h4>Attention</h4>{"".join(blocks)}{tables}<p class="note">{note}</p></div>'
