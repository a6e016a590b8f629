"""A store as graphs for the loaders of PyTorch Geometric and DGL.

Letters: M persons, T frames, V joints, C coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from skelgraph.data.loader import BatchReader, Draw
from skelgraph.data.sampling import create
from skelgraph.graph import TemporalGraph, import_dgl

if TYPE_CHECKING:
    from skelgraph.batch import Batch
    from skelgraph.data.store import Store


class _Clips(Dataset):
    """Clips of a store as graphs of one size; see `PyGClips` and `DGLClips`."""

    def __init__(
        self, store: Store, frames: int, persons: int = 1, indices: Sequence[int] | np.ndarray | None = None,
        **graph: Any,
    ) -> None:  # fmt: skip
        self.indices = np.arange(len(store)) if indices is None else np.asarray(indices, dtype=np.int64)
        self.graph = TemporalGraph(store.topology, frames, persons, **graph)
        self._reader = BatchReader(store, frames, persons, create("even"))

    def __len__(self) -> int:
        return len(self.indices)

    def _clip(self, position: int) -> Batch:
        if not -len(self) <= position < len(self):
            raise IndexError(f"clip {position} of {len(self)}")
        return self._reader[[Draw(int(self.indices[position]), -1, 0, 0)]]


class PyGClips(_Clips):
    """One ``torch_geometric.data.Data`` a clip, for ``torch_geometric.loader.DataLoader``.

    Frames are evenly spaced over the clip, first and last included; a person who is not in it is zeros.

    Fields: ``x`` (nodes, C + 1) coordinates and, last, the score of each joint (0 = missing); ``pos`` (nodes, C)
    coordinates; ``edge_index``, ``edge_type``, node order: see `TemporalGraph`; ``y`` (1,) label, -1 = unlabelled.

    Args:
        store: the clips.
        frames, persons: T and M of every graph.
        indices: rows of the store, such as ``store.protocol(name)["train"]``; by default all.
        graph: ``temporal_hops`` and ``inter_person`` of `TemporalGraph`.
    """

    def __getitem__(self, position: int) -> Any:
        clip = self._clip(position)
        data = self.graph.to_pyg(torch.cat([clip.keypoints, clip.score.unsqueeze(-1)], -1)[0], label=clip.label[0])
        data.pos = data.x[:, :-1]
        return data


class DGLClips(_Clips):
    """One ``(DGLGraph, label)`` a clip, for ``dgl.dataloading.GraphDataLoader``.

    Frames and arguments as in `PyGClips`. Fields: ``ndata["x"]`` (nodes, C + 1) coordinates and score,
    ``ndata["pos"]`` (nodes, C), ``edata["type"]``; the label is () int64, -1 = unlabelled.

    Raises:
        UserError: DGL is not installed.
    """

    def __init__(
        self, store: Store, frames: int, persons: int = 1, indices: Sequence[int] | np.ndarray | None = None,
        **graph: Any,
    ) -> None:  # fmt: skip
        import_dgl()
        super().__init__(store, frames, persons, indices, **graph)

    def __getitem__(self, position: int) -> tuple[Any, torch.Tensor]:
        clip = self._clip(position)
        graph = self.graph.to_dgl(torch.cat([clip.keypoints, clip.score.unsqueeze(-1)], -1)[0])
        graph.ndata["pos"] = graph.ndata["x"][:, :-1]
        return graph, clip.label[0]
