"""Probes of what was learnt: a vote of neighbours, a linear layer, few labels, another data set."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import skelgraph as sg
from skelgraph import recipe
from skelgraph.data import protocols, sampling
from skelgraph.data.loader import BatchReader, OrderedBatches, make_loader
from skelgraph.data.store import Store
from skelgraph.data.synthetic import write_demo
from skelgraph.engine import knn, scores
from skelgraph.engine.evaluate import load_model
from skelgraph.engine.run_folder import Run
from skelgraph.errors import UserError
from skelgraph.methods import METHODS, Method
from skelgraph.topology import Topology
from skelgraph.transforms import Pipeline

STUDY = """
name: probes
topology: coco17
data: {{store: {store}, protocol: demo, frames: 8, persons: 1, transforms: {{jitter: {{sigma: 2.0}}, image: {{}}}}}}
stages:
  pretrain:
    method: {method}
    model: {model}
    steps: 3
    batch: 8
{rest}
"""
MAE = "{name: skeletonmae, dim: 8, hidden: 8, layers: 1}"
GNN = "{name: spacetime_gnn, channels: 8, layers: 1}"
KNN = "  knn: {evaluate: [top1, top5, mean_class], by: knn, from: pretrain}"
PROBE = """
  probe: {{method: linear_probe, model: {model}, from: pretrain, steps: 4, batch: 8}}
  test: {{evaluate: [top1]}}
"""


@METHODS.register("test_spread")
class Spread(Method):
    """Learns without labels and leaves nothing but its encoder."""

    needs_labels = False

    def step(self, prepared: object, epoch: float) -> dict[str, Tensor]:
        return {"loss": -self.model(prepared).features.var(0).mean()}

    def exports(self) -> dict[str, nn.Module]:
        return {"encoder": self.model}


@pytest.fixture
def study(tmp_path: Path, demo_clips: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes a recipe into a working folder of its own: ``study(method, model, further stages)``."""
    monkeypatch.chdir(tmp_path)

    def write(method: str, model: str, rest: str, store: Path = demo_clips) -> str:
        text = STUDY.format(store=store, method=method, model=model, rest=rest)
        Path("probes.yaml").write_text(text, encoding="utf-8")
        return "probes.yaml"

    return write


# ---- the vote -------------------------------------------------------------------------------------------------------


def by_hand(gallery: Tensor, labels: Tensor, queries: Tensor, neighbours: int) -> list[int]:
    """The class that most of the nearest clips have; of equal ones that of the nearest clip."""
    result = []
    for query in queries:
        cosine = torch.stack([torch.cosine_similarity(query, clip, dim=0) for clip in gallery])
        nearest = labels[cosine.argsort(descending=True)][:neighbours].tolist()
        result.append(max(nearest, key=lambda label: (nearest.count(label), -nearest.index(label))))
    return result


@pytest.mark.parametrize("neighbours", [1, 2, 3, 7, 40])
def test_vote_is_that_of_the_nearest_clips(neighbours: int) -> None:
    random = torch.Generator().manual_seed(neighbours)
    labels = torch.randint(0, 5, (40,), generator=random)
    centres = torch.randn(5, 6, generator=random)
    gallery = centres[labels] + torch.randn(40, 6, generator=random)
    queries = torch.randn(30, 6, generator=random)
    shares = knn.vote(gallery, labels, queries, 6, neighbours)
    assert shares.argmax(1).tolist() == by_hand(gallery, labels, queries, neighbours)
    torch.testing.assert_close(shares.sum(1), torch.ones(30))
    near = neighbours * shares
    assert (near - near.round()).abs().max() < 0.01
    chunked = knn.vote(gallery, labels, queries, 6, neighbours, cells=90)
    torch.testing.assert_close(chunked, shares)
    torch.testing.assert_close(knn.vote(3 * gallery, labels, 0.1 * queries, 6, neighbours), shares)


