"""Learning-rate schedules."""

from __future__ import annotations

import pytest
import torch

from skelgraph.methods.optim import Length, OptimizerConfig, ScheduleConfig, build_optimizer, learning_rate_factor


def test_schedule_of_the_skeletonmae_paper() -> None:
    """Specification, test 19: warm-up 5 of 110 epochs, tenths at 90 and 100."""
    config, length = ScheduleConfig(name="step", warmup=5, milestones=[90, 100]), Length(110 * 7, 7)
    expected = {0: 0.02, 4: 0.1, 5: 0.1, 89: 0.1, 90: 0.01, 99: 0.01, 100: 0.001, 109: 0.001}
    for epoch, rate in expected.items():
        for step in (7 * epoch, 7 * epoch + 6):
            assert 0.1 * learning_rate_factor(config, length, step) == pytest.approx(rate)


def test_cosine_ends_at_zero_after_its_warm_up() -> None:
    config, length = ScheduleConfig(name="cosine", warmup=10), Length(110)
    assert learning_rate_factor(config, length, 0) == pytest.approx(0.1)
    assert learning_rate_factor(config, length, 10) == pytest.approx(1.0)
    assert learning_rate_factor(config, length, 60) == pytest.approx(0.5)
    assert learning_rate_factor(config, length, 110) == pytest.approx(0.0)


def test_milestones_belong_to_the_step_schedule() -> None:
    with pytest.raises(ValueError, match="belong to the schedule 'step'"):
        ScheduleConfig(name="cosine", milestones=[3])


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_frozen_parameters_are_left_out(name: str) -> None:
    layer = torch.nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    optimizer = build_optimizer(layer.parameters(), OptimizerConfig(name=name))
    assert [p.shape for group in optimizer.param_groups for p in group["params"]] == [layer.weight.shape]
