"""Optimisers and learning-rate schedules a recipe may ask for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn
from torch.optim.lr_scheduler import LambdaLR


class OptimizerConfig(BaseModel):
    """``optimizer:`` of a fit stage."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["sgd", "adam", "adamw"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    betas: tuple[float, float] = (0.9, 0.999)


class ScheduleConfig(BaseModel):
    """``schedule:`` of a fit stage; ``warmup`` and ``milestones`` count in the unit of the stage's own length.

    In a stage that lasts ``epochs`` the step schedule and the warm-up change at epoch borders; in one that lasts
    ``steps`` they count steps. The cosine always moves every step.
    """

    model_config = ConfigDict(extra="forbid")

    name: Literal["constant", "step", "cosine"] = "constant"
    warmup: int = Field(0, ge=0)
    milestones: list[int] = []
    gamma: float = Field(0.1, gt=0)

    @model_validator(mode="after")
    def _milestones_belong_to_step(self) -> ScheduleConfig:
        if self.milestones and self.name != "step":
            raise ValueError(f"milestones belong to the schedule 'step', not '{self.name}'")
        return self


class Length:
    """How long a fit stage lasts: ``total`` steps, of which ``per_unit`` make one unit (an epoch, or one step)."""

    def __init__(self, total: int, per_unit: int = 1) -> None:
        self.total, self.per_unit = total, per_unit

    def units(self, step: int) -> int:
        """Whole units done after ``step`` steps."""
        return step // self.per_unit


def learning_rate_factor(config: ScheduleConfig, length: Length, step: int) -> float:
    """Factor on the base rate at optimiser step ``step`` (0-based): linear warm-up to 1, then the schedule.

    In unit u of w warm-up units the factor is (u + 1) / w: with w = 5 it starts at a fifth and is full in the fifth.
    """
    unit = length.units(step)
    if unit < config.warmup:
        return (unit + 1) / config.warmup
    if config.name == "step":
        return config.gamma ** sum(unit >= milestone for milestone in config.milestones)
    if config.name == "cosine":
        begin = config.warmup * length.per_unit
        progress = (step - begin) / max(1, length.total - begin)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return 1.0


def build_optimizer(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimiser of ``config`` over the parameters that want a gradient."""
    wanted = [p for p in parameters if p.requires_grad]
    if config.name == "sgd":
        return torch.optim.SGD(
            wanted, config.lr, momentum=config.momentum, nesterov=config.nesterov and config.momentum > 0,
            weight_decay=config.weight_decay,
        )  # fmt: skip
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(wanted, config.lr, betas=config.betas, weight_decay=config.weight_decay)


def build_schedule(optimizer: torch.optim.Optimizer, config: ScheduleConfig, length: Length) -> LambdaLR:
    """A schedule to be advanced every optimiser step; a function of the step alone, hence right after a resume."""
    return LambdaLR(optimizer, lambda step: learning_rate_factor(config, length, step))
