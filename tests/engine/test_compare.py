"""Several runs on one page, and McNemar's test."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from skelgraph.cli.main import cli
from skelgraph.engine import report_compare, results
from skelgraph.engine.intervals import Answers
from skelgraph.engine.mcnemar import holm, mcnemar, two_sided
from skelgraph.engine.run_folder import Run
from skelgraph.errors import UserError

MakeRun = Callable[..., Run]


def said(answers: list[int], label: list[int]) -> Answers:
    count = len(label)
    return Answers(
        tuple(f"c{i}" for i in range(count)), np.array(label), np.eye(3, dtype=np.float32)[answers], np.arange(count)
    )


def test_exact_p_is_that_of_the_binomial() -> None:
    binomtest = pytest.importorskip("scipy.stats").binomtest
    for first, second in ((0, 0), (0, 5), (3, 3), (4, 9), (36, 43), (33, 63), (700, 900)):
        expected = binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
        assert two_sided(first, second) == pytest.approx(expected, rel=1e-9)


def test_clips_are_counted_by_who_is_right() -> None:
    found = mcnemar(said([0, 1, 2, 0, 0], [0, 1, 2, 2, 1]), said([0, 0, 0, 2, 0], [0, 1, 2, 2, 1]))
    assert (found.both, found.first, found.second, found.neither) == (1, 2, 1, 1)
    with pytest.raises(UserError, match="same clips"):
        mcnemar(said([0], [0]), said([0, 0], [0, 0]))


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_page_compares_and_needs_nothing_else(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(seed=seed, skill=skill, folder=name, name=name)
            for name, skill in (("weak", 1.0), ("strong <b>", 4.0)) for seed in (0, 1)]  # fmt: skip
    out = tmp_path / "both.html"
    done = CliRunner().invoke(cli, ["report", *(str(run.path) for run in runs), "-o", str(out)])
    assert done.exit_code == 0, done.exception
    page = out.read_text(encoding="utf-8")
    assert len(page) < 5e6
    assert not re.search(r'(?:src|href)="|url\(', page)
    for words in ("DEMO DATA", "McNemar", "p, Holm", "strong &lt;b&gt;", "default, test", "wave &lt;left&gt;",
                  "skelgraph run recipes/masked_demo.yaml --demo --seed 1", "lightning"):  # fmt: skip
        assert words in page, words
    assert "strong <b>" not in page
    pairs = report_compare.pairs(results.collect([run.path for run in runs]))
    assert [(item.first[-6:], item.second[-6:]) for item in pairs] == [("seed 0", "seed 0"), ("seed 1", "seed 1")]
    assert all(item.test.second > item.test.first and item.test.p < 0.01 for item in pairs)


def test_one_finished_run_is_no_comparison(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(seed=0), make_run(seed=1, finished=False)]
    with pytest.raises(UserError, match=r"two finished runs.*not finished"):
        report_compare.write([run.path for run in runs], tmp_path / "none.html")
