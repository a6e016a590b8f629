"""A vote of the nearest labelled clips, by the cosine of features: how a model without classifier is tested.

Letters: N queries, G clips of the gallery, D width of the features, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from skelgraph.errors import UserError

CELLS = 2**24
TIE = 1e-3


@torch.inference_mode()
def vote(
    gallery: Tensor, labels: Tensor, queries: Tensor, classes: int, neighbours: int = 1, device: str = "cpu",
    cells: int = CELLS,
) -> Tensor:  # fmt: skip
    """Shares of the votes that the nearest clips of a gallery give to each class.

    A thousandth of a vote beside them decides between equal classes: of that, the class whose best clip is nearest gets
    a half, the next one a quarter, and so on. So the class of the nearest clip wins a tie, and classes without a vote
    are ranked by their nearest clip.

    Args:
        gallery, labels: features and true classes of the labelled clips.
        queries: features of the clips in question.
        classes: K.
        neighbours: clips that vote, each once; 1 as published.
        device: where it is computed; a chunk of queries needs memory for ``cells`` similarities, some times over.
        cells: see above.

    Shapes:
        gallery (G, D), labels (G,), queries (N, D); out (N, K) on the CPU, rows add to 1.

    Raises:
        UserError: fewer clips than neighbours, or features that are not finite.
    """
    if neighbours > len(gallery):
        raise UserError(f"{len(gallery)} labelled training clips cannot give {neighbours} neighbours.")
    for name, values in (("training", gallery), ("test", queries)):
        if not torch.isfinite(values).all():
            raise UserError(f"the model's features of some {name} clips are not finite numbers.")
    labels, known = labels.to(device), F.normalize(gallery.to(device), dim=-1)
    rows = max(1, cells // len(gallery))
    shares = [_shares(F.normalize(part.to(device), dim=-1) @ known.T, labels, classes, neighbours).cpu()
              for part in queries.split(rows)]  # fmt: skip
    return torch.cat(shares) if shares else gallery.new_zeros(0, classes)


def _shares(similarity: Tensor, labels: Tensor, classes: int, neighbours: int) -> Tensor:
    """The shares ``(n, K)`` that go with similarities ``(n, G)``."""
    nearest = labels[similarity.topk(neighbours, dim=1).indices]
    votes = F.one_hot(nearest, classes).sum(1).to(similarity.dtype)
    best = similarity.new_full((len(similarity), classes), -2.0)
    best.scatter_reduce_(1, labels.expand_as(similarity), similarity, "amax")
    # A tie in similarity must not give a lower rank to a class without vote.
    rank = (best + 4 * (votes > 0)).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    votes = votes + TIE * torch.exp2(-(rank + 1).to(votes.dtype))
    return votes / votes.sum(1, keepdim=True)
