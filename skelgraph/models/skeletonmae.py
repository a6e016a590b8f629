"""SkeletonMAE: a graph masked autoencoder of single skeleton frames (Yan et al., ICCV 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skelgraph.batch import Batch, ClipSpec
from skelgraph.errors import UserError, unknown
from skelgraph.models.base import MODELS, Model
from skelgraph.nn.gat import GATLayer
from skelgraph.nn.gcn import GCNLayer
from skelgraph.nn.gin import GINLayer

CONVS: dict[str, type[GINLayer] | type[GCNLayer] | type[GATLayer]] = {"gin": GINLayer, "gcn": GCNLayer, "gat": GATLayer}
NORMS = ("batch", "none")
REMASKS = ("none", "zero", "token")


def conv_type(name: str) -> type[GINLayer] | type[GCNLayer] | type[GATLayer]:
    """The graph layer called ``name``.

    Raises:
        UserError: no such layer.
    """
    if name not in CONVS:
        raise unknown("graph layer", name, CONVS)
    return CONVS[name]


class GraphEncoder(nn.Sequential):
    """A stack of graph layers, ``dim -> hidden -> ... -> hidden``; its weights fit any topology.

    Without norm the last layer also loses its outer activation, as in GraphMAE.

    Args:
        adjacency: plain A (V, V).
        dim, hidden: width in, width of every layer out.
        layers: how many.
        conv: ``gin``, ``gcn`` or ``gat``.
        eps: of GIN; one figure or one a layer.
        norm: ``batch`` or ``none``.
        backend: see `propagate`.

    Shapes:
        x (..., V, dim); out (..., V, hidden).
    """

    def __init__(
        self,
        adjacency: Tensor,
        dim: int,
        hidden: int,
        layers: int,
        *,
        conv: str = "gin",
        eps: float | Sequence[float] = 0.0,
        norm: str = "batch",
        backend: str | None = None,
    ) -> None:
        if norm not in NORMS:
            raise unknown("norm", norm, NORMS)
        each = [float(eps)] * layers if isinstance(eps, (int, float)) else list(eps)
        if len(each) != layers:
            raise UserError(f"eps has {len(each)} figures for {layers} encoder layers.")
        batch = norm == "batch"
        super().__init__(
            *(
                conv_type(conv)(
                    adjacency,
                    hidden if i else dim,
                    hidden,
                    hidden,
                    eps=each[i],
                    norm=batch,
                    outer_act=batch or i < layers - 1,
                    backend=backend,
                )
                for i in range(layers)
            )
        )


class JointEmbedding(nn.Module):
    """Adds one learnable vector a joint, so that joints behind the same mask token can be told apart.

    Shapes:
        x (..., V, D); out (..., V, D).
    """

    def __init__(self, joints: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(joints, dim))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight


@MODELS.register("skeletonmae")
class SkeletonMAE(Model):
    """Embeds joints, hides some behind a token, encodes with graph layers and decodes the hidden embeddings.

    ``x = embed(p); h = encoder(where(mask, token, x)); y = decoder(remask(enc2dec(h)))``. Every frame of every person
    is one graph; nothing couples frames. The feature of a clip is the mean of the unmasked encoding over joints and
    over the frames where a person is present.

    Args:
        spec: the input; any number of channels.
        dim: width D of the embedding and the token.
        hidden: width D_h of the encoder.
        layers: encoder layers.
        conv: ``gin``, ``gcn`` or ``gat`` in the encoder.
        decoder: the same for the decoder; None takes ``conv``.
        norm: ``batch`` or ``none``.
        eps: of GIN; one figure, or one for each encoder layer and then the decoder.
        remask: what the decoder sees of masked joints: ``none`` (their encoding), ``zero`` or a second ``token``.
            Joints all of whose neighbours are hidden then decode to a constant.
        joint_pe: add a learnable vector for each joint after masking; the target stays without it.
        backend: see `propagate`.

    Raises:
        UserError: unknown layer, norm or remask; a wrong number of eps.

    Source: equations 1 and 2; bias of the embedding, widths, ``enc2dec`` and the norms as in docs/skeletonmae.md.
    """

    def __init__(
        self,
        spec: ClipSpec,
        *,
        dim: int = 64,
        hidden: int = 64,
        layers: int = 3,
        conv: str = "gin",
        decoder: str | None = None,
        norm: str = "batch",
        eps: float | Sequence[float] = 0.0,
        remask: str = "none",
        joint_pe: bool = False,
        backend: str | None = None,
    ) -> None:
        super().__init__(spec)
        if remask not in REMASKS:
            raise unknown("remask", remask, REMASKS)
        each = [float(eps)] * (layers + 1) if isinstance(eps, (int, float)) else list(eps)
        if len(each) != layers + 1:
            raise UserError(f"eps has {len(each)} figures for {layers} encoder layers and one decoder.")
        adjacency = torch.as_tensor(spec.topology.adjacency("plain"), dtype=torch.float32)
        self.feature_dim = hidden
        self.remask = remask
        self.embed = nn.Linear(spec.channels, dim)
        self.mask_token = nn.Parameter(torch.zeros(dim))
        self.decoder_token = nn.Parameter(torch.zeros(hidden)) if remask == "token" else None
        self.joint_pe = JointEmbedding(spec.joints, dim) if joint_pe else None
        self.encoder = GraphEncoder(
            adjacency, dim, hidden, layers, conv=conv, eps=each[:-1], norm=norm, backend=backend
        )
        self.enc2dec = nn.Linear(hidden, hidden, bias=False)
        self.decoder = conv_type(decoder or conv)(
            adjacency, hidden, hidden, dim,
            eps=each[-1], norm=norm == "batch", outer_norm=False, outer_act=False, backend=backend,
        )  # fmt: skip
        if spec.classes:
            self.reset_classifier(spec.classes)

    def embed_joints(self, batch: Batch) -> Tensor:
        """Embedded joints ``(N, M, T, V, D)``: what is masked, and what is reconstructed."""
        embedded: Tensor = self.embed(batch.keypoints)
        return embedded

    def encode(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode ``x (..., V, D)`` to ``(..., V, D_h)``; where ``mask`` (broadcast to (..., V)) is true x is hidden."""
        if mask is not None:
            x = torch.where(mask.unsqueeze(-1), self.mask_token.to(x.dtype), x)
        if self.joint_pe is not None:
            x = self.joint_pe(x)
        encoded: Tensor = self.encoder(x)
        return encoded

    def decode(self, h: Tensor, mask: Tensor) -> Tensor:
        """Reconstruct embeddings ``(..., V, D)`` from the encoding ``h (..., V, D_h)``."""
        decoded: Tensor = self.decoder(self.decoder_input(h, mask))
        return decoded

    def decoder_input(self, h: Tensor, mask: Tensor) -> Tensor:
        """``enc2dec(h)``, its masked rows hidden again where ``remask`` asks for it."""
        r: Tensor = self.enc2dec(h)
        if self.remask == "zero":
            return r.masked_fill(mask.unsqueeze(-1), 0.0)
        if self.decoder_token is not None:
            return torch.where(mask.unsqueeze(-1), self.decoder_token.to(r.dtype), r)
        return r

    def reconstruct(self, x: Tensor, mask: Tensor) -> Tensor:
        """Reconstruction ``y (..., V, D)`` of the embeddings ``x`` from what the mask leaves of them."""
        return self.decode(self.encode(x, mask), mask)

    def forward_features(self, batch: Batch) -> Tensor:
        frames = self.encode(self.embed_joints(batch)).mean(-2)
        present = batch.valid.unsqueeze(-1).to(frames.dtype)
        return (frames * present).sum((1, 2)) / present.sum((1, 2)).clamp(min=1.0)
