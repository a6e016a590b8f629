"""The report of a run: one HTML file that needs nothing else, finished or not."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from skelgraph.engine import class_groups, headline, report_contrastive, report_explained, report_parts, report_tail
from skelgraph.engine.headline import Headline
from skelgraph.engine.intervals import Answers, interval
from skelgraph.engine.report_figures import range_mark
from skelgraph.engine.run_folder import Run, StageFolder, replacing, to_yaml
from skelgraph.pages import shell

DEMO = "Generated motion, not people: the figures below say nothing about real performance."
COUNTS = {
    "steps": "Steps",
    "train_clips": "Training clips",
    "validation_clips": "Validation clips",
    "test_clips": "Test clips",
    "parameters": "Parameters",
}
ENVIRONMENT = {"cpu_cores": "CPU cores", "gpu": "GPU"}


def write(run: Run) -> Path:
    """Write ``report.html`` of a run, also of one that is not finished.

    Returns:
        Where it stands.

    Raises:
        UserError: a file of the run is damaged.
    """
    page = render(run)
    with replacing(run.report) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return run.report


def render(run: Run) -> str:
    """The page as text."""
    recipe, demo = run.recipe, headline.is_demo(run)
    title = recipe.get("title") or recipe["name"]
    sections = [
        _head(run, recipe, title, demo),
        _results(run, demo),
        report_contrastive.probes(run),
        _stages(run),
        *(_stage(run, recipe, folder) for folder in run.stages()),
        _again(run, recipe),
    ]
    extra = ("scene",) if any('class="scene"' in part for part in sections) else ()
    return shell.render(title, sections, demo, extra)


def _head(run: Run, recipe: dict[str, Any], title: str, demo: bool) -> str:
    state = "" if run.finished else ' · <strong class="open">not finished</strong>'
    return (
        f'<header>{shell.demo_banner(demo, DEMO)}<p class="over">skelgraph run report</p><h1>{escape(title)}</h1>'
        f'<p class="sub"><code>{escape(recipe["name"])}</code> · topology {escape(str(recipe["topology"]))} · '
        f"seed {escape(str(run.about.get('seed', '?')))}{state}</p></header>"
    )


# ---- results -------------------------------------------------------------------------------------------------------


def _results(run: Run, demo: bool) -> str:
    rows = headline.headlines(run)
    if not rows:
        return '<section><h2>Results</h2><p class="note">No evaluation has finished yet.</p></section>'
    answers = {row.stage: Answers.read(run.stage(row.stage)) for row in rows}
    body, last = [], ""
    for row in rows:
        if row.stage != last:
            what = f"{row.test_clips} test clips · split {row.split}"
            body.append(f'<tr class="stage"><th colspan="5" scope="rowgroup">{escape(row.stage)} '
                        f"<small>{escape(what)}</small></th></tr>")  # fmt: skip
            last = row.stage
        body.append(_result_row(row, answers[row.stage], demo))
    return (
        '<section><h2>Results</h2><div class="scroll"><table class="results"><thead><tr><th scope="col">Figure</th>'
        '<th scope="col" class="n">Measured</th><th scope="col" class="n">Chance</th>'
        '<th scope="col" class="n">Published</th><th scope="col" class="picture">0 – 100 %</th></tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>{_notes(rows, demo)}</section>"
    )


def _result_row(row: Headline, answers: Answers | None, demo: bool) -> str:
    limits = None
    if answers is not None and row.metric in headline.TITLES:
        limits = interval([answers], row.metric)
    digits = 1 if row.unit == "%" else 3
    between = f"<small>{limits[0]:.{digits}f} – {limits[1]:.{digits}f}</small>" if limits else ""
    published = "–"
    if row.published is not None:
        beside = "not comparable" if demo else f"{row.value - row.published:+.{digits}f}".replace("-", "−")
        published = f"{row.published:.{digits}f}<small>{beside}</small>"
    picture = ""
    if row.unit == "%":
        label = f"{row.title}: {row.value:.1f} per cent"
        picture = range_mark(row.value, limits, row.chance, None if demo else row.published, label)
    chance = "–" if row.chance is None else f"{row.chance:.{digits}f}"
    return (
        f'<tr><th scope="row">{escape(row.title)}<small>{row.unit}</small></th>'
        f'<td class="n"><b>{row.value:.{digits}f}</b>{between}</td><td class="n">{chance}</td>'
        f'<td class="n">{published}</td><td class="picture">{picture}</td></tr>'
    )


def _notes(rows: Sequence[Headline], demo: bool) -> str:
    notes = [
        "Below a measured figure: its 95 % interval over the choice of test clips (bootstrap). One run says nothing "
        "about the spread between seeds; <code>skelgraph results</code> does.",
        "Chance: always naming the most frequent test classes (top-k), any one class (mean class), equal "
        "probabilities (loss).",
    ]
    if any(row.published is not None for row in rows):
        beside = "This run is on demo data: the two are not comparable." if demo else "Below it: measured − published."
        notes.append(f"Published: by the paper, on the paper’s data. {beside}")
    if any(row.metric in class_groups.GROUPS for row in rows):
        notes.append(class_groups.NOTE)
    if any(row.metric.startswith("last_") for row in rows):
        notes.append("The step was chosen on validation clips, never on test clips. Last step: the end of training.")
    keys = '<span class="key value">measured</span><span class="key chance">chance</span>'
    if not demo and any(row.published is not None for row in rows):
        keys += '<span class="key published">published</span>'
    return f'<p class="note keys">{keys}</p><div class="notes">{"".join(f"<p>{note}</p>" for note in notes)}</div>'


# ---- stages --------------------------------------------------------------------------------------------------------


def _stages(run: Run) -> str:
    rows = []
    for folder in run.stages():
        result, entry = folder.result(), run.recipe["stages"][folder.name]
        kind = entry.get("method") or _kind(entry)
        model = (entry.get("model") or {}).get("name", "–")
        cells = [_whole(result, key) for key in COUNTS]
        state = "finished" if result is not None else '<strong class="open">not finished</strong>'
        rows.append(
            f'<tr><th scope="row">{escape(folder.name)}</th><td>{escape(str(kind))}</td><td>{escape(str(model))}</td>'
            + "".join(f'<td class="n">{cell}</td>' for cell in cells)
            + f"<td>{state}</td></tr>"
        )
    heads = "".join(f'<th scope="col">{word}</th>' for word in ("Stage", "Method", "Model"))
    heads += "".join(f'<th scope="col" class="n">{word}</th>' for word in COUNTS.values())
    return (
        f'<section><h2>Stages</h2><div class="scroll"><table class="stages"><thead><tr>{heads}'
        f'<th scope="col">State</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div></section>'
    )


def _whole(result: dict[str, Any] | None, key: str) -> str:
    value = (result or {}).get(key)
    return "–" if value is None else f"{int(value):,}".replace(",", "\u202f")


def _stage(run: Run, recipe: dict[str, Any], folder: StageFolder) -> str:
    """Figures of one stage; nothing where it has not begun."""
    result = folder.result()
    if "evaluate" not in recipe["stages"][folder.name]:
        content = report_parts.curves(folder, result)
        content += report_contrastive.sections(folder, recipe["stages"][folder.name])
    else:
        content = _evaluation(run, recipe, folder, result) if result is not None else ""
    kind = _kind(recipe["stages"][folder.name])
    return f"<section><h2>{escape(folder.name)} <small>{kind}</small></h2>{content}</section>" if content else ""


def _kind(entry: dict[str, Any]) -> str:
    return "fusion" if "fuse" in entry else "evaluation" if "evaluate" in entry else "training"


def _evaluation(run: Run, recipe: dict[str, Any], folder: StageFolder, result: dict[str, Any]) -> str:
    tested = str(result.get("tested"))
    data = headline.stage_data(recipe, folder.name, tested)
    split = f"split {headline.split(recipe, folder.name, result)}"
    trained = (run.stage(tested).result() or {}) if tested in recipe["stages"] else {}
    classes = [str(name) for name in result.get("classes") or []]
    counts = result.get("train_counts") or trained.get("train_counts")
    answers = Answers.read(folder)
    parts = [
        report_parts.fusion(result),
        report_parts.confusion(result, split),
        report_tail.sections(result, counts, split),
        report_parts.per_class(result, counts, split),
        report_parts.clips(answers, classes, headline.store_paths(data), split) if answers is not None else "",
        report_explained.attention(run, folder.name, answers, split) if answers is not None else "",
        report_parts.embedding(folder, classes, split),
    ]
    return "".join(parts)


# ---- how to get it again -------------------------------------------------------------------------------------------


def _again(run: Run, recipe: dict[str, Any]) -> str:
    about = run.about
    environment = dict(about.get("environment") or {})
    packages = environment.pop("packages", None) or {}
    facts = {
        "Seed": about.get("seed"),
        "Recipe": about.get("recipe_file"),
        "Data": ", ".join(str(path) for path in headline.store_paths(recipe["data"])),
        **{ENVIRONMENT.get(key, key.replace("_", " ").capitalize()): value for key, value in environment.items()},
        **packages,
    }
    rows = "".join(
        f"<div><dt>{escape(str(key))}</dt><dd>{escape('none' if value is None else str(value))}</dd></div>"
        for key, value in facts.items()
    )
    command = escape(str(about.get("command", "")))
    return (
        f"<section><h2>To get it again</h2><pre><code>{command}</code></pre>"
        f'<dl class="facts">{rows}</dl><details><summary>Resolved recipe</summary>'
        f"<pre><code>{escape(to_yaml(recipe))}</code></pre></details></section>"
    )
