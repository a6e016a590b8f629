"""Batched tensor functions on the device: normalisation and augmentation, by name in `TRANSFORMS`."""

from __future__ import annotations

from skelgraph.transforms import augment, compose, normalize, picture
from skelgraph.transforms.base import TRANSFORMS, Pipeline, Transform, check

__all__ = ["TRANSFORMS", "Pipeline", "Transform", "augment", "check", "compose", "normalize", "picture"]
