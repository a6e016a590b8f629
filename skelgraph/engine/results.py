"""Runs of several seeds as one row, and one study against another.

Runs whose resolved recipes are equal apart from the seed form a group. Of a group come mean, sample standard deviation
and 95 % interval (see `skelgraph.engine.intervals`); groups tested on the same clips are compared with the first one,
paired by clip.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from skelgraph.engine import class_groups, headline, intervals
from skelgraph.engine.headline import TITLES, Headline
from skelgraph.engine.intervals import Answers
from skelgraph.engine.run_folder import Run
from skelgraph.errors import UserError

WORDS_ONLY = ("title", "needs", "published", "demo")
SHOWN_SETTINGS = 4
Limits = tuple[float, float]


@dataclass
class Figure:
    """One test figure of a group.

    Attributes:
        stage, metric: ``stage/metric`` of the runs.
        unit: ``%`` or ``nats``.
        values: of each run.
        mean, sd: over the runs; sd is None for one run.
        interval: 95 % interval of the mean; None where the answers of the clips are not there.
        chance, published: see `skelgraph.engine.headline`.
        test_clips, split: what was tested.
        train_clips, parameters: of the trained stage that was tested; None where it is of another run.
        difference, difference_interval: to the first group; None where the test clips differ.
    """

    stage: str
    metric: str
    unit: str
    values: list[float]
    mean: float
    sd: float | None
    interval: Limits | None
    chance: float | None
    published: float | None
    test_clips: int
    split: str
    train_clips: int | None
    parameters: int | None
    difference: float | None = None
    difference_interval: Limits | None = None


@dataclass
class Group:
    """Runs of one recipe with different seeds."""

    name: str
    settings: str
    demo: bool
    runs: list[Run]
    figures: list[Figure] = field(default_factory=list)
    answers: dict[str, list[Answers]] = field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        """Of the runs, in order."""
        return [int(run.about["seed"]) for run in self.runs]

    @property
    def protocols(self) -> list[str]:
        """Of the runs, in order; several where the class order of a long tail follows the seed."""
        return [str(run.recipe["data"].get("protocol")) for run in self.runs]

    @property
    def title(self) -> str:
        """The recipe's name and what sets this group apart from others of that name."""
        return f"{self.name} ({self.settings})" if self.settings else self.name


@dataclass
class Results:
    """What `collect` found: groups in the order given, and runs left out with the reason."""

    groups: list[Group]
    left_out: list[tuple[Path, str]]


def collect(paths: Iterable[str | os.PathLike[str]]) -> Results:
    """Group finished runs and compute their figures; the first group is the baseline of the comparisons.

    Args:
        paths: run folders, or folders that hold some at any depth.

    Raises:
        UserError: no run there, or none that is finished.
    """
    finished, left_out = [], []
    for path in dict.fromkeys(item.resolve() for given in paths for item in find_runs(Path(given))):
        run = Run(path)
        if run.finished:
            finished.append(run)
        else:
            left_out.append((path, "not finished"))
    grouped: dict[str, dict[int, Run]] = {}
    for run, key in zip(finished, _keys(finished), strict=True):
        seeds = grouped.setdefault(key, {})
        seed = int(run.about["seed"])
        if seed in seeds:
            left_out.append((run.path, f"the same recipe and seed as {seeds[seed].path}"))
        else:
            seeds[seed] = run
    if not grouped:
        raise UserError("no finished run: " + "; ".join(f"{path}: {why}" for path, why in left_out) + ".")
    sets = [[seeds[seed] for seed in sorted(seeds)] for seeds in grouped.values()]
    groups = [
        Group(runs[0].recipe["name"], settings, headline.is_demo(runs[0]), runs)
        for runs, settings in zip(sets, distinctions([runs[0].recipe for runs in sets]), strict=True)
    ]
    for group in groups:
        _fill(group)
        if group is not groups[0]:
            _compare(group, groups[0])
    return Results(groups, left_out)


def find_runs(path: Path) -> list[Path]:
    """The run folder itself, or those below it.

    Raises:
        UserError: there is none.
    """
    if (path / "run.json").is_file():
        return [path]
    found = sorted(file.parent for file in path.glob("**/run.json")) if path.is_dir() else []
    if not found:
        raise UserError(f"{path}: no run here (no run.json in it or below it).")
    return found


def identity(run: Run) -> str:
    """Equal for runs that differ in nothing but the seed."""
    recipe = _without_seeds(run.recipe)
    return json.dumps([list(recipe["stages"]), recipe, bool(run.about.get("demo"))], sort_keys=True)


