"""Contrastive learning with a momentum encoder and a queue (MoCo), for one network or several streams of a clip."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.batch import Batch, as_batch
from skelgraph.errors import UserError, unknown
from skelgraph.methods.base import METHODS, Method
from skelgraph.methods.queue import KeyQueue
from skelgraph.methods.sphere import unit
from skelgraph.models.base import Exports, Model, load_exact
from skelgraph.models.multi_stream import MultiStream

PROJECTIONS = ("mlp", "linear")
WHOLE = "whole"
Embeddings = Mapping[str, Tensor]
Views = tuple[Batch, Batch]


def make_projection(kind: str, width: int, dim: int) -> nn.Module:
    """The head that training compares: ``mlp`` is Linear, ReLU, Linear, ``linear`` one Linear.

    The last weights are Xavier's uniform, as those of the published encoder.

    Raises:
        UserError: unknown kind.
    """
    if kind not in PROJECTIONS:
        raise unknown("projection", kind, PROJECTIONS)
    last = nn.Linear(width, dim)
    nn.init.xavier_uniform_(last.weight)
    return last if kind == "linear" else nn.Sequential(nn.Linear(width, width), nn.ReLU(), last)


class Embedder(nn.Module):
    """A network and its projection.

    Shapes:
        clips: a `Batch` or joints (N, M, T, V, C); out (N, D), not normalised.
    """

    def __init__(self, encoder: Model, projection: nn.Module) -> None:
        super().__init__()
        self.encoder, self.projection = encoder, projection

    def forward(self, clips: Batch | Tensor) -> Tensor:
        embedding: Tensor = self.projection(self.encoder.forward_features(as_batch(clips)))
        return embedding


class Branch(nn.Module):
    """What training puts around one network: its projection, the encoder of the keys, the queue.

    The key encoder is a copy that receives no gradient. It has batch-norm statistics of its own, from its own batches.

    Args:
        encoder: the network of the queries; not part of this module.
        projection, dim: see `make_projection`.
        queue: keys in the queue.
    """

    def __init__(self, encoder: Model, projection: str, dim: int, queue: int) -> None:
        super().__init__()
        self.projection = make_projection(projection, encoder.feature_dim, dim)
        self.key = copy.deepcopy(Embedder(encoder, self.projection)).requires_grad_(False)
        self.queue = KeyQueue(queue, dim)

    @torch.no_grad()
    def follow(self, encoder: Model, momentum: float) -> None:
        """Move the key parameters towards those of the queries: ``k <- momentum k + (1 - momentum) q``."""
        parts = ((self.key.encoder, encoder), (self.key.projection, self.projection))
        for key, query in parts:
            for mine, other in zip(key.parameters(), query.parameters(), strict=True):
                mine.lerp_(other, 1.0 - momentum)


def contrast_logits(query: Tensor, key: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Similarities of a query with its key (column 0) and with the queue, over the temperature.

    Shapes:
        query, key (N, D), negatives (K, D) unit vectors; out (N, 1 + K).
    """
    own = (query * key).sum(-1, keepdim=True)
    return torch.cat([own, query @ negatives.T], dim=1) / temperature


def info_nce(logits: Tensor) -> Tensor:
    """Mean over clips of minus the log-probability of column 0."""
    return (logits.logsumexp(1) - logits[:, 0]).mean()


def distillation(
    students: Embeddings, teachers: Embeddings, queues: Embeddings, topk: int, teacher: float, student: float
) -> Tensor:
    """Cross-modal mutual distillation: every stream learns the neighbourhoods that the keys of the others see.

    For each ordered pair (a, b) of streams, among the ``topk`` rows j of the queue that are most similar to a's key::

        mean over clips of KL(softmax_j(k_a . n_aj / teacher) || softmax_j(q_b . n_bj / student))

    Args:
        students: queries q of each stream.
        teachers: keys k of each stream, without gradient.
        queues: n of each stream; row j is the same clip in all.
        topk: neighbours.
        teacher, student: temperatures.

    Shapes:
        q, k (N, D), n (K, D) unit vectors; out a scalar, the sum over pairs.

    Source: Mao et al., ECCV 2022 (CMD).
    """
    seen = {name: students[name] @ queues[name].T for name in students}
    known = {name: (teachers[name] @ queues[name].T).topk(topk, dim=1) for name in students}
    loss = torch.zeros((), device=next(iter(seen.values())).device)
    for a, b in permutations(seen, 2):
        target = F.log_softmax(known[a].values / teacher, dim=1)
        answer = F.log_softmax(seen[b].gather(1, known[a].indices) / student, dim=1)
        loss = loss + F.kl_div(answer, target, reduction="batchmean", log_target=True)
    return loss


