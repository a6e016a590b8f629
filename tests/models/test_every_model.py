"""Every registered model on every shipped topology, length and number of persons, as a set that covers all pairs.

A model joins by being registered. What it is given here are the sizes of `TINY` that it has a setting for, and what
`NEEDED` says it cannot do without; its clips have, beside the skeleton, what `MODALITIES` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from skelgraph.batch import Batch, ClipSpec, Modality, ModalitySpec
from skelgraph.models import MODELS, Model, create
from skelgraph.topology import Topology
from skelgraph.transforms import TRANSFORMS

NAMES = MODELS.names()
SHIPPED = sorted(path.stem for path in (Path(__file__).parents[2] / "topologies").glob("*.yaml"))
FRAMES, PERSONS = (8, 33, 64), (1, 2)
CLASSES = ("a", "b", "c")
TINY: dict[str, Any] = {"width": 8, "dim": 8, "hidden": 8, "channels": 8, "depth": 4,
                        "depths": {"body": 4, "hands": 4, "legs": 4}}  # fmt: skip
NEEDED: dict[str, dict[str, Any]] = {
    "deformable3d": {"preset": "tiny", "width": 16, "stem": {"widths": [8, 8], "strides": [1, 2]}},
    "heatmap_cnn": {"size": 8, "widths": [8, 8], "strides": [1, 2]},
    "multi_stream": {"base": {"name": "stgcnpp", "width": 8, "depth": 4}, "streams": ["joint", "bone_motion"]},
    "mmixer": {"modalities": {"skeleton": {"name": "graph", "model": {"name": "stgcnpp", "width": 8, "depth": 4}},
                              "inertial": "identity", "depth": {"name": "frame2d", "width": 4}}},
}  # fmt: skip
MODALITIES: dict[str, Mapping[str, ModalitySpec]] = {
    "deformable3d": {"depth": ModalitySpec("frames", 6, (1, 16, 12))},
    "mmixer": {"inertial": ModalitySpec("sequence", 5, (6,)), "depth": ModalitySpec("frames", 3, (1, 12, 10))},
}
# Parameters that none of these clips moves: they are the reconstruction's, or stand in for missing modalities.
UNUSED = {"skeletonmae": ("mask_token", "enc2dec", "decoder"), "mmixer": ("content.null",),
          "deformable3d": ("null",)}  # fmt: skip
# Models that flatten a frame with persons fastest; the others with persons slowest.
PERSONS_FASTEST = ("gru",)


def covering(*choices: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Rows of one value of each choice in which every pair of values of two choices occurs; greedy, the same always.

    Each row begins with the first pair that is not covered yet; then choice after choice takes the value that covers
    most new pairs with what the row has.
    """
    axes = range(len(choices))
    open_pairs = {
        ((a, u), (b, v)): None
        for a, b in combinations(axes, 2)
        for u, v in product(range(len(choices[a])), range(len(choices[b])))
    }
    rows = []
    while open_pairs:
        row = dict(next(iter(open_pairs)))
        for axis in axes:
            if axis not in row:
                gains = [
                    sum(tuple(sorted(((axis, value), other))) in open_pairs for other in row.items())
                    for value in range(len(choices[axis]))
                ]
                row[axis] = gains.index(max(gains))
        for pair in combinations(sorted(row.items()), 2):
            open_pairs.pop(pair, None)
        rows.append(tuple(choices[axis][row[axis]] for axis in axes))
    return rows


CASES = covering(NAMES, SHIPPED, FRAMES, PERSONS)


def test_the_cases_cover_every_pair() -> None:
    choices = (NAMES, SHIPPED, FRAMES, PERSONS)
    for (a, first), (b, second) in combinations(enumerate(choices), 2):
        assert {(case[a], case[b]) for case in CASES} == set(product(first, second))
    assert len(CASES) == len(set(CASES)) <= 1.1 * len(NAMES) * len(SHIPPED)