def test_vote_ranks_classes_without_a_vote_by_their_nearest_clip() -> None:
    degrees = torch.deg2rad(torch.tensor([5.0, 10.0, 12.0, 30.0, 50.0, 70.0]))
    gallery = torch.stack([degrees.cos(), degrees.sin()], 1)
    labels = torch.tensor([3, 1, 1, 4, 0, 2])
    one, two, three = (knn.vote(gallery, labels, torch.tensor([[1.0, 0.0]]), 6, k)[0] for k in (1, 2, 3))
    assert one.argsort(descending=True).tolist() == [3, 1, 4, 0, 2, 5]
    assert two.argsort(descending=True).tolist() == [3, 1, 4, 0, 2, 5]
    assert three.argsort(descending=True).tolist() == [1, 3, 4, 0, 2, 5]
    assert one[3] > 0.998


def test_vote_refuses() -> None:
    with pytest.raises(UserError, match="3 labelled training clips cannot give 4 neighbours"):
        knn.vote(torch.randn(3, 2), torch.zeros(3, dtype=torch.long), torch.randn(1, 2), 2, 4)
    with pytest.raises(UserError, match="features of some test clips are not finite"):
        knn.vote(torch.randn(3, 2), torch.zeros(3, dtype=torch.long), torch.full((1, 2), torch.nan), 2)


# ---- kNN as a stage -------------------------------------------------------------------------------------------------


def features(run: Run, stage: str, store: Store, rows: np.ndarray) -> Tensor:
    """Features of clips without augmentation, straight from the parts of the toolkit."""
    model, topology = load_model(run.stage(stage)), Topology.load("coco17")
    reader = BatchReader(store, 8, 1, sampling.create("uniform"), topology)
    pipeline = Pipeline(topology, {"jitter": {"sigma": 2.0}, "image": {}})
    with torch.inference_mode():
        return torch.cat([model(pipeline(item)).features for item in make_loader(reader, OrderedBatches(rows, 16))])


@pytest.mark.parametrize(("method", "model"), [("masked", MAE), ("test_spread", GNN), ("supervised", GNN)])
def test_knn_of_any_stage(study: Callable[..., str], method: str, model: str) -> None:
    run = sg.run(study(method, model, KNN))
    assert set(run.metrics) == {"knn/top1", "knn/top5", "knn/mean_class"}
    result, found = run.stage("knn").result(), scores.read(run.stage("knn"))
    store = Store.open(run.recipe["data"]["store"])
    parts = store.protocol("demo")
    assert (result["by"], result["neighbours"], result["gallery_clips"]) == ("knn", 1, len(parts["train"]))
    assert result["test_clips"] == len(parts["test"])
    gallery, queries = (features(run, "pretrain", store, parts[name]) for name in ("train", "test"))
    expected = by_hand(gallery, torch.from_numpy(store.labels[parts["train"]]), queries, 1)
    assert found.whole.probabilities.argmax(1).tolist() == expected
    torch.testing.assert_close(found.whole.logits.softmax(-1), found.whole.probabilities)
    assert run.metrics["knn/top1"] == pytest.approx(100 * np.mean(np.array(expected) == found.label.numpy()), abs=1e-4)
    assert run.report.is_file()
    with (run.stage("knn").path / "clips.csv").open(encoding="utf-8") as file:
        assert [row["clip"] for row in csv.DictReader(file)] == [store.names[row] for row in parts["test"]]


def test_knn_with_few_labels_more_neighbours_and_views(study: Callable[..., str]) -> None:
    stages = KNN.replace("by: knn", "by: knn, neighbours: 3, views: 2, data: {label_fraction: 0.5}")
    run = sg.run(study("test_spread", GNN, stages))
    train = len(Store.open(run.recipe["data"]["store"]).protocol("demo")["train"])
    assert 0.4 * train < run.stage("knn").result()["gallery_clips"] < 0.6 * train
    with pytest.raises(UserError, match="cannot give 500 neighbours"):
        sg.run("probes.yaml", ["stages.knn.neighbours=500"])


def test_knn_votes_on_validation_clips_without_themselves(study: Callable[..., str]) -> None:
    run = sg.run(study("supervised", GNN, KNN), ["protocol.selection=holdout", "protocol.validation=0.25"])
    result, validation = run.stage("knn").result(), scores.read(run.stage("knn"), "validation")
    store = Store.open(run.recipe["data"]["store"])
    train = store.protocol("demo")["train"]
    assert result["gallery_clips"] == len(train)
    assert 0 < len(validation.names) == result["validation_clips"]
    rows = validation.row.numpy()
    rest = np.setdiff1d(train, rows)
    gallery, queries = (features(run, "pretrain", store, part) for part in (rest, rows))
    expected = by_hand(gallery, torch.from_numpy(store.labels[rest]), queries, 1)
    assert validation.whole.probabilities.argmax(1).tolist() == expected
    assert {"knn/top1", "knn/last_top1"} <= set(run.metrics)


