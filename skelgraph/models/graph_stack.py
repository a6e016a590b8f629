"""The spatio-temporal graph network that a recipe composes of blocks.

Letters: N clips, M persons, T frames, V joints, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from skelgraph.batch import Batch, ClipSpec
from skelgraph.errors import UserError, unknown
from skelgraph.models.base import MODELS, Model
from skelgraph.nn.block import GraphBlock, GraphUnit
from skelgraph.nn.norm import RowNorm
from skelgraph.nn.spatial import SPATIAL
from skelgraph.nn.streams import Streams
from skelgraph.nn.temporal import TEMPORAL
from skelgraph.registry import Registry

# (width in units of the base width, stride along time) of each layer, by depth.
DEPTHS: Mapping[int, tuple[tuple[int, int], ...]] = {
    10: (*[(1, 1)] * 4, (2, 2), (2, 1), (2, 1), (4, 2), (4, 1), (4, 1)),
    6: ((1, 1), (2, 2), (2, 1), (2, 1), (4, 2), (4, 1)),
    4: ((1, 1), (2, 2), (2, 1), (4, 2)),
}
NORMS = ("joint", "person")
INITS = ("torch", "fan_out")
Choice = str | Mapping[str, Any]


@MODELS.register("graph_stack")
class GraphStack(Model):
    """Input norm, then layers of a graph convolution and a temporal block, then the mean over time, joints, persons.

    The two choices make the published networks: ``static`` and ``plain`` are ST-GCN, ``static`` and ``multi_scale``
    ST-GCN++, ``adaptive`` and ``plain`` 2s-AGCN, ``channelwise`` and ``multi_scale`` CTR-GCN and PSUMNet's streams.

    Args:
        spec: the input.
        spatial: a name of `SPATIAL`, or ``{name: ..., setting: ...}``.
        temporal: likewise of `TEMPORAL`.
        inputs: what the network sees of the joints, see `Streams`; an empty list takes the channels as they are.
        part: the part of the topology it works on; None is all of it.
        frame: ``global``, or ``local`` to the part's root.
        width: base width; layers are once, twice, four times as wide.
        depth: 10, 6 or 4 layers, with widths and strides as published for these.
        layers: in place of ``depth``: a list of [width, stride].
        unit_residual: shortcut around the graph convolution, too.
        input_norm: batch norm of every coordinate of every ``joint``, or of every ``person`` apart, which ties the
            network to the number of persons.
        init: ``torch``, or ``fan_out`` as CTR-GCN.
        head_std: standard deviation of the classifier's first weights; None is sqrt(2 / classes).
        ignore_absent: leave absent persons out of the mean; as published they count as zero input.
        dropout: before the classifier.
        backend: see `propagate`.

    Shapes:
        joints (N, M, T, V, C); features (N, 4 width).

    Raises:
        UserError: unknown block, setting, input or part.
    """

    def __init__(
        self,
        spec: ClipSpec,
        *,
        spatial: Choice = "static",
        temporal: Choice = "multi_scale",
        inputs: Sequence[str] = ("joint",),
        part: str | None = None,
        frame: str = "global",
        width: int = 64,
        depth: int = 10,
        layers: Sequence[Sequence[int]] | None = None,
        unit_residual: bool = True,
        input_norm: str = "joint",
        init: str = "torch",
        head_std: float | None = 0.01,
        ignore_absent: bool = False,
        dropout: float = 0.0,
        backend: str | None = None,
    ) -> None:
        super().__init__(spec)
        for kind, value, allowed in (("input_norm", input_norm, NORMS), ("init", init, INITS)):
            if value not in allowed:
                raise unknown(kind, value, allowed)
        self.streams = Streams(spec.topology, inputs, part=part, frame=frame, channels=spec.channels)
        self.per_person, self.ignore_absent, self.head_std = input_norm == "person", ignore_absent, head_std
        channels, joints = self.streams.out_channels, len(self.streams.topology.joints)
        self.norm = RowNorm(channels * joints * (spec.persons if self.per_person else 1))
        self.layers = nn.ModuleList()
        for number, (wide, stride) in enumerate(_plan(width, depth, layers)):
            unit = GraphUnit(
                _build(SPATIAL, spatial, self.streams.topology, channels, wide, init=init, backend=backend),
                channels, wide, residual=unit_residual, init=init,
            )  # fmt: skip
            time = _build(TEMPORAL, temporal, wide, wide, stride, init=init)
            self.layers.append(GraphBlock(unit, time, channels, wide, stride=stride, residual=number > 0, init=init))
            channels = wide
        self.feature_dim = channels
        self.dropout = nn.Dropout(dropout)
        if spec.classes:
            self.reset_classifier(spec.classes)

    def make_head(self, num_classes: int) -> nn.Module:
        head = nn.Linear(self.feature_dim, num_classes)
        nn.init.normal_(head.weight, std=(2 / num_classes) ** 0.5 if self.head_std is None else self.head_std)
        if self.head_std is not None:
            nn.init.zeros_(head.bias)
        return head

    def normed(self, x: Tensor) -> Tensor:
        """The input norm: stream tensor ``(N, M, T, V, C)`` to ``(N M, T, V, C)``."""
        n, m, t, v, c = x.shape
        if self.per_person:
            if m != self.spec.persons:
                raise UserError(f"this network norms {self.spec.persons} persons apart and got {m}; set data.persons.")
            rows = self.norm(x.transpose(1, 2).reshape(n * t, m * v * c))
            return rows.view(n, t, m, v, c).transpose(1, 2).reshape(n * m, t, v, c)
        return self.norm(x.reshape(n * m * t, v * c)).view(n * m, t, v, c)

    def forward_features(self, batch: Batch) -> Tensor:
        joints, channels = batch.keypoints.shape[3:]
        if (joints, channels) != (self.spec.joints, self.spec.channels):
            raise UserError(
                f"this network was built for {self.spec.joints} joints of {self.spec.channels} channels and got "
                f"{joints} of {channels}."
            )
        x = self.streams(batch.keypoints, batch.valid)
        n, m = x.shape[:2]
        h = self.normed(x)
        for layer in self.layers:
            h = layer(h)
        people = h.mean((1, 2)).view(n, m, -1)
        if not self.ignore_absent:
            return self.dropout(people.mean(1))
        present = batch.valid.any(-1).to(people.dtype)
        mean = torch.einsum("nmd,nm->nd", people, present) / present.sum(1, keepdim=True).clamp(min=1.0)
        return self.dropout(mean)


def _plan(width: int, depth: int, layers: Sequence[Sequence[int]] | None) -> list[tuple[int, int]]:
    """Width and stride of each layer."""
    if layers is not None:
        pairs = [item for item in layers if isinstance(item, Sequence) and len(item) == 2 and min(item) >= 1]
        if not pairs or len(pairs) < len(layers):
            raise UserError("layers: write a list of [width, stride], for example [[64, 1], [128, 2]].")
        return [(int(wide), int(stride)) for wide, stride in pairs]
    if depth not in DEPTHS:
        raise UserError(f"depth {depth} is none of {', '.join(map(str, DEPTHS))}; or list the layers: [[64, 1], ...].")
    return [(times * width, stride) for times, stride in DEPTHS[depth]]


def _build(registry: Registry, choice: Choice, *args: Any, **common: Any) -> nn.Module:
    """A block by name or ``{name: ..., setting: ...}``; of ``common`` it receives what it has a parameter for."""
    settings = {"name": choice} if isinstance(choice, str) else dict(choice)
    if "name" not in settings:
        raise UserError(f"{registry.kind}: write {{name: ...}}; known are {', '.join(registry.names())}.")
    name = settings.pop("name")
    known = registry.settings(name)
    block: nn.Module = registry.create(name, *args, **{k: v for k, v in common.items() if k in known} | settings)
    return block


def raw_spec(spec: ClipSpec, part: str | None, inputs: int) -> ClipSpec:
    """The spec of a network that is fed its stream tensor itself: the part's joints, all inputs as channels."""
    topology = spec.topology if part is None else spec.topology.part(part)
    return replace(spec, topology=topology, channels=spec.channels * inputs)
