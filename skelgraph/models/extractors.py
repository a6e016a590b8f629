"""From a clip to one vector a step of each modality: what stands before a network that mixes modalities.

Letters: N clips, M persons, T frames, S steps, V joints, C channels, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.batch import Batch, ClipSpec, Modality
from skelgraph.errors import UserError, unknown
from skelgraph.models.base import MODELS, Model
from skelgraph.models.graph_stack import GraphStack
from skelgraph.models.recurrent import Recurrent
from skelgraph.models.spacetime_gnn import MaskedNorm
from skelgraph.registry import Registry

SKELETON = "skeleton"
EXTRACTORS: Registry = Registry("extractor")
Choice = str | Mapping[str, Any]


@dataclass(frozen=True)
class Steps:
    """Features of one modality: values (N, S, D), valid (N, S) bool, and joints (N, S, V, D) where it has joints."""

    values: Tensor
    valid: Tensor
    joints: Tensor | None = None


class Extractor(nn.Module):
    """Base of all extractors: a `Batch` to the `Steps` of one modality.

    What is not valid must have no influence, not even where it is NaN: `read` and `read_skeleton` give zeros there.
    A plugin registers its own in `EXTRACTORS`; settings of a recipe are keyword-only.

    Args:
        spec: the input of the model.
        modality: its name there, or ``skeleton``.
        out_dim: D.

    Raises:
        UserError: the input has no such modality.
    """

    def __init__(self, spec: ClipSpec, modality: str, out_dim: int) -> None:
        super().__init__()
        shape_of(spec, modality)
        self.spec, self.modality, self.out_dim = spec, modality, out_dim

    def forward(self, batch: Batch) -> Steps:
        """The steps of a batch."""
        raise NotImplementedError

    def read(self, batch: Batch) -> Modality:
        """The modality as floating point, zero where it is not valid; all zero where the batch does not have it.

        Unsigned bytes become fractions of 255.

        Raises:
            UserError: values or mask of another shape than the model was built for.
        """
        item, spec = batch.modalities.get(self.modality), self.spec.modalities[self.modality]
        like = batch.keypoints
        n = like.shape[0]
        if item is None:
            return Modality(like.new_zeros(n, spec.steps, *spec.shape), like.new_zeros(n, spec.steps, dtype=torch.bool))
        got = tuple(item.values.shape)
        if got[:1] + got[2:] != (n, *spec.shape) or tuple(item.valid.shape) != got[:2]:
            expected = (n, "steps", *spec.shape)
            raise UserError(
                f"modality '{self.modality}': expected values {expected} and valid {expected[:2]}, got {got} and "
                f"{tuple(item.valid.shape)}."
            )
        mask = item.valid.view(*item.valid.shape, *[1] * len(spec.shape))
        values = torch.where(mask, item.values, torch.zeros_like(item.values))
        scale = 255 if values.dtype == torch.uint8 else 1
        return Modality(values.to(like.dtype) / scale, item.valid)

    def read_skeleton(self, batch: Batch) -> Batch:
        """The skeletons alone, zero where a person is not there."""
        there = batch.valid[..., None]
        keypoints = torch.where(there[..., None], batch.keypoints, 0.0)
        return batch.with_(keypoints=keypoints, score=torch.where(there, batch.score, 0.0), modalities={})


def shape_of(spec: ClipSpec, modality: str) -> tuple[int, ...]:
    """Shape of one step of a modality; of the skeleton (M, V, C).

    Raises:
        UserError: the input has no such modality.
    """
    if modality == SKELETON:
        return spec.persons, spec.joints, spec.channels
    if modality not in spec.modalities:
        raise unknown("modality", modality, [SKELETON, *spec.modalities])
    return spec.modalities[modality].shape


def build_extractor(spec: ClipSpec, modality: str, choice: Choice | None) -> Extractor:
    """The extractor of a modality by name, as ``{name: ..., setting: ...}``, or None for the usual one of its kind.

    Raises:
        UserError: unknown modality, extractor or setting.
    """
    shape = shape_of(spec, modality)
    if choice is None:
        choice = "graph" if modality == SKELETON else "frame2d" if len(shape) == 3 else "identity"
    settings = {"name": choice} if isinstance(choice, str) else dict(choice)
    if "name" not in settings:
        raise UserError(f"modalities: '{modality}': write {{name: ...}}; known are {', '.join(EXTRACTORS.names())}.")
    name = settings.pop("name")
    extractor: Extractor = EXTRACTORS.create(name, spec, modality, where=f"modalities: '{modality}'", **settings)
    return extractor


@EXTRACTORS.register("identity")
class Identity(Extractor):
    """The values of a step as they are, flattened; of a skeleton the coordinates, persons slowest.

    Args:
        spec, modality: see `Extractor`.
        norm: batch norm of every channel over the valid steps, for signals that are not standardised.
    """

    def __init__(self, spec: ClipSpec, modality: str, *, norm: bool = False) -> None:
        width = 1
        for size in shape_of(spec, modality):
            width *= size
        super().__init__(spec, modality, width)
        self.norm = MaskedNorm(width) if norm else None

    def forward(self, batch: Batch) -> Steps:
        if self.modality == SKELETON:
            x, valid = self.read_skeleton(batch).keypoints.transpose(1, 2).flatten(2), batch.valid.any(1)
            if x.shape[-1] != self.out_dim:
                raise UserError(f"modality 'skeleton': expected {self.out_dim} values a frame, got {x.shape[-1]}.")
        else:
            item = self.read(batch)
            x, valid = item.values.flatten(2), item.valid
        if self.norm is not None:
            rows = self.norm(x.flatten(0, 1), valid.flatten().unsqueeze(-1)).view_as(x)
            x = torch.where(valid.unsqueeze(-1), rows, 0.0)
        return Steps(x, valid)


class FrameExtractor(Extractor):
    """Base of extractors that see one frame at a time: subclasses write `encode`.

    Shapes:
        the modality is (N, S, C, height, width).

    Raises:
        UserError: the modality is no frames.
    """

    def __init__(self, spec: ClipSpec, modality: str, out_dim: int) -> None:
        super().__init__(spec, modality, out_dim)
        if modality == SKELETON or len(shape_of(spec, modality)) != 3:
            raise UserError(
                f"modality '{modality}' has steps of {shape_of(spec, modality)}; a network of frames needs "
                "(channels, height, width). Choose another extractor."
            )

    def encode(self, frames: Tensor) -> Tensor:
        """One vector a frame: ``(N S, C, height, width)`` to ``(N S, D)``."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Steps:
        item = self.read(batch)
        x = self.encode(item.values.flatten(0, 1)).unflatten(0, item.valid.shape)
        return Steps(torch.where(item.valid.unsqueeze(-1), x, 0.0), item.valid)


