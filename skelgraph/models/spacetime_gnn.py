"""Message passing over the whole graph of a clip: joints, time and persons are edges of different types.

Letters: N clips, M persons, T frames, V joints, C coordinates, D channels, R nodes of a batch and one more.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.batch import Batch, ClipSpec
from skelgraph.errors import UserError
from skelgraph.graph import InterPerson, TemporalGraph, tile_edges
from skelgraph.models.base import MODELS, Model
from skelgraph.nn.pyg_conv import build_conv, find_conv, needed_inputs

RELATIONS = ("spatial", "past", "future", "person")


class MaskedNorm(nn.Module):
    """Batch norm whose statistics leave out what is masked; one value each if nothing is.

    Own code and not a ``BatchNorm1d`` of selected rows, since selecting would make the host wait for the device.

    Shapes:
        x (rows, features), mask (rows, features or 1) bool; out (rows, features), unspecified where masked.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight, self.bias = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        if self.training:
            kept = mask.to(x.dtype)
            found = kept.sum(0)
            count = found.clamp(min=1)
            mean = (x * kept).sum(0) / count
            variance = ((x - mean).square() * kept).sum(0) / count
            with torch.no_grad():
                # A feature that nobody shows in this batch teaches nothing about its mean.
                rate = self.momentum * (found > 0).to(x.dtype)
                self.running_mean += rate * (mean - self.running_mean)
                self.running_var += rate * (variance * count / (count - 1).clamp(min=1) - self.running_var)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (x - mean) * scale + self.bias


class RelationalLayer(nn.Module):
    """``out = W_0 x + b + sum_r conv_r(x, edges_r)``: RGCN (Schlichtkrull et al., ESWC 2018) with any convolution.

    Args:
        relations: types of edges.
        in_channels, out_channels: widths.
        conv: a name of PyG's layers or of `CONVS`.
        settings: its own settings. Where it has ``root_weight`` and ``bias`` these are off, since W_0 and b stand for
            them; then a type without edges adds exactly nothing.

    Shapes:
        x (R, in_channels), edges {relation: (2, E)}; out (R, out_channels).

    Raises:
        UserError: an unknown layer or setting, a layer that needs more than nodes and edges.
    """

    def __init__(
        self, relations: tuple[str, ...], in_channels: int, out_channels: int, conv: str, settings: Mapping[str, Any]
    ) -> None:
        super().__init__()
        kind = find_conv(conv)
        if needed := needed_inputs(kind):
            raise UserError(f"graph layer '{conv}' needs {', '.join(needed)}; here are only nodes and edges.")
        self.root = nn.Linear(in_channels, out_channels)
        accepted = inspect.signature(kind.__init__).parameters
        own = {name: False for name in ("root_weight", "bias") if name in accepted} | dict(settings)
        self.convs = nn.ModuleDict({name: build_conv(kind, in_channels, out_channels, **own) for name in relations})

    def forward(self, x: Tensor, edges: Mapping[str, Tensor]) -> Tensor:
        out = self.root(x)
        for name, conv in self.convs.items():
            out = out + conv(x, edges[name])
        return out


