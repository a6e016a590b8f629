"""``data:`` of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from skelgraph.data.modality_config import ModalityConfig


class Strict(BaseModel):
    """A border: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Component(BaseModel):
    """``{name: ..., setting: ...}``: a registered factory with settings, checked against its signature."""

    model_config = ConfigDict(extra="allow")

    name: str

    @property
    def settings(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


class DataConfig(Strict):
    """``data:``: which clips, how many frames and persons of each, and what the device does to them."""

    store: str | list[str] = Field(description="folder of the store, or several that are opened as one")
    protocol: str = Field(description="name of a split of the store")
    frames: int = Field(64, ge=1, le=100_000, description="T")
    persons: int = Field(1, ge=1, le=64, description="M")
    channels: Literal[2, 3, None] = Field(None, description="coordinates; by default those of the store")
    sampling: Component = Component(name="uniform")
    transforms: dict[str, Any] = Field({}, description="name: settings, in order; null leaves one out")
    modalities: dict[str, ModalityConfig | None] = Field(
        {}, description="further modalities of the store by name, or a list of names; null leaves one out"
    )
    test_part: str = Field("test", description="part of the protocol that evaluate uses")
    label_fraction: float | None = Field(None, gt=0, le=1, description="share of the training labels that is used")
    label_seed: int = Field(0, description="which clips that share holds")
    label_draw: Literal["class", "global"] = Field("class", description="that share of every class, or of all clips")
    workers: int = Field(0, ge=0, le=256)

    @field_validator("modalities", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if value is None or isinstance(value, str):
            raise ValueError("write a list of names, [depth], or {depth: {steps: 16}}")
        return {str(name): {} for name in value} if isinstance(value, Sequence) else value

    @property
    def wanted(self) -> dict[str, ModalityConfig]:
        """The further modalities that are read."""
        return {name: item for name, item in self.modalities.items() if item is not None}
