"""From the sizes of classes to weights and margins, in float64.

Letters: K classes, n_c training clips of class c, all of them above 0.
"""

from __future__ import annotations

import torch
from torch import Tensor


def mean_one(weight: Tensor) -> Tensor:
    """Weights scaled to a mean of 1: K w / sum w."""
    return weight * len(weight) / weight.sum()


def effective_number_weights(counts: Tensor, beta: float | Tensor) -> Tensor:
    """w_c ~ (1 - beta) / (1 - beta^n_c), mean 1: the inverse of the effective number of samples.

    Args:
        counts: (K,).
        beta: in [0, 1), one number or one for each class.

    Source: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019.
    """
    n = counts.double()
    b = torch.as_tensor(beta, dtype=torch.float64, device=n.device)
    return mean_one((1 - b) / (1 - b**n))


def action_aware_beta(counts: Tensor, low: float = 0.99, high: float = 0.9999) -> Tensor:
    """beta_c, linear in n_c from ``low`` for the rarest class to ``high`` for the largest; ``low`` if all are equal."""
    n = counts.double()
    width = n.max() - n.min()
    share = (n - n.min()) / torch.where(width > 0, width, torch.ones_like(width))
    return low + (high - low) * share


def action_aware_weights(counts: Tensor, low: float = 0.99, high: float = 0.9999) -> Tensor:
    """(K,) weights of mean 1 by `effective_number_weights` with `action_aware_beta`; they fall with n_c.

    Source: BRL (Liu et al., arXiv 2308.14024), action-aware loss.
    """
    return effective_number_weights(counts, action_aware_beta(counts, low, high))


def flipped_action_aware_weights(counts: Tensor, low: float = 0.99, high: float = 0.9999) -> Tensor:
    """What BRL's released code computes in every second epoch: 1 - beta_c in the place of beta_c, nearly 1 for all."""
    return effective_number_weights(counts, 1 - action_aware_beta(counts, low, high))


def inverse_frequency_weights(counts: Tensor) -> Tensor:
    """(K,) sum(n) / n_c."""
    n = counts.double()
    return n.sum() / n


def ldam_margins(counts: Tensor, largest: float = 0.5) -> Tensor:
    """(K,) ``largest`` (n_min / n_c)^(1/4).

    Source: Cao et al., Label-Distribution-Aware Margin loss, NeurIPS 2019.
    """
    n = counts.double()
    return largest * (n.min() / n) ** 0.25
