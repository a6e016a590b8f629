"""Figures of long-tailed runs: which classes they are of, where they are shown, and where they are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import skelgraph as sg
from skelgraph.engine import fuse, headline, intervals, report, report_tail, results
from skelgraph.engine.class_groups import GROUPS, classes_of, group_figures
from skelgraph.engine.intervals import Answers
from skelgraph.engine.run_folder import Run

MakeRun = Callable[..., Run]
COUNTS = [5, 300, 19, 100, 101, 20, 4]
BALANCED = [100, 98, 102, 97, 30, 90, 25]


def test_groups_by_both_rules_or_none_at_all() -> None:
    found = {name: group.tolist() for name, group in classes_of(COUNTS).items()}
    assert found == {
        "head_third": [1, 4], "medium_third": [3, 5], "tail_third": [0, 2, 6],
        "many_over_100": [1, 4], "medium_20_to_100": [3, 5], "few_under_20": [0, 2, 6],
    }  # fmt: skip
    assert "many_over_100" not in classes_of([90, 40, 10])
    for plain in (None, BALANCED, [5, 1], [2] * 8, []):
        assert classes_of(plain) == {}


def answers(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (40, 7) and labels without class 5."""
    chance = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 6, (40,), generator=chance)
    label[label == 5] = 6
    return (torch.randn(40, 7, generator=chance) + 1.5 * torch.eye(7)[label]).softmax(-1), label


def test_a_figure_is_the_mean_recall_of_the_tested_classes() -> None:
    probabilities, label = answers()
    hits = probabilities.argmax(-1) == label
    recall = {c: 100 * float(hits[label == c].double().mean()) for c in label.unique().tolist()}
    found = group_figures(probabilities, label, COUNTS)
    assert found["tail_third"] == pytest.approx(np.mean([recall[c] for c in (0, 2, 6)]))
    assert found["medium_third"] == pytest.approx(recall[3])
    assert group_figures(probabilities, label, BALANCED) == group_figures(probabilities, label, None) == {}
    only = label == 1
    assert set(group_figures(probabilities[only], label[only], COUNTS)) == {"head_third", "many_over_100"}


def test_intervals_resample_the_same_figure() -> None:
    probabilities, label = answers()
    names = tuple(f"{i:02d}" for i in range(40))
    given = Answers(names, label.numpy(), probabilities.numpy(), np.arange(40), tuple(COUNTS))
    found = group_figures(probabilities, label, COUNTS)
    for metric, value in found.items():
        assert intervals.figure(given, metric, np.ones((1, 40), np.float32))[0] == pytest.approx(value, abs=1e-4)
    low, high = intervals.interval([given], "tail_third")
    assert low < found["tail_third"] < high


def test_what_a_class_order_does_to_both_of_a_pair_is_no_spread() -> None:
    """Seeds of 90 and 50 % with the same gain of 5 points: paired it is found, unpaired it drowns."""

    def run(right: int) -> Answers:
        label = np.arange(400) % 4
        answer = np.where(np.arange(400) < right, label, (label + 1) % 4)
        names = tuple(f"{i:03d}" for i in range(400))
        return Answers(names, label, np.eye(4, dtype=np.float32)[answer], np.arange(400))

    ours, theirs = [run(380), run(218), run(300)], [run(360), run(202), run(280)]
    low, high = intervals.paired_difference(ours, theirs, "top1")
    wide = intervals.difference(ours, theirs, "top1")
    assert 0 < low < 14 / 3 < high
    assert wide[0] < -20
    least = intervals.detectable(ours, theirs, "top1")
    assert (high - low) / 2 < least < high - low
    assert intervals.paired_difference(ours[:1], theirs[:1], "top1")[0] > 0


def test_report_of_a_long_tail(make_run: MakeRun) -> None:
    text = report.write(make_run()).read_text(encoding="utf-8")
    for words in ("Recall against training clips", "Many, medium, few", "Head third of the classes",
                  "Few-shot classes (under 20)", "Confusion between thirds", "Where the tail goes"):  # fmt: skip
        assert words in text, words


def test_report_of_equal_classes_is_as_it_was(make_run: MakeRun) -> None:
    run = make_run()
    done = run.stage("finetune").path / "done.json"
    figures = json.loads(done.read_text()) | {"train_counts": [30] * 16}
    done.write_text(json.dumps(figures))
    text = report.write(run).read_text(encoding="utf-8")
    assert not [words for words in ("Many, medium, few", "Where the tail goes", "third") if words in text]


def test_where_the_tail_goes_names_the_takers() -> None:
    confusion = np.diag([5, 5, 5, 1]) + np.array([[0, 0, 0, 0]] * 3 + [[3, 0, 1, 0]])
    result = {"confusion": confusion.tolist(), "classes": ["a", "b", "c", "<d>"]}
    text = report_tail.sections(result, [50, 20, 9, 2], "split x, test")
    assert "&lt;d&gt;" in text
    assert "<td>a 3 <small>(50)</small>, c 1 <small>(9)</small></td>" in text
    assert "1 of 5" in text
    assert report_tail.sections(result, [50, 40, 30, 20], "") == report_tail.sections(result, None, "") == ""


def test_a_long_tailed_run_and_a_balanced_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the demo to done.json, results, page and fusion; nothing of it where classes are of equal size."""
    monkeypatch.chdir(tmp_path)
    tiny = ["demo.clips=72", "demo.classes=4", "data.protocol=p", "data.frames=8", "stages.train.steps=2"]
    runs = [sg.run("ce_nwucla_lt10", [*tiny, f"seed={seed}"], demo=True) for seed in (0, 1)]
    metrics = {name.removeprefix("test/") for name in runs[0].metrics}
    shown = {"head_third", "medium_third", "tail_third", "few_under_20"}
    assert metrics == {"top1", "mean_class", *shown}
    (row,) = [row for row in headline.headlines(runs[0]) if row.metric == "tail_third"]
    assert (row.title, row.unit, row.chance) == ("Tail third of the classes", "%", None)
    (group,) = (found := results.collect(run.path for run in runs)).groups
    assert group.seeds == [0, 1]
    assert all(figure.interval for figure in group.figures)
    assert "thirds of the classes" in results.markdown(found)
    assert "thirds of the classes" in runs[0].report.read_text(encoding="utf-8")
    data = fuse.as_data(fuse.fuse([run.path for run in runs], score="prob"))
    assert shown < set(data["metrics"])
    assert "tail_third" not in fuse.console(data)
    plain = sg.run("ce_nwucla_lt10", [*tiny, "demo.imbalance_factor=1"], demo=True, out="runs/plain")
    assert set(plain.metrics) == {"test/top1", "test/mean_class"}
    assert not set(GROUPS) & {
        figure.metric for group in results.collect([plain.path]).groups for figure in group.figures
    }
