"""What a recipe may say of a further modality under ``data.modalities``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ModalityConfig(BaseModel):
    """How one modality is read: how many steps, how large, in which numbers."""

    model_config = ConfigDict(extra="forbid")

    steps: int | None = Field(None, ge=1, le=100_000, description="S; by default as many as the skeleton has frames")
    size: tuple[int, int] | None = Field(None, description="height and width that frames are resized to")
    offset: float | list[float] = Field(0.0, description="subtracted; one number, or one for each channel")
    scale: float | list[float] = Field(1.0, description="then multiplied; likewise")
    lag: float | None = Field(
        None, description="own steps it is late against the skeleton; by default as the store says"
    )
