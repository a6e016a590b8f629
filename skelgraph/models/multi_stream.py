"""Several networks on the same clips, trained together and summed: part streams, and streams of joints and bones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from skelgraph.batch import Batch, ClipSpec, Output, as_batch
from skelgraph.errors import UserError, unknown
from skelgraph.models.base import MODELS, Exports, Model, load_exact
from skelgraph.models.gcn_family import UNIFIED
from skelgraph.nn.streams import parse_input
from skelgraph.topology import Topology

Streams = Sequence[str] | Mapping[str, Mapping[str, Any]]
PSUMNET_DEPTHS = {"body": 10, "hands": 6, "legs": 4}


@MODELS.register("multi_stream")
class MultiStream(Model):
    """One network for each stream; the answer is the weighted sum of their logits.

    The networks share nothing but the clip, so with one loss for each (method ``supervised``) this is what training
    them apart would give, in one run and from one augmented clip.

    Args:
        spec: the input.
        base: the network, ``ctrgcn`` or ``{name: ctrgcn, width: 32}``.
        streams: names, each an input (``bone``) or a part of the topology (``legs``); or ``{name: settings}``, where
            the settings go on top of ``base``. There any name will do; one that is an input or a part means that.
        fusion: weight of each stream's logits in the sum; 1 where nothing is said.

    Shapes:
        joints (N, M, T, V, C); logits and each of ``Output.streams`` (N, K); features (N, sum of the widths).

    Raises:
        UserError: no network, no stream, a name that is neither input nor part, a fusion weight for no stream.
    """

    def __init__(
        self,
        spec: ClipSpec,
        *,
        base: str | Mapping[str, Any],
        streams: Streams,
        fusion: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(spec)
        plan = _plan(streams, spec.topology)
        for name in fusion or {}:
            if name not in plan:
                raise unknown("stream", name, plan, "fusion")
        common = {"name": base} if isinstance(base, str) else dict(base)
        networks = {}
        for name, settings in plan.items():
            merged = {**common, **settings}
            if "name" not in merged:
                raise UserError("base: name the network, for example {name: ctrgcn}.")
            networks[name] = MODELS.create(merged.pop("name"), spec, **merged)
        self.networks = nn.ModuleDict(networks)
        self.fusion = {name: float((fusion or {}).get(name, 1.0)) for name in networks}
        self.feature_dim = sum(network.feature_dim for network in networks.values())

    def forward_features(self, batch: Batch) -> Tensor:
        return torch.cat([network.forward_features(batch) for network in self._all().values()], dim=-1)

    def forward(self, clips: Batch | Tensor) -> Output:
        batch = as_batch(clips)
        answers = {name: network(batch) for name, network in self._all().items()}
        features = torch.cat([answer.features for answer in answers.values()], dim=-1)
        if not isinstance(self.head, nn.Identity):  # a linear probe on all streams together
            return Output(logits=self.head(features), features=features)
        streams = {name: answer.logits for name, answer in answers.items()}
        weighted = [self.fusion[name] * logits for name, logits in streams.items()]
        return Output(logits=sum(weighted[1:], weighted[0]), features=features, streams=streams)

    def stream(self, name: str) -> Model:
        """The network of one stream, which answers on its own.

        Raises:
            UserError: no such stream, or one without a classifier of its own.
        """
        if name not in self.networks:
            raise unknown("stream", name, self.networks, type(self).__name__)
        if not isinstance(self.head, nn.Identity):
            raise UserError(f"stream '{name}' has no classifier of its own: one was trained on all streams together.")
        return self._all()[name]

    def reset_classifier(self, classes: tuple[str, ...]) -> None:
        self.spec, self.head = replace(self.spec, classes=tuple(classes)), nn.Identity()
        for network in self._all().values():
            network.reset_classifier(classes)

    def consume(self, exports: Exports) -> None:
        """Start from another multi-stream network of the same streams; classifiers stay as they are."""
        if "backbone" not in exports:
            raise UserError(f"MultiStream needs an exported 'backbone'; got {sorted(exports)}.")
        heads = ("head.", *(f"networks.{name}.head." for name in self.networks))
        load_exact(self, {k: v for k, v in exports["backbone"].items() if not k.startswith(heads)}, ignore=heads)

    def _all(self) -> dict[str, Model]:
        return dict(self.networks.items())  # type: ignore[arg-type]


def _plan(streams: Streams, topology: Topology) -> dict[str, dict[str, Any]]:
    """The settings of each stream."""
    if not isinstance(streams, Mapping):
        for name in _listed(streams):
            if not _meaning(name, topology):
                raise unknown("stream", name, [*topology.part_names, *UNIFIED, "skip"])
        streams = {name: {} for name in streams}
    if not streams:
        raise UserError("streams: name at least one.")
    return {name: {**_meaning(name, topology), **(settings or {})} for name, settings in streams.items()}


def _listed(streams: Sequence[str]) -> Sequence[str]:
    if isinstance(streams, str):
        raise UserError(f"streams: write a list, [{streams}].")
    if len(set(streams)) < len(streams):
        raise UserError("streams: a name stands there twice.")
    return streams


def _meaning(name: str, topology: Topology) -> dict[str, Any]:
    """What the name of a stream alone says: a part, an input, or nothing."""
    if name in topology.part_names:
        return {"part": name}
    try:
        parse_input(name)
    except UserError:
        return {}
    return {"inputs": [name]}


@MODELS.register("psumnet")
def psumnet(
    spec: ClipSpec,
    *,
    streams: Sequence[str] = ("body", "hands", "legs"),
    inputs: Sequence[str] = UNIFIED,
    frame: str = "global",
    width: int = 64,
    depths: Mapping[str, int] = PSUMNET_DEPTHS,
    relation_min: int = 1,
    fusion: Mapping[str, float] | None = None,
    ignore_absent: bool = False,
    dropout: float = 0.0,
    backend: str | None = None,
) -> MultiStream:
    """PSUMNet: a network for each part, which sees joints, bones and both their motions at once.

    Args:
        spec: the input; its topology names the parts.
        streams: parts.
        inputs: the unified modality, see `skelgraph.nn.Streams`.
        frame: ``global`` as published (a part keeps its place in the body), ``local`` moves each part to its root.
        width: base width of every stream.
        depths: layers of the stream of a part: 10, 6 or 4; a part that is not named here has 10.
        relation_min: least width of the relation maps; 1 as published, see `ChannelwiseGraphConv`.
        fusion: weights of the parts' logits.
        ignore_absent, dropout, backend: as in `GraphStack`.

    Source: Trivedi and Sarvadevabhatla, ECCV Workshops 2022.
    """
    base = {
        "name": "psumnet_stream",
        "spatial": {"name": "channelwise", "relation_min": relation_min},
        "inputs": inputs, "frame": frame, "width": width, "ignore_absent": ignore_absent, "dropout": dropout,
        "backend": backend,
    }  # fmt: skip
    parts = {name: {"part": name, "depth": {**PSUMNET_DEPTHS, **depths}.get(name, 10)} for name in _listed(streams)}
    return MultiStream(spec, base=base, streams=parts, fusion=fusion)
