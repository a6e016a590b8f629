"""A recipe with further modalities from beginning to end, and what it refuses before it begins."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import skelgraph as sg
from skelgraph.batch import ModalitySpec
from skelgraph.data import Clip, Store, StoreWriter
from skelgraph.data.schema import ModalityFacts
from skelgraph.engine.clips import StageClips
from skelgraph.engine.evaluate import load_model
from skelgraph.errors import UserError
from skelgraph.recipe import DataConfig, ProtocolConfig
from skelgraph.topology import Topology

RECIPE = """
name: several
topology: coco17
data:
  store: store
  protocol: p
  frames: 8
  transforms: {{jitter: {{sigma: 0.1}}{transforms}}}
  modalities: {{sensor: {{steps: 10, scale: 0.5}}, picture: {{steps: 4, size: [8, 8]}}}}
stages:
  train:
    method: supervised
    model:
      name: mmixer
      dim: 8
      heads: 2
      modalities: {{skeleton: identity, sensor: identity, picture: {{name: frame2d, width: 2}}}}
    steps: 3
    batch: 8
  test: {{evaluate: [top1]}}
  near: {{evaluate: [top1], by: knn}}
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixteen clips, half of them without picture, in a working folder of their own."""
    monkeypatch.chdir(tmp_path)
    chance = np.random.default_rng(0)
    facts = {"sensor": ModalityFacts(kind="sequence", spans=True), "picture": ModalityFacts(kind="frames")}
    with StoreWriter("store", topology="coco17", dims=2, classes=("a", "b"), modality_facts=facts,
                     modalities={"sensor": "float32", "picture": "uint8"}) as writer:  # fmt: skip
        for number in range(17):
            frames = int(chance.integers(9, 14))
            further = {"sensor": chance.normal(size=(20, 3)), "picture": chance.integers(0, 255, (frames, 9, 10))}
            kept = {} if number == 16 else further if number % 2 else {"sensor": further["sensor"]}
            points = np.zeros((frames, 17, 2)) if number == 16 else chance.normal(size=(frames, 17, 2))
            writer.write(Clip.of(f"c{number}", points, label=number // 2 % 2, modalities=kept))
        names = [f"c{number}" for number in range(16)]
        writer.protocols = {"p": {"train": names[:10], "test": names[10:]}, "q": {"train": names, "test": ["c16"]}}
    return tmp_path


def write_recipe(transforms: str = "") -> str:
    Path("several.yaml").write_text(RECIPE.format(transforms=transforms), encoding="utf-8")
    return "several.yaml"


def test_a_run_reads_trains_saves_and_tests(store: Path) -> None:
    run = sg.run(write_recipe())
    assert set(run.metrics) >= {"test/top1", "near/top1"}
    card = json.loads((run.stage("train").path / "model.json").read_text(encoding="utf-8"))
    assert card["spec"]["modalities"]["picture"] == {"kind": "frames", "steps": 4, "shape": [1, 8, 8], "mirror": None}
    model = load_model(run.stage("train"))
    assert model.spec.modalities == {
        "sensor": ModalitySpec("sequence", 10, (3,)), "picture": ModalitySpec("frames", 4, (1, 8, 8))
    }  # fmt: skip
    clips = StageClips(DataConfig(**card["data"]), ProtocolConfig(), Topology.load("coco17"), 0)
    batch = next(iter(clips.test_loader(np.arange(4), 4, 1)))
    assert batch.modalities["picture"].valid.any(1).tolist() == [False, True, False, True]
    with torch.no_grad():
        logits = model(batch).logits
        batch.modalities["picture"].values[0] = torch.nan
        assert torch.equal(model(batch).logits, logits)
        batch.modalities["sensor"].values[0] += 1
        assert not torch.equal(model(batch).logits[0], logits[0])
    with pytest.raises(UserError, match=r"a step of 'picture' is \(1, 6, 6\), 'train' was trained on \(1, 8, 8\)"):
        sg.run("several.yaml", [
            "data.modalities.picture.size=[6,6]", "stages.train=null", "stages.near=null",
            f"stages.test.from={run.path}",
        ])  # fmt: skip


@pytest.mark.parametrize(
    ("transforms", "overrides", "message"),
    [
        (", mirror: {}", [], r"data\.transforms, mirror: .*\(modality 'sensor'\)"),
        (", reverse: {}", [], r"data\.transforms, reverse: .*\(modality 'sensor'\)"),
        ("", ["data.modalities.sound={}"], r"unknown modality 'sound'.*Allowed: picture, sensor"),
        ("", ["data.modalities.sensor.size=[8,8]"], r"'sensor' is a sequence; only frames have a 'size'"),
        ("", ["data.modalities.sensor.stepz=3"], r"unknown key 'stepz'.*Did you mean 'steps'"),
        ("", ["data.modalities=picture"], r"write a list of names"),
        ("", ["data.protocol=q"], r"clip 'c16' of protocol 'q': nobody is seen and there is none of sensor, picture"),
    ],
)
def test_refused_before_training(store: Path, transforms: str, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sg.run(write_recipe(transforms), overrides)
    assert not list(store.glob("runs/*/*/stages/train/*.safetensors"))


def test_names_alone_and_one_left_out(store: Path) -> None:
    def data(modalities: object) -> DataConfig:
        return DataConfig(store="store", protocol="p", frames=8, modalities=modalities)

    assert list(data(["picture", "sensor"]).wanted) == ["picture", "sensor"]
    assert list(data({"picture": None, "sensor": {}}).wanted) == ["sensor"]
    clips = StageClips(data(["picture"]), ProtocolConfig(), Topology.load("coco17"), 0)
    assert clips.spec(()).modalities["picture"] == ModalitySpec("frames", 8, (1, 9, 10))
    assert Store.open("store").info()["modalities"] == ["sensor", "picture"]
