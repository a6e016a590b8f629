"""Architectures by name: `create` builds one, `MODELS` lists them."""

from __future__ import annotations

from typing import Any

from skelgraph.batch import ClipSpec
from skelgraph.models import (
    deformable3d,
    gcn_family,
    graph_stack,
    heatmap,
    mmixer,
    multi_stream,
    recurrent,
    skeletonmae,
    spacetime_gnn,
    strl,
)
from skelgraph.models.base import MODELS, Exports, Model, load_exact
from skelgraph.topology import Topology

__all__ = [
    "MODELS", "Exports", "Model", "create", "deformable3d", "gcn_family", "graph_stack", "heatmap", "load_exact",
    "mmixer", "multi_stream", "recurrent", "skeletonmae", "spacetime_gnn", "strl",
]  # fmt: skip


def create(
    name: str,
    spec: ClipSpec | None = None,
    *,
    topology: Topology | str | None = None,
    num_classes: int = 0,
    channels: int = 3,
    persons: int = 1,
    frames: int = 64,
    **settings: Any,
) -> Model:
    """Build a registered model.

    Args:
        name: a name of `MODELS`.
        spec: its input; or give ``topology`` and the figures after it.
        settings: the model's own settings, as in a recipe.

    Raises:
        UserError: unknown model or setting.

    Examples:
        >>> import torch
        >>> model = create("stgcnpp", topology="coco17", channels=2, num_classes=5, width=8)
        >>> model(torch.zeros(1, 1, 64, 17, 2)).logits.shape  # of clips (N, M, T, V, C)
        torch.Size([1, 5])
    """
    if spec is None:
        if topology is None:
            raise TypeError("create() needs a ClipSpec or topology=...")
        resolved = topology if isinstance(topology, Topology) else Topology.load(topology)
        classes = tuple(str(number) for number in range(num_classes))
        spec = ClipSpec(resolved, channels, persons, frames, classes)
    model: Model = MODELS.create(name, spec, **settings)
    return model
