"""A store in the loaders of PyTorch Geometric and DGL."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skelgraph.data import Clip, Store, StoreWriter
from skelgraph.data.graphs import DGLClips, PyGClips

FRAMES, PERSONS, NODES = 6, 2, 2 * 6 * 17


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("graphs") / "store"
    chance = np.random.default_rng(0)
    with StoreWriter(path, topology="coco17", dims=2, classes=["a", "b"]) as writer:
        for number in range(7):
            keypoints = chance.normal(size=(1 + number % 2, 4 + 3 * number, 17, 2))
            writer.write(Clip.of(f"clip{number}", keypoints, label=None if number == 6 else number % 2))
    return Store.open(path)


def test_nodes_are_evenly_spaced_frames(store: Store) -> None:
    clips = PyGClips(store, FRAMES, PERSONS)
    data = clips[3]
    assert data.validate()
    assert data.num_nodes == NODES
    clip = store[3]
    chosen = np.linspace(0, clip.frames - 1, FRAMES).round().astype(int)
    x = clips.graph.from_nodes(data)[0]
    np.testing.assert_array_equal(x[..., :2], clip.keypoints[:, chosen])
    np.testing.assert_array_equal(x[..., 2], clip.score[:, chosen])
    assert torch.equal(data.pos, data.x[:, :2])
    assert data.y.tolist() == [1]


def test_who_is_not_there_is_zero(store: Store) -> None:
    clips = PyGClips(store, FRAMES, PERSONS)
    x = clips.graph.from_nodes(clips[0])[0]
    assert (x[0, ..., 2] == 1).all()
    assert (x[1] == 0).all()
    assert PyGClips(store, FRAMES, 1)[1].num_nodes == NODES // 2
    assert clips[6].y.tolist() == [-1]


def test_pyg_loader(store: Store) -> None:
    from torch_geometric.loader import DataLoader

    clips = store.to_pyg_dataset(FRAMES, PERSONS)
    batches = list(DataLoader(clips, batch_size=3))
    assert [batch.num_graphs for batch in batches] == [3, 3, 1]
    ends = batches[0].edge_index // NODES
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(batches[0].edge_index, clips.graph.union(3).edge_index)
    assert batches[0].y.tolist() == [0, 1, 0]
    assert torch.equal(clips.graph.from_nodes(batches[0])[2], clips.graph.from_nodes(clips[2])[0])


def test_rows_of_a_part(store: Store) -> None:
    clips = store.to_pyg_dataset(FRAMES, PERSONS, indices=[4, 1])
    assert len(clips) == 2
    assert torch.equal(clips[0].x, PyGClips(store, FRAMES, PERSONS)[4].x)
    assert len(list(clips)) == 2
    with pytest.raises(IndexError):
        clips[2]


def test_dgl_loader(store: Store) -> None:
    pytest.importorskip("dgl")
    from dgl.dataloading import GraphDataLoader

    clips = DGLClips(store, FRAMES, PERSONS, inter_person="all")
    graph, label = next(iter(GraphDataLoader(clips, batch_size=4)))
    assert graph.batch_size == 4
    assert label.tolist() == [0, 1, 0, 1]
    assert torch.equal(torch.stack(graph.edges()), clips.graph.union(4).edge_index)
    same = PyGClips(store, FRAMES, PERSONS, inter_person="all")
    assert torch.equal(graph.ndata["x"][NODES : 2 * NODES], same[1].x)
    assert torch.equal(graph.edata["type"][: clips.graph.num_edges], same[1].edge_type)
    assert graph.ndata["pos"].shape == (4 * NODES, 2)
