"""Published weights: their tables of names, what is refused, and that a recipe starts from them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from published import psumnet_shapes, random_state, scattered, stgcnpp_shapes
from safetensors.torch import save_file
from torch import Tensor

import skelgraph as sg
from skelgraph import models
from skelgraph.cli.main import cli
from skelgraph.engine.evaluate import load_model
from skelgraph.engine.run_folder import Run, StageFolder, digest, find_exports, read_json
from skelgraph.errors import UserError
from skelgraph.nn.streams import Streams
from skelgraph.topology import Topology
from skelgraph.weights import import_released, inspect, load_released
from skelgraph.weights.families import CTRGCN, PSUMNET, STGCNPP

WIDTH = 8
UNIFIED = ["joint", "bone", "joint_motion", "bone_motion"]


def psumnet_state(depth: int = 4, joints: int = 9, **settings: int) -> dict[str, Tensor]:
    """A narrow stream; NTU's legs by default."""
    return random_state(psumnet_shapes(depth, joints, **{"width": 32, "classes": 6, **settings}))  # type: ignore[arg-type]


def stgcnpp_state(joints: int = 17, **settings: int) -> dict[str, Tensor]:
    return random_state(stgcnpp_shapes(joints, **{"width": WIDTH, "classes": 5, **settings}))


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# -- the published tables ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topology", "part", "depth", "joints", "persons", "entries", "count"),
    [
        ("ntu25_published", "body", 10, 25, 2, 822, 1_448_418),
        ("ntu25_published", "hands", 6, 13, 2, 510, 978_482),
        ("ntu25_published", "legs", 4, 9, 2, 354, 499_898),
        ("ntux67_published", "body", 10, 37, 2, 822, 1_471_314),
        ("ntux67_published", "hands", 6, 48, 2, 510, 1_018_592),
        ("ntux67_published", "legs", 4, 13, 2, 354, 501_146),
        ("hand22_published", "hands", 6, 22, 1, 510, 972_234),
    ],
)
def test_psumnet_streams(
    topology: str, part: str, depth: int, joints: int, persons: int, entries: int, count: int
) -> None:
    shapes = psumnet_shapes(depth, joints, persons=persons, classes=14 if persons == 1 else 60)
    state = random_state(shapes)
    assert len(state) == entries
    model = load_released("psumnet", state, topology=topology, part=part)
    assert parameters(model) == count
    assert (model.spec.channels, model.spec.joints, model.spec.persons) == (12, joints, persons)
    assert not model.training
    assert model(torch.randn(1, persons, 3, joints, 12)).logits.shape == (1, model.spec.num_classes)
    same(scattered(PSUMNET, model, model.state_dict()), state)
    by_default = load_released("psumnet", state)
    assert by_default.spec.topology == model.spec.topology


@pytest.mark.parametrize(
    ("joints", "classes", "count"),
    [(25, 60, 1_403_144), (25, 120, 1_418_564), (20, 10, 1_383_514), (17, 400, 1_480_396), (18, 400, 1_481_452)],
)
def test_stgcnpp(joints: int, classes: int, count: int) -> None:
    state = random_state(stgcnpp_shapes(joints, classes=classes))
    assert len(state) == 692
    model = load_released("stgcnpp", state)
    assert parameters(model) == count
    assert model.spec.joints == joints
    assert model(torch.randn(1, 3, 3, joints, 3)).logits.shape == (1, classes)
    same(scattered(STGCNPP, model, model.state_dict()), state)


def test_stgcnpp_on_a_named_topology() -> None:
    """BRL's released networks are ST-GCN++; classes and joints come from the tensors, wherever there is a layout."""
    model = sg.weights.load_released("stgcnpp", random_state(stgcnpp_shapes(20, classes=10)), topology="kinect20")
    assert (model.spec.topology.name, model.spec.num_classes, model.spec.channels) == ("kinect20", 10, 3)
    clips = torch.randn(2, 2, 5, 20, 3)
    logits = model(clips).logits
    assert logits.shape == (2, 10)
    torch.testing.assert_close(model(clips.flip(1)).logits, logits)
    with pytest.raises(UserError):
        sg.weights.load_released("stgcnpp", random_state(stgcnpp_shapes(20, classes=10)), topology="ntu25")


