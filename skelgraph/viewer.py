"""``skelgraph view``: one clip, or what a run says of it and why, as a page that moves, a gif or a png."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from skelgraph.data.clip import Clip
from skelgraph.data.store import Store
from skelgraph.engine.explainer import Explained, Explainer, explained
from skelgraph.engine.report_explained import about_deletion, about_map, answers, shares
from skelgraph.engine.run_folder import Run
from skelgraph.errors import UserError, unknown
from skelgraph.pages import film, scene, shell
from skelgraph.prediction.sources import open_input
from skelgraph.topology import Topology

ENDINGS = (".html", ".gif", ".png")
DEMO = "demo"
DEMO_WORDS = "Generated motion, not people."
LISTED = 12


@dataclass(frozen=True)
class View:
    """What is shown.

    Attributes:
        name: of the clip. facts: lines about it, plain text.
        scene: the motion and what colours it.
        sections: HTML below it. lines: the same for a terminal.
        demo: generated data.
    """

    name: str
    facts: tuple[str, ...]
    scene: scene.Scene
    sections: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    demo: bool = False


def of_poses(source: str, clip: str | None = None, *, format: str | None = None, topology: str | None = None) -> View:
    """A clip of a store, of pose files of any format that can be imported, or of the demo generator.

    Args:
        source: a path; ``demo`` where there is no such path.
        clip: its name (of demo clips also that of an action); None takes the first.
        format, topology: of files that do not say them.

    Raises:
        UserError: nothing there, no such clip, a file that does not say which joints it has.
    """
    if source == DEMO and not Path(source).exists():
        return _demo(clip, topology)
    found = open_input(Path(source), format, topology)
    if found.topology is None:
        raise UserError(f"{source}: does not say which joints it has; name them with --topology.")
    if found.store is not None:
        store = found.store
        item = store[row_of(store, clip, source)]
        label = None if item.label is None else store.classes[item.label]
        origin = tuple(f"{word}: {text}" for word, text in (("Source", store.meta.source), ("Terms", store.meta.terms))
                       if text)  # fmt: skip
        return _view(item, found.topology, store.meta.up, label, store.meta.demo, origin)
    names: list[str] = []
    for item in found.clips():
        if clip in (None, item.name):
            return _view(item, found.topology, None, None, False, (f"Source: {source}",))
        names.append(item.name)
    raise unknown("clip", str(clip), names, source)


def _demo(clip: str | None, topology: str | None) -> View:
    from skelgraph.data.synthetic import Demo

    layout = Topology.load(topology or "coco17")
    demo = Demo(layout, dims=3)
    if clip is not None and clip not in demo.names:
        raise unknown("demo action", clip, demo.names)
    label = 0 if clip is None else demo.names.index(clip)
    return _view(demo.clip(label), layout, "+y", demo.names[label], True, ())


def _view(
    clip: Clip, topology: Topology, up: str | None, label: str | None, demo: bool, origin: tuple[str, ...]
) -> View:
    return View(clip.name, (_facts(clip, topology, label), *origin), scene.of_clip(clip, topology, up), demo=demo)


def _facts(clip: Clip, topology: Topology, label: str | None) -> str:
    length = f"{clip.frames} frames" + (f", {clip.frames / clip.fps:.2f} s" if clip.fps else ", frame rate not known")
    persons = int((clip.score > 0).any((1, 2)).sum())
    seen = 100 * float((clip.score > 0).mean())
    return (
        f"{label or 'no label'} · {length} · {persons} person{'s' * (persons != 1)} · {topology.name}, "
        f"{clip.keypoints.shape[-1]}-D · {seen:.0f} % of joints seen"
    )


def row_of(store: Store, clip: str | None, where: str) -> int:
    """Row of a clip by name; the first one without.

    Raises:
        UserError: no such clip; names some that are there.
    """
    if clip is None:
        return 0
    try:
        return store.names.index(clip)
    except ValueError:
        few = ", ".join(store.names[:LISTED]) + (", ..." if len(store) > LISTED else "")
        raise UserError(f"{where}: no clip '{clip}' among its {len(store)}: {few}.") from None


# ---- of a run ------------------------------------------------------------------------------------------------------


def of_run(
    run: str, clip: str | None = None, how: str | None = None, *, about: str | None = None, delete: bool = False,
    trust: bool = False,
) -> View:  # fmt: skip
    """A clip of the store that a run was tested on, with the run's answer and the reasons for it.

    Args:
        run: folder, or ``folder:test``.
        clip: its name; None takes the first clip of the test part.
        how: ``saliency``, ``attention`` or None.
        about: name of the class to explain; None: the one answered.
        delete: also the deletion curve.
        trust: run the recipe's plugins.

    Raises:
        UserError: no such run, clip or class, or a network that has no such explanation.
    """
    folder, stage = split_run(run)
    tested = Explainer.open(Run.open(folder), stage, trust)
    if about is not None and about not in tested.classes:
        raise unknown("class", about, tested.classes, run)
    store = tested.clips.store
    row = row_of(store, clip, run) if clip else int(tested.clips.parts(labelled=False, holdout=False).test[0])
    target = None if about is None else tested.classes.index(about)
    found = explained(tested, row, how, target, delete)
    label = store.classes[found.clip.label] if found.clip.label is not None else None
    facts = (
        _facts(found.clip, tested.model.spec.topology, label),
        f"Answered by {folder}, stage {tested.stage}; the frames are those that the network sees"
        + (f" in the first of {tested.views} views" if tested.views > 1 else ""),
    )
    sections = (answers(found, tested.classes, label), shares(found), about_map(found, how, tested.classes),
                about_deletion(found, tested.classes))  # fmt: skip
    return View(found.clip.name, facts, found.scene, sections, _lines(found, tested.classes, label),
                store.meta.demo)  # fmt: skip


def is_run(source: str) -> bool:
    """Whether ``source`` is a run folder, or a test of one."""
    return (split_run(source)[0] / "run.json").is_file()


def split_run(source: str) -> tuple[Path, str | None]:
    """Folder and stage of ``RUN`` or ``RUN:STAGE``."""
    if Path(source).exists():
        return Path(source), None
    folder, colon, stage = source.rpartition(":")
    return (Path(folder), stage) if colon else (Path(source), None)


def _lines(found: Explained, classes: Sequence[str], label: str | None) -> tuple[str, ...]:
    order = np.argsort(-found.probabilities)[:3]
    said = ", ".join(f"{classes[i]} {100 * found.probabilities[i]:.1f} %" for i in order)
    lines = [f"{found.clip.name}: {said}" + (f" (true: {label})" if label else "")]
    for reader, rows in found.shares.items():
        told = ", ".join(f"{name} {100 * share:.0f} %" for name, share in rows.items() if name != reader)
        lines.append(f"{reader} is told of: {told}")
    if found.modalities:
        told = ", ".join(f"{name} {value:+.2f}" for name, value in found.modalities.items())
        lines.append(f"speaks for {classes[found.target]}, nats: {told}")
    if found.deletion is not None:
        lines += _deletion_lines(found, classes[found.target])
    return tuple(lines)


def _deletion_lines(found: Explained, name: str) -> Iterable[str]:
    assert found.deletion is not None
    curve = found.deletion
    yield f"probability of {name} while joints are taken away, per cent:"
    yield "  joints gone  " + " ".join(f"{100 * float(x):4.0f}%" for x in curve.removed)
    for words, values in (("important", curve.important[0]), ("random   ", curve.random[0])):
        yield f"  {words}    " + " ".join(f"{100 * float(x):5.1f}" for x in values)
    important, random = (float(area[0]) for area in curve.areas)
    yield f"  mean: {100 * important:.1f} by importance, {100 * random:.1f} at random ({curve.orders} orders)"


# ---- writing -------------------------------------------------------------------------------------------------------


def page(view: View) -> str:
    """The page as text."""
    facts = "".join(f'<p class="sub">{escape(line)}</p>' for line in view.facts)
    head = (
        f'<header>{shell.demo_banner(view.demo, DEMO_WORDS)}<p class="over">skelgraph view</p>'
        f"<h1>{escape(view.name)}</h1>{facts}</header>"
    )
    shown = f"<section><h2>Motion</h2>{scene.block(view.scene, f'Moving skeleton of clip {view.name}')}</section>"
    return shell.render(view.name, [head, shown, *view.sections], view.demo, extra=("scene",))


def write(view: View, path: Path | None = None) -> Path:
    """Write a page, gif or png, by the ending of ``path``; by default a page named like the clip.

    Returns:
        Where it stands.

    Raises:
        UserError: another ending, matplotlib is missing for a picture, or the file cannot be written.
    """
    name = re.sub(r"[^\w.-]+", "_", view.name).strip(".") or "clip"
    path = path or Path(f"{name}.html")
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"{path}: write {', '.join(ENDINGS)}.")
    try:
        if path.suffix.lower() == ".html":
            path.write_text(page(view), encoding="utf-8")
        else:
            title = f"{'DEMO DATA · ' if view.demo else ''}{view.name}: {view.facts[0].split(' · ')[0]}"
            film.write(view.scene, path, title)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}).") from None
    return path