def test_a_classifier_is_asked_for_only_where_there_is_one(study: Callable[..., str]) -> None:
    path = study("test_spread", GNN, "  test: {evaluate: [top1]}")
    with pytest.raises(
        UserError, match=r"probes\.yaml:\d+: stage 'test' tests a stage of method 'test_spread', which "
    ):
        sg.run(path)
    run = sg.run(path, ["stages.test.by=knn"], out="first")
    text = (
        Path(path).read_text(encoding="utf-8").split("stages:")[0] + "stages: {test: {evaluate: [top1], from: ./first}}"
    )
    Path("second.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"stages/pretrain: has trained no classifier; test it by its features"):
        sg.run("second.yaml")
    assert sg.run("second.yaml", ["stages.test.by=knn"]).metrics == run.metrics


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.knn.by=head", "'neighbours' vote only with 'by: knn'"),
        ("stages.knn.evaluate=[loss]", "a vote of neighbours has no 'loss'"),
        ("stages.knn.by=nn", "'stages.knn.by'"),
        ("stages.knn.neighbours=0", "'stages.knn.neighbours'"),
        ("data.transforms.one_of={choices: {shear: {amont: 1}}}", "unknown key of transform 'shear' 'amont'"),
        ("data.transforms.one_of={choices: {sheer: {}}}", "unknown transform 'sheer'"),
        ("data.label_draw=all", "'data.label_draw'"),
    ],
)
def test_wrong_recipes(study: Callable[..., str], override: str, message: str) -> None:
    path = study("test_spread", GNN, KNN.replace("by: knn", "by: knn, neighbours: 2"))
    recipe.check(recipe.load(path))
    with pytest.raises(UserError, match=message):
        recipe.check(recipe.load(path, [override]))


# ---- linear probe and few labels ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "model"), [("masked", MAE), ("test_spread", GNN), ("supervised", GNN)])
def test_linear_probe_after_any_method(study: Callable[..., str], method: str, model: str) -> None:
    run = sg.run(study(method, model, PROBE.format(model=model)))
    learnt, probed = (run.stage(name).exports() for name in ("pretrain", "probe"))
    before = learnt["backbone" if "backbone" in learnt else "encoder"]
    for key, value in probed["backbone"].items():
        assert key.startswith("head.") or torch.equal(value, before[key]), key
    assert set(run.metrics) == {"test/top1"}


def test_linear_probe_begins_almost_at_zero() -> None:
    spec = sg.ClipSpec(Topology.load("coco17"), 2, 1, 8, tuple("abcdefgh"))
    probe = METHODS.create("linear_probe", sg.models.create("spacetime_gnn", spec, channels=256))
    assert 0.009 < float(probe.model.head.weight.detach().std()) < 0.011
    assert not probe.model.head.bias.any()


SHARES = [0.01, 0.02, 0.05, 0.1, 0.2, 1.0]


@pytest.mark.parametrize("draw", ["class", "global"])
def test_shares_of_labels_lie_inside_each_other(draw: str) -> None:
    labels = np.random.default_rng(0).choice(10, size=1200, p=np.arange(1, 11) / 55)
    rows = np.arange(0, 1200, 2)
    kept = [protocols.label_fraction(labels, rows, share, 3, draw) for share in SHARES]
    for share, smaller, larger in zip(SHARES, kept, kept[1:], strict=False):
        assert set(smaller.tolist()) <= set(larger.tolist())
        assert abs(len(smaller) - share * 600) <= (0 if draw == "global" else 10)
        assert draw == "global" or set(labels[smaller]) == set(range(10))
    assert np.array_equal(kept[-1], rows)
    assert not np.array_equal(kept[3], protocols.label_fraction(labels, rows, 0.1, 4, draw))
    unlabelled = np.where(np.arange(1200) % 4, labels, -1)
    assert (unlabelled[protocols.label_fraction(unlabelled, rows, 0.5, 0, draw)] >= 0).all()