def test_ctrgcn() -> None:
    state = random_state(psumnet_shapes(10, 25, channels=3, block="l{n}."))
    model = load_released("ctrgcn", state, topology="ntu25")
    assert parameters(model) == 1_446_672
    same(scattered(CTRGCN, model, model.state_dict()), state)


def test_pyskl_norms_of_every_person_apart() -> None:
    model = load_released("stgcnpp", stgcnpp_state(persons=2))
    assert (model.spec.persons, model.per_person) == (2, True)


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


# -- inputs ------------------------------------------------------------------------------------------------------------


def test_a_network_that_makes_its_stream_itself() -> None:
    state, topology = psumnet_state(), Topology.load("ntu25_published")
    raw = load_released("psumnet", state, topology=topology, part="legs")
    whole = load_released("psumnet", state, topology=topology, part="legs", inputs=UNIFIED)
    joints = torch.randn(2, 2, 5, 25, 3)
    assert whole.spec.channels == 3
    stream = Streams(topology, UNIFIED, part="legs")(joints)
    with torch.no_grad():
        assert torch.equal(raw(stream).logits, whole(joints).logits)


def test_inputs_must_make_the_channels() -> None:
    with pytest.raises(UserError, match="takes 12 channels; the inputs joint, bone of joints with 2 or 3 coordinates"):
        load_released("psumnet", psumnet_state(), part="legs", inputs=["joint", "bone"])
    with pytest.raises(UserError, match="write a list"):
        load_released("stgcnpp", stgcnpp_state(), inputs="joint")


def test_a_wrong_tensor_at_the_door() -> None:
    with pytest.raises(UserError, match="built for 9 joints of 12 channels and got 25 of 3"):
        load_released("psumnet", psumnet_state())(torch.randn(1, 2, 4, 25, 3))


def test_loading_leaves_the_random_numbers_alone() -> None:
    state = stgcnpp_state()
    torch.manual_seed(3)
    first = torch.rand(1)
    torch.manual_seed(3)
    load_released("stgcnpp", state)
    assert torch.equal(torch.rand(1), first)


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "wrapped", "legacy", "safetensors", "half"])
def test_files(tmp_path: Path, kind: str) -> None:
    state = psumnet_state()
    logits = load_released("psumnet", state)(torch.ones(1, 2, 4, 9, 12)).logits
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    prefixed = {f"module.{key}": value for key, value in state.items()}
    notes = {"epoch": 16, "hook_msgs": {"best_score": np.float64(0.9), "at": np.int64(3)}}
    if kind == "plain":
        torch.save(state, path)
    elif kind == "wrapped":
        torch.save({"meta": notes, "state_dict": prefixed, "optimizer": {"state": {}}}, path)
    elif kind == "legacy":
        torch.save({"model": prefixed, "meta": notes}, path, _use_new_zipfile_serialization=False)
    elif kind == "safetensors":
        save_file(state, path)
    else:
        torch.save({key: value.half() if value.dim() else value for key, value in state.items()}, path)
    found = load_released("psumnet", path)(torch.ones(1, 2, 4, 9, 12)).logits
    torch.testing.assert_close(found, logits, atol=5e-2 * logits.abs().max().item() if kind == "half" else 0, rtol=0)


def test_arrays_of_numpy() -> None:
    state = psumnet_state()
    model = load_released("psumnet", {key: value.numpy() for key, value in state.items()})
    same(scattered(PSUMNET, model, model.state_dict()), state)


def test_counters_may_be_missing() -> None:
    state = {key: value for key, value in psumnet_state().items() if "num_batches" not in key}
    assert load_released("psumnet", state).norm.num_batches_tracked == 0


class Code:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.marker}",)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    torch.save({**psumnet_state(), "extra": Code(marker)}, tmp_path / "code.pt")
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps(Code(marker), protocol=2))
    (tmp_path / "new.pkl").write_bytes(pickle.dumps(Code(marker), protocol=5))
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    wanted = {
        "code.pt": r"refused, reading it would run code: it names '\w+\.system'",
        "bare.pkl": r"refused.*\w+\.system",
        "new.pkl": "refused, no plain file of torch.save",
        "module.pt": "refused.*Linear",
    }
    for file, message in wanted.items():
        with pytest.raises(UserError, match=message):
            load_released("psumnet", tmp_path / file)
    assert not marker.exists()


