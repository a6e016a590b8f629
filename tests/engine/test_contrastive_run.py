"""Contrastive stages through the engine: hand-over, resume, wrong settings, NaN, several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import skelgraph as sg
from skelgraph import recipe
from skelgraph.engine.fit import Fit, Place
from skelgraph.engine.run_folder import Run, read_tensors
from skelgraph.errors import UserError

TINY = """
name: tiny
title: a tiny contrastive study
topology: coco17
data: {{store: {store}, protocol: demo, frames: 8, persons: 1, transforms: {{image: {{}}, jitter: {{sigma: 0.05}}}}}}
stages:
  moco:
    method: moco
    model: &encoder {{name: gru, hidden: 6, layers: 2}}
    queue: 16
    dim: 8
    steps: 4
    batch: 8
    checkpoint_every: 1
  halp:
    method: halp
    model: *encoder
    from: moco
    queue: 16
    dim: 8
    prototypes: 4
    newest: 12
    positives: 5
    refresh: 3
    steps: 8
    batch: 8
    checkpoint_every: 1
  probe: {{method: linear_probe, model: *encoder, from: halp, steps: 3, batch: 8}}
  test: {{evaluate: [top1]}}
"""


@pytest.fixture
def tiny(tmp_path: Path, demo_clips: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe file in a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY.format(store=demo_clips), encoding="utf-8")
    return "tiny.yaml"


def exports(run: Run, stage: str) -> dict[str, Tensor]:
    return read_tensors(run.stage(stage).path / "exports.safetensors")


def figures(run: Run, stage: str) -> list[tuple[int, str, float]]:
    rows = (run.stage(stage).path / "metrics.csv").read_text().splitlines()[1:]
    return [(int(step), name, float(value)) for step, name, value in (row.split(",") for row in rows)]


def test_halp_goes_on_where_moco_ended(tiny: str) -> None:
    run = sg.run(tiny)
    before, after = exports(run, "moco"), exports(run, "halp")
    assert int(before["contrastive/whole.queue.seen.value"]) == 32
    assert int(after["contrastive/whole.queue.seen.value"]) == 32 + 64
    assert int(after["prototypes/whole.age.value"]) == 2
    logged = figures(run, "halp")
    assert {name for _, name, _ in logged} >= {"train_loss", "train_loss_nce", "train_loss_halp", "train_kept",
                                               "train_reach", "train_similarity"}  # fmt: skip
    assert all(value != 0 for _, name, value in logged if name == "train_loss_halp")
    backbone = {key for key in after if key.startswith("backbone/")}
    probed = exports(run, "probe")
    assert backbone
    assert all(torch.equal(after[key], probed[key]) for key in backbone)
    assert run.metrics["test/top1"] >= 0
    first = Fit(recipe.load(tiny), "halp", run, Place()).build().state_dict()
    assert all(torch.equal(first["branches." + key.removeprefix("contrastive/")], value)
               for key, value in before.items() if key.startswith("contrastive/"))  # fmt: skip


@pytest.mark.parametrize("stage", ["moco", "halp"])
def test_a_resumed_run_equals_an_unbroken_one(tiny: str, stage: str) -> None:
    """The checkpoint after each of some steps, taken as if the kill had come right after it."""
    unbroken = sg.run(tiny, out="unbroken")
    for stop in (1, 3) if stage == "moco" else (1, 3, 4, 7):
        part = sg.run(tiny, out=f"stopped{stop}")
        cut(part, tiny, stage, stop)
        again = sg.run(tiny, out=f"stopped{stop}", resume=True)
        for name in ("moco", "halp"):
            one, two = exports(unbroken, name), exports(again, name)
            assert one.keys() == two.keys()
            assert not [key for key in one if not torch.equal(one[key], two[key])], (stop, name)


def cut(run: Run, text: str, stage: str, stop: int) -> None:
    """Make a finished run look as if it had been killed after ``stop`` steps of a stage."""
    names = list(run.recipe["stages"])
    for name in names[names.index(stage) :]:
        (run.stage(name).path / "done.json").unlink()
    fit = Fit(recipe.load(text), stage, run, Place())
    kept = run.stage(stage).path / "last.ckpt"
    kept.unlink()
    fit.train(run.stage(stage), fit.parts(False), False, stop)
    assert torch.load(kept, weights_only=True)["global_step"] == stop


@pytest.mark.parametrize(
    ("overrides", "message"),
    [(["stages.moco.queue=400"], "queue of 400 keys is larger than the .* training clips"),
     (["stages.moco.batch=6"], "6 keys a step do not divide the queue of 16"),
     (["stages.halp.prototypes=13"], "12 keys .newest. cannot have 13 centres"),
     (["stages.halp.dim=9"], "same queue, dim, projection and streams"),
     (["stages.halp.model.hidden=7"], "weights do not fit Recurrent")],
)  # fmt: skip
def test_wrong_settings_end_before_training(tiny: str, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sg.run(tiny, overrides, out="wrong")


def test_a_loss_that_is_no_number_stops_at_its_step(tiny: str) -> None:
    """Names each clip once though it is there in two views, and keeps the checkpoint before it, queue and all."""
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step \d+ \(clips \d+") as caught:
        sg.run(tiny, ["stages.moco.optimizer={name: sgd, lr: 1e+30}", "stages.moco.steps=30"], out="nan")
    clips = str(caught.value).split("clips ")[1].split(" ...")[0].split(", ")
    assert len(clips) == len(set(clips)) == 8
    state = torch.load("nan/stages/moco/last.ckpt", weights_only=True)["state_dict"]
    assert torch.isfinite(state["branches.whole.queue.keys"]).all()
    assert not Path("nan/stages/moco/done.json").exists()


def test_several_streams_pretrain_and_are_probed(tiny: str) -> None:
    model = "{name: multi_stream, base: {name: gru, hidden: 6, layers: 1}, streams: [joint, joint_motion, bone]}"
    run = sg.run(tiny, [f"stages.{stage}.model={model}" for stage in ("moco", "halp", "probe")])
    assert {name for _, name, _ in figures(run, "halp")} >= {"train_loss_distill", "train_loss_halp"}
    assert "test/top1" in run.metrics


def test_double_precision(tiny: str) -> None:
    """To the end of every kind of stage; the first loss is that of single precision."""
    double = [f"stages.{stage}.precision=64-true" for stage in ("moco", "halp", "probe")]
    same = ["protocol.selection=holdout", "protocol.validation=0.2", "data.transforms.jitter=null"]
    run, single = sg.run(tiny, [*double, *same], out="double"), sg.run(tiny, same, out="single")
    for stage in ("moco", "halp", "probe"):
        after = exports(run, stage)
        assert {tensor.dtype for tensor in after.values()} == {torch.float64, torch.int64}
    assert "test/top1" in run.metrics
    one, other = ({(step, name): value for step, name, value in figures(of, "moco")} for of in (run, single))
    assert one.keys() == other.keys()
    assert one == pytest.approx(other, rel=1e-4)


def test_holdout_validates_on_two_views(tiny: str) -> None:
    overrides = ["protocol.selection=holdout", "protocol.validation=0.2", "stages.halp.validate_every=4"]
    run = sg.run(tiny, overrides)
    assert {name for _, name, _ in figures(run, "halp")} >= {"val_loss", "val_loss_halp"}


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Losses, weights, queue and prototypes over gloo at the same global batch, batch norm frozen, float64."""
    script = Path(__file__).with_name("distributed_contrastive.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for world in (1, 2):
        words = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={world}", "--master_port=29617",
                 str(script), str(tmp_path / f"{world}.pt")]  # fmt: skip
        subprocess.run(words, check=True, env=environment, capture_output=True)
    saved: list[list[dict[str, Any]]] = [torch.load(tmp_path / f"{world}.pt") for world in (1, 2)]
    (one,), (two, other) = saved
    assert one.keys() == two.keys() == other.keys()
    assert int(one["two/prototypes.bone.age.value"]) == 2
    for key in one:
        assert torch.equal(two[key], other[key]), key
        torch.testing.assert_close(one[key], two[key], rtol=1e-9, atol=1e-11, msg=key)
    begin = one["one/loss0"]
    assert one["one/loss5"] != begin
