"""Checkpoints of HaLP and CMD as our encoders, heads, key encoders, queues and prototypes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skelgraph import models
from skelgraph.batch import ClipSpec
from skelgraph.errors import UserError
from skelgraph.methods.contrastive import WHOLE, Branch, Embedder, make_projection
from skelgraph.methods.halp import Prototypes
from skelgraph.models import Model
from skelgraph.models.base import load_exact
from skelgraph.models.recurrent import released_name
from skelgraph.topology import Topology
from skelgraph.weights.layout import COUNT, State, misfit
from skelgraph.weights.reading import Source, read
from skelgraph.weights.recurrent import CHANNELS, FAMILY, STREAMS, TITLE, TOPOLOGY, FoundEncoder, fits, measure

FRAMES = 64


class Imported(NamedTuple):
    """What `unpacked` makes of a checkpoint: a model's description and the exports of a stage."""

    spec: ClipSpec
    settings: dict[str, Any]
    exports: dict[str, dict[str, Tensor]]
    found: FoundEncoder


def load(
    source: Source,
    topology: Topology | str | Path | None,
    part: str | None = None,
    inputs: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> Embedder:
    """The encoder of the queries with its head, in eval mode.

    Args:
        source, topology, part: as `skelgraph.weights.load_released` has them.
        inputs: the encoder to take from a file of several, or the input of a single one; by default ``joint``.
        classes: only counted.

    Shapes:
        the network takes joints (N, M, T, V, 3) and gives (N, D), not normalised; logits (N, K) of a classifier.

    Raises:
        UserError: see `unpacked`; or several inputs.
    """
    state, name, found, streams = _opened(source, topology, part, inputs or ["joint"], classes)
    if len(streams) > 1:
        raise UserError(f"inputs: one encoder is given back, not {len(streams)}; name one of {', '.join(streams)}.")
    encoder, head = _parts(state, name, found, streams[0], _prefix("q", streams[0], found), topology)
    return Embedder(encoder, head).eval()


def unpacked(
    source: Source,
    topology: Topology | str | Path | None,
    part: str | None,
    inputs: Sequence[str] | None,
    classes: Sequence[str] | None,
) -> Imported:
    """A checkpoint as the exports of a stage of ``moco`` or ``halp``, or of a classifier's.

    The queue counts as filled twice, which is how the released code ends its warm-up; prototypes are kept where they
    are more than zeros.

    Args:
        source, topology, part: as `skelgraph.weights.load_released` has them.
        inputs: one or several streams; None takes all of the file, or ``joint``.
        classes: names for a classifier; numbers by default.

    Raises:
        UserError: keys that are missing, unknown or misshapen; an input that is none of this family or not in the
            file; names for a head that is no classifier, or another number of them.
    """
    state, name, found, streams = _opened(source, topology, part, inputs, classes)
    whole = len(streams) == 1
    backbone: dict[str, Tensor] = {}
    around: dict[str, Tensor] = {}
    centres: dict[str, Tensor] = {}
    for stream in streams:
        encoder, head = _parts(state, name, found, stream, _prefix("q", stream, found), topology)
        backbone |= _under("" if whole else f"networks.{stream}.", encoder)
        place = f"{WHOLE if whole else stream}."
        if found.head == "classifier":
            backbone |= _under("head." if whole else f"networks.{stream}.head.", head)
        elif found.queue:
            around |= _under(place, _branch(state, name, found, stream, topology, encoder, head))
            centres |= _under(place, _prototypes(state, found, stream))
        parameters = sum(tensor.numel() for part in (encoder, head) for tensor in part.parameters())
    names = (tuple(classes) if classes else tuple(map(str, range(found.dim)))) if found.head == "classifier" else ()
    base = {"name": "gru", "hidden": found.hidden, "layers": found.layers}
    settings = {**base, "inputs": streams} if whole else {"name": "multi_stream", "base": base, "streams": streams}
    exports = {"backbone": backbone, "contrastive": around, "prototypes": centres}
    kept = {part: tensors for part, tensors in exports.items() if tensors}
    return Imported(
        replace(_spec(found, topology), classes=names), settings, kept, replace(found, parameters=parameters)
    )


def _opened(
    source: Source,
    topology: Topology | str | Path | None,
    part: str | None,
    inputs: Sequence[str] | None,
    classes: Sequence[str] | None,
) -> tuple[State, str, FoundEncoder, list[str]]:
    """State dict, its name, its sizes and the streams that are wanted, all held against each other."""
    if part is not None:
        raise UserError(f"part: weights of family '{FAMILY}' see all joints; leave '{part}' out.")
    state, name = read(source)
    if not fits(state):
        raise UserError(f"{name}: no checkpoint of {TITLE}: it has no recurrent encoder of queries.")
    found = measure(state, name, topology)
    if isinstance(inputs, str):
        raise UserError(f"inputs: write a list, [{inputs}].")
    streams = list(inputs or found.streams or ("joint",))
    for stream in streams:
        if stream not in (found.streams or STREAMS):
            raise UserError(f"{name}: has no encoder of '{stream}'; there are {', '.join(found.streams or STREAMS)}.")
    if len(streams) > 1 and not found.streams:
        raise UserError(f"{name}: has one encoder; name its one input, not {len(streams)}.")
    if classes and (found.head != "classifier" or len(classes) != found.dim):
        have = f"{found.dim} classes" if found.head == "classifier" else "a head for embeddings, no classifier"
        raise UserError(f"{name}: has {have}, and {len(classes)} names are given.")
    return state, name, found, streams


def _prefix(side: str, stream: str, found: FoundEncoder) -> str:
    """Of the tensors of one encoder; a file of one encoder has the bare name whatever it was trained on."""
    return f"encoder_{side}{STREAMS[stream][0] if found.streams else ''}."


def _spec(found: FoundEncoder, topology: Topology | str | Path | None) -> ClipSpec:
    return ClipSpec(Topology.load(TOPOLOGY if topology is None else topology), CHANNELS, found.persons, FRAMES)


def _parts(
    state: State, name: str, found: FoundEncoder, stream: str, prefix: str, topology: Topology | str | Path | None
) -> tuple[Model, nn.Module]:
    """One encoder and its head; every tensor below ``prefix`` must find its place, with its shape."""
    with torch.random.fork_rng(devices=[]):
        spec = _spec(found, topology)
        encoder = models.create("gru", spec, hidden=found.hidden, layers=found.layers, inputs=[stream])
        head = make_projection("mlp" if found.head == "mlp" else "linear", encoder.feature_dim, found.dim)
    own, tops = encoder.state_dict(), head.state_dict()
    theirs = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    ours = {key: released_name(key) for key in theirs}
    due = {**{f"fc.{key}": value for key, value in tops.items()}, **{_published(key): own[key] for key in own}}
    counter = f"input_norm.{COUNT}"
    missing = [prefix + key for key in due if key not in theirs and key != counter]
    extra = [prefix + key for key in theirs if key not in due]
    shapes = [
        f"{prefix}{key} {tuple(value.shape)} for {tuple(due[key].shape)}"
        for key, value in theirs.items()
        if key in due and value.shape != due[key].shape and key != counter
    ]
    if missing or extra or shapes:
        raise misfit(name, TITLE, missing, extra, shapes)
    filled = {ours[key] or "": theirs[key].reshape(own[str(ours[key])].shape) for key in theirs if ours[key]}
    load_exact(encoder, {**own, **filled})
    load_exact(head, {key: theirs[f"fc.{key}"] for key in tops})
    return encoder, head


def _published(key: str) -> str:
    """The inverse of `released_name`."""
    found = re.fullmatch(r"layers\.(\d+)\.(first|second)\.(\w+)_l0", key)
    if found is None:
        return f"input_{key}"
    layer, unit, tensor = found.groups()
    return f"encoder.gru.{tensor}_l{layer}{'_reverse' if unit == 'second' else ''}"


def _branch(
    state: State, name: str, found: FoundEncoder, stream: str, topology: Topology | str | Path | None,
    encoder: Model, head: nn.Module,
) -> Branch:  # fmt: skip
    """Head, key encoder and queue of one stream; the released queue has keys as columns."""
    ending = STREAMS[stream][0] if found.streams else ""
    keys, pointer = state.get(f"queue{ending}"), state.get(f"queue_ptr{ending}")
    missing = [key for key, value in ((f"queue{ending}", keys), (f"queue_ptr{ending}", pointer)) if value is None]
    if keys is None or pointer is None:
        raise misfit(name, TITLE, missing, [], [])
    if tuple(keys.shape) != (found.dim, found.queue):
        raise misfit(name, TITLE, [], [], [f"queue{ending} {tuple(keys.shape)} for {(found.dim, found.queue)}"])
    with torch.random.fork_rng(devices=[]):
        branch = Branch(encoder, "mlp" if found.head == "mlp" else "linear", found.dim, found.queue)
    load_exact(branch.projection, head.state_dict())
    key_encoder, key_head = _parts(state, name, found, stream, _prefix("k", stream, found), topology)
    load_exact(branch.key.encoder, key_encoder.state_dict())
    load_exact(branch.key.projection, key_head.state_dict())
    branch.queue.keys.copy_(keys.T)
    branch.queue.seen.set(2 * found.queue + int(pointer.reshape(-1)[0]))
    return branch


def _prototypes(state: State, found: FoundEncoder, stream: str) -> nn.Module:
    """Prototypes of one stream, just made; without parameters where the file has none."""
    centres = state.get(f"prototypes{STREAMS[stream][1] if found.streams else ''}")
    if centres is None or tuple(centres.shape) != (found.prototypes, found.dim) or not centres.any():
        return nn.Identity()
    made = Prototypes(found.prototypes, found.dim)
    made.centres.copy_(centres)
    made.age.set(0)
    return made


def _under(prefix: str, module: nn.Module) -> Mapping[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in module.state_dict().items()}
