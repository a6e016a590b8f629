"""A pose pickle in FineGym's form, through import and the very recipe: made of demo motion, 99 classes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import skelgraph as sg
from skelgraph.cli import main as cli
from skelgraph.data.synthetic import Demo

CLASSES = 99


def write_pickle(path: Path) -> None:
    """Two clips of each class, float16 pixels, as PYSKL publishes them: one to train, one to test."""
    demo = Demo(sg.Topology.load("coco17"), classes=CLASSES, frames=(16, 24), persons=1, dims=2, seed=0)
    annotations, split = [], {"train": [], "val": []}
    for index in range(2 * CLASSES):
        clip, part = demo.clip(index), ("train", "val")[index // CLASSES]
        split[part].append(clip.name)
        annotations.append(
            {
                "frame_dir": clip.name,
                "label": demo.label(index),
                "total_frames": clip.frames,
                "img_shape": clip.image_size,
                "original_shape": clip.image_size,
                "keypoint": clip.keypoints.astype(np.float16),
                "keypoint_score": clip.score.astype(np.float16),
            }
        )
    path.write_bytes(pickle.dumps({"split": split, "annotations": annotations}, protocol=4))


def run_cli(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["skelgraph", *words])
    cli.main()


def test_finegym_from_pickle_to_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pickle(Path("gym_hrnet.pkl"))
    run_cli(monkeypatch, "data", "import", "finegym", "gym_hrnet.pkl", "data/finegym")
    store = sg.data.Store.open("data/finegym")
    assert len(store.classes) == CLASSES
    assert {part: len(rows) for part, rows in store.protocol("gym99").items()} == {"train": 99, "test": 99}
    short = ["stages.pretrain.steps=2", "stages.finetune.steps=2", "stages.finetune.batch=16", "data.frames=16"]
    run_cli(monkeypatch, "run", "skeletonmae_finegym", *short, "--out", "run")
    out = capsys.readouterr().out
    assert "mean_class" in out
    run = sg.Run.open("run")
    assert set(run.metrics) == {"test/mean_class", "test/top1"}
    assert len(run.stage("finetune").card()["spec"]["classes"]) == CLASSES
    page = run.report.read_text(encoding="utf-8")
    assert "91.8" in page
    assert "DEMO DATA" not in page
