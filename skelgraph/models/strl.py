"""STRL: spatio-temporal network whose spatial operators are copies of a pre-trained SkeletonMAE encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.batch import Batch, ClipSpec
from skelgraph.errors import UserError, unknown
from skelgraph.models.base import MODELS, Exports, Model, load_exact
from skelgraph.models.skeletonmae import GraphEncoder, JointEmbedding
from skelgraph.nn.norm import RowNorm, over_rows
from skelgraph.nn.temporal import MultiScaleTemporal

RESIDUALS = ("sum", "concat")
MTPS = ("layer", "final")
INTERACTIONS = ("none", "swap")


class STRLLayer(nn.Module):
    """One layer: spatial modelling by an encoder for each person, a channel mix, then time.

    ``SM(h) = repeat(sum over joints of encoder(h)) (+) residual(h)`` (eq. 3); ``h' = relu(bn(mix(SM(h))))`` (eq. 4);
    then multi-scale temporal pooling where ``temporal`` is given. ``mix`` and ``residual`` are both linear, so they
    are applied as one product ``mix . residual`` to the joints, and ``mix`` alone to the pooled vector.

    Args:
        encoders: one for each person, or one that all share.
        in_dim, dim, hidden: width of h, of the encoder's input, and of its output.
        width: width of the result.
        residual: (+) as ``sum`` or ``concat``.
        interaction: ``swap`` adds the other persons' pooled vectors through a linear map.
        stride: along time; 0 leaves the temporal block out.

    Shapes:
        h (N, M, T, V, in_dim), present (N, M) bool; out (N, M, T', V, width).
    """

    def __init__(
        self,
        encoders: Sequence[GraphEncoder],
        in_dim: int,
        dim: int,
        hidden: int,
        width: int,
        *,
        residual: str = "sum",
        interaction: str = "none",
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.adapter: nn.Module = nn.Linear(in_dim, dim) if in_dim != dim else nn.Identity()
        self.concat = residual == "concat"
        self.residual = nn.Linear(in_dim, hidden)
        self.mix = nn.Linear(2 * hidden if self.concat else hidden, width)
        self.norm = RowNorm(width)
        self.interaction = nn.Linear(hidden, hidden) if interaction == "swap" else None
        self.temporal: nn.Module = MultiScaleTemporal(width, width, stride, residual=True) if stride else nn.Identity()

    def pooled(self, h: Tensor, present: Tensor) -> Tensor:
        """Sum over the joints of each person's encoding, ``(N, M, T, D_h)``."""
        x = self.adapter(h)
        if len(self.encoders) == 1:
            pooled: Tensor = self.encoders[0](x).sum(-2)
        else:
            pooled = torch.stack([encoder(x[:, p]).sum(-2) for p, encoder in enumerate(self.encoders)], dim=1)
        if self.interaction is None:
            return pooled
        here = present[:, :, None, None].to(pooled.dtype)
        others = (pooled * here).sum(1, keepdim=True) - pooled * here
        count = here.sum(1, keepdim=True) - here
        return pooled + self.interaction(others / count.clamp(min=1.0)) * (count > 0)

    def forward(self, h: Tensor, present: Tensor) -> Tensor:
        n, m, t, v, _ = h.shape
        hidden = self.residual.out_features
        mix_pooled = self.mix.weight[:, :hidden]
        mix_joints = self.mix.weight[:, hidden:] if self.concat else mix_pooled
        joints = F.linear(h, mix_joints @ self.residual.weight)
        bias = torch.addmv(self.mix.bias, mix_joints, self.residual.bias)
        pooled = F.linear(self.pooled(h, present), mix_pooled, bias)
        out = F.relu(over_rows(self.norm, joints + pooled.unsqueeze(-2)))
        out = self.temporal(out.view(n * m, t, v, -1))
        return out.view(n, m, -1, v, out.shape[-1])


@MODELS.register("strl")
class STRL(Model):
    """Spatio-temporal representation learning on pre-trained encoders, the fine-tuning half of SSL.

    Joints are embedded, a temporal position table is added, ``layers`` times an `STRLLayer` follows, and the mean over
    time, joints and the persons present goes through a small MLP.

    Args:
        spec: the input; its persons each have their own encoder in every layer.
        dim, hidden, encoder_layers, conv, norm, eps, joint_pe: as of the pre-trained `SkeletonMAE`.
        layers: M of the paper.
        widths: width of each layer's result; None keeps ``hidden``.
        share_persons: one encoder a layer for all persons, so that their order has no influence.
        residual: ``sum`` or ``concat`` of eq. 3.
        mtp: temporal block in every ``layer``, or once ``final``.
        strides: of the temporal blocks, one a layer; None means 1, 2, 2, ... (with ``final``: one block of stride 1).
        interaction: ``none``, or ``swap``: each person also receives the others' pooled vectors.
        freeze_encoder: encoders, embedding and joint table stay as loaded, batch-norm statistics included.
        dropout: before the last linear layer.
        backend: see `propagate`.

    Raises:
        UserError: unknown option, or lists whose length is not the number of layers.

    Source: equations 3 and 4; everything the paper leaves open as in docs/skeletonmae.md.
    """

    def __init__(
        self,
        spec: ClipSpec,
        *,
        dim: int = 64,
        hidden: int = 64,
        encoder_layers: int = 3,
        conv: str = "gin",
        norm: str = "batch",
        eps: float = 0.0,
        joint_pe: bool = False,
        layers: int = 3,
        widths: Sequence[int] | None = None,
        share_persons: bool = False,
        residual: str = "sum",
        mtp: str = "layer",
        strides: Sequence[int] | None = None,
        interaction: str = "none",
        freeze_encoder: bool = False,
        dropout: float = 0.0,
        backend: str | None = None,
    ) -> None:
        super().__init__(spec)
        options = (("residual", residual, RESIDUALS), ("mtp", mtp, MTPS), ("interaction", interaction, INTERACTIONS))
        for kind, value, allowed in options:
            if value not in allowed:
                raise unknown(kind, value, allowed)
        outs = _one_a_layer("widths", widths or [hidden] * layers, layers)
        steps = _one_a_layer("strides", strides or [1] + [2] * (layers - 1), layers)
        self.freeze_encoder, self.dropout = freeze_encoder, dropout
        self.feature_dim = outs[-1]
        self.embed = nn.Linear(spec.channels, dim)
        self.joint_pe = JointEmbedding(spec.joints, dim) if joint_pe else None
        self.time = nn.Parameter(torch.zeros(spec.frames, dim))
        adjacency = torch.as_tensor(spec.topology.adjacency("plain"), dtype=torch.float32)
        copies = 1 if share_persons else spec.persons

        def encoders() -> list[GraphEncoder]:
            return [
                GraphEncoder(adjacency, dim, hidden, encoder_layers, conv=conv, eps=eps, norm=norm, backend=backend)
                for _ in range(copies)
            ]

        ins = [dim, *outs[:-1]]
        self.layers = nn.ModuleList(
            STRLLayer(
                encoders(), ins[i], dim, hidden, outs[i],
                residual=residual, interaction=interaction, stride=steps[i] if mtp == "layer" else 0,
            )
            for i in range(layers)
        )  # fmt: skip
        self.final: nn.Module = (
            MultiScaleTemporal(outs[-1], outs[-1], residual=True) if mtp == "final" else nn.Identity()
        )
        if freeze_encoder:
            for part in self._pretrained():
                part.requires_grad_(False)
        if spec.classes:
            self.reset_classifier(spec.classes)

    def make_head(self, num_classes: int) -> nn.Module:
        width = self.feature_dim
        return nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Dropout(self.dropout), nn.Linear(width, num_classes)
        )

    def encoders(self) -> list[GraphEncoder]:
        """Every encoder copy, layer by layer."""
        return [encoder for layer in self.layers for encoder in layer.encoders]  # type: ignore[union-attr]

    def _pretrained(self) -> list[nn.Module]:
        return [self.embed, *self.encoders(), *([self.joint_pe] if self.joint_pe is not None else [])]

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        if self.freeze_encoder:
            for part in self._pretrained():
                part.eval()
        return self

    def consume(self, exports: Exports) -> None:
        """Copy a SkeletonMAE's ``embed`` and ``encoder`` into this network: the encoder into every layer and person.

        Raises:
            UserError: a part is missing, or weights are missing, unexpected or of another shape.
        """
        wanted = ["embed", "encoder"] + (["joint_pe"] if self.joint_pe is not None else [])
        absent = [name for name in wanted if name not in exports]
        if absent:
            raise UserError(f"STRL needs an exported {' and '.join(absent)}; got {sorted(exports)}.")
        if "joint_pe" in exports and self.joint_pe is None:
            raise UserError("the encoder was pre-trained with joint_pe; set joint_pe: true for STRL, too.")
        parts: Mapping[str, list[nn.Module]] = {"embed": [self.embed], "encoder": [*self.encoders()]}
        for name, modules in parts.items():
            for module in modules:
                load_exact(module, exports[name])
        if self.joint_pe is not None:
            load_exact(self.joint_pe, exports["joint_pe"])

    def forward_features(self, batch: Batch) -> Tensor:
        keypoints = batch.keypoints
        n, m, t = keypoints.shape[:3]
        if (m, t) != (self.spec.persons, self.spec.frames):
            raise UserError(
                f"STRL was built for {self.spec.persons} persons and {self.spec.frames} frames and got {m} and {t}; "
                "resample the clips or build it for their length."
            )
        h: Tensor = self.embed(keypoints)
        if self.joint_pe is not None:
            h = self.joint_pe(h)
        h = h + self.time[:, None]
        present = batch.valid.any(-1)
        for layer in self.layers:
            h = layer(h, present)
        h = self.final(h.flatten(0, 1)).view(n, m, -1, *h.shape[-2:])
        people = present.to(h.dtype)
        return torch.einsum("nmd,nm->nd", h.mean((2, 3)), people) / people.sum(1, keepdim=True).clamp(min=1.0)


def _one_a_layer(name: str, values: Sequence[int], layers: int) -> list[int]:
    if len(values) != layers:
        raise UserError(f"{name} has {len(values)} figures for {layers} layers.")
    return list(values)
