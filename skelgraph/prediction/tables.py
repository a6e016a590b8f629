"""Answers as text, csv and json."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from skelgraph.prediction.results import Prediction, Segment, Timeline


def clip_lines(prediction: Prediction, top: int = 3) -> list[str]:
    """One line a clip: name, label, probability, and the next most probable classes."""
    titles = [
        name if person is None else f"{name} person {person}"
        for name, person in zip(prediction.names, prediction.persons, strict=True)
    ]
    name_width, label_width = max(map(len, titles)), max(map(len, prediction.labels))
    lines = []
    for row, title in enumerate(titles):
        (label, probability), *others = prediction.best(row, max(1, top)).items()
        rest = ", ".join(f"{name} {value:.2f}" for name, value in others)
        lines.append(f"{title:<{name_width}}  {label:<{label_width}}  {probability:.3f}  {rest}".rstrip())
    return lines


def timeline_lines(timelines: Sequence[Timeline]) -> list[str]:
    """A heading for every recording (and person), then a line a segment."""
    lines = []
    for timeline in timelines:
        who = "" if timeline.person is None else f", person {timeline.person}"
        found = "" if timeline.segments else ": nobody is seen"
        lines.append(f"{timeline.name}{who}, {span(0, len(timeline.probabilities), timeline.fps)}{found}")
        for item in timeline.segments:
            lines.append(f"  {span(item.start, item.end, timeline.fps):<24} {item.label}  {item.probability:.3f}")
    return lines


def span(start: int, end: int, fps: float | None) -> str:
    """A stretch of frames in words, in seconds where the rate is known."""
    return f"frames {start}-{end}" if fps is None else f"{start / fps:.2f}-{end / fps:.2f} s"


def clip_csv(prediction: Prediction) -> str:
    """A row a clip: clip, person, label, probability, seen, then the probability of every class."""
    rows = [
        [name, _blank(person), label, f"{scores.max():.6f}", f"{seen:.3f}", *_fixed(scores)]
        for name, person, label, scores, seen in zip(
            prediction.names, prediction.persons, prediction.labels, prediction.probabilities, prediction.seen,
            strict=True,
        )
    ]  # fmt: skip
    return _csv([["clip", "person", "label", "probability", "seen", *prediction.classes], *rows])


def timeline_csv(timelines: Sequence[Timeline]) -> str:
    """A row a segment: clip, person, first frame, the frame after the last, seconds of both, label, probability."""
    head = ["clip", "person", "start", "end", "start_seconds", "end_seconds", "label", "probability"]
    rows = [
        [item.name, _blank(item.person), part.start, part.end, *_seconds(part, item.fps, ""), part.label,
         f"{part.probability:.6f}"]
        for item in timelines
        for part in item.segments
    ]  # fmt: skip
    return _csv([head, *rows])


def clip_json(prediction: Prediction, run: str) -> str:
    """Everything of a prediction, as json."""
    clips: list[dict[str, Any]] = [
        {"clip": name, "person": person, "label": label, "probability": float(scores.max()), "seen": float(seen),
         "probabilities": prediction.best(row, 0)}
        for row, (name, person, label, scores, seen) in enumerate(zip(
            prediction.names, prediction.persons, prediction.labels, prediction.probabilities, prediction.seen,
            strict=True,
        ))
    ]  # fmt: skip
    return _json({"run": run, "classes": prediction.classes, "notes": prediction.notes, "clips": clips})


def timeline_json(timelines: Sequence[Timeline], run: str) -> str:
    """Every segment, as json."""
    recordings = [
        {"clip": item.name, "person": item.person, "frames": len(item.probabilities), "fps": item.fps,
         "window": item.window, "stride": item.stride,
         "segments": [
             {"start": part.start, "end": part.end,
              **dict(zip(("start_seconds", "end_seconds"), _seconds(part, item.fps, None), strict=True)),
              "label": part.label, "probability": part.probability}
             for part in item.segments
         ]}
        for item in timelines
    ]  # fmt: skip
    return _json({"run": run, "classes": timelines[0].classes if timelines else (), "recordings": recordings})


def _seconds(part: Segment, fps: float | None, unknown: Any) -> list[Any]:
    return [unknown, unknown] if fps is None else [round(part.start / fps, 3), round(part.end / fps, 3)]


def _blank(person: int | None) -> Any:
    return "" if person is None else person


def _fixed(values: Any) -> list[str]:
    return [f"{value:.6f}" for value in values]


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"