def test_covering_has_no_row_too_many() -> None:
    assert covering("ab", "c") == [("a", "c"), ("b", "c")]
    assert len(covering("ab", "cd", "ef")) == 4
    assert len(covering("abc", "def", "ghi")) <= 10
    assert covering("abc") == []


# -- models and clips ------------------------------------------------------------------------------------------------


def settings_for(name: str, topology: Topology) -> dict[str, Any]:
    """Tiny sizes; of the parts that a model wants those that the topology has."""
    known = MODELS.settings(name)
    settings = {key: value for key, value in TINY.items() if key in known} | NEEDED.get(name, {})
    part, streams = (known[key].default if key in known else None for key in ("part", "streams"))
    if part is not None and part not in topology.part_names:
        settings["part"] = None
    if isinstance(streams, tuple):
        settings["streams"] = [name for name in streams if name in topology.part_names] or topology.part_names[:1]
    return settings


def build(name: str, spec: ClipSpec) -> Model:
    return create(name, spec, **settings_for(name, spec.topology)).double()


@cache
def load(topology: str) -> Topology:
    return Topology.load(topology)


def spec_for(name: str, topology: str, frames: int, persons: int) -> ClipSpec:
    return ClipSpec(load(topology), 3, persons, frames, CLASSES, MODALITIES.get(name, {}))


def clips(spec: ClipSpec, count: int = 2) -> Batch:
    generator = torch.manual_seed(1)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    batch = Batch.of(random(count, spec.persons, spec.frames, spec.joints, spec.channels))
    items = {
        key: Modality(random(count, item.steps, *item.shape), torch.ones(count, item.steps, dtype=torch.bool))
        for key, item in spec.modalities.items()
    }
    return batch.with_(modalities=items)


def moved(batch: Batch, order: Tensor) -> Batch:
    """The joints by another number."""
    return batch.with_(keypoints=batch.keypoints[..., order, :], score=batch.score[..., order])


