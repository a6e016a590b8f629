"""The recurrent encoder of the contrastive family (HaLP, CMD): gated recurrent units over flattened frames."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skelgraph.batch import Batch, ClipSpec
from skelgraph.errors import UserError, unknown
from skelgraph.models.base import MODELS, Model
from skelgraph.nn.gru import GRU
from skelgraph.nn.norm import RowNorm, over_rows
from skelgraph.nn.streams import Streams

RECURRENCES = ("causal", "bidirectional")
_RELEASED = re.compile(r"encoder\.gru\.((?:weight|bias)_[ih]h)_l(\d+)(_reverse)?")


class GRUPair(nn.Module):
    """Two recurrent units side by side on the same sequence, their outputs concatenated.

    Args:
        width: channels of the input.
        hidden: channels of each unit.
        backwards: the second unit reads the sequence from its end; otherwise both read forward.

    Shapes:
        x (T, N, width); out (T, N, 2 hidden), and the last state of each unit, (N, 2 hidden).
    """

    def __init__(self, width: int, hidden: int, backwards: bool) -> None:
        super().__init__()
        self.first = GRU(width, hidden)
        self.second = GRU(width, hidden)
        self.backwards = backwards

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        one, end = self.first(x)
        two, other_end = self.second(x.flip(0) if self.backwards else x)
        out = torch.cat([one, two.flip(0) if self.backwards else two], dim=-1)
        return out, torch.cat([end[0], other_end[0]], dim=-1)


@MODELS.register("gru")
class Recurrent(Model):
    """Batch norm of the flattened frame, then layers of two gated recurrent units; a clip is their last state.

    The published encoder is called bidirectional but is ``causal``: it is fed one frame at a time and hands the states
    of both directions on, so that both units of a layer run forward in time, and each sees the outputs of both units
    below. ``bidirectional`` lets the second unit of every layer run backwards; its last state is that at the first
    frame.

    Args:
        spec: the input.
        hidden: H, channels of a unit.
        layers: layers of two units.
        recurrence: see above.
        inputs: what the network sees of the joints, see `Streams`; motion is not masked where a person is absent, as
            published.
        part: the part of the topology it works on; None is all of it.

    Shapes:
        joints (N, M, T, V, C); a frame is V C M values with persons fastest, index v C M + c M + m, where C counts the
        channels of all inputs; features (N, 2 H).

    Raises:
        UserError: unknown recurrence, input or part.

    Source: Shah et al., CVPR 2023 (HaLP); Mao et al., ECCV 2022 (CMD). Every matrix begins as Xavier's uniform.
    """

    def __init__(
        self,
        spec: ClipSpec,
        *,
        hidden: int = 1024,
        layers: int = 3,
        recurrence: str = "causal",
        inputs: Sequence[str] = ("joint",),
        part: str | None = None,
    ) -> None:
        super().__init__(spec)
        if recurrence not in RECURRENCES:
            raise unknown("recurrence", recurrence, RECURRENCES)
        self.streams = Streams(spec.topology, inputs, part=part, channels=spec.channels)
        width = len(self.streams.topology.joints) * self.streams.out_channels * spec.persons
        self.feature_dim = 2 * hidden
        self.norm = RowNorm(width)
        self.layers = nn.ModuleList(
            GRUPair(self.feature_dim if layer else width, hidden, recurrence == "bidirectional")
            for layer in range(layers)
        )
        for weight in self.layers.parameters():
            if weight.dim() == 2:
                nn.init.xavier_uniform_(weight)
        if spec.classes:
            self.reset_classifier(spec.classes)

    def make_head(self, num_classes: int) -> nn.Module:
        head = nn.Linear(self.feature_dim, num_classes)
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)
        return head

    def flattened(self, batch: Batch) -> Tensor:
        """The frames that the network reads, before the norm: ``(N, T, V C M)``."""
        expected = (self.spec.persons, self.spec.joints, self.spec.channels)
        n, m, t, v, c = batch.keypoints.shape
        if (m, v, c) != expected:
            raise UserError(
                "this network was built for {} persons, {} joints and {} channels and got {}, {} and {}.".format(
                    *expected, m, v, c
                )
            )
        return self.streams(batch.keypoints).permute(0, 2, 3, 4, 1).reshape(n, t, -1)

    def all_frames(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Outputs of the top layer at every frame ``(N, T, 2 H)``, and the clip's features ``(N, 2 H)``."""
        h = end = over_rows(self.norm, self.flattened(batch)).transpose(0, 1)
        for layer in self.layers:
            h, end = layer(h)
        return h.transpose(0, 1), end

    def forward_features(self, batch: Batch) -> Tensor:
        return self.all_frames(batch)[1]


def released_name(key: str) -> str | None:
    """The name in `Recurrent` of a tensor of a released encoder; None for what is not part of it (the head, ``fc``).

    ``encoder.gru.weight_ih_l1_reverse`` is ``layers.1.second.weight_ih_l0``, ``input_norm.weight`` is ``norm.weight``.
    """
    if key.startswith("input_norm."):
        return key.removeprefix("input_")
    found = _RELEASED.fullmatch(key)
    if found is None:
        return None
    tensor, layer, reverse = found.groups()
    return f"layers.{layer}.{'second' if reverse else 'first'}.{tensor}_l0"
