"""The page of ``skelgraph data check``: what was found, the worst clips moving, and the counts behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from skelgraph.data.checks import CheckReport, Finding, Severity, Tally
from skelgraph.data.checks.words import in_words, plural, where_found
from skelgraph.data.clip import Clip
from skelgraph.data.store import Store
from skelgraph.errors import UserError
from skelgraph.pages import shell, skeletons

CARDS = 6
LISTED = 5
DEMO = "Made by a generator: the clips below are nobody's."


def write(report: CheckReport, store: Store, path: Path) -> None:
    """Write the page of a check to one file.

    Args:
        report: of the check.
        store: what was checked; the clips of the worst findings are read again.
        path: the file.

    Raises:
        UserError: it cannot be written.
    """
    try:
        path.write_text(render(report, store), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}).") from None


def render(report: CheckReport, store: Store) -> str:
    """The page as text."""
    title = ", ".join(Path(name).name for name in report.facts["paths"])
    sections = [
        _head(report, title),
        _overview(report),
        *_details(report, store),
        _joints(report, store),
        _classes(report),
        _settings(report),
    ]
    return shell.render(f"Check of {title}", sections, report.facts["demo"])


def _head(report: CheckReport, title: str) -> str:
    facts = report.facts
    counts = ", ".join(
        f'<span class="severity {level.word}">{plural(report.number(level), level.word)}</span>'
        for level in sorted(Severity, reverse=True)
    )
    return (
        f"<header>{shell.demo_banner(facts['demo'], DEMO)}"
        f'<p class="over">skelgraph data check</p><h1>{escape(title)}</h1>'
        f'<p class="sub">{facts["clips"]} clips · topology {escape(facts["topology"])} · {facts["dims"]}-D, '
        f"{escape(facts['units'] or 'unit unknown')} · {facts['frames']['min']} to {facts['frames']['max']} frames</p>"
        f'<p class="sub">{counts}</p></header>'
    )


# ---- what was found ------------------------------------------------------------------------------------------------


def _overview(report: CheckReport) -> str:
    rows = "".join(_row(report, tallies) for tallies in report.by_code())
    if not rows:
        return '<section><h2>What was found</h2><p class="note">Nothing: every check is clear.</p></section>'
    return (
        '<section><h2>What was found</h2><table class="findings"><thead><tr><th scope="col">Check</th>'
        '<th scope="col" class="n">Clips</th><th scope="col" class="n">Findings</th></tr></thead>'
        f'<tbody>{rows}</tbody></table><p class="note">Error: figures measured on these data would be wrong, or '
        "training would fail. Warning: look at it. Note: know it.</p></section>"
    )


def _row(report: CheckReport, tallies: Sequence[Tally]) -> str:
    first, worst = tallies[0], tallies[0].worst()[0]
    where = where_found(tallies)
    return (
        f'<tr><th scope="row"><p><span class="severity {first.severity.word}">{first.severity.word}</span> '
        f"<code>{escape(first.code)}</code></p><p>{escape(report.titles[first.code])}</p>"
        f"{f'<p><small>{escape(where)}</small></p>' if where else ''}"
        f"<p><small>{escape(worst.advice)}</small></p></th>"
        f'<td class="n">{max(tally.clips for tally in tallies) or "–"}</td>'
        f'<td class="n">{sum(tally.findings for tally in tallies)}</td></tr>'
    )


# ---- the worst clips -----------------------------------------------------------------------------------------------


def _details(report: CheckReport, store: Store) -> Iterator[str]:
    """One section a check: its worst findings in words, and as moving skeletons."""
    rows = {name: row for row, name in enumerate(store.names)}
    for tallies in report.by_code():
        first = tallies[0]
        worst = first.worst()
        once: dict[str, Finding] = {}
        for finding in worst:
            once.setdefault(finding.clip or finding.message, finding)
        apart = list(once.values())[:LISTED]
        listed = "".join(f"<li>{escape(in_words(finding))}</li>" for finding in apart)
        more = f'<p class="note">{first.findings - len(apart)} more.</p>' if first.findings > len(apart) else ""
        protocol = f" <small>split {escape(first.protocol)}</small>" if first.protocol else ""
        yield (
            f'<section><h2><span class="severity {first.severity.word}">{first.severity.word}</span> '
            f"{escape(first.code)}{protocol}</h2><p>{escape(report.titles[first.code])}</p>"
            f'<ul class="worst">{listed}</ul>{more}{_cards(worst, store, rows)}</section>'
        )


def _cards(worst: Sequence[Finding], store: Store, rows: dict[str, int]) -> str:
    """The clips of the worst findings, each clip once, a copy beside what it is a copy of."""
    chosen: list[tuple[Finding, str]] = []
    for finding in worst:
        names = [finding.clip, *finding.others[:1]]
        fresh = [name for name in names if name in rows and name not in {shown for _, shown in chosen}]
        if finding.clip in fresh and len(chosen) + len(fresh) <= CARDS:
            chosen += [(finding, name) for name in fresh if name is not None]
    if not chosen:
        return ""
    edges, joints = skeletons.sides(store.topology), len(store.topology.joints)
    drawings, cards = [], []
    for finding, name in chosen:
        clip, own = store[rows[name]], name == finding.clip
        joint = store.topology.index(finding.joint) if finding.joint and own else None
        drawing = skeletons.draw(clip, store.meta.up, finding.frame if own else None, finding.person, joint)
        picture = skeletons.still(drawing, edges, joints, f"Skeleton of clip {name}")
        drawings.append(drawing)
        cards.append(f'<figure class="card">{picture}{_caption(finding, clip, store, own)}</figure>')
    terms = " ".join(f"{word}: {escape(text)}." for word, text in (("Source", store.meta.source),) if text)
    note = f"Joints as stored; a ring marks the joint, and the frames are those around the finding. {terms}"
    data = skeletons.script_data(drawings, edges, joints)
    return skeletons.section("Worst clips", f'<div class="cards">{"".join(cards)}</div>', data, note)


def _caption(finding: Finding, clip: Clip, store: Store, own: bool) -> str:
    label = "no label" if clip.label is None else store.classes[clip.label]
    where = f"{finding.joint}: " if finding.joint else ""
    message = where + finding.message if own else f"the clip that '{finding.clip}' is held against"
    frame = f", frame {finding.frame}" if own and finding.frame is not None else ""
    return (
        f'<figcaption><span class="answer">{escape(message)}</span><span class="truth">{escape(label)}</span>'
        f'<span class="clip">{escape(clip.name)} · {plural(clip.frames, "frame")}{frame}</span></figcaption>'
    )


# ---- counts --------------------------------------------------------------------------------------------------------


def _joints(report: CheckReport, store: Store) -> str:
    """How often each joint was found by each check."""
    tallies = [tally for tally in report.tallies if tally.joints]
    if not tallies:
        return ""
    heads = "".join(f'<th scope="col" class="n">{escape(tally.code)}</th>' for tally in tallies)
    rows = "".join(
        f'<tr><th scope="row">{escape(joint)}</th>'
        + "".join(f'<td class="n">{tally.joints[joint] or "–"}</td>' for tally in tallies)
        + "</tr>"
        for joint in store.topology.joints
        if any(tally.joints[joint] for tally in tallies)
    )
    return (
        '<section><h2>Joints</h2><p class="note">Findings at each joint; joints without any are left out.</p>'
        f'<div class="scroll"><table class="counts"><thead><tr><th scope="col">Joint</th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _classes(report: CheckReport) -> str:
    """Clips of each class in each part of each split."""
    names = list(report.facts["classes"])
    tables: list[str] = []
    for protocol, parts in report.counts.items():
        heads = "".join(f'<th scope="col" class="n">{escape(part)}</th>' for part in parts)
        rows = "".join(
            f'<tr><th scope="row">{escape(name)}</th>'
            + "".join(f'<td class="n">{counts[place]}</td>' for counts in parts.values())
            + "</tr>"
            for place, name in enumerate(names)
        )
        tables.append(
            f"<details{'' if tables else ' open'}><summary>{escape(protocol)}</summary><div class=scroll>"
            f'<table class="counts"><thead><tr><th scope="col">Class</th>{heads}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div></details>"
        )
    return f"<section><h2>Clips of each class</h2>{''.join(tables)}</section>" if tables else ""


def _settings(report: CheckReport) -> str:
    settings = "\n".join(
        f"{name}.{key}={value:g}" for name, keys in sorted(report.thresholds.items()) for key, value in keys.items()
    )
    clear = ", ".join(f"<code>{escape(name)}</code>" for name in sorted(report.clear)) or "none"
    return (
        f'<section><h2>What was looked for</h2><p class="note">Clear: {clear}.</p>'
        "<details><summary>Thresholds</summary><pre><code>"
        f"{escape(settings)}</code></pre></details>"
        f'<p class="note">Checked in {report.seconds:.1f} s; content {escape(report.facts["content_hash"])}.</p>'
        "</section>"
    )
