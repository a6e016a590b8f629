"""Checkpoints of HaLP and CMD: every published key finds its place, and training goes on from an import."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import skelgraph as sg
from skelgraph.cli.main import cli
from skelgraph.data.synthetic import write_demo
from skelgraph.engine.run_folder import StageFolder, read_tensors
from skelgraph.errors import UserError
from skelgraph.weights import import_released, inspect, load_released

HIDDEN, DIM, QUEUE, PROTOTYPES = 6, 4, 16, 3
ENDINGS = {"joint": "", "joint_motion": "_motion", "bone": "_bone"}


def encoder_state(prefix: str, *, hidden: int = HIDDEN, dim: int = DIM, layers: int = 3, width: int = 150,
                  head: str = "mlp") -> dict[str, Tensor]:  # fmt: skip
    """One encoder as section 7 of the specification tables it, filled with noise."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        for ending in ("", "_reverse"):
            inputs = 2 * hidden if layer else width
            gru = f"{prefix}encoder.gru."
            shapes[f"{gru}weight_ih_l{layer}{ending}"] = (3 * hidden, inputs)
            shapes[f"{gru}weight_hh_l{layer}{ending}"] = (3 * hidden, hidden)
            shapes[f"{gru}bias_ih_l{layer}{ending}"] = shapes[f"{gru}bias_hh_l{layer}{ending}"] = (3 * hidden,)
    wide = 2 * hidden
    parts = {"fc.0": (wide, wide), "fc.2": (dim, wide)} if head == "mlp" else {"fc": (dim, wide)}
    for name, shape in parts.items():
        shapes |= {f"{prefix}{name}.weight": shape, f"{prefix}{name}.bias": shape[:1]}
    shapes |= {f"{prefix}input_norm.{name}": (width,) for name in ("weight", "bias", "running_mean", "running_var")}
    state = {key: 0.3 * torch.randn(shape) for key, shape in shapes.items()}
    state[f"{prefix}input_norm.running_var"] = state[f"{prefix}input_norm.running_var"].abs() + 0.1
    return state | {f"{prefix}input_norm.num_batches_tracked": torch.tensor(7)}


def checkpoint(
    streams: tuple[str, ...] = ("joint",), *, prototypes: bool = True, **settings: object
) -> dict[str, Tensor]:
    """A pre-training checkpoint of one or of three streams."""
    torch.manual_seed(0)
    state: dict[str, Tensor] = {}
    dim = int(settings.get("dim", DIM))  # type: ignore[call-overload]
    for stream in streams:
        ending = ENDINGS[stream]
        state[f"queue{ending}"] = nn.functional.normalize(torch.randn(dim, QUEUE), dim=0)
        state[f"queue_ptr{ending}"] = torch.tensor([4])
        if prototypes:
            name = f"prototypes_{stream[0] if stream != 'joint_motion' else 'm'}" if len(streams) > 1 else "prototypes"
            state[name] = nn.functional.normalize(torch.randn(PROTOTYPES, dim), dim=1)
        for side in "qk":
            state |= encoder_state(f"encoder_{side}{ending}.", **settings)  # type: ignore[arg-type]
    return state


def stepwise(state: dict[str, Tensor], prefix: str, frames: Tensor) -> Tensor:
    """The published encoder written out: a bidirectional unit is fed frame by frame. ``frames`` (N, T, W)."""
    own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    gru = {key.removeprefix("encoder.gru."): value for key, value in own.items() if key.startswith("encoder.gru.")}
    layers = sum(key.startswith("weight_ih") for key in gru) // 2
    hidden = gru["weight_hh_l0"].shape[1]
    unit = nn.GRU(frames.shape[2], hidden, layers, batch_first=True, bidirectional=True)
    unit.load_state_dict(gru)
    norm = nn.BatchNorm1d(frames.shape[2]).eval()
    norm.load_state_dict({key.removeprefix("input_norm."): own[key] for key in own if key.startswith("input_norm.")})
    normed, carried, out = norm(frames.transpose(1, 2)).transpose(1, 2), None, frames
    for frame in normed.split(1, dim=1):
        out, carried = unit(frame, carried)
    h = out[:, 0]
    if "fc.weight" in own:
        return nn.functional.linear(h, own["fc.weight"], own["fc.bias"])
    h = nn.functional.linear(h, own["fc.0.weight"], own["fc.0.bias"]).relu()
    return nn.functional.linear(h, own["fc.2.weight"], own["fc.2.bias"])


