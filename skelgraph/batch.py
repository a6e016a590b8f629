"""What travels between the parts: `Batch` from the loader, `ClipSpec` to a model, `Output` from a model.

Letters: N clips, M persons, T frames, V joints, C channels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from skelgraph.errors import UserError
from skelgraph.topology import Topology


@dataclass(frozen=True)
class ModalitySpec:
    """Shape of one further modality of a clip: ``(steps, *shape)`` values of the given kind.

    Attributes:
        kind: ``frames`` (each step is ``(C, h, w)``), ``sequence`` or ``features``.
        mirror: signs that make the values of a step those of a mirror image, where there are such.
    """

    kind: str
    steps: int
    shape: tuple[int, ...]
    mirror: tuple[float, ...] | None = None


@dataclass(frozen=True)
class ClipSpec:
    """What a model must know of its input before it can be built.

    Attributes:
        topology: joints, bones and parts.
        channels: coordinates a joint has, C (2 or 3).
        persons: M.
        frames: T.
        classes: class names; empty for a model without classifier.
        modalities: further modalities beside the skeleton, by name.
    """

    topology: Topology
    channels: int = 3
    persons: int = 1
    frames: int = 64
    classes: tuple[str, ...] = ()
    modalities: Mapping[str, ModalitySpec] = field(default_factory=dict)

    @property
    def joints(self) -> int:
        """V."""
        return len(self.topology.joints)

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.classes)


@dataclass(frozen=True)
class Modality:
    """Values ``(N, S, ...)`` of one modality with ``valid (N, S)``; what is not valid has no influence, even if NaN.

    Attributes:
        kind, mirror: see `ModalitySpec`; an empty kind is unknown.
    """

    values: Tensor
    valid: Tensor
    kind: str = ""
    mirror: tuple[float, ...] | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> Modality:
        """A copy with ``function`` applied to both tensors."""
        return replace(self, values=function(self.values), valid=function(self.valid))


@dataclass(frozen=True)
class Batch:
    """Clips of equal length.

    Shapes:
        keypoints (N, M, T, V, C) float; score (N, M, T, V) in [0, 1], 0 = missing; valid (N, M, T) bool, false where
        the person is absent; label (N,) int64, -1 = unlabelled; index (N,) position in the store, equal for the
        views of one clip; image_size (N, 2) height and width in pixels, NaN = unknown; fps (N,), NaN = unknown.
    """

    keypoints: Tensor
    score: Tensor
    valid: Tensor
    label: Tensor
    index: Tensor
    image_size: Tensor
    fps: Tensor
    modalities: Mapping[str, Modality] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keypoints)

    @classmethod
    def of(cls, keypoints: Tensor) -> Batch:
        """A batch from bare joints ``(N, M, T, V, C)``: all visible, persons absent where all coordinates are 0."""
        if keypoints.dim() != 5:
            raise UserError(f"expected joints of shape (N, M, T, V, C), got {tuple(keypoints.shape)}.")
        n = keypoints.shape[0]
        valid = (keypoints != 0).any(-1).any(-1)
        return cls(
            keypoints=keypoints,
            score=valid.unsqueeze(-1).expand(keypoints.shape[:-1]).to(keypoints.dtype),
            valid=valid,
            label=keypoints.new_full((n,), -1, dtype=torch.long),
            index=torch.arange(n, device=keypoints.device),
            image_size=keypoints.new_full((n, 2), float("nan")),
            fps=keypoints.new_full((n,), float("nan")),
        )

    def with_(self, **changes: Any) -> Batch:
        """A copy with some fields replaced."""
        return replace(self, **changes)

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """A copy with ``function`` applied to every tensor."""
        changed = {name: function(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        modalities = {name: item.map(function) for name, item in self.modalities.items()}
        return replace(self, **changed, modalities=modalities)

    def to(self, *args: Any, **kwargs: Any) -> Batch:
        """Move to a device (the name Lightning looks for)."""
        return self.map(lambda tensor: tensor.to(*args, **kwargs))

    def __getitem__(self, rows: Any) -> Batch:
        return self.map(lambda tensor: tensor[rows])


@dataclass(frozen=True)
class Output:
    """What a model answers.

    Shapes:
        logits (N, K), empty where there is no classifier; features (N, D), one vector a clip; streams: the logits of
        each named stream of a model that trains several together.
    """

    logits: Tensor
    features: Tensor
    streams: Mapping[str, Tensor] = field(default_factory=dict)


def as_batch(clips: Batch | Tensor) -> Batch:
    """Accept a `Batch` or bare joints ``(N, M, T, V, C)``."""
    return clips if isinstance(clips, Batch) else Batch.of(clips)