@EXTRACTORS.register("frame2d")
class Frame2D(FrameExtractor):
    """A small 2-D network on every frame: five times convolution, batch norm and ReLU, then the mean over space.

    A missing frame counts as an empty one in the statistics of training.

    Args:
        spec, modality: see `Extractor`.
        width: channels of the first layer; the others have 2, 4, 8 and 8 times as many.

    Raises:
        UserError: the modality is no frames.
    """

    def __init__(self, spec: ClipSpec, modality: str, *, width: int = 32) -> None:
        super().__init__(spec, modality, 8 * width)
        channels = [shape_of(spec, modality)[0], *(width * times for times in (1, 2, 4, 8, 8))]
        self.layers = nn.Sequential()
        for before, after in pairwise(channels):
            self.layers.append(nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False))
            self.layers.extend([nn.BatchNorm2d(after), nn.ReLU()])

    def encode(self, frames: Tensor) -> Tensor:
        encoded: Tensor = self.layers(frames)
        return encoded.mean((2, 3))


@EXTRACTORS.register("graph")
class Graph(Extractor):
    """Any registered skeleton network as the extractor of the skeleton.

    The networks of `GraphStack` give a vector for every joint at the frames that their strides leave; a step is the
    mean over joints and the persons present. `Recurrent` gives its top states. Any other network reads ``windows`` of
    the clip, each as a clip of its own, and gives one step a window.

    Args:
        spec, modality: see `Extractor`.
        model: name, or ``{name: ..., setting: ...}``.
        windows: 0 takes the frames of the network.

    Raises:
        UserError: not the skeleton, an unknown network, one that gives no frames without ``windows``.
    """

    def __init__(self, spec: ClipSpec, modality: str, *, model: Choice = "stgcnpp", windows: int = 0) -> None:
        if modality != SKELETON:
            raise UserError(f"modality '{modality}': the extractor 'graph' is for 'skeleton'. Choose another.")
        settings = {"name": model} if isinstance(model, str) else dict(model)
        if "name" not in settings:
            raise UserError("modalities: 'skeleton': model: name the network, for example {name: stgcnpp}.")
        if not 0 <= windows <= spec.frames:
            raise UserError(f"modalities: 'skeleton': windows must be from 0 to {spec.frames}, got {windows}.")
        frames = -(-spec.frames // windows) if windows else spec.frames
        inner = replace(spec, frames=frames, classes=(), modalities={})
        network: Model = MODELS.create(settings.pop("name"), inner, where="modalities: 'skeleton'", **settings)
        if not windows and not isinstance(network, GraphStack | Recurrent):
            raise UserError(
                f"modalities: 'skeleton': {type(network).__name__} gives one vector a clip; set windows, for example 8."
            )
        super().__init__(spec, modality, network.feature_dim)
        self.network, self.windows = network, windows

    def forward(self, batch: Batch) -> Steps:
        people = self.read_skeleton(batch)
        if self.windows:
            return self._by_window(people)
        if isinstance(self.network, Recurrent):
            there = batch.valid.any(1)
            return Steps(torch.where(there.unsqueeze(-1), self.network.all_frames(people)[0], 0.0), there)
        h = joint_features(self.network, people)
        present = _at(batch.valid, h.shape[2]).unsqueeze(-1).unsqueeze(-1)
        joints = torch.where(present, h, 0.0).sum(1) / present.sum(1).clamp(min=1)
        return Steps(joints.mean(2), present[..., 0, 0].any(1), joints)

    def _by_window(self, people: Batch) -> Steps:
        n, _, frames = people.valid.shape
        size = self.network.spec.frames
        if frames < size:
            raise UserError(f"modality 'skeleton': the network reads windows of {size} frames and got {frames}.")
        last = max(self.windows - 1, 1)
        starts = torch.arange(self.windows, device=people.valid.device) * (frames - size) // last
        index = starts.unsqueeze(1) + torch.arange(size, device=starts.device)

        def cut(x: Tensor) -> Tensor:
            return x[:, :, index].transpose(1, 2).flatten(0, 1)

        def again(x: Tensor) -> Tensor:
            return x.repeat_interleave(self.windows, dim=0)

        windows = Batch(
            cut(people.keypoints), cut(people.score), cut(people.valid), again(people.label), again(people.index),
            again(people.image_size), again(people.fps),
        )  # fmt: skip
        valid = windows.valid.flatten(1).any(1).view(n, self.windows)
        values = self.network.forward_features(windows).view(n, self.windows, -1)
        return Steps(torch.where(valid.unsqueeze(-1), values, 0.0), valid)


def joint_features(network: Model, batch: Batch) -> Tensor:
    """The last feature map of a `GraphStack`, ``(N, M, T', V', D)``: before the mean that makes a clip of it.

    Raises:
        UserError: joints or channels that the network was not built for.
    """
    assert isinstance(network, GraphStack)
    got, built = tuple(batch.keypoints.shape[3:]), (network.spec.joints, network.spec.channels)
    if got != built:
        raise UserError(f"modality 'skeleton': expected joints and channels {built}, got {got}.")
    x = network.streams(batch.keypoints, batch.valid)
    h = network.normed(x)
    for layer in network.layers:
        h = layer(h)
    return h.unflatten(0, x.shape[:2])


def _at(valid: Tensor, steps: int) -> Tensor:
    """``valid (N, M, T)`` at fewer steps: a step counts where any of its frames does."""
    return F.adaptive_max_pool1d(valid.float(), steps) > 0
