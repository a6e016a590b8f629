"""Answers as a page in one file: bars for clips, lanes of time for recordings."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from skelgraph.pages.shell import render
from skelgraph.pages.svg import svg, text
from skelgraph.prediction.results import Prediction, Segment, Timeline
from skelgraph.prediction.tables import span

WIDTH, LEFT, LANE, HUES, MOST = 900, 190, 26, 8, 500


def clip_page(prediction: Prediction, run: str, source: str) -> str:
    """A table of clips with a bar for the probability of each; the first five hundred of them."""
    rows = []
    for row, (name, person) in enumerate(zip(prediction.names[:MOST], prediction.persons, strict=False)):
        (label, probability), *others = prediction.best(row, 3).items()
        title = escape(name) + ("" if person is None else f" <small>person {person}</small>")
        rest = ", ".join(f"{escape(other)} {100 * value:.0f} %" for other, value in others)
        rows.append(
            f'<tr><th scope="row">{title}<br><small>{100 * prediction.seen[row]:.0f} % of the joints seen</small></th>'
            f"<td>{escape(label)}<br><small>{rest}</small></td>"
            f'<td class="n">{100 * probability:.1f} %</td>'
            f'<td class="bar"><i style="width:{100 * probability:.1f}%"></i></td></tr>'
        )
    table = (
        '<div class="scroll"><table class="classes"><thead><tr><th>Clip</th><th>Label, and what else it may be</th>'
        f'<th class="n">Probability</th><th></th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )
    left = len(prediction) - MOST
    note = f'<p class="note">{left} further clips are not shown; csv and json have them.</p>' if left > 0 else ""
    notes = "".join(f'<p class="note">{escape(line)}</p>' for line in prediction.notes)
    return _page(
        source,
        run,
        f"{len(prediction)} answer{'s' * (len(prediction) != 1)}",
        [f"<section><h2>Clips</h2>{table}{note}{notes}</section>"],
    )


def timeline_page(timelines: Sequence[Timeline], run: str, source: str) -> str:
    """For every recording (and person) lanes of time, one a class, and the segments as a table."""
    sections = [_recording(item) for item in timelines]
    what = f"{len(timelines)} timeline{'s' * (len(timelines) != 1)}"
    return _page(source, run, what, sections)


def _page(source: str, run: str, what: str, sections: Sequence[str]) -> str:
    head = (
        f'<header><p class="over">skelgraph predict · {what}</p><h1>{escape(source)}</h1>'
        f'<p class="sub">labels by {escape(run)}</p></header>'
    )
    return render(f"{source}: what happens", [head, *sections])


def _recording(item: Timeline) -> str:
    who = "" if item.person is None else f" · person {item.person}"
    heading = f"<h2>{escape(item.name)}{who} <small>{span(0, len(item.probabilities), item.fps)}</small></h2>"
    if not item.segments:
        return f"<section>{heading}<p>Nobody is seen.</p></section>"
    rows = "".join(
        f"<tr><td>{span(part.start, part.end, item.fps)}</td><td>{escape(part.label)}</td>"
        f'<td class="n">{100 * part.probability:.1f} %</td></tr>'
        for part in item.segments[:MOST]
    )
    note = (
        f"Every frame has the mean probabilities of the windows around it: {item.window} frames, one every "
        f"{item.stride}. A bar is a stretch of one most probable class, the line its probability in every frame from 0 "
        "(bottom of its lane) to 1 (top)."
    )
    return (
        f'<section>{heading}<div class="scroll"><div style="min-width:760px">{_lanes(item)}</div></div>'
        f'<p class="note">{note}</p><details><summary>{len(item.segments)} segments</summary>'
        '<div class="scroll"><table>'
        '<thead><tr><th>From, to</th><th>Label</th><th class="n">Mean probability</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details></section>"
    )


def _lanes(item: Timeline) -> str:
    frames = len(item.probabilities)
    scale = (WIDTH - LEFT - 10) / frames
    order = list(dict.fromkeys(part.label for part in item.segments))
    parts = []
    for lane, label in enumerate(order):
        y = lane * LANE
        color = f"var(--h{lane % HUES})"
        short = label if len(label) <= 26 else label[:25] + "…"
        parts.append(text(LEFT - 10, y + LANE - 9, short, anchor="end"))
        parts.append(f'<path class="grid" d="M{LEFT} {y + LANE - 2}H{WIDTH - 10}"/>')
        for part in item.segments:
            if part.label == label:
                parts.append(_bar(part, item, LEFT + part.start * scale, y, (part.end - part.start) * scale, color))
        parts.append(_curve(item.probabilities[:, item.classes.index(label)], scale, y, color))
    height = len(order) * LANE
    parts += [_tick(frame, item.fps, LEFT + frame * scale, height) for frame in _ticks(frames, item.fps)]
    heard = f"{item.name}: " + ", ".join(f"{span(p.start, p.end, item.fps)} {p.label}" for p in item.segments[:12])
    return svg(WIDTH, height + 24, heard, "".join(parts))


def _bar(part: Segment, item: Timeline, x: float, y: float, width: float, color: str) -> str:
    words = escape(f"{part.label}, {span(part.start, part.end, item.fps)}, {100 * part.probability:.0f} %")
    return (
        f'<rect x="{x:.1f}" y="{y + 2}" width="{max(width, 1):.1f}" height="{LANE - 4}" rx="2" fill="{color}" '
        f'fill-opacity="0.3"><title>{words}</title></rect>'
    )


def _curve(values: np.ndarray, scale: float, y: float, color: str) -> str:
    """The probability of a class in every frame (of many frames some), broken where nobody is seen."""
    every = max(1, len(values) // 1000)
    path, pen = [], False
    for frame in range(0, len(values), every):
        known = bool(np.isfinite(values[frame]))
        if known:
            height = y + LANE - 2 - values[frame] * (LANE - 4)
            path.append(f"{'L' if pen else 'M'}{LEFT + (frame + 0.5) * scale:.1f} {height:.1f}")
        pen = known
    return f'<path d="{"".join(path)}" fill="none" stroke="{color}" stroke-width="1.4"/>'


def _ticks(frames: int, fps: float | None) -> list[int]:
    """Frames that get a mark below: about six, at round seconds or frames."""
    length = frames / (fps or 1)
    rough = length / 6
    power = 10.0 ** np.floor(np.log10(max(rough, 1e-6)))
    step = power * min((factor for factor in (1, 2, 5, 10) if factor * power >= rough), default=10)
    step = step if fps else max(1.0, step)
    return [round(value * (fps or 1)) for value in np.arange(0, length + 1e-9, step)]


def _tick(frame: int, fps: float | None, x: float, y: float) -> str:
    words = f"{frame / fps:g} s" if fps else f"frame {frame}" if frame == 0 else str(frame)
    anchor = "start" if frame == 0 else "middle"
    return f'<path class="grid" d="M{x:.1f} {y}v4"/>' + text(x, y + 18, words, "tick", anchor)