def clips(persons: int = 2) -> Tensor:
    return torch.randn(3, persons, 5, 25, 3)


def flattened(x: Tensor) -> Tensor:
    """Feature index v C M + c M + m."""
    return x.permute(0, 2, 3, 4, 1).flatten(2)


@pytest.mark.parametrize("settings", [{}, {"head": "linear"}, {"layers": 1}, {"layers": 2, "hidden": 5, "dim": 7}])
def test_the_encoder_of_the_queries_with_its_head(settings: dict[str, object]) -> None:
    state, x = checkpoint(**settings), clips()  # type: ignore[arg-type]
    network = load_released("halp", {"epoch": 3, "state_dict": state}, topology="ntu25")
    assert not network.training
    answer = network(x)
    assert isinstance(answer, Tensor)
    torch.testing.assert_close(answer, stepwise(state, "encoder_q.", flattened(x)), atol=1e-5, rtol=1e-5)
    assert answer.norm(dim=1).sub(1).abs().max() > 1e-3


def test_persons_come_from_the_width_of_a_frame() -> None:
    state, x = checkpoint(width=75), clips(1)
    network = load_released("halp", state)
    assert network.encoder.spec.persons == 1
    torch.testing.assert_close(network(x), stepwise(state, "encoder_q.", flattened(x)), atol=1e-5, rtol=1e-5)