@pytest.mark.parametrize("draw", ["class", "global"])
def test_a_run_keeps_the_list_of_labelled_clips(study: Callable[..., str], draw: str) -> None:
    rest = (
        "  tune: {method: supervised, model: " + GNN + ", from: pretrain, steps: 3, batch: 8,"
        f" data: {{label_fraction: 0.2, label_seed: 5, label_draw: {draw}}}}}\n  test: {{evaluate: [top1]}}"
    )
    run = sg.run(study("test_spread", GNN, rest))
    names = (run.stage("tune").path / "train_clips.txt").read_text(encoding="utf-8").split()
    store = Store.open(run.recipe["data"]["store"])
    rows = protocols.label_fraction(store.labels, store.protocol("demo")["train"], 0.2, 5, draw)
    assert names == [store.names[row] for row in rows]
    assert run.stage("tune").result()["train_clips"] == len(names)
    assert not (run.stage("pretrain").path / "train_clips.txt").exists()


# ---- transfer -------------------------------------------------------------------------------------------------------

TRANSFER = """
  knn_there: {{evaluate: [top1], by: knn, from: pretrain, data: {{store: {there}}}}}
  probe: {{method: linear_probe, model: {model}, from: pretrain, steps: 4, batch: 8, data: {{store: {there}}}}}
  test: {{evaluate: [top1]}}
"""


@pytest.fixture(scope="session")
def penn_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other clips, other joints and other classes."""
    path = tmp_path_factory.mktemp("penn") / "store"
    return write_demo(path, topology="penn13", clips=40, classes=5, seed=3, frames=(20, 40))


@pytest.mark.parametrize(("method", "model"), [("masked", MAE), ("test_spread", GNN)])
def test_transfer_to_data_of_another_topology(
    study: Callable[..., str], penn_clips: Path, method: str, model: str
) -> None:
    """Pre-trained on coco17, probed on penn13: joints are mapped by their names."""
    run = sg.run(study(method, model, TRANSFER.format(there=penn_clips, model=model)))
    here, there = Store.open(run.recipe["data"]["store"]), Store.open(penn_clips)
    assert here.topology.name != there.topology.name
    assert len(here.classes) != len(there.classes)
    for stage in ("knn_there", "test"):
        result = run.stage(stage).result()
        assert result["classes"] == list(there.classes)
        assert result["test_clips"] == len(there.protocol("demo")["test"])
    card = run.stage("probe").card()
    assert card["spec"]["topology"]["name"] == "coco17"
    assert card["spec"]["classes"] == list(there.classes)


def test_transfer_from_another_run(study: Callable[..., str], penn_clips: Path) -> None:
    """A second recipe, whose own topology is that of its data, tests and tunes what the first run has learnt."""
    first = sg.run(study("test_spread", GNN, KNN), out="first")
    probe = PROBE.format(model=GNN).replace("from: pretrain", "from: ./first:pretrain")
    text = STUDY.format(store=penn_clips, method="test_spread", model=GNN, rest=KNN + "\n" + probe)
    Path("second.yaml").write_text(text, encoding="utf-8")
    second = sg.run("second.yaml", ["stages.pretrain=null", "stages.knn.from=./first:pretrain"], out="second")
    assert second.stage("knn").result()["tested"] == "pretrain"
    same = sg.run("second.yaml", ["stages.pretrain=null", "stages.knn.from=./first:pretrain", "topology=penn13",
                                  "stages.probe=null", "stages.test=null"], out="third")  # fmt: skip
    assert same.metrics["knn/top1"] == second.metrics["knn/top1"]
    assert json.loads((first.path / "recipe.json").read_text(encoding="utf-8"))["topology"] == "coco17"


def test_data_of_other_dimensions_are_refused(study: Callable[..., str], tmp_path: Path) -> None:
    solid = write_demo(tmp_path / "solid", topology="coco17", dims=3, clips=24, classes=4)
    path = study("test_spread", GNN, KNN.replace("from: pretrain", f"from: pretrain, data: {{store: {solid}}}"))
    with pytest.raises(UserError, match=r"solid: holds 3-D joints, 'pretrain' was trained on 2-D"):
        sg.run(path)


def test_recipes_of_the_page_are_sound(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "probes.md"
    found = re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)
    assert len(found) == 2
    for number, text in enumerate(found):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, encoding="utf-8")
        recipe.check(recipe.load(path))