def test_files_that_are_none(tmp_path: Path) -> None:
    torch.save(psumnet_state(), tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:2000])
    (tmp_path / "text.pt").write_text("weights", encoding="utf-8")
    (tmp_path / "text.safetensors").write_text("weights", encoding="utf-8")
    (tmp_path / "empty.pt").touch()
    torch.save([1, 2], tmp_path / "list.pt")
    for file in ("cut.pt", "text.pt", "text.safetensors", "empty.pt"):
        with pytest.raises(UserError, match=f"{file}: .*damaged"):
            load_released("psumnet", tmp_path / file)
    with pytest.raises(UserError, match="holds no tensors by name"):
        load_released("psumnet", tmp_path / "list.pt")
    with pytest.raises(UserError, match="no such file"):
        load_released("psumnet", tmp_path / "absent.pt")


# -- what does not fit -------------------------------------------------------------------------------------------------


def test_keys_that_do_not_fit_are_named() -> None:
    state = psumnet_state()
    del state["layers.2.tcn1.branches.1.3.bn.weight"], state["fc.bias"]
    state["layers.1.gcn1.PA"] = torch.zeros(3, 8, 8)
    state["momentum"] = torch.zeros(1)
    with pytest.raises(UserError) as caught:
        load_released("psumnet", state)
    text = str(caught.value)
    assert "2 missing: layers.2.tcn1.branches.1.3.bn.weight, fc.bias" in text
    assert "1 not known: momentum" in text
    assert "1 of another shape: layers.1.gcn1.PA (3, 8, 8) for (3, 9, 9)" in text