def test_one_of_three_streams() -> None:
    state, x = checkpoint(tuple(ENDINGS)), clips()
    bone = load_released("halp", state, inputs=["bone"])
    seen = bone.encoder.streams(x)  # type: ignore[operator]
    assert not torch.allclose(seen, x)
    expected = stepwise(state, "encoder_q_bone.", flattened(seen))
    torch.testing.assert_close(bone(x), expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(load_released("halp", state)(x), bone(x))


def test_a_file_of_one_encoder_does_not_tell_its_input() -> None:
    state, x = checkpoint(), clips()
    bone = load_released("halp", state, inputs=["bone"])
    seen = bone.encoder.streams(x)  # type: ignore[operator]
    torch.testing.assert_close(bone(x), stepwise(state, "encoder_q.", flattened(seen)), atol=1e-5, rtol=1e-5)


def broken(change: str) -> dict[str, Tensor]:
    state = checkpoint()
    if change == "missing":
        del state["encoder_q.encoder.gru.weight_hh_l1_reverse"]
    elif change == "extra":
        state["encoder_q.attention.weight"] = torch.zeros(2)
    elif change == "shape":
        state["encoder_q.fc.0.bias"] = torch.zeros(5)
    elif change == "foreign":
        state["decoder.weight"] = torch.zeros(2)
    elif change == "other":
        return {"l1.gcn1.PA": torch.zeros(3, 25, 25)}
    return state


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ("missing", {}, r"1 missing: encoder_q\.encoder\.gru\.weight_hh_l1_reverse"),
        ("extra", {}, r"1 not known: encoder_q\.attention\.weight"),
        ("shape", {}, r"1 of another shape: encoder_q\.fc\.0\.bias \(5,\) for \(12,\)"),
        ("foreign", {}, r"1 not known: decoder\.weight"),
        ("other", {}, r"no checkpoint of HaLP and CMD"),
        ("", {"topology": "kinect20"}, r"150 values, no multiple of 20 joints"),
        ("", {"inputs": ["bones"]}, r"no encoder of 'bones'; there are joint, joint_motion, bone"),
        ("", {"inputs": ["joint", "bone"]}, r"one encoder; name its one input"),
        ("", {"part": "legs"}, r"see all joints; leave 'legs' out"),
        ("", {"classes": ["a", "b"]}, r"no classifier, and 2 names are given"),
    ],
)
def test_what_does_not_fit_is_named(change: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_released("halp", broken(change), **settings)  # type: ignore[arg-type]


def test_the_other_families_point_here() -> None:
    with pytest.raises(UserError, match="its family is 'halp'"):
        load_released("ctrgcn", checkpoint())


def test_everything_that_training_goes_on_with(tmp_path: Path) -> None:
    state = checkpoint()
    torch.save(
        {"epoch": 201, "state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "a.pt"
    )
    report = import_released("halp", tmp_path / "a.pt", tmp_path / "out", inputs=["bone"])
    lines = "\n".join(report.lines())
    assert "3 layers of two units of 6" in lines
    assert "a queue of 16, 3 prototypes" in lines
    exports = StageFolder(tmp_path / "out").exports()
    assert exports.keys() == {"backbone", "contrastive", "prototypes"}
    around = exports["contrastive"]
    assert torch.equal(around["whole.queue.keys"], state["queue"].T)
    assert int(around["whole.queue.seen.value"]) == 2 * QUEUE + 4
    assert torch.equal(around["whole.key.projection.2.bias"], state["encoder_k.fc.2.bias"])
    assert torch.equal(around["whole.projection.2.bias"], state["encoder_q.fc.2.bias"])
    hidden = "layers.1.second.weight_hh_l0"
    assert torch.equal(around[f"whole.key.encoder.{hidden}"], state["encoder_k.encoder.gru.weight_hh_l1_reverse"])
    assert torch.equal(exports["backbone"][hidden], state["encoder_q.encoder.gru.weight_hh_l1_reverse"])
    assert torch.equal(exports["prototypes"]["whole.centres"], state["prototypes"])
    again = inspect(tmp_path / "out")
    assert again.found == report.found
    assert again.inputs == ("bone",)
    shown = CliRunner().invoke(cli, ["weights", "show", str(tmp_path / "a.pt")])
    assert "whose input the file does not tell" in shown.output


RECIPE = """
name: onwards
topology: ntu25
data: {{store: demo, protocol: mine, frames: 6, persons: 2}}
stages:
  knn_before: {{evaluate: [top1], by: knn, from: weights}}
  halp: {{method: halp, model: {model}, from: weights, queue: 16, dim: 4, prototypes: 3, newest: 8, positives: 4,
         steps: 2, batch: 4}}
  probe: {{method: linear_probe, model: {model}, from: halp, steps: 2, batch: 4}}
  test: {{evaluate: [top1]}}
"""
GRU = "{name: gru, hidden: 6, layers: 3}"


@pytest.mark.parametrize("streams", [("joint",), tuple(ENDINGS)])
def test_a_recipe_goes_on_from_an_import(
    streams: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = checkpoint(streams)
    import_released("halp", state, "weights")
    write_demo("demo", topology="ntu25", clips=32, classes=3, persons=2, dims=3, protocols=("mine",))
    model = GRU if len(streams) == 1 else f"{{name: multi_stream, base: {GRU}, streams: [{', '.join(streams)}]}}"
    Path("onwards.yaml").write_text(RECIPE.format(model=model), encoding="utf-8")
    run = sg.run("onwards.yaml", out="run")
    assert {"knn_before/top1", "test/top1"} <= run.metrics.keys()
    after = read_tensors(run.stage("halp").path / "exports.safetensors")
    for stream in streams if len(streams) > 1 else ("whole",):
        assert int(after[f"contrastive/{stream}.queue.seen.value"]) == 2 * QUEUE + 4 + 8
        # The prototypes of the file still serve, as those of a resumed run would.
        assert int(after[f"prototypes/{stream}.age.value"]) == 2
        kept = after[f"contrastive/{stream}.queue.keys"]
        theirs = state["queue" + ENDINGS.get(stream, "")].T
        assert torch.equal(kept[:4], theirs[:4])
        assert torch.equal(kept[12:], theirs[12:])


def test_a_classifier_is_tested_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state, x = encoder_state("encoder_q.", head="linear", dim=3), clips()
    report = import_released("halp", state, tmp_path / "out", classes=["a", "b", "c"])
    assert "classifier of 3" in "\n".join(report.lines())
    from skelgraph.engine.evaluate import load_model

    model = load_model(StageFolder(tmp_path / "out"))
    assert model.spec.classes == ("a", "b", "c")
    expected = stepwise(state, "encoder_q.", flattened(x))
    torch.testing.assert_close(model(x).logits, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(load_released("halp", state)(x), expected, atol=1e-5, rtol=1e-5)
