"""Several runs on one page: their figures, curves over each other, differences by class, McNemar's test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skelgraph.engine import headline, results
from skelgraph.engine.headline import TITLES
from skelgraph.engine.intervals import Answers
from skelgraph.engine.mcnemar import McNemar, holm, mcnemar
from skelgraph.engine.report import DEMO
from skelgraph.engine.report_figures import HUES, Line, binned, line_chart
from skelgraph.engine.report_parts import figure_block, read_curves
from skelgraph.engine.results import COLUMNS, Group, Results
from skelgraph.engine.run_folder import Run, replacing
from skelgraph.errors import UserError
from skelgraph.pages import shell
from skelgraph.pages.svg import svg

MOST_CLASSES = 120
MOST_STUDIES = 4
NAME = "comparison.html"
PARTS = {"train": "training clips", "val": "validation clips"}
SHOWN = ("figure", "mean ± sd", "95 % interval", "chance", "published", "− first study")


def write(paths: Sequence[Path], out: Path | None = None) -> Path:
    """Write the comparison of run folders, or of folders that hold some.

    Args:
        paths: at least two runs in all; the first one's study is what the others are compared with.
        out: the page; by default ``comparison.html`` in the working folder.

    Returns:
        Where it stands.

    Raises:
        UserError: fewer than two finished runs, a damaged file, or the page cannot be written.
    """
    found = results.collect(paths)
    if sum(len(group.runs) for group in found.groups) < 2:
        left = "".join(f"; left out: {path}: {why}" for path, why in found.left_out)
        raise UserError(f"a comparison needs two finished runs{left}.")
    out = out or Path(NAME)
    try:
        with replacing(out) as temporary:
            temporary.write_text(render(found), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}).") from None
    return out


def render(found: Results) -> str:
    """The page as text."""
    demo = any(group.demo for group in found.groups)
    names = " against ".join(dict.fromkeys(group.name for group in found.groups))
    sections = [
        _head(found, names, demo),
        _figures(found),
        _curves(found),
        *_classes(found),
        _tests(found),
        _again(found),
    ]
    return shell.render(f"Comparison of {names}", sections, demo, extra=("compare",))


def _head(found: Results, names: str, demo: bool) -> str:
    studies = "".join(
        f'<li><span class="key k{place % HUES}"><b>{escape(group.title)}</b>'
        f"<small>{len(group.runs)} run{'s' * (len(group.runs) != 1)}, seed "
        f"{', '.join(map(str, group.seeds))}{' · demo data' if group.demo else ''}</small></span></li>"
        for place, group in enumerate(found.groups)
    )
    return (
        f'<header>{shell.demo_banner(demo, DEMO)}<p class="over">skelgraph report, several runs</p>'
        f'<h1>{escape(names)}</h1><ul class="studies">{studies}</ul></header>'
    )


# ---- figures -------------------------------------------------------------------------------------------------------


def _figures(found: Results) -> str:
    """The table of ``skelgraph results``; what is the same for a whole test stands in a line of its own."""
    figures = [item for group in found.groups for item in group.figures]
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in results.rows(found)]
    kept = [name for name in SHOWN if name in SHOWN[:2] or any(row[name] != "–" for row in rows)]
    heads = "".join(f'<th scope="col"{" class=n" if name != "figure" else ""}>{escape(name)}</th>' for name in kept)
    body, last = [], ("", "")
    for row, item in zip(rows, figures, strict=True):
        if (row["study"], row["stage"]) != last:
            last = row["study"], row["stage"]
            what = f"{row['test clips']} test clips of split {item.split}"
            what += f", {row['train clips']} training clips" if row["train clips"] != "–" else ""
            what += f", {row['parameters']} parameters" if row["parameters"] != "–" else ""
            what += f", seeds: {row['seeds']}"
            body.append(f'<tr class="stage"><th scope="rowgroup" colspan="{len(kept)}">{escape(row["study"])}, '
                        f"{escape(row['stage'])} <small>{escape(what)}</small></th></tr>")  # fmt: skip
        cells = "".join(f'<td class="n">{escape(row[name])}</td>' for name in kept[1:])
        body.append(f'<tr><th scope="row">{escape(row["figure"])}</th>{cells}</tr>')
    notes = "".join(f"<p>{escape(note)}</p>" for note in results.notes(found))
    return (
        f'<section><h2>Results</h2><div class="scroll"><table class="results"><thead><tr>{heads}</tr></thead>'
        f'<tbody>{"".join(body)}</tbody></table></div><div class="notes">{notes}</div></section>'
    )


# ---- training ------------------------------------------------------------------------------------------------------


def _curves(found: Results) -> str:
    """Every measure of the training stages, all runs over each other; a colour for each study."""
    lines: dict[tuple[str, str, str], list[Line]] = {}
    for place, group in enumerate(found.groups):
        for run in group.runs:
            for folder in run.stages():
                for name, parts in read_curves(folder.path / "metrics.csv").items():
                    for part, points in parts.items():
                        x, y = binned(*points)
                        y = [100 * value for value in y] if _per_cent(name) else y
                        who = f"{group.title}, seed {run.about.get('seed')}"
                        lines.setdefault((folder.name, name, part), []).append(Line(who, f"k{place % HUES}", x, y))
    shown = [(key, own) for key, own in lines.items() if len(own) > 1]
    order = sorted(shown, key=lambda item: (item[0][0], item[0][1] != "loss", item[0][1] not in TITLES, item[0][1:]))
    blocks = []
    for (stage, name, part), own in order:
        title = TITLES.get(name, name.replace("_", " ").capitalize())
        unit = "%" if _per_cent(name) else "in the method’s own unit"
        label = f"{title} over training steps, {PARTS[part]}, {len(own)} runs"
        legend = "".join(f'<span class="key k{place % HUES}">{escape(group.title)}</span>'
                         for place, group in enumerate(found.groups)
                         if any(line.style == f"k{place % HUES}" for line in own))  # fmt: skip
        heading = f"{escape(title)} <small>{escape(stage)}, {PARTS[part]}</small>"
        blocks.append(figure_block(heading, line_chart(own, label, unit), legend))
    return f'<section><h2>Training</h2><div class="pair">{"".join(blocks)}</div></section>' if blocks else ""


def _per_cent(name: str) -> bool:
    return name in TITLES and name != "loss"


# ---- classes -------------------------------------------------------------------------------------------------------


def _classes(found: Results) -> Iterator[str]:
    """For each test that the first study shares with others: recall of every class and how much theirs differs."""
    first = found.groups[0]
    for stage, own in first.answers.items():
        others = [(group, group.answers[stage]) for group in found.groups[1:]
                  if stage in group.answers and group.answers[stage][0].same_test(own[0])]  # fmt: skip
        if others:
            yield _class_table(first, stage, own, others[:MOST_STUDIES], len(others))


def _class_table(
    first: Group, stage: str, own: Sequence[Answers], others: Sequence[tuple[Group, Sequence[Answers]]], total: int
) -> str:
    result = first.runs[0].stage(stage).result() or {}
    classes = [str(name) for name in result.get("classes") or []]
    tested = np.bincount(own[0].label, minlength=len(classes))
    base = _recall(own, tested)
    gains = [_recall(answers, tested) - base for _, answers in others]
    rows = [i for i in range(len(classes)) if tested[i]]
    rows.sort(key=lambda i: (-float(gains[0][i]), classes[i]))
    cut = rows if len(rows) <= MOST_CLASSES else rows[: MOST_CLASSES // 2] + rows[-MOST_CLASSES // 2 :]
    top = max(1.0, max(float(np.abs(gain[rows]).max()) for gain in gains))
    heads = "".join(f'<th scope="col" class="n" colspan="2">{escape(group.title)}<br>− first, points</th>'
                    for group, _ in others)  # fmt: skip
    body = "".join(
        f'<tr><th scope="row">{escape(classes[i])}</th><td class="n">{tested[i]}</td><td class="n">{base[i]:.1f}</td>'
        + "".join(
            f'<td class="n">{gain[i]:+.1f}</td><td class="picture">{_bar(float(gain[i]), top)}</td>' for gain in gains
        )
        + "</tr>"
        for i in cut
    )
    split = headline.split(first.runs[0].recipe, stage, result)
    note = (
        f"Recall of each class in per cent, mean over the runs of a study; split {escape(split)}. Bars: to ±{top:.0f}."
    )
    note += f" The {len(cut)} of {len(rows)} classes that differ most." if len(cut) < len(rows) else ""
    note += f" {MOST_STUDIES} of {total} studies." if total > MOST_STUDIES else ""
    return (
        f"<section><h2>Classes <small>{escape(stage)}</small></h2>"
        '<div class="scroll"><table class="gains"><thead><tr><th scope="col">Class</th>'
        f'<th scope="col" class="n">test<br>clips</th>'
        f'<th scope="col" class="n">{escape(first.title)}<br>recall, %</th>{heads}</tr></thead>'
        f'<tbody>{body}</tbody></table></div><p class="note">{note}</p></section>'
    )


def _recall(runs: Sequence[Answers], tested: NDArray[np.int64]) -> NDArray[np.float64]:
    """Per cent of each class, mean over the runs."""
    right = [np.bincount(run.label[run.answer == run.label], minlength=len(tested)) for run in runs]
    return 100 * np.mean(right, axis=0) / np.maximum(tested, 1)


def _bar(gain: float, top: float) -> str:
    length = 62 * abs(gain) / top
    start, style = (65, "up") if gain >= 0 else (65 - length, "down")
    drawn = f'<rect class="{style}" x="{start:.1f}" y="2" width="{length:.1f}" height="10"/>' if gain else ""
    return svg(130, 14, f"{gain:+.1f} points", f'<path class="grid" d="M65 0v14"/>{drawn}', "gain")


# ---- McNemar -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """Two runs that answered the same clips of a test."""

    stage: str
    first: str
    second: str
    clips: int
    test: McNemar


def pairs(found: Results) -> list[Pair]:
    """Each run of the first study with the run of the same seed of every other study, or with the first of those
    where they share no seed; the runs of a single study with its first."""
    first = found.groups[0]
    result = []
    for stage, own in first.answers.items():
        for group in found.groups[1:]:
            theirs = group.answers.get(stage)
            if not theirs or not theirs[0].same_test(own[0]):
                continue
            shared = [(i, group.seeds.index(seed)) for i, seed in enumerate(first.seeds) if seed in group.seeds]
            for i, j in shared or [(0, 0)]:
                result.append(_pair(stage, (first, i), (group, j), own[i], theirs[j]))
        if len(found.groups) == 1:
            result += [_pair(stage, (first, 0), (first, j), own[0], own[j]) for j in range(1, len(own))]
    return result


def _pair(stage: str, one: tuple[Group, int], other: tuple[Group, int], a: Answers, b: Answers) -> Pair:
    names = [f"{group.title}, seed {group.seeds[place]}" for group, place in (one, other)]
    return Pair(stage, names[0], names[1], len(a.names), mcnemar(a, b))


def _tests(found: Results) -> str:
    tests = pairs(found)
    if not tests:
        return (
            '<section><h2>McNemar’s test</h2><p class="note">No two of these runs have kept answers to the same test '
            "clips.</p></section>"
        )
    rows = "".join(
        f'<tr><th scope="row">{escape(item.second)}'
        f"<small> against {escape(item.first)}, {escape(item.stage)}</small></th>"
        + "".join(f'<td class="n">{number}</td>' for number in (
            item.clips, item.test.both, item.test.second, item.test.first, item.test.neither))
        + f'<td class="n">{_p(item.test.p)}</td><td class="n">{_p(corrected)}</td></tr>'
        for item, corrected in zip(tests, holm([item.test.p for item in tests]), strict=True)
    )  # fmt: skip
    heads = "".join(f'<th scope="col" class="n">{words}</th>' for words in (
        "test<br>clips", "both<br>right", "only this<br>right", "only the<br>first right", "neither", "p",
        "p, Holm"))  # fmt: skip
    return (
        '<section><h2>McNemar’s test</h2><div class="scroll"><table class="pairs"><thead><tr><th scope="col">Runs</th>'
        f'{heads}</tr></thead><tbody>{rows}</tbody></table></div><p class="note">Top-1 answers of two networks to the '
        "same clips. p: how likely so uneven a split of the clips that only one gets right is, if both were equally "
        "good (exact binomial, two-sided); Holm: corrected for the number of rows. It speaks of these two trained "
        "networks and treats clips as independent; what another seed would bring, the interval in Results says.</p>"
        "</section>"
    )


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


# ---- how to get it again -------------------------------------------------------------------------------------------


def _again(found: Results) -> str:
    runs = [(group, run) for group in found.groups for run in group.runs]
    commands = "\n".join(str(run.about.get("command", "")) for _, run in runs)
    environments = [_environment(run) for _, run in runs]
    same = all(item == environments[0] for item in environments)
    facts = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in environments[0].items()
    )
    word = "of all runs" if same else f"of the first run ({runs[0][1].path}); others differ"
    rows = "".join(
        f'<tr><th scope="row">{escape(str(run.path))}</th><td>{escape(group.title)}</td>'
        f'<td class="n">{escape(str(run.about.get("seed")))}</td></tr>'
        for group, run in runs
    )
    return (
        f"<section><h2>To get it again</h2><pre><code>{escape(commands)}</code></pre>"
        '<div class="scroll"><table class="figures"><thead><tr><th scope="col">Run</th><th scope="col">Study</th>'
        f'<th scope="col" class="n">Seed</th></tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="note">Environment {escape(word)}.</p><dl class="facts">{facts}</dl></section>'
    )


def _environment(run: Run) -> dict[str, str]:
    """What the run was made with."""
    known = dict(run.about.get("environment") or {})
    packages = known.pop("packages", None) or {}
    return {
        key.replace("_", " "): "none" if value is None else str(value) for key, value in {**known, **packages}.items()
    }
