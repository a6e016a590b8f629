"""From a published state dict to a network of ours, with an account of what does not fit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor

from skelgraph import models
from skelgraph.batch import ClipSpec
from skelgraph.errors import UserError, unknown
from skelgraph.models.base import load_exact
from skelgraph.models.graph_stack import DEPTHS, GraphStack, raw_spec
from skelgraph.topology import Topology
from skelgraph.weights import recurrent
from skelgraph.weights.families import FAMILIES, LAYOUTS, UNREAD
from skelgraph.weights.layout import STATISTICS, Layout, State, misfit
from skelgraph.weights.reading import Source, read

if TYPE_CHECKING:
    from skelgraph.methods.contrastive import Embedder

MOST_LAYERS = 100


@dataclass(frozen=True)
class Found:
    """What the tensors of a checkpoint say of its network.

    Attributes:
        family, title: which architecture, and whose.
        layers: (width, stride) of each.
        joints, channels: V, C of the network's input.
        persons: M of an input norm that keeps persons apart; None where it does not.
        classes: K.
        parameters: numbers that training changes.
    """

    family: str
    title: str
    layers: tuple[tuple[int, int], ...]
    joints: int
    channels: int
    persons: int | None
    classes: int
    parameters: int = 0

    def rows(self, place: str, part: str | None, inputs: Sequence[str]) -> list[tuple[str, str]]:
        """For the console."""
        size = f", {self.parameters:,} parameters" if self.parameters else ""
        made = f" ({', '.join(inputs)})" if inputs else " (a stream tensor)" if self.parameters else ""
        persons = "any" if self.persons is None else f"{self.persons}, each with a norm of its own"
        return [
            ("weights", f"{self.title} ({self.family}), {len(self.layers)} layers of {self.layers[0][0]} to "
                        f"{self.layers[-1][0]} channels{size}"),
            ("joints", f"{self.joints} ({place}{f', part {part}' if part else ''})"),
            ("channels", f"{self.channels}{made}"),
            ("persons", persons),
            ("classes", str(self.classes)),
        ]  # fmt: skip


@overload
def load_released(
    family: Literal["halp"],
    source: Source,
    *,
    topology: Topology | str | Path | None = None,
    part: str | None = None,
    inputs: Sequence[str] = (),
    classes: Sequence[str] | None = None,
) -> Embedder: ...


@overload
def load_released(
    family: Literal["psumnet", "ctrgcn", "stgcnpp", "stgcn"],
    source: Source,
    *,
    topology: Topology | str | Path | None = None,
    part: str | None = None,
    inputs: Sequence[str] = (),
    classes: Sequence[str] | None = None,
) -> GraphStack: ...


@overload
def load_released(
    family: str,
    source: Source,
    *,
    topology: Topology | str | Path | None = None,
    part: str | None = None,
    inputs: Sequence[str] = (),
    classes: Sequence[str] | None = None,
) -> Any: ...


def load_released(
    family: str,
    source: Source,
    *,
    topology: Topology | str | Path | None = None,
    part: str | None = None,
    inputs: Sequence[str] = (),
    classes: Sequence[str] | None = None,
) -> GraphStack | Embedder:
    """The network of a published checkpoint, in eval mode.

    Numbers of layers, joints, persons, channels and classes are read off the tensors; ``module.`` before every key and
    a dict around the state dict are taken off.

    Args:
        family: ``psumnet``, ``ctrgcn``, ``stgcnpp``, ``stgcn`` or ``halp``; see docs/weights.md for the layouts of
            each.
        source: a safetensors file, a file of `torch.save`, or a state dict.
        topology: of the joints; by default the published one for their number.
        part: the part of it that the network saw; None is all of it, or the default topology's part.
        inputs: what the network makes of the joints itself, as `skelgraph.nn.Streams` names it; by default it takes
            its stream tensor ready made, with all channels. Of ``halp`` the one input of the encoder that is wanted,
            by default ``joint``.
        classes: their names; numbers by default.

    Returns:
        A network that answers with an `Output`; of ``halp`` the encoder of the queries with its head (an `Embedder`),
        which takes joints and answers with the tensor of embeddings (N, D), not normalised.

    Shapes:
        the network takes (N, M, T, V, C): stream tensors, C as the weights have it (12 of PSUMNet); joints with C = 2
        or 3 where ``inputs`` are given.

    Raises:
        UserError: a file that would run code, another architecture, another number of joints, channels or classes, a
            part that the topology does not have, and every missing, unknown or misshapen key by its published name.
    """
    if family == recurrent.FAMILY:
        from skelgraph.weights import contrastive  # The methods need Lightning, which takes seconds to import.

        return contrastive.load(source, topology, part, inputs, classes or ())
    return load(family, source, topology, part, inputs, classes)[0]


def load(
    family: str,
    source: Source,
    topology: Topology | str | Path | None,
    part: str | None,
    inputs: Sequence[str] | None,
    classes: Sequence[str] | None,
) -> tuple[GraphStack, dict[str, Any], Found]:
    """The network, the settings it was built with, and what was found; ``inputs`` None takes the usual ones."""
    if family not in FAMILIES:
        raise unknown("family of weights", family, FAMILIES)
    state, name = read(source)
    layout = _recognised(state, name, family)
    found = measure(layout, state, name)
    whole, part = _place(layout, found, name, topology, part)
    usual = layout.inputs if found.channels in (2 * len(layout.inputs), 3 * len(layout.inputs)) else ()
    spec, settings = _plan(layout, found, name, whole, part, usual if inputs is None else inputs)
    settings |= layout.settings(lambda key: state.get(layout.prefix(0) + key))
    names = tuple(map(str, range(found.classes))) if classes is None else tuple(classes)
    if len(names) != found.classes:
        raise UserError(
            f"{name}: has {found.classes} classes, and {len(names)} names are given; load it without names and call "
            "reset_classifier(names) to put a fresh classifier for them on it."
        )
    with torch.random.fork_rng(devices=[]):
        model = models.create(layout.model, replace(spec, classes=names), **settings)
    assert isinstance(model, GraphStack)
    _fill(model, layout, state, name)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return model.eval(), {"name": layout.model, **settings}, replace(found, parameters=parameters)


def recognise(state: State, name: str) -> Layout:
    """The layout of a state dict.

    Raises:
        UserError: none that is known, or one that cannot be read.
    """
    for title, (mark, reason) in UNREAD.items():
        if any(re.match(mark, key) for key in state):
            raise UserError(f"{name}: this looks like a checkpoint of {title}, which cannot be read: {reason}.")
    for layout in LAYOUTS:
        if any(re.match(layout.mark, key) for key in state):
            return layout
    if recurrent.fits(state):
        raise UserError(f"{name}: this looks like a checkpoint of {recurrent.TITLE}; its family is "
                        f"'{recurrent.FAMILY}'.")  # fmt: skip
    some = ", ".join(list(state)[:3])
    raise UserError(f"{name}: a layout that is not known (its keys begin with {some}); see docs/weights.md.")


def _recognised(state: State, name: str, family: str) -> Layout:
    layout = recognise(state, name)
    if layout.family != family:
        raise UserError(f"{name}: this looks like a checkpoint of {layout.title}; its family is '{layout.family}', "
                        f"not '{family}'.")  # fmt: skip
    return layout


def measure(layout: Layout, state: State, name: str) -> Found:
    """Read the sizes of a network off its tensors.

    Raises:
        UserError: a tensor that tells one of them is missing, or sizes contradict each other.
    """

    def tensor(*keys: str) -> Tensor:
        for key in keys:
            if key in state and state[key].dim():
                return state[key]
        raise misfit(name, layout.title, [keys[0]], [], [])

    def rows(prefix: str) -> int:
        return len(tensor(*(f"{prefix}.{key}" for key in STATISTICS)))

    prefixes = [layout.prefix(i) for i in range(MOST_LAYERS)]
    present = [i for i, prefix in enumerate(prefixes) if any(key.startswith(prefix) for key in state)]
    prefixes = prefixes[: max(present, default=0) + 1]
    layers = tuple(
        (rows(f"{prefix}{layout.unit}.bn"), 1 + any(key.startswith(f"{prefix}residual.") for key in state))
        for prefix in prefixes
    )
    joints = tensor(*(f"{prefix}{layout.unit}.{layout.graph}" for prefix in prefixes)).shape[-1]
    first = tensor(f"{prefixes[0]}{layout.unit}.{layout.first}.weight")
    channels = first.shape[1] if first.dim() > 1 else 0
    normed, each = rows(layout.input_norm), max(1, joints * channels)
    if normed % each or not normed:
        raise UserError(f"{name}: {layout.input_norm}.weight has {normed} entries, no multiple of {joints} joints with "
                        f"{channels} channels.")  # fmt: skip
    persons = normed // each if layout.per_person or normed > each else None
    classes = len(tensor(f"{layout.head}.weight", f"{layout.head}.bias"))
    return Found(layout.family, layout.title, layers, joints, channels, persons, classes)


def _place(
    layout: Layout, found: Found, name: str, topology: Topology | str | Path | None, part: str | None
) -> tuple[Topology, str | None]:
    """Topology and part, held against the number of joints."""
    if topology is None:
        table = layout.topologies
        usual = table.get((found.joints, len(found.layers))) or table.get(found.joints)
        if usual is None:
            raise UserError(f"{name}: has {found.joints} joints; say which by topology (--topology).")
        topology, part = usual[0], part or usual[1]
    whole = Topology.load(topology)
    count = len(whole.joints) if part is None else len(whole.part_index(part))
    if count != found.joints:
        what = f"topology '{whole.name}'" if part is None else f"part '{part}' of topology '{whole.name}'"
        fitting = [other for other in whole.part_names if len(whole.part_index(other)) == found.joints]
        hint = f" It has that many in: {', '.join(fitting)}." if fitting else ""
        raise UserError(f"{name}: made for {found.joints} joints, and {what} has {count}.{hint}")
    return whole, part


def _plan(
    layout: Layout, found: Found, name: str, topology: Topology, part: str | None, inputs: Sequence[str]
) -> tuple[ClipSpec, dict[str, Any]]:
    """What the network is built with, but for the settings that are the layout's own."""
    if isinstance(inputs, str):
        raise UserError(f"inputs: write a list, [{inputs}].")
    spec = ClipSpec(topology, channels=found.channels, persons=found.persons or 1)
    settings: dict[str, Any] = {"part": part, "inputs": list(inputs)}
    fitting = [dims for dims in (2, 3) if dims * len(inputs) == found.channels]
    if not inputs:
        spec, settings["part"] = raw_spec(spec, part, 1), None
    elif fitting:
        spec = replace(spec, channels=fitting[0])
    else:
        raise UserError(f"{name}: takes {found.channels} channels; the inputs {', '.join(inputs)} of joints with 2 or "
                        f"3 coordinates make {2 * len(inputs)} or {3 * len(inputs)}.")  # fmt: skip
    width = found.layers[0][0]
    if found.layers == tuple((times * width, stride) for times, stride in DEPTHS.get(len(found.layers), ())):
        settings |= {"depth": len(found.layers), "width": width}
    else:
        settings["layers"] = [list(layer) for layer in found.layers]
    if found.persons is not None and not layout.per_person:
        settings["input_norm"] = "person"
    return spec, settings


def _fill(model: GraphStack, layout: Layout, state: State, name: str) -> None:
    """Move the tensors over; every key must find its place, with its shape."""
    rules, fixed, own = layout.rules(model), layout.fixed(model), model.state_dict()
    due = {key: shape for rule in rules for key, shape in rule.shapes().items()}
    due |= {key: tuple(value.shape) for key, value in fixed.items() if value is not None}
    optional = {key for rule in rules if not rule.rows for key in rule.theirs} | fixed.keys()
    shapes = [
        f"{key} {tuple(state[key].shape)} for {shape}"
        for key, shape in due.items()
        if key in state and tuple(state[key].shape) != shape
    ]
    missing = [key for key in due if key not in state]
    extra = [key for key in state if key not in due and key not in optional]
    if missing or extra or shapes:
        raise misfit(name, layout.title, missing, extra, shapes)
    for key, graph in fixed.items():
        if graph is not None and not torch.allclose(state[key].to(graph), graph, atol=1e-4):
            raise UserError(f"{name}: the graph it was trained on ({key}) is not that of topology "
                            f"'{model.streams.topology.name}'; name the topology it belongs to.")  # fmt: skip
    load_exact(model, {rule.ours: rule.gather(state, own[rule.ours]) for rule in rules})
