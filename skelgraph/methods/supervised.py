"""Learning from labels: cross-entropy on the logits, and the linear probe."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.batch import Batch, Output
from skelgraph.methods.base import METHODS, Method
from skelgraph.models.base import Model

PROBE_STD = 0.01


@METHODS.register("supervised")
class Supervised(Method):
    """Cross-entropy with label smoothing.

    A model that trains several streams together answers with ``Output.streams``; each stream then has its own
    cross-entropy and the loss is their sum.

    Args:
        model: a model with a classifier.
        label_smoothing: mass taken from the true class and spread over all.
    """

    monitor = ("val_top1", "max")

    def __init__(self, model: Model, *, label_smoothing: float = 0.0) -> None:
        super().__init__(model)
        self.label_smoothing = label_smoothing

    def loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """Mean cross-entropy of ``logits (N, K)``, in float32."""
        return F.cross_entropy(logits.float(), label, label_smoothing=self.label_smoothing)

    def answer(self, prepared: Batch) -> Output:
        """The model's answer to a prepared batch."""
        answer: Output = self.model(prepared)
        return answer

    def step(self, prepared: Batch, epoch: float) -> dict[str, Tensor]:
        output = self.answer(prepared)
        parts = list(output.streams.values()) or [output.logits]
        losses = [self.loss(logits, prepared.label) for logits in parts]
        top1 = (output.logits.argmax(-1) == prepared.label).float().mean()
        return {"loss": sum(losses[1:], losses[0]), "top1": top1}


@METHODS.register("linear_probe")
class LinearProbe(Supervised):
    """A linear classifier on frozen features: how good is what an earlier stage has learnt?

    The backbone stays in eval mode and receives no gradient, so its weights and batch-norm statistics do not move. The
    classifier begins with weights from N(0, 0.01) and a bias of 0, as is the custom in contrastive learning.

    Args:
        model: the encoder; its head is replaced by one linear layer.
        label_smoothing: as in `Supervised`.
    """

    def __init__(self, model: Model, *, label_smoothing: float = 0.0) -> None:
        super().__init__(model, label_smoothing=label_smoothing)
        model.requires_grad_(False)
        model.head = nn.Linear(model.feature_dim, model.spec.num_classes)
        nn.init.normal_(model.head.weight, std=PROBE_STD)
        nn.init.zeros_(model.head.bias)

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        self.model.eval()
        self.model.head.train(mode)
        return self
