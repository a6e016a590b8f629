"""Sections of the report: each function turns a stage's files into HTML, or into nothing where a file is absent."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skelgraph.data.store import Store
from skelgraph.engine import fuse, headline, report_clips
from skelgraph.engine.headline import TITLES
from skelgraph.engine.intervals import Answers
from skelgraph.engine.report_figures import (
    HUES,
    LABELLED_CLASSES,
    MARKERS,
    Line,
    binned,
    heat_map,
    line_chart,
    scatter,
    swatch,
)
from skelgraph.engine.run_folder import StageFolder, read_figures, read_tensors
from skelgraph.errors import UserError
from skelgraph.pages import skeletons

Points = tuple[list[float], list[float]]
ROWS_SHOWN = 60
POINTS = 3000
SHOTS = (("many", "more than 100 training clips"), ("medium", "20 to 100"), ("few", "fewer than 20"))


def figure_block(title: str, drawing: str, note: str = "", style: str = "") -> str:
    """A figure with its title above and what it shows below."""
    below = f'<figcaption class="note">{note}</figcaption>' if note else ""
    return f'<figure class="{style}"><h4>{title}</h4><div class="scroll">{drawing}</div>{below}</figure>'


# ---- training ------------------------------------------------------------------------------------------------------


def read_curves(path: Path) -> dict[str, dict[str, Points]]:
    """``metrics.csv`` as ``{loss: {train: (steps, values), val: ...}}``; empty where there is none."""
    found: dict[str, dict[str, Points]] = {}
    for step, figure, value in read_figures(path):
        part, _, name = figure.partition("_")
        if part in ("train", "val") and np.isfinite(value):
            steps, values = found.setdefault(name, {}).setdefault(part, ([], []))
            steps.append(step + 1)
            values.append(value)
    return found


def curves(folder: StageFolder, result: dict[str, Any] | None) -> str:
    """Curves of a training stage: one figure for each measure, training and validation together."""
    found = read_curves(folder.path / "metrics.csv")
    order = sorted(found, key=lambda name: (name != "loss", name not in TITLES, name))
    search = folder.path / "holdout" / "metrics.csv"
    blocks = [_curve("", name, found[name], result) for name in order]
    if search.is_file():
        chosen = (result or {}).get("chosen_on_validation") or {}
        blocks += [_curve("search for the step", name, parts, chosen)
                   for name, parts in sorted(read_curves(search).items()) if "val" in parts]  # fmt: skip
    return f'<div class="pair">{"".join(blocks)}</div>' if blocks else ""


def _curve(phase: str, name: str, parts: dict[str, Points], result: dict[str, Any] | None) -> str:
    per_cent = name in TITLES and name != "loss"
    words = {"train": "training clips", "val": "validation clips"}
    lines = []
    for part in ("train", "val"):
        if part in parts:
            x, y = binned(*parts[part])
            lines.append(Line(words[part], f"c-{part}", x, [100 * v for v in y] if per_cent else y))
    title = TITLES.get(name, name.replace("_", " ").capitalize())
    legend = "".join(f'<span class="key {line.style}">{line.name}</span>' for line in lines)
    mark = None
    if result and result.get("best_step") and "val" in parts:
        mark = (float(result["best_step"]), "chosen step")
    unit = "%" if per_cent else "in the method’s own unit"
    label = f"{title} over training steps, {' and '.join(line.name for line in lines)}"
    heading = f"{escape(title)} <small>{phase}</small>" if phase else escape(title)
    return figure_block(heading, line_chart(lines, label, unit, mark), legend)


# ---- evaluation ----------------------------------------------------------------------------------------------------


def fusion(result: dict[str, Any]) -> str:
    """What a fusion has added up, with which weights."""
    found = result.get("sources") or []
    if not found:
        return ""
    metrics = list(found[0]["metrics"])
    heads = "".join(f'<th scope="col" class="n">{escape(word)}</th>'
                    for word in ("Weight", *(TITLES.get(metric, metric) for metric in metrics)))  # fmt: skip
    rows = [(item["source"], f"{item['weight']:g}", item["metrics"]) for item in found]
    rows.append(("fused", "", result["metrics"]))
    body = ""
    for name, weight, own in rows:
        cells = [weight, *(f"{own[metric]:.{1 if headline.unit(metric) == '%' else 3}f}" for metric in metrics)]
        numbers = "".join(f'<td class="n">{escape(cell)}</td>' for cell in cells)
        body += f'<tr><th scope="row">{escape(name)}</th>{numbers}</tr>'
    table = (
        f'<table class="stages"><thead><tr><th scope="col">Scores of</th>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )
    return figure_block("What was added up", table, escape(" ".join(fuse.notes(result))))


def confusion(result: dict[str, Any], split: str) -> str:
    """The confusion matrix."""
    counts = np.array(result.get("confusion") or [], dtype=np.int64)
    classes = result.get("classes") or []
    if counts.ndim != 2 or not counts.size or len(classes) != len(counts):
        return ""
    label = f"Confusion matrix of {len(classes)} classes, {counts.trace()} of {counts.sum()} clips on the diagonal"
    many = "" if len(classes) <= LABELLED_CLASSES else f" {len(classes)} classes are too many to label."
    note = (
        f"Rows: true class; columns: predicted class. Shade: share of the row, per cent "
        f'(<span class="ramp hit"></span> right, <span class="ramp miss"></span> wrong; pale 0, full 100). '
        f"{counts.sum()} clips of {escape(split)}.{many}"
    )
    return figure_block("Confusion", heat_map(counts, classes, label), note)


def per_class(result: dict[str, Any], train_counts: Sequence[int] | None, split: str) -> str:
    """Recall of each class as bars, in groups by the number of training clips where that is known."""
    counts = np.array(result.get("confusion") or [], dtype=np.int64)
    classes = result.get("classes") or []
    if counts.ndim != 2 or len(classes) != len(counts):
        return ""
    tested, right = counts.sum(1), counts.diagonal()
    known = train_counts if train_counts is not None and len(train_counts) == len(classes) else None
    rows = [i for i in range(len(classes)) if tested[i]]
    rows.sort(key=lambda i: (-right[i] / tested[i], classes[i]))
    groups = {"": rows}
    if known is not None:
        groups = {name: [i for i in rows if _shot(known[i]) == name] for name, _ in SHOTS}
    body = "".join(_class_group(name, part, classes, right, tested, known) for name, part in groups.items() if part)
    heading = '<th scope="col" class="n">training<br>clips</th>' if known is not None else ""
    table = (
        '<table class="classes"><thead><tr><th scope="col">Class</th><th scope="col" colspan="2">Recall, %</th>'
        f'<th scope="col" class="n">right of<br>tested</th>{heading}</tr></thead>{body}</table>'
    )
    if len(rows) > ROWS_SHOWN:
        table = f"<details><summary>{len(rows)} classes</summary>{table}</details>"
    note = f"Share of a class’s test clips answered right; {escape(split)}."
    return figure_block("Recall of each class", table, note)


def _shot(count: int) -> str:
    return "many" if count > 100 else "few" if count < 20 else "medium"


def _class_group(
    name: str, rows: list[int], classes: Sequence[str], right: np.ndarray, tested: np.ndarray,
    known: Sequence[int] | None,
) -> str:  # fmt: skip
    """One ``tbody``: the mean of the group, then its classes."""
    recall = {i: 100 * right[i] / tested[i] for i in rows}
    head = ""
    if name:
        mean = sum(recall.values()) / len(rows)
        head = (
            f'<tr class="shot"><th scope="rowgroup">{name} <small>{dict(SHOTS)[name]}</small></th>'
            f'<td class="n">{mean:.1f}</td><td><small>mean of {len(rows)}</small></td><td></td><td></td></tr>'
        )
    lines = []
    for i in rows:
        trained = f'<td class="n">{known[i]}</td>' if known is not None else ""
        lines.append(
            f'<tr><th scope="row">{escape(str(classes[i]))}</th><td class="n">{recall[i]:.0f}</td>'
            f'<td class="bar"><i style="width:{recall[i]:.1f}%"></i></td>'
            f'<td class="n">{right[i]} of {tested[i]}</td>{trained}</tr>'
        )
    return f"<tbody>{head}{''.join(lines)}</tbody>"


def clips(answers: Answers, classes: list[str], paths: list[Path], split: str) -> str:
    """The most confident right and wrong answers as moving skeletons, with the terms of the data beside them."""
    places = {word: report_clips.chosen(answers, word == "right") for word in ("right", "wrong")}
    every = [place for some in places.values() for place in some]
    if not every:
        return ""
    try:
        store = Store.open(paths)
        if not report_clips.matching(store, answers, every):
            return _absent("the store there holds other clips than those that were tested", paths)
        drawn = [store[int(answers.row[place])] for place in every]
    except UserError as error:
        return _absent(str(error), [])
    edges, joints = skeletons.sides(store.topology), len(store.topology.joints)
    drawings = [skeletons.draw(clip, store.meta.up) for clip in drawn]
    cards = {}
    for place, clip, drawing in zip(every, drawn, drawings, strict=True):
        label = f"Skeleton of clip {clip.name}: {classes[answers.label[place]]}"
        picture = skeletons.still(drawing, edges, joints, label)
        cards[place] = f'<figure class="card">{picture}{report_clips.caption(answers, place, classes, clip)}</figure>'
    rows = "".join(
        f'<h5>Most confidently {word}</h5><div class="cards">{"".join(cards[place] for place in some)}</div>'
        for word, some in places.items()
        if some
    )
    note = f"Clips of {escape(split)}; joints as stored, before any transform.{_terms(store)}"
    return skeletons.section("Clips", rows, skeletons.script_data(drawings, edges, joints), note)


def _terms(store: Store) -> str:
    """Where the shown motion comes from and what may be done with it."""
    meta = store.meta
    parts = [f"{word}: {escape(value)}" for word, value in (("Source", meta.source), ("Terms", meta.terms)) if value]
    return f"<br>{' · '.join(parts)}" if parts else "<br>The store names no source and no terms of use."


def _absent(why: str, paths: list[Path]) -> str:
    where = ", ".join(str(path) for path in paths)
    return (
        f'<div class="clips"><h4>Clips</h4><p class="note">No skeletons: {escape(why)}'
        f"{f' ({escape(where)})' if where else ''}.</p></div>"
    )


def embedding(folder: StageFolder, classes: Sequence[str], split: str) -> str:
    """The features of the test clips in the plane of their two strongest principal components."""
    file = folder.path / "features.safetensors"
    if not file.is_file():
        return ""
    tensors = read_tensors(file)
    features, label = tensors["features"].float(), tensors["label"].numpy()
    if features.ndim != 2 or min(features.shape) < 3 or len(label) != len(features):
        return ""
    plane, shares = principal_plane(features)
    step = -(-len(label) // POINTS)
    plane, label = plane[::step], label[::step]
    kinds, names = _kinds(label, classes)
    axes = tuple(f"component {i + 1}, {100 * share:.0f} % of variance" for i, share in enumerate(shares))
    legend = "".join(f"<span>{swatch(kind)}{escape(name)}</span>" for kind, name in enumerate(names))
    legend += "<span>others in grey</span>" if (kinds < 0).any() else ""
    drawing = scatter(plane, kinds, names, (axes[0], axes[1]), f"Features of {len(label)} test clips, by class")
    note = f'<span class="legend">{legend}</span>Each point one clip, coloured by its true class; {escape(split)}.'
    return figure_block("Map of the features", drawing, note)


def principal_plane(features: torch.Tensor) -> tuple[np.ndarray, tuple[float, float]]:
    """Coordinates ``(N, 2)`` along the two strongest directions, and their shares of the variance.

    The sign of a direction is free; the largest loading is made positive so that the same features give the same map.
    """
    with torch.random.fork_rng(devices=[]):  # pca_lowrank starts from random vectors
        torch.manual_seed(0)
        centred = features - features.mean(0)
        _, values, directions = torch.pca_lowrank(centred, q=min(8, *features.shape), center=False, niter=6)
    axes = directions[:, :2]
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    total = float(centred.square().sum()) or 1.0
    return (centred @ axes).numpy(), (float(values[0] ** 2) / total, float(values[1] ** 2) / total)


def _kinds(label: np.ndarray, classes: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """A marker for each class; with more classes than markers only the most frequent ones are told apart."""
    most = HUES * len(MARKERS)
    if len(classes) <= most:
        return label, [str(name) for name in classes]
    frequent = np.argsort(-np.bincount(label, minlength=len(classes)), kind="stable")[:HUES]
    table = np.full(len(classes), -1)
    table[frequent] = np.arange(len(frequent))
    return table[label], [str(classes[i]) for i in frequent]
