"""How well classes are answered that had many, some or few clips to learn from: figures of long-tailed runs.

Classes are grouped by both rules in use, see `skelgraph.data.longtail.frequency_groups`, and every name says which one
it follows. A figure is the mean recall of the classes of its group that were tested, so that each counts the same
(Liu et al., CVPR 2019, "shot accuracy"). Letters: N clips, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelgraph.data.longtail import frequency_groups

LONG_TAILED = 5.0
GROUPS = {
    "head_third": ("thirds", "head", "Head third of the classes"),
    "medium_third": ("thirds", "medium", "Medium third of the classes"),
    "tail_third": ("thirds", "tail", "Tail third of the classes"),
    "many_over_100": ("100/20", "many", "Many-shot classes (over 100)"),
    "medium_20_to_100": ("100/20", "medium", "Medium-shot classes (20 to 100)"),
    "few_under_20": ("100/20", "few", "Few-shot classes (under 20)"),
}
NOTE = (
    "Head, medium and tail: thirds of the classes in the order of their training clips; many, medium and few: over "
    "100, 20 to 100, under 20 training clips. Each figure is the mean recall of its classes; shown where the largest "
    f"class has at least {LONG_TAILED:g} times the training clips of the smallest."
)


def classes_of(train_counts: Sequence[int] | None) -> dict[str, NDArray[np.int64]]:
    """Class numbers behind each figure of `GROUPS`; nothing where counts are not known or about equal.

    Args:
        train_counts: (K,) training clips of each class.
    """
    counts = np.asarray(train_counts if train_counts is not None else (), dtype=np.int64)
    if len(counts) < 3 or counts.max() < LONG_TAILED * max(1, counts.min()):
        return {}
    found = frequency_groups(counts)
    return {name: found[rule][group] for name, (rule, group, _) in GROUPS.items() if len(found[rule][group])}


def group_figures(probabilities: Tensor, labels: Tensor, train_counts: Sequence[int] | None) -> dict[str, float]:
    """Mean recall in per cent of the classes of each group; nothing for runs that are not long-tailed.

    Args:
        probabilities: (N, K) scores of the test clips.
        labels: (N,) their classes.
        train_counts: (K,) training clips of each class; None where it is not known.
    """
    classes = probabilities.shape[1]
    tested = torch.bincount(labels, minlength=classes)
    right = torch.bincount(labels[probabilities.argmax(-1) == labels], minlength=classes)
    recall = 100.0 * right.double() / tested.clamp(min=1)
    figures = {}
    for name, group in classes_of(train_counts).items():
        own = torch.from_numpy(group)
        own = own[tested[own] > 0]
        if len(own):
            figures[name] = float(recall[own].mean())
    return figures
