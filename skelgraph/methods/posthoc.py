"""What is done to the classifier of a finished run so that rare classes are not overlooked."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skelgraph.batch import Batch
from skelgraph.errors import UserError
from skelgraph.methods.balanced import measured
from skelgraph.methods.base import METHODS
from skelgraph.methods.resampling import BalancedSampling
from skelgraph.methods.supervised import LinearProbe, Supervised
from skelgraph.models.base import Exports, Model, load_exact


@METHODS.register("crt")
class ClassifierRetraining(LinearProbe):
    """A fresh linear classifier on the frozen network, trained on as many clips of each class.

    Args:
        model: the network of the finished run (``from:``).
        label_smoothing: as in `Supervised`.
        repeat: as in `BalancedSampling`; matters only where a length is in epochs.

    Source: cRT (Kang et al., ICLR 2020).
    """

    def __init__(self, model: Model, *, label_smoothing: float = 0.0, repeat: int = 1) -> None:
        super().__init__(model, label_smoothing=label_smoothing)
        self.resampling = BalancedSampling(repeat=repeat)

    def draws(self, labels: np.ndarray, seed: int, epoch: int) -> np.ndarray | None:
        counts = measured(labels, self.spec.classes).numpy()
        return self.resampling(labels, counts, seed, epoch)


def classifiers(model: Model) -> list[nn.Linear]:
    """The last layer of a model, or of each of its networks.

    Raises:
        UserError: a classifier that is not one linear layer.
    """
    heads = {name: module for name, module in model.named_modules() if name.split(".")[-1] == "head"}
    linear = [module for module in heads.values() if isinstance(module, nn.Linear)]
    if not linear or any(not isinstance(module, nn.Linear | nn.Identity) for module in heads.values()):
        raise UserError(f"{type(model).__name__}: its classifier is not one linear layer, so it cannot be adjusted.")
    return linear


@torch.no_grad()
def normalize_classifiers(model: Model, tau: float, keep_bias: bool = False) -> None:
    """Divide the weights of each class by their norm to the power ``tau``; the bias goes, as published."""
    for layer in classifiers(model):
        layer.weight /= layer.weight.norm(dim=1, keepdim=True).clamp(min=1e-12) ** tau
        if not keep_bias:
            _bias(layer).zero_()


@torch.no_grad()
def adjust_classifiers(model: Model, counts: Tensor, tau: float) -> None:
    """Take tau log(n_c / n) from the logit of each class."""
    prior = (counts.double() / counts.sum()).log()
    for layer in classifiers(model):
        bias = _bias(layer)
        bias -= (tau * prior).to(bias)


def _bias(layer: nn.Linear) -> Tensor:
    if layer.bias is None:
        layer.bias = nn.Parameter(layer.weight.new_zeros(layer.out_features), requires_grad=False)
    return layer.bias


class Posthoc(Supervised):
    """A stage that trains nothing: it takes the network of a finished run with its classifier, and changes that.

    Give it ``from:`` and ``steps: 1``; the step computes figures only.

    Args:
        model: the network of the finished run.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        model.requires_grad_(False)
        # The engine counts the steps of an optimiser, which needs something to step.
        self.idle = nn.Parameter(torch.zeros(()))
        self._consumed = self._adjusted = False

    def consume(self, exports: Exports) -> None:
        """Take over the whole network, classifier included."""
        if "backbone" not in exports:
            raise UserError(f"{type(self).__name__} needs an exported 'backbone'; got {sorted(exports)}.")
        load_exact(self.model, exports["backbone"])
        self._consumed = True

    def adjust(self, counts: Tensor) -> None:
        """Change the classifier, given the training clips of each class."""
        raise NotImplementedError

    def draws(self, labels: np.ndarray, seed: int, epoch: int) -> np.ndarray | None:
        if not self._consumed:
            raise UserError("this method changes the classifier of a finished run; name it with 'from:'.")
        if not self._adjusted:
            self.adjust(measured(labels, self.spec.classes))
            self._adjusted = True
        return None

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        self.model.eval()
        return self

    def step(self, prepared: Batch, epoch: float) -> dict[str, Tensor]:
        figures = super().step(prepared, epoch)
        return {**figures, "loss": figures["loss"] + 0 * self.idle}


@METHODS.register("tau_norm")
class TauNorm(Posthoc):
    """The classifier's weights, those of each class divided by their norm to the power tau.

    Args:
        model: the network of the finished run.
        tau: 0 leaves them, 1 gives every class the same norm.
        keep_bias: as published it goes.

    Source: tau-normalisation (Kang et al., ICLR 2020).
    """

    def __init__(self, model: Model, *, tau: float = 1.0, keep_bias: bool = False) -> None:
        super().__init__(model)
        self.tau, self.keep_bias = tau, keep_bias

    def adjust(self, counts: Tensor) -> None:
        normalize_classifiers(self.model, self.tau, self.keep_bias)


@METHODS.register("logit_adjust")
class LogitAdjust(Posthoc):
    """Logits less tau log pi_c, with pi_c the share of class c in the training part.

    Args:
        model: the network of the finished run, trained by cross-entropy.
        tau: 1 is right for scores that are probabilities.

    Source: post-hoc logit adjustment (Menon et al., ICLR 2021).
    """

    def __init__(self, model: Model, *, tau: float = 1.0) -> None:
        super().__init__(model)
        self.tau = tau

    def adjust(self, counts: Tensor) -> None:
        adjust_classifiers(self.model, counts, self.tau)