def _keys(runs: Sequence[Run]) -> list[str]:
    """`identity` of each run; where the class order of a long tail follows the seed in all runs, it is part of that.

    ``v23_v1_lt10_order3`` in the run of seed 3; see `skelgraph.data.longtail`.
    """
    alike = [re.sub(r"(?<=_order)\d+(?=\")", "SEED", identity(run)) for run in runs]
    follows = [str(run.recipe["data"].get("protocol")).endswith(f"_order{run.recipe.get('seed')}") for run in runs]
    fixed = {key for key, with_seed in zip(alike, follows, strict=True) if not with_seed}
    return [identity(run) if key in fixed else key for run, key in zip(runs, alike, strict=True)]


def _without_seeds(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe without seeds and without what changes no number."""
    plain = {key: value for key, value in recipe.items() if key not in ("seed", *WORDS_ONLY)}
    stages = {
        name: {**stage, "data": {key: value for key, value in (stage.get("data") or {}).items() if key != "label_seed"}}
        for name, stage in plain["stages"].items()
    }
    data = {key: value for key, value in plain["data"].items() if key != "label_seed"}
    return {**plain, "data": data, "stages": stages}


def distinctions(recipes: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each recipe the settings in which those of the same name differ, as ``key=value``."""
    flat = []
    for recipe in recipes:
        shared = set.intersection(*(set(other["stages"]) for other in recipes if other["name"] == recipe["name"]))
        plain = _without_seeds(recipe)
        common = {name: stage for name, stage in plain["stages"].items() if name in shared}
        flat.append({**_flatten({**plain, "stages": common}), "stages": "+".join(plain["stages"])})
    result = []
    for own, recipe in zip(flat, recipes, strict=True):
        same = [other for other, item in zip(flat, recipes, strict=True) if item["name"] == recipe["name"]]
        keys = [key for key in sorted({key for other in same for key in other})
                if any(other.get(key) != own.get(key) for other in same)]  # fmt: skip
        shown = [f"{key.removeprefix('stages.')}={own.get(key, 'absent')}" for key in keys[:SHOWN_SETTINGS]]
        more = [f"{len(keys) - SHOWN_SETTINGS} more"] if len(keys) > SHOWN_SETTINGS else []
        result.append(" ".join(shown + more))
    return result


def _flatten(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, Mapping) or not data:
        return {prefix: data}
    found: dict[str, Any] = {}
    for key, value in data.items():
        found |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def _fill(group: Group) -> None:
    """Figures of a group, from all of its runs."""
    rows = [{(row.stage, row.metric): row for row in headline.headlines(run)} for run in group.runs]
    for stage in dict.fromkeys(stage for stage, _ in rows[0]):
        answers = [Answers.read(run.stage(stage)) for run in group.runs]
        whole = [item for item in answers if item is not None]
        if len(whole) == len(answers) and all(item.same_test(whole[0]) for item in whole):
            group.answers[stage] = whole
    for key, row in rows[0].items():
        same = [found[key] for found in rows if key in found]
        if len(same) == len(rows):
            group.figures.append(_figure(group, row, [item.value for item in same]))


def _figure(group: Group, row: Headline, values: list[float]) -> Figure:
    run = group.runs[0]
    result = run.stage(row.stage).result() or {}
    tested = str(result.get("tested"))
    # a fusion says itself what was trained: several networks, perhaps of other runs
    trained = (run.stage(tested).result() if tested in run.recipe["stages"] else result) or {}
    answers = group.answers.get(row.stage)
    return Figure(
        row.stage, row.metric, row.unit, values, float(np.mean(values)),
        float(np.std(values, ddof=1)) if len(values) > 1 else None,
        intervals.interval(answers, row.metric) if answers and row.metric in TITLES else None,
        row.chance, row.published, row.test_clips, row.split, trained.get("train_clips"), trained.get("parameters"),
    )  # fmt: skip


def _compare(group: Group, baseline: Group) -> None:
    """Differences to the baseline, where both were tested on the same clips."""
    others = {(item.stage, item.metric): item for item in baseline.figures}
    compared = intervals.difference
    if group.protocols == baseline.protocols and len(set(group.protocols)) > 1:
        compared = intervals.paired_difference
    for item in group.figures:
        other = others.get((item.stage, item.metric))
        own, base = group.answers.get(item.stage), baseline.answers.get(item.stage)
        if other is None or not own or not base or item.metric not in TITLES or not own[0].same_test(base[0]):
            continue
        item.difference = item.mean - other.mean
        item.difference_interval = compared(own, base, item.metric)


# ---- as text -------------------------------------------------------------------------------------------------------

COLUMNS = ("study", "stage", "figure", "mean ± sd", "95 % interval", "chance", "published", "seeds", "test clips",
           "train clips", "parameters", "− first study")  # fmt: skip


def rows(results: Results) -> list[tuple[str, ...]]:
    """Cells of the table, in the order of `COLUMNS`; a column that is empty for everybody is still there."""
    found: list[tuple[str, ...]] = []
    for group in results.groups:
        name = f"DEMO {group.title}" if group.demo else group.title
        for item in group.figures:
            digits = 1 if item.unit == "%" else 3
            mean = f"{item.mean:.{digits}f}" + ("" if item.sd is None else f" ± {item.sd:.{digits}f}")
            found.append((
                name, item.stage, f"{item.metric} ({item.unit})", mean, _between(item.interval, digits),
                _number(item.chance, digits), "–" if group.demo else _number(item.published, digits),
                str(len(group.runs)), str(item.test_clips), _whole(item.train_clips), _whole(item.parameters),
                _gap(item, digits),
            ))  # fmt: skip
    return found


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _whole(value: int | None) -> str:
    return "–" if value is None else str(value)


def _between(limits: Limits | None, digits: int) -> str:
    return "–" if limits is None else f"{limits[0]:.{digits}f} – {limits[1]:.{digits}f}"


def _gap(item: Figure, digits: int) -> str:
    if item.difference is None or item.difference_interval is None:
        return "–"
    low, high = item.difference_interval
    return f"{item.difference:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def notes(results: Results) -> list[str]:
    """What must be read with the table."""
    found = []
    if any(group.demo for group in results.groups):
        found.append("DEMO: generated motion, not people; these figures say nothing about real performance.")
    found.append(f"sd: sample standard deviation over seeds. {intervals.METHOD}")
    if len(results.groups) > 1:
        found.append("− first study: difference of means with its 95 % interval, paired by test clip, "
                     "and by seed where the class order of a long tail follows it; "
                     "“–” where the test clips differ.")  # fmt: skip
    if any(item.published is not None and not group.demo for group in results.groups for item in group.figures):
        found.append("published: by the paper, on the paper's data.")
    if any(item.metric in class_groups.GROUPS for group in results.groups for item in group.figures):
        found.append(class_groups.NOTE)
    return found + [f"left out: {path}: {why}" for path, why in results.left_out]


def markdown(results: Results) -> str:
    """The table and its notes as Markdown."""
    rule = ["---" if i < 3 else "---:" for i in range(len(COLUMNS))]
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "|".join(rule) + "|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows(results)]
    return "\n".join([*lines, "", *(f"{note}  " for note in notes(results))]).rstrip()


def as_data(results: Results) -> dict[str, Any]:
    """Everything as plain data for JSON."""
    return {
        "groups": [
            {
                "name": group.name, "settings": group.settings, "demo": group.demo, "seeds": group.seeds,
                "runs": [str(run.path) for run in group.runs], "figures": [asdict(item) for item in group.figures],
            }
            for group in results.groups
        ],
        "left_out": [{"run": str(path), "why": why} for path, why in results.left_out],
        "intervals": intervals.METHOD,
    }  # fmt: skip


def console_table(paths: Iterable[str | os.PathLike[str]]) -> str:
    """The results of run folders for a terminal."""
    return console(collect(paths))


def console(results: Results) -> str:
    """Results for a terminal: a small table for every study, so that none is wider than the screen."""
    import io

    from rich.console import Console

    text = io.StringIO()
    screen = Console(file=text, width=max(100, Console().width), highlight=False, markup=False)
    table_rows = iter(rows(results))
    for group in results.groups:
        screen.print(f"{'DEMO ' if group.demo else ''}{group.title}, {_counted(len(group.runs), 'seed')}")
        screen.print(_study_table([next(table_rows) for _ in group.figures]), "")
    for note in notes(results):
        screen.print(note)
    return text.getvalue().strip("\n")


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _study_table(cells: Sequence[tuple[str, ...]]) -> Any:
    """The rows of one study; columns that say the same in every row of a stage stand in the stage's own line."""
    from rich import box
    from rich.table import Table

    shown = [i for i in (2, 3, 4, 5, 6, 11) if any(row[i] != "–" for row in cells)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i in shown:
        table.add_column(COLUMNS[i], justify="left" if i == 2 else "right", no_wrap=True)
    for row in cells:
        table.add_row(f"{row[1]} {row[2]}", *(row[i] for i in shown[1:]))
    stages = dict.fromkeys((row[1], row[8], row[9], row[10]) for row in cells)
    said = [f"{stage}: {test} test clips, {train} training clips, {parameters} parameters"
            for stage, test, train, parameters in stages]  # fmt: skip
    table.caption, table.caption_justify = "\n".join(said), "left"
    return table
