"""Groups of runs: mean, spread, intervals, paired comparison."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from skelgraph.cli.report import command as report_command
from skelgraph.cli.results import command as results_command
from skelgraph.engine import headline, intervals, results
from skelgraph.engine.evaluate import figures
from skelgraph.engine.intervals import Answers
from skelgraph.engine.run_folder import Run
from skelgraph.errors import UserError

MakeRun = Callable[..., Run]


def sample(clips: int, seed: int, skill: float, classes: int = 5) -> Answers:
    random = np.random.default_rng(seed)
    label = np.arange(clips) % classes
    logits = random.normal(size=(clips, classes))
    logits[np.arange(clips), label] += skill
    probabilities = torch.from_numpy(logits).softmax(-1).float().numpy()
    return Answers(tuple(f"{i:05d}" for i in range(clips)), label, probabilities, np.arange(clips))


@pytest.mark.parametrize("metric", ["top1", "top5", "mean_class", "macro_f1", "loss"])
def test_figure_is_that_of_evaluate(metric: str) -> None:
    answers = sample(203, 0, 1.0, classes=8)
    wanted = figures(torch.from_numpy(answers.probabilities), torch.from_numpy(answers.label), [metric])[metric]
    whole = np.ones((1, 203), np.float32)
    assert intervals.figure(answers, metric, whole)[0] == pytest.approx(wanted, rel=1e-5)


def test_interval_of_one_run_is_that_of_a_share() -> None:
    answers = sample(400, 1, 1.5)
    share = float((answers.answer == answers.label).mean())
    low, high = intervals.interval([answers], "top1")
    width = 100 * 2 * 1.96 * (share * (1 - share) / 400) ** 0.5
    assert low < 100 * share < high
    assert high - low == pytest.approx(width, rel=0.1)
    assert intervals.interval([answers], "top1") == (low, high)


def test_interval_covers_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs whose true accuracy varies by seed, tested on a drawn set of clips."""
    monkeypatch.setattr(intervals, "DRAWS", 300)
    random, hits, trials = np.random.default_rng(0), 0, 200
    names, label, row = tuple(map(str, range(80))), np.zeros(80, int), np.arange(80)
    for _ in range(trials):
        hard = random.normal(size=80)
        runs = []
        for level in random.normal(0.5, 0.3, size=3):
            right = level + hard + random.normal(size=80) > 0
            runs.append(Answers(names, label, np.stack([right, ~right], 1).astype(np.float32), row))
        low, high = intervals.interval(runs, "top1")
        truth = 100 * float(torch.distributions.Normal(0, 1).cdf(torch.tensor(0.5 / (2 + 0.09) ** 0.5)))
        hits += low <= truth <= high
    assert hits / trials > 0.92


def test_paired_difference_is_narrower_than_two_intervals() -> None:
    base = sample(300, 2, 1.0)
    better = Answers(base.names, base.label, base.probabilities.copy(), base.row)
    wrong = np.flatnonzero(better.answer != better.label)[:15]
    better.probabilities[wrong] = np.eye(5, dtype=np.float32)[better.label[wrong]]
    low, high = intervals.difference([better], [base], "top1")
    assert 0 < low < 5 < high < 9
    alone = intervals.interval([base], "top1")
    assert high - low < alone[1] - alone[0]


def test_seeds_form_a_group(make_run: MakeRun) -> None:
    runs = [make_run(seed=seed) for seed in (2, 0, 1)]
    found = results.collect([runs[0].path.parent])
    assert len(found.groups) == 1
    group = found.groups[0]
    assert (group.seeds, group.demo, group.settings) == ([0, 1, 2], True, "")
    item = next(item for item in group.figures if item.metric == "top1")
    values = [run.metrics["test/top1"] for run in sorted(runs, key=lambda run: run.about["seed"])]
    assert item.values == values
    assert item.mean == pytest.approx(np.mean(values))
    assert item.sd == pytest.approx(np.std(values, ddof=1))
    assert (item.train_clips, item.parameters, item.test_clips) == (340, 1_204_112, 96)
    assert item.interval is not None
    assert item.interval[0] < item.mean < item.interval[1]
    assert next(item for item in group.figures if item.metric == "last_top1").interval is None


def test_groups_are_compared_with_the_first(make_run: MakeRun) -> None:
    weak = make_run(seed=0, skill=1.0, folder="weak")
    stages = weak.recipe["stages"]
    stages["finetune"]["steps"] = 900
    strong = make_run(seed=0, skill=4.0, folder="strong", stages=stages)
    found = results.collect([weak.path, strong.path])
    assert [group.settings for group in found.groups] == ["finetune.steps=300", "finetune.steps=900"]
    first, second = (next(i for i in group.figures if i.metric == "top1") for group in found.groups)
    assert first.difference is None
    assert second.difference == pytest.approx(second.mean - first.mean)
    assert second.difference_interval is not None
    assert second.difference_interval[0] > 0


