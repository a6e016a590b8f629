"""Measurements: what takes turns, what is counted, and what the tables say."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from skelgraph import recipe
from skelgraph.bench import CASES, Table, Timing, bench_stage, cost, stage, timing
from skelgraph.bench.timing import Spread, alternate, peak_megabytes
from skelgraph.bench.variants import Variant, parse
from skelgraph.cli.main import cli
from skelgraph.errors import UserError

QUICK = Timing(rounds=1, threads=1, turn=0.0)
TINY = """
name: tiny
needs: get it
topology: coco17
data: {{store: {store}, protocol: demo, frames: 8, persons: 1, transforms: {{jitter: {{sigma: 2.0}}, image: {{}}}}}}
stages:
  pretrain:
    method: masked
    model: {{name: skeletonmae, dim: 8, hidden: 8, layers: 1}}
    frames_per_clip: 4
    steps: 6
    batch: 8
  finetune:
    method: supervised
    model: {{name: strl, layers: 1, dim: 8, hidden: 8, encoder_layers: 1}}
    from: pretrain
    steps: 9
    batch: 100
  test: {{evaluate: [top1, mean_class]}}
demo: {{clips: 24, classes: 3}}
"""


@pytest.fixture
def tiny(tmp_path: Path, demo_clips: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe file in a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "STARTED", "pass")
    Path("tiny.yaml").write_text(TINY.format(store=demo_clips), encoding="utf-8")
    return "tiny.yaml"


def test_steps_take_turns_and_ratios_stay_within_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that slows down from round to round changes times and leaves ratios."""
    clock, calls = [0.0], []

    def step(name: str, cost: float) -> None:
        calls.append(name)
        clock[0] += cost * (1 + len(calls) // 2)

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(timing, "TURN_SECONDS", 0.0)
    found = alternate({"a": lambda: step("a", 1.0), "b": lambda: step("b", 2.0)}, Timing(rounds=4, turn=0.0))
    assert "".join(calls) == "abab" + "abba" * 2
    assert found["a"].ratio == Spread(1.0, 1.0, 1.0)
    assert 1.5 < found["b"].ratio.low <= found["b"].ratio.high < 2.6
    assert found["a"].calls.low < found["a"].calls.median < found["a"].calls.high
    assert found["a"].first == 1.0
    assert Spread.of([5.0, 1.0, 3.0]) == Spread(3.0, 2.0, 4.0)


def test_a_multiply_accumulate_is_two_flops() -> None:
    layer = nn.Linear(3, 4)
    assert cost.forward_flops(layer, torch.zeros(5, 3)) == 2 * 5 * 3 * 4
    assert cost.size(layer) == cost.Size(16, 64e-6)


def test_attention_is_counted() -> None:
    """Four maps of n tokens and two products of all pairs; deformable attention has fewer pairs."""
    table = CASES.create("deformable-attention", QUICK, size=[4, 4, 4], width=32)
    full, deformable = (row["GFLOPs"] for row in table.rows)
    tokens = 4 * 4 * 4 + 2
    assert full * 1e9 == pytest.approx(2 * 4 * tokens * 32**2 + 4 * tokens**2 * 32)
    assert 0 < deformable < full


def test_peak_memory() -> None:
    kept = torch.ones(1)

    def step() -> None:
        kept.add_(torch.ones(25_000_000).sum())

    found = peak_megabytes(step, torch.device("cpu"))
    if found is None:
        pytest.skip("no /proc/self/clear_refs here")
    assert 90 < found < 140


def test_variants() -> None:
    usual = Variant("eager", precision="bf16")
    assert parse(None, usual) == [usual]
    assert parse("pyg,compiled+fp32", usual) == [
        Variant("pyg", "eager", "bf16", "pyg"), Variant("compiled+fp32", "compiled", "fp32", "dense")
    ]  # fmt: skip
    for text, message in (
        ("eager,compild", "Did you mean 'compiled'"), ("fp32+bf16", "exclude each other"), ("pyg,pyg", "named twice"),
        ("eager,bf16", "named twice"), ("", "unknown variant ''"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            parse(text, usual)


def test_a_stage(tiny: str) -> None:
    """Training and inference of every variant, with the recipe's batch although there are fewer clips."""
    words = ["bench", tiny, "--compare", "fp32,bf16,pyg", "--rounds", "1", "--threads", "1", "--json", "out.json"]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    found = json.loads(Path("out.json").read_text(encoding="utf-8"))
    names = [f"{kind}, {variant}" for kind in ("training", "inference") for variant in ("fp32", "bf16", "pyg")]
    assert [row["what"] for row in found["rows"]] == names
    assert all(name in done.output for name in (*names, "MACs a clip, inference (M)", "start-up (s)"))
    facts = found["facts"]
    assert facts["clips a step"] == 100
    assert facts["FLOPs a clip, inference (M)"] == 2 * facts["MACs a clip, inference (M)"] > 0
    assert facts["FLOPs a clip, training (M)"] > 2 * facts["FLOPs a clip, inference (M)"]
    assert "demo clips" not in done.output
    for row in found["rows"]:
        assert row["clips/s"]["median"] == pytest.approx(100e3 / row["step (ms)"]["median"])
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["out.json", tiny]


def test_without_data_demo_clips_stand_in(tiny: str) -> None:
    found = bench_stage(tiny, ["data.store=absent"], stage="pretrain", timing=QUICK)
    assert "stage pretrain: masked, skeletonmae" in found.title
    assert found.facts["classes"] == 0
    assert any("demo clips" in note for note in found.notes)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["brl_nwucla_lt10", "halp_nwucla", "deformable3d_utdmhad", "mmixer_utdmhad"])
def test_methods_and_modalities(name: str, tiny: str) -> None:
    study = recipe.load(name, demo=True)
    for fit in study.fit_stages():
        assert len(bench_stage(name, stage=fit, demo=True, timing=QUICK).rows) == 2


@pytest.mark.slow
def test_compiled(tiny: str) -> None:
    found = bench_stage(tiny, compare="eager,compiled", timing=QUICK)
    assert [row["what"] for row in found.rows if "compiled" in str(row["what"])] == [
        "training, compiled", "inference, compiled"
    ]  # fmt: skip


def test_models() -> None:
    table = CASES.create("models", QUICK, only="s[tk]*", frames=8, persons=1, batch=1, topology="coco17", channels=2)
    assert {"stgcn", "stgcnpp", "strl", "skeletonmae"} <= {row["model"] for row in table.rows}
    assert all(row["parameters"] > 0 and row["MACs a clip (M)"] > 0 for row in table.rows)
    assert torch.get_num_threads() == 1
    with pytest.raises(UserError, match="no model goes with these clips: psumnet: topology 'hand22': unknown part"):
        CASES.create("models", QUICK, only="psum*", topology="hand22")


@pytest.mark.parametrize(
    ("name", "settings", "rows"),
    [
        ("halp-overhead", {"queue": 64, "refresh": 2}, ["MoCo", "HaLP"]),
        ("recurrent-encoder", {}, ["loop over frames", "fused"]),
    ],
)
def test_cases(name: str, settings: dict[str, int], rows: list[str]) -> None:
    table: Table = CASES.create(name, QUICK, hidden=16, batch=4, frames=8, **settings)
    assert [row["what"] for row in table.rows] == rows
    assert rows[1] in table.text()
    assert table.rows[1]["FLOPs / first"] >= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "unknown recipe 'nothing'"),
        (["models", "only=x*"], "no model is called 'x*'"),
        (["models", "--compare", "fp32"], "are for recipes and runs"),
        (["halp-overhead", "hiden=3"], "Did you mean 'hidden'"),
        (["halp-overhead", "hidden"], "write key=value"),
        (["deformable-attention", "size=7"], "write three whole numbers"),
        (["tiny.yaml", "--stage", "test"], "unknown training stage 'test'"),
        (["tiny.yaml", "--device", "tpu9"], "--device tpu9"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes(words: list[str], message: str, tiny: str) -> None:
    result = CliRunner().invoke(cli, ["bench", *words])
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
