"""The report of a contrastive run: similarities in the queue, positives around a key, the table of probes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import skelgraph as sg
from skelgraph.engine import report
from skelgraph.engine.report_contrastive import around_a_key, newest_first, similarities
from skelgraph.engine.run_folder import Run
from skelgraph.errors import UserError
from skelgraph.methods.sphere import unit


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny demo run with all kinds of tests."""
    small = [f"stages.{name}.{key}" for name in ("pretrain", "halp") for key in ("steps=4", "batch=8", "queue=16")]
    small += ["stages.halp.newest=16", "stages.halp.prototypes=4", "stages.linear.steps=2", "demo.clips=48"]
    few = "stages.few={method: supervised, model: '${stages.pretrain.model}', from: halp, steps: 2, batch: 8}"
    test = "stages.few_test={evaluate: [top1], from: few}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("report"))
        done = sg.run("halp_nwucla", [*small, few, test], demo=True)
        return Run(done.path.absolute())


def test_pictures_of_keys_and_positives(run: Run) -> None:
    page = run.report.read_text(encoding="utf-8")
    assert page.count("Similarity in the queue") == 2
    assert page.count("Hallucinated positives") == 1
    assert "newest 16 keys" in page


def test_the_table_of_probes(run: Run) -> None:
    page = run.report.read_text(encoding="utf-8")
    table = page.split("<h2>Probes</h2>")[1].split("</table>")[0]
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in table.split("<tr>")[2:]]
    assert [row[:3] for row in rows] == [["knn", "kNN", "halp"], ["test", "linear", "halp"],
                                         ["few_test", "fine-tuning", "halp"]]  # fmt: skip
    train = rows[0][3]
    assert int(train) > 16
    assert [row[3] for row in rows] == [train] * 3


def test_drawing_leaves_random_numbers_alone(run: Run) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = report.render(run), report.render(run)
    assert first == second
    assert torch.equal(before, torch.get_rng_state())


def test_keys_that_have_come() -> None:
    keys = torch.arange(8.0).unsqueeze(1)
    assert newest_first(keys, 3).flatten().tolist() == [2, 1, 0]
    assert newest_first(keys, 10).flatten().tolist() == [1, 0, 7, 6, 5, 4, 3, 2]
    assert similarities(keys[:1]) == ""


def test_lambda_zero_lies_further_from_the_key_than_lambda_one() -> None:
    torch.manual_seed(0)
    keys, centres = unit(torch.randn(30, 8)), unit(torch.randn(5, 8))

    def median(hardness: float) -> float:
        found = re.search(r"([\d.]+)° from it", around_a_key(keys, centres, {"hardness": hardness}))
        assert found is not None
        return float(found[1])

    assert median(0.0) > median(0.5) > median(1.0)


def test_a_collapsed_queue_is_seen() -> None:
    note = similarities(unit(torch.ones(20, 4) + 1e-3 * torch.randn(20, 4)))
    assert "mean 1.00, above 0.9: 100.0 %" in note


def test_a_damaged_file_is_a_plain_error(run: Run, tmp_path: Path) -> None:
    file = run.stage("pretrain").path / "exports.safetensors"
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[:50])
        with pytest.raises(UserError, match="damaged"):
            report.render(run)
    finally:
        file.write_bytes(whole)
