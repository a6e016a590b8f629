"""How a published state dict names the tensors of a `GraphStack`, as rules that rename, join and turn them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skelgraph.errors import UserError
from skelgraph.models.graph_stack import GraphStack
from skelgraph.nn.pointwise import Pointwise

State = Mapping[str, Tensor]
Rows = Sequence[int]
STATISTICS = ("weight", "bias", "running_mean", "running_var")
COUNT = "num_batches_tracked"


@dataclass(frozen=True)
class Rule:
    """One tensor of ours: some of theirs, joined along the first axis.

    Attributes:
        ours: its key in our state dict.
        theirs: the keys it is made of, in order.
        rows: length of the first axis of each of these; empty for a counter, which may be missing.
        rest: their further axes.
        transposed: the last two axes change places (a graph that acts from the other side).
        negated: the sign changes.
    """

    ours: str
    theirs: tuple[str, ...]
    rows: tuple[int, ...]
    rest: tuple[int, ...] = ()
    transposed: bool = False
    negated: bool = False

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape that each of theirs must have; none for a counter."""
        return {key: (rows, *self.rest) for key, rows in zip(self.theirs, self.rows, strict=False)}

    def gather(self, state: State, like: Tensor) -> Tensor:
        """Our tensor, of the shape of ``like``; a missing counter leaves ``like`` as it is."""
        if not self.rows:
            return next((state[key] for key in self.theirs if key in state), like)
        joined = torch.cat([state[key] for key in self.theirs])
        if self.transposed:
            joined = joined.transpose(-2, -1)
        return (-joined if self.negated else joined).reshape(like.shape)


def linear(
    ours: str, layer: nn.Module, theirs: Sequence[str], rows: Rows | None = None, *, negated: bool = False
) -> list[Rule]:
    """Weight and bias of a linear map or a convolution; several of theirs stand side by side, by default equally wide.

    ``negated`` is about the weight alone.
    """
    weight = layer.get_parameter("weight")
    rows = tuple(rows or [len(weight) // len(theirs)] * len(theirs))
    rest = (*weight.shape[1:], 1, 1) if isinstance(layer, Pointwise) else tuple(weight.shape[1:])
    return [
        Rule(f"{ours}.weight", _each(theirs, "weight"), rows, rest, negated=negated),
        Rule(f"{ours}.bias", _each(theirs, "bias"), rows),
    ]


def norm(ours: str, layer: Any, theirs: Sequence[str], rows: Rows | None = None) -> list[Rule]:
    """A batch norm; several of theirs stand side by side."""
    rows = tuple(rows or [layer.num_features // len(theirs)] * len(theirs))
    rules = [Rule(f"{ours}.{name}", _each(theirs, name), rows) for name in STATISTICS]
    return [*rules, Rule(f"{ours}.{COUNT}", _each(theirs, COUNT), ())]


def parameter(ours: str, like: Tensor, theirs: str, *, transposed: bool = False) -> Rule:
    """A parameter that stands for itself."""
    rows, *rest = like.shape
    return Rule(ours, (theirs,), (rows,), tuple(rest), transposed=transposed)


def misfit(name: str, title: str, missing: list[str], extra: list[str], shapes: list[str]) -> UserError:
    """The error of a state dict that is not laid out as ``title`` is."""
    parts = (("missing", missing), ("not known", extra), ("of another shape", shapes))
    listing = "; ".join(f"{len(keys)} {word}: {_first(keys)}" for word, keys in parts if keys)
    return UserError(f"{name}: does not fit the layout of {title}: {listing}.")


def _first(keys: list[str], most: int = 6) -> str:
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "")


def _each(prefixes: Sequence[str], name: str) -> tuple[str, ...]:
    return tuple(f"{prefix}.{name}" for prefix in prefixes)


@dataclass(frozen=True)
class Layout:
    """The naming that one code base has for one family.

    Attributes:
        family: what the caller calls it.
        title: whose weights these are, for people.
        model: the registered model they fill.
        mark: a regular expression for keys that only this layout has.
        block: prefix of a layer, with ``{i}`` counted from 0 or ``{n}`` from 1.
        unit, time: names of the graph and the temporal part of a layer.
        graph: the graph in the unit, (K, V, V).
        first: the convolution of the unit that is applied to its input.
        input_norm, head: batch norm of the input, and classifier.
        convolution: rules of the graph convolution: (our prefix, module, their prefix).
        temporal: likewise of the temporal block.
        settings: settings of the model that the tensors decide, from a look-up of the first layer's tensors.
        topologies: topology and part for a number of joints, or of (joints, layers), where the caller names none.
        fixed: keys of a layer (None: of the whole) that hold no weights but the published graph. In the form of ours,
            it must be that of the topology; None is not looked at.
        inputs: what the network sees of the joints when it makes its stream itself.
        per_person: the input norm is always of every person apart.
    """

    family: str
    title: str
    model: str
    mark: str
    block: str
    unit: str
    time: str
    graph: str
    first: str
    input_norm: str
    head: str
    convolution: Callable[[str, Any, str], list[Rule]]
    temporal: Callable[[str, Any, str], list[Rule]]
    settings: Callable[[Callable[[str], Tensor | None]], dict[str, Any]]
    topologies: Mapping[int | tuple[int, int], tuple[str, str | None]]
    fixed: Callable[[GraphStack], dict[str, Tensor | None]] = lambda model: {}
    inputs: tuple[str, ...] = ("joint",)
    per_person: bool = True

    def prefix(self, i: int) -> str:
        """Prefix of layer ``i``."""
        return self.block.format(i=i, n=i + 1)

    def rules(self, model: GraphStack) -> list[Rule]:
        """The rules that fill every tensor of ``model``."""
        rules = norm("norm", model.norm, [self.input_norm])
        for i, layer in enumerate(model.layers):
            rules += self._layer(f"layers.{i}.", layer, self.prefix(i))
        return [*rules, *linear("head", model.head, [self.head])]

    def _layer(self, ours: str, layer: Any, theirs: str) -> list[Rule]:
        unit = f"{theirs}{self.unit}."
        rules = self.convolution(f"{ours}unit.conv.", layer.unit.conv, unit)
        rules += norm(f"{ours}unit.norm", layer.unit.norm, [f"{unit}bn"])
        rules += _shortcut(f"{ours}unit.shortcut", layer.unit.shortcut, f"{unit}down.0", f"{unit}down.1")
        rules += self.temporal(f"{ours}temporal.", layer.temporal, f"{theirs}{self.time}.")
        rules += _shortcut(f"{ours}shortcut", layer.shortcut, f"{theirs}residual.conv", f"{theirs}residual.bn")
        return rules


def _shortcut(ours: str, shortcut: Any, convolution: str, batch_norm: str) -> list[Rule]:
    if shortcut is None or shortcut.same:
        return []
    return linear(f"{ours}.map", shortcut.map, [convolution]) + norm(f"{ours}.norm", shortcut.norm, [batch_norm])
