"""A recipe from beginning to end: folder, figures, resume, several processes, wrong use."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import skelgraph as sg
from skelgraph import recipe
from skelgraph.engine.callbacks import CsvLog
from skelgraph.engine.fit import Place
from skelgraph.engine.run_folder import Run, read_figures, read_tensors
from skelgraph.errors import UserError

TINY = """
name: tiny
title: a tiny study
topology: coco17
data: {{store: {store}, protocol: demo, frames: 8, persons: 1, transforms: {{jitter: {{sigma: 2.0}}, image: {{}}}}}}
stages:
  pretrain:
    method: masked
    model: {{name: skeletonmae, dim: 8, hidden: 8, layers: 1}}
    frames_per_clip: 4
    steps: 6
    batch: 8
    checkpoint_every: 2
  finetune:
    method: supervised
    model: {{name: strl, layers: 1, dim: 8, hidden: 8, encoder_layers: 1, dropout: 0.5}}
    from: pretrain
    steps: 9
    batch: 8
    checkpoint_every: 1
  test: {{evaluate: [top1, mean_class]}}
"""


@pytest.fixture
def tiny(tmp_path: Path, demo_clips: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe file in a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY.format(store=demo_clips), encoding="utf-8")
    return "tiny.yaml"


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "skelgraph.cli.main", *words]


def weights(run: Run, stage: str = "finetune") -> dict[str, torch.Tensor]:
    return read_tensors(run.stage(stage).path / "exports.safetensors")


def equal(first: Run, second: Run) -> bool:
    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_run_folder_holds_everything(tiny: str) -> None:
    run = sg.run(tiny)
    assert run.path == Path("runs/tiny/seed0")
    assert set(run.metrics) == {"test/top1", "test/mean_class"}
    assert run.report.is_file()
    assert run.recipe["stages"]["pretrain"]["steps"] == 6
    for stage in ("pretrain", "finetune"):
        folder = run.stage(stage).path
        assert (folder / "metrics.csv").read_text().startswith("step,figure,value")
        assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] >= 6
    scores = read_tensors(run.stage("test").path / "scores.safetensors")
    assert torch.allclose(scores["probabilities"].sum(1), torch.ones(len(scores["label"])))
    answers = (run.stage("test").path / "clips.csv").read_text().splitlines()
    assert len(answers) == 1 + len(scores["label"]) == 1 + run.stage("test").result()["test_clips"]


def test_same_seed_same_weights_other_seed_others(tiny: str) -> None:
    first, second, other = sg.run(tiny), sg.run(tiny), sg.run(tiny, seed=1)
    assert second.path.name == "seed0-2"
    assert equal(first, second)
    assert not equal(first, other)


def test_fine_tuning_starts_from_the_pre_trained_encoder(tiny: str) -> None:
    run = sg.run(tiny, ["stages.finetune.optimizer.lr=1e-12", "stages.finetune.steps=1"])
    encoder, tuned = weights(run, "pretrain"), weights(run)
    key = "encoder/0.lin1.weight"
    assert torch.allclose(encoder[key], tuned["backbone/layers.0.encoders.0.0.lin1.weight"], atol=1e-6)


def test_linear_probe_and_frozen_encoder_leave_what_was_learnt(tiny: str) -> None:
    same = "stages.finetune.model={name: skeletonmae, dim: 8, hidden: 8, layers: 1}"
    probe = sg.run(tiny, ["stages.finetune.method=linear_probe", same])
    before, after = weights(probe, "pretrain"), weights(probe)
    kept = {key for key in before if key.startswith("backbone/")}
    assert kept
    assert all(torch.equal(before[key], after[key]) for key in kept)
    assert probe.metrics["test/top1"] >= 0
    frozen = sg.run(tiny, ["stages.finetune.model.freeze_encoder=true"])
    before, after = weights(frozen, "pretrain"), weights(frozen)
    for key in (key for key in before if key.startswith("encoder/")):
        assert torch.equal(before[key], after[key.replace("encoder/", "backbone/layers.0.encoders.0.")])


def test_a_finished_stage_is_not_run_again(tiny: str, capfd: pytest.CaptureFixture[str]) -> None:
    sg.run(tiny, out="here")
    before = Path("here/stages/finetune/exports.safetensors").stat().st_mtime_ns
    with pytest.raises(UserError, match="holds a run already; go on with it by --resume"):
        sg.run(tiny, out="here")
    sg.run(tiny, out="here", resume=True)
    assert Path("here/stages/finetune/exports.safetensors").stat().st_mtime_ns == before
    assert "finetune: finished before" in capfd.readouterr().err


def test_kill_and_resume_equals_unbroken(tiny: str) -> None:
    """SIGKILL in the middle of an epoch; the same weights to the last bit."""
    unbroken = sg.run(tiny, ["stages.finetune.steps=40"], out="unbroken")
    words = command("run", tiny, "stages.finetune.steps=40", "--out", "broken")
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    checkpoint, limit = Path("broken/stages/finetune/last.ckpt"), time.monotonic() + 300
    while not checkpoint.is_file() and time.monotonic() < limit:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    step = torch.load(checkpoint, weights_only=True)["global_step"]
    per_epoch = len(sg.data.Store.open(unbroken.recipe["data"]["store"]).protocol("demo")["train"]) // 8
    assert 0 < step < 40
    assert not Path("broken/stages/finetune/done.json").exists()
    if step % per_epoch == 0:
        pytest.skip("the kill fell between two epochs")
    broken = sg.run(tiny, ["stages.finetune.steps=40"], out="broken", resume=True)
    assert equal(unbroken, broken)


def test_resume_in_every_phase_of_an_epoch(tiny: str) -> None:
    """The checkpoint of each step, taken as if the kill had come right after it."""
    unbroken = sg.run(tiny, out="unbroken")
    for stop in (1, 2, 3, 4, 5, 7):
        out = Path(f"stopped{stop}")
        part = sg.run(tiny, out=out)
        _cut(part, tiny, stop)
        again = sg.run(tiny, out=out, resume=True)
        assert equal(unbroken, again), f"resumed at step {stop}"


def _cut(run: Run, tiny: str, stop: int) -> None:
    """Make a finished run look as if it had been killed after ``stop`` steps of fine-tuning."""
    for name in ("finetune", "test"):
        (run.stage(name).path / "done.json").unlink()
    study = recipe.load(tiny)
    from skelgraph.engine import fit

    stage = fit.Fit(study, "finetune", run, fit.Place())
    kept = run.stage("finetune").path
    (kept / "last.ckpt").unlink()
    stage.train(run.stage("finetune"), stage.parts(False), False, stop)
    assert torch.load(kept / "last.ckpt", weights_only=True)["global_step"] == stop


@pytest.mark.parametrize("ending", ["", "2", "2,train_loss", "2,train_loss,", "2,train_loss,-", "\x00\x00"])
def test_a_line_that_a_kill_has_cut_is_passed_over(ending: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(f"step,figure,value\n0,train_loss,1.5\n1,val_loss,nan\n{ending}")
    (first, second) = read_figures(tmp_path / "metrics.csv")
    assert first == (0, "train_loss", 1.5)
    assert second[:2] == (1, "val_loss")
    CsvLog(tmp_path / "metrics.csv", 0)
    assert read_figures(tmp_path / "metrics.csv") == [first]


@pytest.mark.parametrize("kept", [0, 3000])
def test_a_damaged_checkpoint_is_named(tiny: str, kept: int) -> None:
    run = sg.run(tiny, out="damaged")
    _cut(run, tiny, 4)
    checkpoint = run.stage("finetune").path / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"last\.ckpt: damaged .* delete it to begin this stage again"):
        sg.run(tiny, out="damaged", resume=True)
    checkpoint.unlink()
    assert sg.run(tiny, out="damaged", resume=True).finished


def test_selection_by_holdout_and_refit(tiny: str) -> None:
    held = sg.run(tiny, ["protocol.selection=holdout", "stages.finetune.validate_every=3"], out="held")
    figures = held.stage("finetune").result()
    assert figures["validation_clips"] > 0
    assert figures["best_step"] in {3, 6, 9}
    assert {"test/top1", "test/last_top1"} <= set(held.metrics)
    refit = sg.run(tiny, ["protocol.selection=refit", "stages.finetune.validate_every=3"], out="refit")
    result = refit.stage("finetune").result()
    assert result["validation_clips"] == 0
    assert result["steps"] == result["chosen_on_validation"]["best_step"]


def test_no_test_clip_is_trained_or_validated_on(tiny: str) -> None:
    from skelgraph.engine import fit

    study = recipe.load(tiny, ["protocol.selection=holdout"])
    stage = fit.Fit(study, "finetune", Run(Path("none")), fit.Place())
    parts = stage.parts(True)
    groups = stage.clips.store.groups
    assert not set(parts.train) & set(parts.test)
    assert not set(parts.val) & set(parts.test)
    assert not {groups[i] for i in parts.val} & {groups[i] for i in parts.train}


def test_missing_data_says_what_to_get(tmp_path: Path) -> None:
    words = command("run", "skeletonmae_finegym")
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 2
    assert "gym_hrnet.pkl" in lines[0]
    assert "skelgraph data import finegym" in lines[0]
    assert lines[1].endswith("--demo")
    assert not (tmp_path / "runs").exists()


def test_unwritable_run_folder(tiny: str) -> None:
    Path("file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="cannot write the run here"):
        sg.run(tiny, out="file/run")


def test_resume_with_another_recipe_is_refused(tiny: str) -> None:
    sg.run(tiny, out="here")
    with pytest.raises(UserError, match="begun with another recipe or other overrides"):
        sg.run(tiny, ["data.frames=9"], out="here", resume=True)


def test_nan_loss_stops_at_the_step_and_keeps_the_checkpoint(tiny: str) -> None:
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step \d+ \(clips \d+"):
        sg.run(tiny, ["stages.finetune.optimizer={name: sgd, lr: 1e+30}", "stages.finetune.steps=30"], out="nan")
    assert Path("nan/stages/finetune/last.ckpt").is_file()
    assert not Path("nan/stages/finetune/done.json").exists()


def test_octopus_by_yaml_alone(tiny: str) -> None:
    """A new topology is one file: eight arms, the SkeletonMAE recipe, demo data."""
    arms = [f"arm{a}_{i}" for a in range(8) for i in range(3)]
    bones = {name: "mantle" if name.endswith("_0") else f"{name[:-1]}{int(name[-1]) - 1}" for name in arms}
    text = {"name": "octopus", "title": "Eight arms", "joints": ["mantle", *arms], "bones": bones, "root": "mantle",
            "center": ["mantle"], "source": "a test",
            "parts": {f"arm{a}": [f"arm{a}_{i}" for i in range(3)] for a in range(8)}}  # fmt: skip
    Path("octopus.yaml").write_text(json.dumps(text), encoding="utf-8")
    run = sg.run(
        "skeletonmae_finegym",
        ["topology=octopus.yaml", "stages.pretrain.mask_parts=[arm0, arm3]", "demo.clips=24", "demo.classes=3",
         "stages.pretrain.steps=2", "stages.finetune.steps=2", "stages.finetune.batch=8"],
        demo=True,
    )  # fmt: skip
    assert run.stage("finetune").card()["spec"]["topology"]["name"] == "octopus"
    assert run.metrics["test/top1"] >= 0


def test_two_processes_share_one_run_folder(tiny: str) -> None:
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29613", "-m",
             "skelgraph.cli.main", "run", tiny, "--out", "two", "--accelerator", "cpu", "--devices", "2",
             "--strategy", "ddp"]  # fmt: skip
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    run = Run.open("two")
    assert run.finished
    assert done.stdout.count("report: ") == 1
    steps = [row.split(",")[0] for row in (run.stage("pretrain").path / "metrics.csv").read_text().splitlines()]
    assert sorted(set(steps[1:])) == [str(step) for step in range(6)]
    with pytest.raises(UserError, match="must agree on the run folder"):
        sg.run(tiny, place=Place(devices=2))


@pytest.mark.parametrize("processes", [2])
def test_two_processes_equal_one(tmp_path: Path, processes: int) -> None:
    """Loss and gradients over gloo at the same global batch, batch norm frozen, float64."""
    script = Path(__file__).with_name("distributed_step.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for world, name in ((1, "one.pt"), (processes, "two.pt")):
        words = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={world}", "--master_port=29611",
                 str(script), str(tmp_path / name)]  # fmt: skip
        subprocess.run(words, check=True, env=environment, capture_output=True)
    one, two = torch.load(tmp_path / "one.pt"), torch.load(tmp_path / "two.pt")
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-10, atol=1e-12, msg=key)
    assert any(value.abs().max() > 1e-3 for key, value in one.items() if key.startswith("masked/grad"))


def test_wrong_devices_are_one_plain_error(tiny: str) -> None:
    with pytest.raises(UserError, match="--accelerator, --devices, --strategy or --nodes"):
        sg.run(tiny, place=Place(accelerator="abacus"))


def test_interrupt_says_how_to_go_on(tiny: str) -> None:
    words = command("run", tiny, "stages.finetune.steps=4000", "--out", "stopped")
    # A shell that runs the tests in the background lets its children ignore SIGINT; here it must be heard.
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # fmt: skip
    checkpoint, limit = Path("stopped/stages/finetune/last.ckpt"), time.monotonic() + 300
    while not checkpoint.is_file() and time.monotonic() < limit:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert "interrupted; go on with --resume" in process.communicate()[1]
    assert process.returncode == 130
    assert not Path("stopped/stages/finetune/done.json").exists()