@METHODS.register("moco")
class Moco(Method):
    """Two views of a clip agree, and differ from the clips in a queue; needs no labels.

    The first view of a clip gives the query q, the second the key k of a slowly following copy of the network, and with
    s(x) = exp(q.x / temperature) and all n of the queue

        loss = mean over clips of -log( s(k) / (s(k) + sum_j s(n_j)) ).

    Then the keys of all processes enter the queue. A `MultiStream` model has a queue, a
    projection and a key network for each stream, and `distillation` between them.

    Figures beside the loss: ``loss_nce`` (the sum over streams), ``similarity`` (the mean of q.k), and with several
    streams ``loss_distill``.

    Args:
        model: the network that is trained; its classifier is taken off.
        queue: K, a multiple of the batch and at most the number of training clips.
        momentum: of the key network.
        temperature: see above.
        dim: width of the embedding.
        projection: ``mlp`` or ``linear``, see `make_projection`.
        symmetric: each view is query once and key once, and the loss the mean of both; the keys of both views enter
            the queue.
        distill: weight of `distillation`, where the model has several streams.
        topk: its neighbours; None is half the queue.
        teacher, student: its temperatures.

    Raises:
        UserError: unknown projection, or a figure out of its range.

    Source: He et al., CVPR 2020; settings of Mao et al., ECCV 2022 and Shah et al., CVPR 2023.
    """

    needs_labels: ClassVar[bool] = False
    loader_views: ClassVar[int] = 2

    def __init__(
        self,
        model: Model,
        *,
        queue: int = 16384,
        momentum: float = 0.999,
        temperature: float = 0.07,
        dim: int = 128,
        projection: str = "mlp",
        symmetric: bool = False,
        distill: float = 1.0,
        topk: int | None = None,
        teacher: float = 0.05,
        student: float = 0.1,
    ) -> None:
        super().__init__(model)
        model.reset_classifier(())
        for name, value in (("temperature", temperature), ("teacher", teacher), ("student", student)):
            if value <= 0:
                raise UserError(f"{name}: {value:g} is no temperature; it must be above 0.")
        if not 0 <= momentum <= 1:
            raise UserError(f"momentum: {momentum:g} is not between 0 and 1.")
        if topk is not None and not 0 < topk <= queue:
            raise UserError(f"topk: there are no {topk} neighbours in a queue of {queue}; choose 1 to {queue}.")
        self.branches = nn.ModuleDict(
            {name: Branch(network, projection, dim, queue) for name, network in self.networks.items()}
        )
        self.momentum, self.temperature, self.symmetric = momentum, temperature, symmetric
        self.distill, self.topk, self.teacher, self.student = distill, topk or max(1, queue // 2), teacher, student
        self._new: list[Embeddings] = []

    @property
    def networks(self) -> dict[str, Model]:
        """The networks of the queries by stream."""
        if isinstance(self.model, MultiStream):
            return dict(self.model.networks.items())  # type: ignore[arg-type]
        return {WHOLE: self.model}

    def streams(self) -> Iterator[tuple[str, Model, Branch]]:
        """Name, network and what is around it, of every stream."""
        for name, network in self.networks.items():
            yield name, network, self.branches[name]  # type: ignore[misc]

    def check(self, clips: int, batch: int) -> None:
        keys = batch * (2 if self.symmetric else 1)
        queue = len(next(branch for _, _, branch in self.streams()).queue)
        most = clips // keys * keys
        if queue > clips:
            raise UserError(
                f"the queue of {queue} keys is larger than the {clips} training clips, so a clip would meet its own "
                f"earlier keys as negatives; {f'set queue to {most} or less' if most else 'take a smaller batch'}."
            )
        if queue % keys:
            fits = max(keys, queue // keys * keys)
            raise UserError(
                f"{keys} keys a step do not divide the queue of {queue}; set queue to {fits}, or change the batch."
            )

    def prepare(self, batch: Batch) -> Views:
        both = super().prepare(batch)
        return both[0::2], both[1::2]

    def step(self, prepared: Views, epoch: float) -> dict[str, Tensor]:
        first, second = prepared
        turns = [(first, second), (second, first)] if self.symmetric else [(first, second)]
        queries = [self.queries(view) for view, _ in turns]
        if self.training:
            for _, network, branch in self.streams():
                branch.follow(network, self.momentum)
        keys = [self.keys(view) for _, view in turns]
        self._new = keys if self.training else []
        with torch.autocast(first.keypoints.device.type, enabled=False):
            answers = [self.compare(query, key) for query, key in zip(queries, keys, strict=True)]
        return {name: torch.stack([answer[name] for answer in answers]).mean() for name in answers[0]}

    def queries(self, view: Batch) -> Embeddings:
        """Unit embeddings ``(N, D)`` of a view by stream, with gradient."""
        return {
            name: unit(branch.projection(network.forward_features(view))) for name, network, branch in self.streams()
        }

    @torch.no_grad()
    def keys(self, view: Batch) -> Embeddings:
        """Unit embeddings ``(N, D)`` of a view by stream from the key networks."""
        return {name: unit(branch.key(view)) for name, _, branch in self.streams()}

    def compare(self, queries: Embeddings, keys: Embeddings) -> dict[str, Tensor]:
        """Figures of queries and their keys, against the queues as they are."""
        queues = {name: branch.queue.keys for name, _, branch in self.streams()}
        losses = [info_nce(contrast_logits(queries[n], keys[n], queues[n], self.temperature)) for n in queries]
        similarity = torch.stack([(queries[name].detach() * keys[name]).sum(-1).mean() for name in queries])
        loss = torch.stack(losses).sum()
        figures = {"loss": loss, "loss_nce": loss.detach(), "similarity": similarity.mean()}
        if len(queues) > 1 and self.distill:
            distilled = distillation(queries, keys, queues, self.topk, self.teacher, self.student)
            figures["loss"] = loss + self.distill * distilled
            figures["loss_distill"] = distilled.detach()
        return figures

    def after_step(self) -> None:
        for keys in self._new:
            for name, _, branch in self.streams():
                branch.queue.enqueue(keys[name])
        self._new = []

    def exports(self) -> dict[str, nn.Module]:
        return {**super().exports(), "contrastive": self.branches}

    def consume(self, exports: Exports) -> None:
        """Go on with projection, key network and queue of an earlier contrastive stage, if it was one."""
        if "contrastive" not in exports:
            return
        try:
            load_exact(self.branches, exports["contrastive"])
        except UserError as error:
            raise UserError(
                f"the stage named by 'from:' has another contrastive part ({error}) Give both stages the same queue, "
                "dim, projection and streams."
            ) from None
