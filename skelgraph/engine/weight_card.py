"""The card beside a file of weights: what they are, what they were made of, what they reached, and the terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skelgraph import __version__
from skelgraph.data.schema import Meta
from skelgraph.engine import headline
from skelgraph.engine.run_folder import Run, StageFolder, digest, find_exports, read_json, replacing, write_json
from skelgraph.errors import UserError

CARD, PAGE, WEIGHTS = "weights.json", "weights.md", "exports.safetensors"
UNSAID = "not stated"
OWN_LICENCE = "none chosen: their maker decides, within the terms of the data"
Card = dict[str, Any]


def write_all(run: Run) -> None:
    """Write, or write again, the card of every stage of a run that has weights; later stages know earlier ones."""
    for folder in run.stages():
        if (folder.path / WEIGHTS).is_file():
            write(folder.path, of_stage(run, folder))


def write(folder: Path, card: Card) -> None:
    """Leave a card beside its weights, as JSON and as a page."""
    write_json(folder / CARD, card)
    with replacing(folder / PAGE) as temporary:
        temporary.write_text(markdown(card), encoding="utf-8")


def read(name: str | Path) -> Card:
    """The card of a folder of weights, a run (its last trained stage) or ``RUN:STAGE``.

    A stage that an older version has trained gets its card made here; nothing is written.

    Raises:
        UserError: no weights there.
    """
    if (Path(name) / CARD).is_file():
        return dict(read_json(Path(name) / CARD))
    if (Path(name) / WEIGHTS).is_file() and (Path(name).parent.parent / "run.json").is_file():
        folder = StageFolder(Path(name))
    else:
        folder = find_exports(str(name), Run(Path(str(name).partition(":")[0])))
    if (folder.path / CARD).is_file():
        return dict(read_json(folder.path / CARD))
    if not (folder.path / WEIGHTS).is_file():
        raise UserError(f"{folder.path}: no weights here (is the stage finished?).")
    return of_stage(Run.open(folder.path.parent.parent), folder)


def of_stage(run: Run, folder: StageFolder) -> Card:
    """The card of a trained stage."""
    recipe, about, built = run.recipe, run.about, folder.card()
    entry, result = recipe["stages"][folder.name], folder.result() or {}
    data = built.get("data") or headline.stage_data(recipe, folder.name)
    stores = [_store(path) for path in headline.store_paths(data)]
    parent = _parent(run, entry.get("from"))
    demo = bool(about.get("demo")) or any(store["demo"] for store in stores) or bool(parent and parent["demo"])
    return {
        **_header(f"{recipe['name']}, stage {folder.name}, seed {about['seed']}", folder.path / WEIGHTS, demo),
        "licence": OWN_LICENCE if parent is None or parent["licence"] == OWN_LICENCE
        else f"those they were started from: {parent['licence']}",
        **_network(built, result.get("parameters")),
        "data": stores,
        "protocol": _protocol(recipe, built, entry, result, data),
        "started_from": parent,
        "results": _results(run, folder.name),
        "made_by": {"skelgraph": __version__, "command": about.get("command"), "recipe": about.get("recipe_file")},
    }  # fmt: skip


def of_import(folder: StageFolder, name: str, parameters: int, licence: str, data: str | None) -> Card:
    """The card of weights that others have trained.

    Args:
        folder: with weights and ``model.json``.
        name: what they are.
        parameters: of the network.
        licence: of the weights.
        data: what they were trained on, where somebody knows.
    """
    built = folder.card()
    source = {key: built["released"][key] for key in ("source", "sha256")}
    return {
        **_header(name, folder.path / WEIGHTS, demo=False),
        "licence": licence,
        **_network(built, parameters),
        "data": [{"source": data, "terms": UNSAID, "demo": False}] if data else [],
        "protocol": {},
        "started_from": None,
        "results": [],
        "made_by": {"skelgraph": __version__, "imported": source},
    }


def _header(name: str, weights: Path, demo: bool) -> Card:
    """What every card begins with."""
    size = round(weights.stat().st_size / 1e6, 3)
    return {"name": name, "demo": demo, "file": weights.name, "sha256": digest(weights), "megabytes": size}


def _network(built: Mapping[str, Any], parameters: int | None) -> Card:
    """Architecture, joints and classes out of ``model.json``."""
    spec, settings = built["spec"], dict(built["model"])
    return {
        "network": {"name": settings.pop("name"), "settings": settings, "parameters": parameters},
        "topology": {"name": spec["topology"]["name"], "joints": list(spec["topology"]["joints"])},
        "input": {key: spec[key] for key in ("channels", "persons", "frames", "modalities") if key in spec},
        "classes": list(spec["classes"]),
    }


def _store(path: Path) -> Card:
    """Where clips come from and what may be done with them."""
    try:
        meta = Meta.read(path / "meta.json")
    except UserError:
        return {"store": str(path), "source": UNSAID, "terms": UNSAID, "demo": False}
    return {
        "store": str(path), "source": meta.source or UNSAID, "terms": meta.terms or UNSAID, "demo": meta.demo,
        "units": meta.units, "clips": meta.clips, "content_hash": meta.content_hash,
    }  # fmt: skip


def _protocol(
    recipe: Mapping[str, Any], built: Mapping[str, Any], entry: Mapping[str, Any], result: Mapping[str, Any],
    data: Mapping[str, Any],
) -> Card:  # fmt: skip
    return {
        "method": built["method"],
        "split": data.get("protocol"),
        "selection": recipe["protocol"]["selection"],
        "train_clips": result.get("train_clips"),
        "validation_clips": result.get("validation_clips"),
        "label_fraction": data.get("label_fraction"),
        "steps": result.get("steps"),
        "batch": entry.get("batch"),
        "transforms": data.get("transforms") or {},
        "seed": recipe.get("seed"),
    }


def _parent(run: Run, name: str | None) -> Card | None:
    """The weights that a stage started from, with what binds these."""
    if name is None:
        return None
    unknown: Card = {"weights": name, "sha256": None, "licence": UNSAID, "demo": False, "data": []}
    try:
        folder = find_exports(name, run)
        card = read(folder.path)
    except UserError:
        return unknown
    return {**unknown, **{key: card[key] for key in ("sha256", "licence", "demo", "data")}}


def _results(run: Run, stage: str) -> list[Card]:
    """Figures of the tests of this stage."""
    tested = {folder.name for folder in run.stages() if (folder.result() or {}).get("tested") == stage}
    return [
        {"test": item.stage, "figure": item.metric, "value": item.value, "unit": item.unit, "split": item.split,
         "test_clips": item.test_clips, "chance": item.chance, "published": item.published}
        for item in headline.headlines(run) if item.stage in tested
    ]  # fmt: skip


# ---- as text -------------------------------------------------------------------------------------------------------


def markdown(card: Card) -> str:
    """The card as a page."""
    lines = [f"# {card['name']}", ""]
    if card["demo"]:
        lines += ["**Demo: trained on generated motion, not on people. Its figures say nothing about real "
                  "performance.**", ""]  # fmt: skip
    lines += [f"- **{key}**: {text}" for key, text in facts(card)]
    for title, rows in (("Data", _data(card)), ("Results", _figures(card))):
        lines += ["", f"## {title}", "", *(f"- {row}" for row in rows)]
    return "\n".join([*lines, "", "## Classes", "", ", ".join(card["classes"]) or "No classifier.", ""])


def lines(card: Card) -> list[str]:
    """The card for the console."""
    rows = [("weights", card["name"] + (" (DEMO: generated motion)" if card["demo"] else "")), *facts(card)]
    rows += [("data", row) for row in _data(card)]
    rows += [("result", row) for row in _figures(card)]
    rows += [("classes", f"{len(card['classes'])}: {', '.join(card['classes'])}" if card["classes"] else "none")]
    return _columns(rows)


def terms(card: Card) -> list[str]:
    """What of the card is not in the weights themselves, for the console."""
    kept = [(key, text) for key, text in facts(card) if key in ("licence", "file")]
    return _columns([*kept, *(("data", row) for row in _data(card))])


def _columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    return [f"{key:<9} {text}" for key, text in rows]


def facts(card: Card) -> list[tuple[str, str]]:
    """What fits on a line each."""
    given, parent = card["input"], card["started_from"]
    amount = card["network"]["parameters"]
    settings = ", ".join(f"{key}: {value}" for key, value in card["network"]["settings"].items())
    protocol = ", ".join(f"{key} {value}" for key, value in card["protocol"].items() if value not in (None, {}))
    rows = [
        ("network", card["network"]["name"] + (f" ({settings})" if settings else "")
         + (f", {amount:,} parameters" if amount else "")),
        ("topology", f"{card['topology']['name']}, {len(card['topology']['joints'])} joints"),
        ("input", f"{given['persons']} x {given['frames']} frames, {given['channels']} coordinates"),
        ("protocol", protocol or UNSAID),
        ("licence", card["licence"]),
        ("file", f"{card['file']}, {card['megabytes']} MB, sha256 {card['sha256']}"),
    ]  # fmt: skip
    if parent is not None:
        rows.insert(4, ("from", f"{parent['weights']} (sha256 {parent['sha256'] or UNSAID}; {parent['licence']})"))
    return rows


def _data(card: Card) -> list[str]:
    """The card's data and those of the weights it was started from."""
    parent: Sequence[Card] = (card["started_from"] or {}).get("data") or []
    known = [(store, "") for store in card["data"]]
    known += [(store, " (of the weights it started from)") for store in parent if store not in card["data"]]
    rows = []
    for store, remark in known:
        amount = f", {store['clips']} clips" if "clips" in store else ""
        rows.append(f"{store['source']}{amount}{remark}; terms: {store['terms']}")
    return rows or [UNSAID]


def _figures(card: Card) -> list[str]:
    rows = []
    for item in card["results"]:
        beside = [f"{word} {item[word]:.3g}" for word in ("chance", "published") if item[word] is not None]
        clips = f"{item['test_clips']} test clips of {item['split']}"
        rows.append(
            f"{item['test']}/{item['figure']} {item['value']:.2f} {item['unit']} ({'; '.join([clips, *beside])})"
        )
    return rows or ["none measured"]