def scramble(model: Model, seed: int = 2) -> None:
    """Everything random: a fresh network hides much of itself behind zeros, ones and statistics of nothing."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.3)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2)


# -- joints by another number ----------------------------------------------------------------------------------------


def renumbered(topology: Topology, order: Sequence[int]) -> Topology:
    """The same joints, bones and parts; what was joint ``order[i]`` is joint ``i``."""
    data = topology.to_dict()
    return Topology.from_dict({**data, "joints": [topology.joints[i] for i in order]})


@cache
def joint_axes(name: str) -> dict[str, list[int]]:
    """Axes of each tensor of a model that grow with the joints: those in which two topologies differ."""
    one, two = (build(name, spec_for(name, topology, 8, 2)).state_dict() for topology in ("ntu25", "coco17"))
    return {key: [axis for axis, size in enumerate(value.shape) if size != two[key].shape[axis]]
            for key, value in one.items()}  # fmt: skip


def carried_over(name: str, model: Model, other: Model) -> dict[str, Tensor]:
    """State of ``model`` for ``other``, which numbers the joints otherwise.

    A part keeps the order of its own joints, so a network of a part is left as it is.
    """
    state = dict(model.state_dict())
    owners = [(prefix, part) for prefix, part in model.named_modules() if isinstance(part, Model)]
    for key, value in state.items():
        prefix, owner = max(((p, m) for p, m in owners if key.startswith(p)), key=lambda item: len(item[0]))
        streams = getattr(owner, "streams", None)
        here = owner.spec.topology if streams is None else streams.topology
        twin = other.get_submodule(prefix)
        there = twin.spec.topology if streams is None else twin.streams.topology  # type: ignore[union-attr]
        if here.joints == there.joints:
            continue
        order, joints = torch.as_tensor(here.indices(there.joints)), len(here.joints)
        for axis in joint_axes(name)[key]:
            coordinates = owner.spec.channels if streams is None else streams.out_channels
            beside = value.shape[axis] // joints  # values of a joint that lie side by side
            beside = beside if name in PERSONS_FASTEST else min(beside, coordinates)
            apart = value.unflatten(axis, (-1, joints, beside))
            value = apart.index_select(axis + 1, order).flatten(axis, axis + 2)
        state[key] = value
    return state


def on_other_numbers(name: str, model: Model, order: Tensor) -> Model:
    """The same network on a topology whose joints are numbered otherwise."""
    other = build(name, replace(model.spec, topology=renumbered(model.spec.topology, order.tolist())))
    other.load_state_dict(carried_over(name, model, other))
    return other.eval()


# -- what holds for all ----------------------------------------------------------------------------------------------


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-9 * other.abs().max().item(), rtol=0)


def unused(name: str, model: Model) -> set[str]:
    return {key for key, _ in model.named_parameters() if key.startswith(UNUSED.get(name, ()))}


@pytest.mark.parametrize(("name", "topology", "frames", "persons"), CASES)
def test_a_model_learns_and_knows_joints_by_name_alone(name: str, topology: str, frames: int, persons: int) -> None:
    spec = spec_for(name, topology, frames, persons)
    torch.manual_seed(0)
    model, x = build(name, spec), clips(spec)
    scramble(model)

    output = model.train()(x)
    assert output.logits.shape == (2, 3)
    assert output.features.shape == (2, model.feature_dim)
    F.cross_entropy(output.logits, torch.tensor([0, 2])).backward()
    gradients = {key: parameter.grad for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert {key for key, gradient in gradients.items() if gradient is None} <= unused(name, model)
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients.values())

    model.eval()
    with torch.no_grad():
        answer, alone = model(x), model(x[:1])
        close(alone.logits, answer.logits[:1])
        assert not torch.allclose(answer.logits[0], answer.logits[1], atol=1e-6)

        order = torch.randperm(spec.joints, generator=torch.manual_seed(3))
        close(on_other_numbers(name, model, order)(moved(x[:1], order)).features, alone.features)
        if spec.topology.mirror:
            swapped = on_other_numbers(name, model, torch.as_tensor(spec.topology.mirror_permutation))
            # The other modalities stay as they are on both sides: this is about joints.
            mirrored = TRANSFORMS.create("mirror", spec.topology, p=1.0)(x[:1].with_(modalities={}))
            mirrored = mirrored.with_(modalities=x[:1].modalities)
            reflected = x[:1].with_(keypoints=x[:1].keypoints * torch.tensor([-1.0, 1.0, 1.0]))
            close(swapped(mirrored).features, model(reflected).features)


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_takes_part(name: str) -> None:
    """By running statistics: in training a bias before a batch norm rightly has a gradient of zero.

    Gradients of several random networks add up, since a ReLU may close a branch of one channel in one of them.
    """
    spec = spec_for(name, "ntu25", 8, 2)
    model = build(name, spec).eval()
    for seed in range(4):
        scramble(model, seed)
        F.cross_entropy(model(clips(spec)).logits, torch.tensor([0, 2])).backward()
    still = {key for key, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}
    assert still == unused(name, model)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_compiles_whole(name: str) -> None:
    spec = spec_for(name, "hand22", 8, 2)
    model, batch = build(name, spec).eval(), clips(spec)
    x = batch if spec.modalities else batch.keypoints
    torch.compiler.reset()
    with torch.no_grad(), torch._dynamo.config.patch(allow_rnn=True):
        compiled = torch.compile(model, backend="eager", fullgraph=True)(x)
        close(compiled.logits, model(x).logits)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_hands_over_and_takes_other_classes(name: str) -> None:
    spec = spec_for(name, "coco17", 8, 1)
    model, x = build(name, spec), clips(spec)
    scramble(model)
    other = build(name, replace(spec, classes=("x", "y")))
    if name != "strl":  # it starts from an encoder: tests/models/test_strl.py
        other.consume({"backbone": model.state_dict()})
        close(other.eval()(x).features, model.eval()(x).features)
    model.reset_classifier(("p", "q", "r", "s"))
    assert model.double()(x).logits.shape == (2, 4)
    bare = build(name, replace(spec, classes=()))(x)
    assert bare.logits.shape == (2, 0)
    assert bare.features.shape == (2, model.feature_dim)
