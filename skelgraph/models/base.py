"""The contract every architecture keeps, so that one engine trains, exports and explains all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from skelgraph.batch import Batch, ClipSpec, Output, as_batch
from skelgraph.errors import UserError
from skelgraph.registry import Registry

MODELS: Registry = Registry("model")
Exports = Mapping[str, Mapping[str, Tensor]]


class Model(nn.Module):
    """Base of all models: features of a clip, then a head.

    A subclass sets ``feature_dim``, builds ``self.head`` (or leaves it to `reset_classifier`) and writes
    `forward_features`. Settings a recipe may change are keyword-only parameters of its ``__init__``.

    Args:
        spec: what the model must know of its input.
    """

    feature_dim: int

    def __init__(self, spec: ClipSpec) -> None:
        super().__init__()
        self.spec = spec
        self.head: nn.Module = nn.Identity()

    def forward_features(self, batch: Batch) -> Tensor:
        """One vector a clip, ``(N, D)``."""
        raise NotImplementedError

    def make_head(self, num_classes: int) -> nn.Module:
        """The classifier put on the features; a subclass may return another."""
        return nn.Linear(self.feature_dim, num_classes)

    def forward(self, clips: Batch | Tensor) -> Output:
        """Classify clips given as a `Batch` or as bare joints ``(N, M, T, V, C)``."""
        features = self.forward_features(as_batch(clips))
        logits = self.head(features) if self.spec.classes else features.new_zeros(len(features), 0)
        return Output(logits=logits, features=features)

    def reset_classifier(self, classes: tuple[str, ...]) -> None:
        """Replace the head by a fresh one for ``classes``; without classes, by none."""
        self.spec = replace(self.spec, classes=tuple(classes))
        self.head = self.make_head(len(classes)) if classes else nn.Identity()

    def consume(self, exports: Exports) -> None:
        """Start from the parts that an earlier stage exported.

        The default takes ``backbone`` or ``encoder`` as a state dict of this very model without its head. A model
        made of another's parts (STRL of a SkeletonMAE encoder) overrides this.

        Raises:
            UserError: missing, unexpected or misshapen tensors; names them.
        """
        part = next((name for name in ("backbone", "encoder") if name in exports), None)
        if part is None:
            raise UserError(f"{type(self).__name__} needs an exported 'backbone' or 'encoder'; got {sorted(exports)}.")
        load_exact(self, {k: v for k, v in exports[part].items() if not k.startswith("head.")}, ignore=("head.",))


def load_exact(module: nn.Module, state: Mapping[str, Tensor], ignore: tuple[str, ...] = ()) -> None:
    """Load ``state`` into ``module``; every key must be there with its shape, except those beginning with ``ignore``.

    Raises:
        UserError: lists missing, unexpected and misshapen keys.
    """
    own = {k: v for k, v in module.state_dict().items() if not k.startswith(ignore or ("\0",))}
    missing = sorted(own.keys() - state.keys())
    extra = sorted(state.keys() - own.keys())
    shapes = [
        f"{k} {tuple(state[k].shape)} for {tuple(own[k].shape)}"
        for k in own.keys() & state.keys()
        if own[k].shape != state[k].shape
    ]
    if missing or extra or shapes:
        parts = [("missing", missing), ("unexpected", extra), ("of another shape", sorted(shapes))]
        listing = "; ".join(f"{word}: {_first(keys)}" for word, keys in parts if keys)
        raise UserError(f"weights do not fit {type(module).__name__}: {listing}.")
    with torch.no_grad():
        module.load_state_dict(dict(state), strict=False)


def _first(keys: list[str], most: int = 6) -> str:
    """The first few keys of a list."""
    return ", ".join(keys[:most]) + (" ..." if len(keys) > most else "")
