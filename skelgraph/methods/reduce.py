"""Means whose denominator depends on the data, right under data parallelism."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist


def global_mean(total: Tensor, count: Tensor | float) -> Tensor:
    """``total / count`` so that the gradient of several processes equals that of one with all the data.

    Data parallelism averages gradients over processes, which is right for a sum divided by a fixed figure but not where
    each process counts for itself. So the local total is divided by the mean count of a process.

    Args:
        total: local sum, differentiable.
        count: local number of terms; no gradient.

    Returns:
        0 where there is no term on any process.
    """
    number = torch.as_tensor(count, dtype=total.dtype, device=total.device).detach().clone()
    # While evaluating, processes may have different numbers of batches: an all-reduce would wait for ever.
    if torch.is_grad_enabled() and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(number)
        number = number / dist.get_world_size()
    return torch.where(number > 0, total / torch.where(number > 0, number, 1.0), total * 0.0)
