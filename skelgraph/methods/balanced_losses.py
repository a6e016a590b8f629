"""Losses for unequal classes, by name in `LOSSES`: what happens to the logits, and how much each class weighs.

Letters: N clips, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.errors import UserError
from skelgraph.methods import class_weights
from skelgraph.methods.reduce import global_mean
from skelgraph.registry import Registry

LOSSES: Registry = Registry("loss")


@LOSSES.register("cross_entropy")
class BalancedLoss(nn.Module):
    """Plain cross-entropy, and the base of all: the mean of the clips' terms by the weights of their classes.

    l(z, y) = sum_i w_{y_i} t(z_i, y_i) / sum_i w_{y_i}. All weights are 1 until re-weighting begins (``turn`` None),
    and scaling all of them changes nothing. A loss keeps no state but its tables: what it is depends on ``turn`` alone.

    A mixed clip has two labels: share * l(z, y) + (1 - share) * l(z, other), where each sum has its own normaliser.

    Args:
        counts: (K,) training clips of each class.
        weight: (K,) weights of the classes once re-weighting has begun; None leaves all at 1.

    Shapes:
        logits (N, K), label (N,), other (N,), share (N,) in [0, 1]; result a scalar, in float32 or wider, averaged over
        all processes.
    """

    weight: Tensor

    def __init__(self, counts: Tensor, weight: Tensor | None = None) -> None:
        super().__init__()
        weight = torch.ones(len(counts)) if weight is None else weight
        self.register_buffer("weight", weight.float(), persistent=False)

    def class_weight(self, turn: int | None) -> Tensor:
        """(K,) weights ``turn`` epochs after re-weighting has begun; None: it has not."""
        return torch.ones_like(self.weight) if turn is None else self.weight

    def terms(self, logits: Tensor, label: Tensor, smoothing: float = 0.0) -> Tensor:
        """(N,) loss of each clip, before its weight."""
        return F.cross_entropy(logits, label, reduction="none", label_smoothing=smoothing)

    def forward(
        self, logits: Tensor, label: Tensor, turn: int | None = None, *, other: Tensor | None = None,
        share: Tensor | None = None, smoothing: float = 0.0,
    ) -> Tensor:  # fmt: skip
        logits = logits if logits.dtype == torch.float64 else logits.float()
        weight = self.class_weight(turn).to(logits.dtype)
        first = self._mean(logits, label, weight, share, smoothing)
        if other is None or share is None:
            return first
        return first + self._mean(logits, other, weight, 1 - share, smoothing)

    def _mean(self, logits: Tensor, label: Tensor, weight: Tensor, share: Tensor | None, smoothing: float) -> Tensor:
        """Weighted sum of the terms, each times its ``share``, over the sum of the weights."""
        own = weight[label]
        credit = own if share is None else own * share.to(own.dtype)
        return global_mean((credit * self.terms(logits, label, smoothing)).sum(), own.sum())


@LOSSES.register("class_balanced")
class ClassBalanced(BalancedLoss):
    """Cross-entropy re-weighted by the effective number of samples.

    Args:
        beta: 0.999 in BRL's runs on other backbones; nearer to 1 is nearer to the inverse frequency.

    Source: Cui et al., CVPR 2019.
    """

    def __init__(self, counts: Tensor, *, beta: float = 0.999) -> None:
        _check_beta(beta)
        super().__init__(counts, class_weights.effective_number_weights(counts, beta))


@LOSSES.register("inverse_frequency")
class InverseFrequency(BalancedLoss):
    """Cross-entropy re-weighted by sum(n) / n_c."""

    def __init__(self, counts: Tensor) -> None:
        super().__init__(counts, class_weights.inverse_frequency_weights(counts))


@LOSSES.register("action_aware")
class ActionAware(BalancedLoss):
    """Cross-entropy re-weighted by an effective number whose beta grows with the class.

    Args:
        low, high: beta of the rarest and of the largest class.
        official: BRL's released code, which computes with 1 - beta in every second epoch after re-weighting has begun,
            so that all weights are nearly 1 there.

    Source: BRL (arXiv 2308.14024).
    """

    flipped: Tensor

    def __init__(self, counts: Tensor, *, low: float = 0.99, high: float = 0.9999, official: bool = False) -> None:
        _check_beta(low)
        _check_beta(high)
        super().__init__(counts, class_weights.action_aware_weights(counts, low, high))
        flipped = class_weights.flipped_action_aware_weights(counts, low, high) if official else self.weight
        self.register_buffer("flipped", flipped.float(), persistent=False)

    def class_weight(self, turn: int | None) -> Tensor:
        return self.flipped if turn is not None and turn % 2 else super().class_weight(turn)


@LOSSES.register("focal")
class Focal(BalancedLoss):
    """(1 - p)^gamma times cross-entropy, p the probability of the true class; no class weights.

    Source: Lin et al., ICCV 2017.
    """

    def __init__(self, counts: Tensor, *, gamma: float = 2.0) -> None:
        super().__init__(counts)
        self.gamma = gamma

    def terms(self, logits: Tensor, label: Tensor, smoothing: float = 0.0) -> Tensor:
        plain = super().terms(logits, label)
        smoothed = super().terms(logits, label, smoothing) if smoothing else plain
        # 1 - p by expm1: p of a clip that is learnt well rounds to 1, where a power below 1 has an infinite slope.
        return (-torch.expm1(-plain)).clamp(min=1e-12) ** self.gamma * smoothed


@LOSSES.register("ldam")
class LDAM(BalancedLoss):
    """Cross-entropy of scaled logits, that of the true class lowered by a margin; with DRW, the deferred weights.

    t(z, y) = CE(scale (z - margin_y e_y), y), margin_c = ``margin`` (n_min / n_c)^(1/4). As in BRL's baselines the
    logits are those of a linear layer; the publication takes cosines in their place.

    Args:
        margin: of the rarest class.
        scale: of the logits; 1 for a linear layer that shall keep its own scale.
        beta: of the deferred weights by the effective number.

    Source: Cao et al., NeurIPS 2019.
    """

    margin: Tensor

    def __init__(self, counts: Tensor, *, margin: float = 0.5, scale: float = 30.0, beta: float = 0.999999) -> None:
        _check_beta(beta)
        super().__init__(counts, class_weights.effective_number_weights(counts, beta))
        self.scale = scale
        self.register_buffer("margin", class_weights.ldam_margins(counts, margin).float(), persistent=False)

    def terms(self, logits: Tensor, label: Tensor, smoothing: float = 0.0) -> Tensor:
        margin = self.margin.to(logits.dtype)[label]
        lowered = logits.scatter_add(1, label.unsqueeze(1), -margin.unsqueeze(1))
        return super().terms(self.scale * lowered, label, smoothing)


@LOSSES.register("balanced_softmax")
class BalancedSoftmax(BalancedLoss):
    """Cross-entropy on z_c + tau log n_c, in all epochs: the logits learn what is left beyond the class sizes.

    With tau = 1 also known as the logit-adjusted loss.

    Source: Ren et al., NeurIPS 2020; Menon et al., ICLR 2021.
    """

    prior: Tensor

    def __init__(self, counts: Tensor, *, tau: float = 1.0) -> None:
        super().__init__(counts)
        self.register_buffer("prior", (tau * counts.double().log()).float(), persistent=False)

    def terms(self, logits: Tensor, label: Tensor, smoothing: float = 0.0) -> Tensor:
        return super().terms(logits + self.prior.to(logits.dtype), label, smoothing)


def _check_beta(beta: float) -> None:
    if not 0 <= beta < 1:
        raise UserError(f"loss: a beta lies between 0 and 1, 1 left out; got {beta:g}.")
