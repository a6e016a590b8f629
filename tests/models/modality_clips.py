"""Clips with an inertial signal and depth frames beside the skeleton, and a small M-Mixer for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skelgraph.batch import Batch, ClipSpec, Modality, ModalitySpec
from skelgraph.models import create
from skelgraph.models.mmixer import MMixer
from skelgraph.topology import Topology

N, T = 3, 8
COCO = Topology.load("coco17")
SPEC = ClipSpec(COCO, 2, 2, T, ("a", "b", "c"), {
    "inertial": ModalitySpec("sequence", 6, (5,)),
    "depth": ModalitySpec("frames", 4, (1, 9, 8)),
})  # fmt: skip
NAMES = ("skeleton", "inertial", "depth")
SMALL: dict[str, Any] = {
    "modalities": {"skeleton": {"name": "graph", "model": {"name": "stgcnpp", "width": 8, "depth": 4}},
                   "inertial": "identity", "depth": {"name": "frame2d", "width": 2}},
    "dim": 8, "heads": 4,
}  # fmt: skip
FLAT: dict[str, Any] = {**SMALL, "modalities": {"skeleton": "identity", "inertial": "identity"}}


def mixer(spec: ClipSpec = SPEC, **settings: Any) -> MMixer:
    """A small network with nothing left at zero or one."""
    torch.manual_seed(0)
    model = create("mmixer", spec, **{**SMALL, **settings})
    assert isinstance(model, MMixer)
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def clips(count: int = N, seed: int = 1) -> Batch:
    torch.manual_seed(seed)
    batch = Batch.of(torch.randn(count, 2, T, 17, 2))
    given = {name: Modality(torch.randn(count, item.steps, *item.shape), torch.ones(count, item.steps) > 0)
             for name, item in SPEC.modalities.items()}  # fmt: skip
    return batch.with_(modalities=given, label=torch.arange(count) % 3)


def without(batch: Batch, name: str, rows: Any = slice(None), fill: float | None = None) -> Batch:
    """A batch some of whose clips lack a modality; ``fill`` is what then stands in its place."""
    if name == "skeleton":
        valid, x = batch.valid.clone(), batch.keypoints.clone()
        valid[rows] = False
        score = batch.score.clone()
        if fill is not None:
            x[rows], score[rows] = fill, fill
        return batch.with_(valid=valid, keypoints=x, score=score)
    valid, x = batch.modalities[name].valid.clone(), batch.modalities[name].values.clone()
    valid[rows] = False
    if fill is not None:
        x[rows] = fill * (torch.randn_like(x[rows]) if abs(fill) < float("inf") else 1)
    return batch.with_(modalities={**batch.modalities, name: Modality(x, valid)})


def close(one: Tensor, other: Tensor, atol: float = 1e-6) -> None:
    torch.testing.assert_close(one, other, atol=atol, rtol=0)