def without(*parts: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {key: value for key, value in state.items() if not any(part in key for part in parts)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("data_bn"), r"missing: data_bn\.weight"),
        (without("layers.1.gcn1.bn."), r"missing: layers\.1\.gcn1\.bn\.weight"),
        (without("layers.0.gcn1.convs.0.conv3.weight"), r"missing: layers\.0\.gcn1\.convs\.0\.conv3\.weight"),
        (without("PA"), r"missing: layers\.0\.gcn1\.PA"),
        (without("layers.1."), r"missing: layers\.1\.gcn1\.bn\.weight"),
        (lambda state: state | {"data_bn.weight": torch.zeros(217)}, "217 entries, no multiple of 9 joints with 12"),
    ],
)
def test_sizes_that_cannot_be_read(change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_released("psumnet", change(psumnet_state()))


def test_another_topology_or_part() -> None:
    state = psumnet_state()
    with pytest.raises(UserError, match=r"made for 9 joints, and topology 'ntu25_published' has 25.*in: legs"):
        load_released("psumnet", state, topology="ntu25_published")
    with pytest.raises(UserError, match=r"9 joints, and part 'hands' of topology 'ntu25_published' has 13.*in: legs"):
        load_released("psumnet", state, topology="ntu25_published", part="hands")
    with pytest.raises(UserError, match=r"unknown part 'leg'\. Did you mean 'legs'\? Allowed: .*hands, .*legs"):
        load_released("psumnet", state, topology="ntu25_published", part="leg")
    with pytest.raises(UserError, match="unknown topology 'ntu_25'"):
        load_released("psumnet", state, topology="ntu_25")
    with pytest.raises(UserError, match="has 11 joints; say which by topology"):
        load_released("psumnet", psumnet_state(joints=11))


def test_another_class_count_offers_a_fresh_classifier() -> None:
    state = psumnet_state()
    with pytest.raises(UserError, match=r"has 6 classes, and 3 names are given.*reset_classifier"):
        load_released("psumnet", state, classes=["a", "b", "c"])
    model = load_released("psumnet", state)
    model.reset_classifier(("a", "b", "c"))
    assert model(torch.randn(2, 2, 4, 9, 12)).logits.shape == (2, 3)
    assert load_released("psumnet", state, classes=list("abcdef")).spec.classes == tuple("abcdef")


def test_the_wrong_family() -> None:
    with pytest.raises(UserError, match=r"unknown family of weights 'psumnett'\. Did you mean 'psumnet'"):
        load_released("psumnett", psumnet_state())
    with pytest.raises(UserError, match="looks like a checkpoint of PSUMNet; its family is 'psumnet', not 'ctrgcn'"):
        load_released("ctrgcn", psumnet_state())
    with pytest.raises(UserError, match=r"looks like a checkpoint of ST-GCN\+\+ of PYSKL; its family is 'stgcnpp'"):
        load_released("psumnet", stgcnpp_state())
    attention = {"backbone.gcn.0.gcn.conv_a.0.weight": torch.zeros(1), "backbone.gcn.0.tcn.conv.weight": torch.zeros(1)}
    with pytest.raises(UserError, match="checkpoint of AAGCN of PYSKL, which cannot be read: its attention"):
        load_released("stgcn", attention)
    with pytest.raises(UserError, match=r"layout that is not known \(its keys begin with conv1.weight\)"):
        load_released("psumnet", {"conv1.weight": torch.zeros(1)})
    with pytest.raises(UserError, match="weights of skelgraph"):
        load_released("psumnet", {"backbone/norm.weight": torch.zeros(1)})


# -- folders and recipes -----------------------------------------------------------------------------------------------


def test_an_imported_folder_is_a_trained_stage(tmp_path: Path) -> None:
    torch.save(psumnet_state(), tmp_path / "legs.pt")
    report = import_released("psumnet", tmp_path / "legs.pt", tmp_path / "legs", classes=list("abcdef"))
    assert (report.topology, report.part, report.inputs) == ("ntu25_published", "legs", tuple(UNIFIED))
    joints = torch.randn(2, 2, 5, 25, 3)
    direct = load_released("psumnet", tmp_path / "legs.pt", inputs=UNIFIED)
    again = load_model(StageFolder(tmp_path / "legs"))
    with torch.no_grad():
        assert torch.equal(again(joints).logits, direct(joints).logits)
    assert again.spec.classes == tuple("abcdef")
    assert inspect(tmp_path / "legs").found == report.found
    assert read_json(tmp_path / "legs" / "model.json")["released"]["sha256"] == report.sha256
    assert find_exports(str(tmp_path / "legs"), Run(tmp_path)).path == tmp_path / "legs"

    own = models.create(
        "psumnet_stream", topology="ntu25_published", part="legs", persons=2, width=32, depth=4, num_classes=3
    ).eval()
    own.consume(find_exports(str(tmp_path / "legs"), Run(tmp_path)).exports())
    with torch.no_grad():
        assert torch.equal(own(joints).features, direct(joints).features)
        assert own(joints).logits.shape == (2, 3)


def test_an_import_for_stream_tensors(tmp_path: Path) -> None:
    import_released("psumnet", psumnet_state(), tmp_path / "raw", inputs=[])
    stream = torch.randn(1, 2, 5, 9, 12)
    with torch.no_grad():
        expected = load_released("psumnet", psumnet_state())(stream).logits
        assert torch.equal(load_model(StageFolder(tmp_path / "raw"))(stream).logits, expected)


RECIPE = """
name: own
topology: coco17_pyskl
data: {{store: {store}, protocol: demo, frames: 8, persons: 1, channels: 2}}
stages:
  tune:
    method: supervised
    model: {{name: stgcnpp, width: 8}}
    from: weights/ours
    steps: 2
    batch: 8
  test: {{evaluate: [top1]}}
  untouched: {{evaluate: [top1], from: weights/named}}
"""


def test_a_recipe_starts_from_imported_weights(
    tmp_path: Path, demo_clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": stgcnpp_state(channels=2, classes=9)}, "nine.pth")
    torch.save({"state_dict": stgcnpp_state(channels=2, classes=4)}, "four.pth")
    Path("mine.yaml").write_text(RECIPE.format(store=demo_clips), encoding="utf-8")
    words = ["weights", "import", "stgcnpp", "nine.pth", "--out", "weights/ours"]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert "17 (coco17_pyskl)" in done.output
    assert "from: weights/ours" in done.output
    words = ["weights", "import", "stgcnpp", "four.pth", "--out", "weights/named", "--classes", str(demo_clips)]
    assert CliRunner().invoke(cli, words, catch_exceptions=False).exit_code == 0
    run = sg.run("mine.yaml")
    assert set(run.metrics) == {"test/top1", "untouched/top1"}
    tuned, given = run.stage("tune").exports()["backbone"], StageFolder(Path("weights/ours")).exports()["backbone"]
    assert tuned["head.weight"].shape == (4, 32)
    assert given["head.weight"].shape == (9, 32)
    change = (tuned["layers.3.unit.conv.value.weight"] - given["layers.3.unit.conv.value.weight"]).abs().max()
    assert 0 < change < 0.1
    _check_card(run)


def _check_card(run: Run) -> None:
    """The card of the tuned stage tells what binds it, and only of its own tests."""
    folder = run.stage("tune").path
    card, page = read_json(folder / "weights.json"), (folder / "weights.md").read_text(encoding="utf-8")
    assert card["sha256"] == digest(folder / "exports.safetensors")
    assert card["licence"].startswith("those they were started from: Apache 2.0")
    assert card["started_from"]["sha256"] == digest(Path("weights/ours/exports.safetensors"))
    assert (card["demo"], card["data"][0]["demo"], card["data"][0]["clips"]) == (True, True, 48)
    assert card["topology"]["joints"] == list(run.stage("tune").card()["spec"]["topology"]["joints"])
    assert [(item["test"], item["value"]) for item in card["results"]] == [("test", run.metrics["test/top1"])]
    assert card["protocol"]["train_clips"] == run.stage("tune").result()["train_clips"]
    assert "**Demo: trained on generated motion" in page
    shown = invoke("show", str(run.path))
    assert shown == invoke("show", f"{run.path}:tune") == invoke("show", str(folder))
    for word in (card["sha256"], card["licence"], card["data"][0]["terms"], *card["classes"]):
        assert word in shown
        assert word in page
    (folder / "weights.json").unlink()
    assert invoke("show", str(run.path)) == shown
    with pytest.raises(UserError, match="no weights here"):
        invoke("show", f"{run.path}:test")


def invoke(*words: str) -> str:
    """What a command prints; its mistake as an exception."""
    return CliRunner().invoke(cli, ["weights", *words], catch_exceptions=False).output


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(psumnet_state(), "legs.pt")
    shown = invoke("show", "legs.pt")
    assert "PSUMNet (psumnet), 4 layers of 32 to 128 channels" in shown
    assert "ntu25 part legs" in shown
    assert "persons   2, each with a norm of its own" in shown
    Path("names.txt").write_text("a\nb\n\nc\nd\ne\nf\n", encoding="utf-8")
    made = invoke(
        "import", "psumnet", "legs.pt", "--out", "legs", "--classes", "names.txt", "--inputs", ",".join(UNIFIED)
    )
    assert "9 (ntu25_published, part legs)" in made
    assert "12 (joint, bone, joint_motion, bone_motion)" in made
    assert load_model(StageFolder(Path("legs"))).spec.classes == tuple("abcdef")
    shown = invoke("show", "legs")
    assert shown.startswith(made)
    assert "licence   CC BY-NC 4.0 (that of PSUMNet's code" in shown
    assert f"sha256 {digest(Path('legs/exports.safetensors'))}" in shown
    with pytest.raises(UserError, match="is there already"):
        invoke("import", "psumnet", "legs.pt", "--out", "legs")
    assert "(a stream tensor)" in invoke(
        "import", "psumnet", "legs.pt", "--out", "legs", "--overwrite", "--inputs", "raw",
        "--licence", "mine", "--data", "my clips",
    )  # fmt: skip
    card = read_json(Path("legs/weights.json"))
    assert (card["licence"], card["data"][0]["source"], card["results"]) == ("mine", "my clips", [])
    assert card["made_by"]["imported"]["sha256"] == digest(Path("legs.pt"))
    with pytest.raises(UserError, match="neither a checkpoint file nor a folder"):
        invoke("show", ".")
    with pytest.raises(UserError, match=r"--classes absent\.txt: cannot be read"):
        invoke("import", "psumnet", "legs.pt", "--out", "other", "--classes", "absent.txt")
    assert not Path("other").exists()