def test_a_stage_more_is_named_and_not_its_settings(make_run: MakeRun) -> None:
    recipe = make_run().recipe
    without = {**recipe, "stages": {name: recipe["stages"][name] for name in ("finetune", "test")}}
    other = {**without, "name": "other"}
    found = results.distinctions([recipe, without, other])
    assert found == ["stages=pretrain+finetune+test", "stages=finetune+test", ""]


def test_other_test_clips_are_not_compared(make_run: MakeRun, wide_store: Path) -> None:
    one, other = make_run(folder="a"), make_run(folder="b", store=wide_store)
    found = results.collect([one.path, other.path])
    assert all(item.difference is None for item in found.groups[1].figures)
    assert "where the test clips differ" in results.markdown(found)


def test_what_is_left_out_is_named(make_run: MakeRun) -> None:
    run, twin, open_run = make_run(folder="a"), make_run(folder="b"), make_run(seed=1, folder="c", finished=False)
    found = results.collect([run.path, twin.path, open_run.path, run.path])
    assert [len(group.runs) for group in found.groups] == [1]
    reasons = {path.parent.name: why for path, why in found.left_out}
    assert reasons["c"] == "not finished"
    assert "same recipe and seed" in reasons["b"]
    with pytest.raises(UserError, match="not finished"):
        results.collect([open_run.path])


def test_no_run_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="no run here"):
            results.collect([path])


def test_tables_say_demo_and_hide_published(make_run: MakeRun) -> None:
    run = make_run()
    text = results.markdown(results.collect([run.path]))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert "DEMO masked_demo" in text
    assert "91.8" not in text
    assert "DEMO: generated motion" in results.console_table([run.path])


def test_published_figure_belongs_to_one_evaluation(make_run: MakeRun, plain_store: Path) -> None:
    run = make_run(demo=False, store=plain_store)
    assert [row.published for row in headline.headlines(run) if row.metric == "mean_class"] == [91.8]
    done = {"probe": {"metrics": {"top1": 1}}, "test": {"metrics": {"top1": 2}}}
    recipe = {"published": {"top1": 80.0, "probe/top1": 70.0}}
    assert headline.published(recipe, done, "probe", "top1") == 70.0
    assert headline.published(recipe, done, "test", "top1") == 80.0
    assert "91.8" in results.markdown(results.collect([run.path]))


def test_chance() -> None:
    result = {"chance": 50.0, "confusion": [[2, 0, 1], [1, 2, 0], [0, 0, 0]]}
    assert headline.chance("top1", result) == 50.0
    assert headline.chance("mean_class", result) == 50.0
    assert headline.chance("top5", result) == 100.0
    assert headline.chance("loss", result) == pytest.approx(np.log(3))
    assert headline.chance("macro_f1", result) is None


def test_commands(make_run: MakeRun) -> None:
    run = make_run()
    shell = CliRunner()
    data = json.loads(shell.invoke(results_command, [str(run.path), "--json"]).output)
    assert data["groups"][0]["seeds"] == [0]
    assert shell.invoke(results_command, [str(run.path), "--md"]).output.startswith("| study |")
    answer = shell.invoke(report_command, [str(run.path)])
    assert answer.output.strip() == str(run.report)
    assert run.report.is_file()
    several = shell.invoke(report_command, [str(run.path), str(run.path)])
    assert isinstance(several.exception, UserError)
    assert "two finished runs" in str(several.exception)


def test_a_class_order_that_follows_the_seed_is_part_of_it(make_run: MakeRun) -> None:
    """Seeds 0 and 1 in their own class orders are one study; seeds 0 and 1 in order 1 are one, and not split in two."""

    def groups(folder: str, protocol: str) -> list[list[int]]:
        runs = []
        for seed in (0, 1):
            run = make_run(seed=seed, folder=folder)
            recipe = run.recipe
            recipe["data"]["protocol"] = protocol.format(seed)
            (run.path / "recipe.json").write_text(json.dumps(recipe))
            runs.append(run.path)
        return [group.seeds for group in results.collect(runs).groups]

    assert groups("own", "p_lt10_order{}") == [[0, 1]]
    assert groups("fixed", "p_lt10_order1") == [[0, 1]]
    assert groups("other", "p_lt{}") == [[0], [1]]
