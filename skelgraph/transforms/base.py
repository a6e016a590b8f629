"""A transform is a batched function on the device that knows a `Topology` and nothing else."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import nn

from skelgraph.batch import Batch, ModalitySpec
from skelgraph.errors import UserError
from skelgraph.registry import Registry
from skelgraph.topology import Topology

TRANSFORMS: Registry = Registry("transform")


class Transform(nn.Module):
    """Base of all transforms; settings of a recipe are keyword-only parameters of ``__init__``.

    Attributes:
        training_only: true for augmentation, which validation, test and prediction leave out.
    """

    training_only: ClassVar[bool] = False

    def __init__(self, topology: Topology) -> None:
        super().__init__()
        self.topology = topology

    def forward(self, batch: Batch) -> Batch:
        raise NotImplementedError

    def refusal(self, modality: ModalitySpec) -> str:
        """Why this transform cannot stand beside a further modality; empty where it can."""
        return ""


def check(steps: Mapping[str, Any], where: Callable[..., str]) -> None:
    """Hold transforms, and those that they choose from, against their signatures.

    Args:
        steps: as `Pipeline` takes them.
        where: keys below ``steps`` -> file and line, for the message.

    Raises:
        UserError: unknown transform or setting, or a missing one.
    """
    for key, settings in steps.items():
        if settings is None or settings is False:
            continue
        plain = dict(settings) if isinstance(settings, Mapping) else {}
        TRANSFORMS.check(plain.pop("name", key), plain, where(key))
        if isinstance(plain.get("choices"), Mapping):
            check(plain["choices"], functools.partial(where, key, "choices"))


class Pipeline(nn.Module):
    """Transforms in order, as ``data.transforms`` of a recipe names them.

    Args:
        topology: of the clips.
        steps: name -> settings; null or false leaves a transform out. A second use of one transform has another key
            and a ``name`` among its settings.
    """

    def __init__(self, topology: Topology, steps: Mapping[str, Any]) -> None:
        super().__init__()
        self.steps = nn.ModuleList()
        self.keys: list[str] = []
        for key, value in steps.items():
            if value is None or value is False:
                continue
            settings = dict(value) if isinstance(value, Mapping) else {}
            self.keys.append(key)
            self.steps.append(TRANSFORMS.create(settings.pop("name", key), topology, **settings))

    def refusal(self, modality: ModalitySpec) -> str:
        """Why one of the transforms cannot stand beside a further modality, with its key; empty where all can."""
        for key, step in zip(self.keys, self.steps, strict=True):
            assert isinstance(step, Transform)
            reason = step.refusal(modality)
            if reason:
                return f"{key}: {reason}"
        return ""

    def check_modalities(self, modalities: Mapping[str, ModalitySpec]) -> None:
        """Hold the transforms against what further modalities a batch will have.

        Raises:
            UserError: names transform and modality.
        """
        for name, spec in modalities.items():
            reason = self.refusal(spec)
            if reason:
                raise UserError(f"data.transforms, {reason} (modality '{name}').")

    def forward(self, batch: Batch, training: bool = False) -> Batch:
        for step in self.steps:
            if training or not step.training_only:
                batch = step(batch)
        return batch
