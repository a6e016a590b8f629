"""From store to batch: content, mapping, order, ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from skelgraph.data import sampling
from skelgraph.data.loader import BatchReader, Draw, EpochBatches, OrderedBatches, make_loader
from skelgraph.data.store import Store
from skelgraph.topology import Topology


@pytest.fixture(scope="module")
def store(demo_clips: Path) -> Store:
    return Store.open(demo_clips)


def reader(store: Store, **settings: object) -> BatchReader:
    return BatchReader(store, 12, 2, sampling.create("even"), **settings)


def test_batch_holds_the_frames_of_the_clip(store: Store) -> None:
    batch = reader(store)[[Draw(5, -1, 0, 0), Draw(2, -1, 0, 0)]]
    clip = store[5]
    frames = np.linspace(0, clip.frames - 1, 12).round().astype(int)
    np.testing.assert_array_equal(batch.keypoints[0, 0].numpy(), clip.keypoints[0, frames])
    assert not batch.keypoints[:, 1].any()
    assert not batch.valid[:, 1].any()
    assert batch.label.tolist() == [store.labels[5], store.labels[2]]
    assert batch.index.tolist() == [5, 2]
    assert batch.image_size[0].tolist() == list(clip.image_size)


def test_interpolation_ignores_a_missing_end(store: Store) -> None:
    sampler = sampling.create("resize", test_crop=1.0)
    batch = BatchReader(store, 200, 1, sampler)[[Draw(i, -1, 0, 0) for i in range(len(store))]]
    assert not batch.keypoints[batch.score == 0].any()
    seen = batch.keypoints[batch.score > 0]
    assert (seen.norm(dim=-1) > 1).all(), "a missing joint at (0, 0) has been mixed in"


class GappedStore:
    """The demo store, where the only person is missing from every odd frame."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def row(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        keypoints, score = (array.copy() for array in self.store.row(index))
        keypoints[:, 1::2], score[:, 1::2] = 0, 0
        return keypoints, score


@pytest.mark.parametrize("epoch", [-1, 0])
def test_dropped_frames_do_not_reach_the_batch(store: Store, epoch: int) -> None:
    for name, settings in (("none", {}), ("absent", {"drop": "absent"}), ("empty", {"drop": "empty"})):
        sampler = sampling.create("uniform", **settings)
        valid = BatchReader(GappedStore(store), 16, 1, sampler)[[Draw(3, epoch, 0, 0)]].valid  # type: ignore[arg-type]
        assert bool(valid.all()) == (name != "none")


def test_another_topology_is_mapped_by_names(store: Store) -> None:
    target = Topology.load("penn13")
    batch = reader(store, topology=target)[[Draw(0, -1, 0, 0)]]
    plain = reader(store)[[Draw(0, -1, 0, 0)]]
    assert batch.keypoints.shape[3] == 13
    here, there = target.index("left_knee"), store.topology.index("left_knee")
    torch.testing.assert_close(batch.keypoints[..., here, :], plain.keypoints[..., there, :])
    hand = reader(store, topology=Topology.load("hand21"))[[Draw(0, -1, 0, 0)]]
    assert not hand.score[..., Topology.load("hand21").index("index_tip")].any()


def test_an_epoch_visits_every_clip_once_and_resumes_anywhere(store: Store) -> None:
    indices = np.arange(40)
    whole = [batch for step in (0, 10) for batch in EpochBatches(indices, 4, 3, lambda s=step: s)]
    assert sorted(draw.clip for batch in whole[:10] for draw in batch) == list(range(40))
    assert [d.clip for b in whole[:10] for d in b] != [d.clip for b in whole[10:] for d in b]
    for done in (1, 7, 10, 13):
        rest = list(EpochBatches(indices, 4, 3, lambda: done))  # noqa: B023
        assert rest == whole[done : (done // 10 + 1) * 10]


def test_ranks_share_every_batch(store: Store) -> None:
    indices = np.arange(40)
    single = list(EpochBatches(indices, 8, 3, lambda: 0))
    ranks = [list(EpochBatches(indices, 8, 3, lambda: 0, rank=rank, world=2)) for rank in range(2)]
    for batch, first, second in zip(single, *ranks, strict=True):
        assert set(batch) == set(first) | set(second)
        assert len(first) == len(second) == 4
    rows = [OrderedBatches(np.arange(7), 4, rank=rank, world=2) for rank in range(2)]
    clips = [draw.clip for part in rows for batch in part for draw in batch]
    assert sorted(clips) == list(range(7))


def test_crops_do_not_depend_on_the_batch(store: Store) -> None:
    chosen = BatchReader(store, 12, 1, sampling.create("uniform"), seed=4)
    alone = chosen[[Draw(3, 2, 9, 0)]]
    together = chosen[[Draw(1, 2, 0, 0), Draw(3, 2, 9, 0)]]
    assert torch.equal(alone.keypoints[0], together.keypoints[1])
    assert not torch.equal(alone.keypoints, chosen[[Draw(3, 3, 9, 0)]].keypoints)


def test_over_sampling_by_order_and_views(store: Store) -> None:
    batches = EpochBatches(np.array([10, 20]), 3, 0, lambda: 0, lambda epoch: np.array([0, 1, 1, 1, 0, 1]), views=2)
    assert len(batches) == 2
    first = next(iter(batches))
    assert [(d.clip, d.view) for d in first] == [(10, 0), (10, 1), (20, 0), (20, 1), (20, 0), (20, 1)]
    assert len({(d.position, d.view) for d in first}) == 6


@pytest.mark.parametrize("workers", [0, 1])
def test_workers_give_the_same_batches(store: Store, workers: int) -> None:
    loader = make_loader(reader(store), OrderedBatches(np.arange(9), 4), workers)
    assert isinstance(loader, DataLoader)
    assert [batch.index.tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
