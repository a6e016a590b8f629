"""One out of several transforms for each clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from skelgraph.batch import Batch, ModalitySpec
from skelgraph.errors import UserError, unknown
from skelgraph.topology import Topology
from skelgraph.transforms.augment import Augmentation
from skelgraph.transforms.base import TRANSFORMS, Pipeline


@TRANSFORMS.register("one_of")
class OneOf(Augmentation):
    """Exactly one of several transforms for each clip, drawn for each anew.

    HaLP's ``one_of: {choices: {shear: {}, corrupt_joints: {}}}`` shears half of the clips and spoils joints in the
    others. Each choice computes the whole batch, and of its result only the clips that drew it are taken.

    Args:
        choices: name -> settings, as in ``data.transforms``: another key with a ``name`` among its settings allows a
            second use.
        p: key of a choice -> its probability; by default all are alike. What is missing to 1 leaves a clip as it is.

    Raises:
        UserError: no choice, a probability for what is no choice or none for one, or a sum above 1.
    """

    threshold: Tensor

    def __init__(self, topology: Topology, *, choices: Mapping[str, Any], p: Mapping[str, float] | None = None) -> None:
        super().__init__(topology)
        wanted = {key: value for key, value in choices.items() if value is not None and value is not False}
        if not wanted:
            raise UserError("one_of: no transform among its 'choices'.")
        threshold = torch.tensor(_probabilities(list(wanted), p), dtype=torch.float64).cumsum(0)
        # Rounding must not leave a gap between a sum of 1 and the largest draw.
        threshold[threshold > 1 - 1e-6] = 1
        self.choices = Pipeline(topology, wanted)
        self.register_buffer("threshold", threshold.float(), persistent=False)

    def refusal(self, modality: ModalitySpec) -> str:
        return self.choices.refusal(modality)

    def forward(self, batch: Batch) -> Batch:
        draw = torch.rand(len(batch), 1, device=batch.keypoints.device)
        which = (draw >= self.threshold).sum(1)
        result = batch
        for place, step in enumerate(self.choices.steps):
            result = _take(which == place, step(batch), result)
        return result


def _probabilities(names: Sequence[str], p: Mapping[str, float] | None) -> list[float]:
    """The probability of each choice, in order."""
    if p is None:
        return [1 / len(names)] * len(names)
    for key in p:
        if key not in names:
            raise unknown("choice", key, names, "one_of")
    for name in names:
        if name not in p:
            raise UserError(f"one_of: no probability for '{name}' in 'p'; give one for each of {', '.join(names)}.")
    share = [float(p[name]) for name in names]
    if min(share) < 0 or sum(share) > 1 + 1e-6:
        raise UserError(f"one_of: probabilities lie from 0 up and add to at most 1, got {share}.")
    return share


def _take(rows: Tensor, ours: Batch, theirs: Batch) -> Batch:
    """The clips of ``ours`` where ``rows (N,)`` is true, those of ``theirs`` elsewhere."""

    def one(mine: Tensor, other: Tensor) -> Tensor:
        return other if mine is other else torch.where(rows.view(-1, *[1] * (mine.dim() - 1)), mine, other)

    tensors = {name: one(value, getattr(theirs, name)) for name, value in vars(ours).items() if name != "modalities"}
    modalities = {}
    for name, item in ours.modalities.items():
        other = theirs.modalities[name]
        modalities[name] = replace(item, values=one(item.values, other.values), valid=one(item.valid, other.valid))
    return Batch(**tensors, modalities=modalities)