@MODELS.register("spacetime_gnn")
class SpaceTimeGNN(Model):
    """Typed-edge graph convolutions over the `TemporalGraph` of a clip.

    Four relations: bones and links (``spatial``), the same joint of earlier frames (``past``) and of later
    ones (``future``; apart, so that a movement and its reversal differ), and the same joint of another person
    (``person``). Input are the coordinates, normalised per joint over what is seen, and the score. Each layer is a
    `RelationalLayer` with norm, residual and ReLU; between layers ``temporal_stride`` frames become their mean. The
    feature is the mean over all nodes that are there.

    An absent person has no influence: edges that touch an absent node are bent to one additional node that nobody
    reads. That keeps the shapes fixed and holds for every kind of convolution.

    Args:
        spec: input; its ``frames`` and ``persons`` fix the graph.
        channels: D.
        layers: graph layers.
        conv: any layer of PyG or of `CONVS` that needs only nodes and edges.
        conv_settings: its settings.
        temporal_stride: frames pooled before every layer but the first; 1 for none.
        temporal_hops: frames that a temporal edge may reach.
        inter_person: where persons meet, see `TemporalGraph`.
        dropout: of each layer's output.

    Shapes:
        keypoints (N, M, T, V, C) -> features (N, D).
    """

    def __init__(
        self, spec: ClipSpec, *, channels: int = 64, layers: int = 3, conv: str = "SAGEConv",
        conv_settings: Mapping[str, Any] | None = None, temporal_stride: int = 2, temporal_hops: int = 1,
        inter_person: InterPerson = "root", dropout: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__(spec)
        if layers < 1 or temporal_stride < 1:
            raise UserError(f"layers and temporal_stride must be 1 or more, got {layers} and {temporal_stride}.")
        self.feature_dim, self.stride = channels, temporal_stride
        self.input_norm = MaskedNorm(spec.joints * spec.channels)
        self.embed = nn.Linear(spec.channels + 1, channels)
        self.joint = nn.Parameter(torch.randn(spec.joints, channels) * 0.02)
        self.layers, self.norms = nn.ModuleList(), nn.ModuleList()
        self.relations: list[tuple[str, ...]] = []
        self.dropout = nn.Dropout(dropout)
        frames = spec.frames
        for number in range(layers):
            frames = -(-frames // temporal_stride) if number else frames
            graph = TemporalGraph(
                spec.topology, frames, spec.persons, temporal_hops=temporal_hops, inter_person=inter_person
            )
            self.relations.append(self._add_edges(number, graph))
            self.layers.append(RelationalLayer(self.relations[number], channels, channels, conv, conv_settings or {}))
            self.norms.append(MaskedNorm(channels))
        self.reset_classifier(spec.classes)

    def _add_edges(self, number: int, graph: TemporalGraph) -> tuple[str, ...]:
        """Keep the edges of one layer as buffers; the relations that have any."""
        edges = {name: graph.edges(name) for name in RELATIONS}
        edges = {name: index for name, index in edges.items() if index.shape[1]}
        for name, index in edges.items():
            self.register_buffer(f"edges_{number}_{name}", index, persistent=False)
        return tuple(edges)

    def forward_features(self, batch: Batch) -> Tensor:
        x, valid = self._embed(batch)
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            if number:
                x, valid = self._pool(x, valid)
            shape = x.shape
            rows, mask = self._rows(x, valid)
            updated = norm(layer(rows, self._edges(number, shape, mask)), mask.unsqueeze(-1))
            rows = torch.where(mask.unsqueeze(-1), self.dropout(F.relu(updated + rows)), 0.0)
            x = rows[:-1].view(shape)
        count = valid.sum((1, 2)).clamp(min=1) * x.shape[3]
        return x.sum((1, 2, 3)) / count.unsqueeze(-1)

    def _embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Nodes (N, M, T, V, D), zero where absent, and who is there (N, M, T)."""
        points, valid = batch.keypoints, batch.valid
        expected = (self.spec.persons, self.spec.frames, self.spec.joints, self.spec.channels)
        if tuple(points.shape[1:]) != expected:
            raise UserError(f"spacetime_gnn expects clips of M, T, V, C = {expected}, got {tuple(points.shape[1:])}.")
        seen = (valid.unsqueeze(-1) & (batch.score > 0)).unsqueeze(-1)
        flat = torch.where(seen, points, 0.0).flatten(0, 2).flatten(1)
        points = self.input_norm(flat, seen.expand_as(points).flatten(0, 2).flatten(1)).view_as(points)
        nodes = torch.where(seen, torch.cat([points, batch.score.unsqueeze(-1)], -1), 0.0)
        nodes = self.embed(nodes) + self.joint
        return torch.where(valid[..., None, None], nodes, 0.0), valid

    def _pool(self, x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of every ``stride`` frames over those that are there; a short last group counts with what it has."""
        if self.stride == 1:
            return x, valid
        missing = -x.shape[2] % self.stride
        x, valid = F.pad(x, (0, 0, 0, 0, 0, missing)), F.pad(valid, (0, missing))
        groups = valid.unflatten(2, (-1, self.stride))
        count = groups.sum(3).clamp(min=1)[..., None, None]
        return x.unflatten(2, (-1, self.stride)).sum(3) / count, groups.any(3)

    @staticmethod
    def _rows(x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes as rows with the additional one at the end (R, D), and which of them are there (R,)."""
        there = valid.unsqueeze(-1).expand(x.shape[:-1]).flatten()
        return F.pad(x.reshape(-1, x.shape[-1]), (0, 0, 0, 1)), F.pad(there, (0, 1))

    def _edges(self, number: int, shape: torch.Size, there: Tensor) -> dict[str, Tensor]:
        """The edges of all clips of a batch; those that touch an absent node run from the additional node to itself."""
        # Sizes as ``shape[0]``: ``len()`` would fix the batch size of an exported model.
        clips, nodes = shape[0], shape[1:4].numel()
        last = clips * nodes
        result = {}
        for name in self.relations[number]:
            index = tile_edges(getattr(self, f"edges_{number}_{name}"), clips, nodes)
            result[name] = torch.where(there[index[0]] & there[index[1]], index, last)
        return result
