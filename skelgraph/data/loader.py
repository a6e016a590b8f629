"""From the store to a `Batch`: slices of the memory map, resampled to T frames, and what belongs to these frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data import Sampler as TorchSampler

from skelgraph.batch import Batch
from skelgraph.data.modalities import ModalityReader
from skelgraph.data.modality_config import ModalityConfig
from skelgraph.data.sampling import Chance, FrameIndex, Sampler, choose, generator, take_frames
from skelgraph.data.store import Store
from skelgraph.errors import UserError
from skelgraph.topology import Topology
from skelgraph.topology_map import TopologyMap


class Draw(NamedTuple):
    """One visit of a clip: its row in the store, the epoch (-1 outside training), the place in it, the crop."""

    clip: int
    epoch: int
    position: int
    view: int


class BatchReader(Dataset):
    """Reads a list of draws as one `Batch`.

    Args:
        store: the clips.
        frames, persons: T and M of the batch; a person who is not in the clip is zeros and not valid.
        sampler: which frames.
        topology: of the batch; where the store has another one, joints are mapped by name and a joint without
            partner is missing (score 0).
        views: crops of each clip.
        seed: of all crops.
        modalities: which further ones, and how; a clip that lacks one has zeros there that are not valid.
    """

    def __init__(
        self, store: Store, frames: int, persons: int, sampler: Sampler,
        topology: Topology | None = None, views: int = 1, seed: int = 0,
        modalities: Mapping[str, ModalityConfig] | None = None,
    ) -> None:  # fmt: skip
        self.store, self.frames, self.persons, self.sampler = store, frames, persons, sampler
        self.views, self.seed, self.chance = views, seed, Chance()
        self.topology = topology or store.topology
        self.modalities = [ModalityReader(store, name, item, frames) for name, item in (modalities or {}).items()]
        same = self.topology.joints == store.topology.joints
        self.mapping = None if same else TopologyMap.between(store.topology, self.topology)

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, draws: list[Draw]) -> Batch:
        dims, joints = self.store.meta.dims, len(self.store.topology.joints)
        keypoints = np.zeros((len(draws), self.persons, self.frames, joints, dims), dtype=np.float32)
        score = np.zeros(keypoints.shape[:-1], dtype=np.float32)
        further = [reader.empty(len(draws)) for reader in self.modalities]
        for row, draw in enumerate(draws):
            clip, seen = self.store.row(draw.clip)
            count = min(self.persons, len(clip))
            index = self._frames(seen[:count], draw)
            keypoints[row, :count], score[row, :count] = take_frames(clip[:count], seen[:count], index)
            for reader, (values, valid) in zip(self.modalities, further, strict=True):
                reader.read(draw.clip, index, values[row], valid[row])
            if further and not score[row].any() and not any(valid[row].any() for _, valid in further):
                self._refuse(draw)
        if self.mapping is not None:
            keypoints, score = self.mapping.apply(keypoints, score)
        batch = self._batch(keypoints, score, np.array([draw.clip for draw in draws], dtype=np.int64))
        found = zip(self.modalities, further, strict=True)
        return batch.with_(modalities={reader.name: reader.modality(*arrays) for reader, arrays in found})

    def _refuse(self, draw: Draw) -> None:
        names = ", ".join(reader.name for reader in self.modalities)
        raise UserError(
            f"clip '{self.store.names[draw.clip]}': nobody is seen and it has none of {names} in the frames drawn; "
            "leave it out of the protocol, or sample with 'drop: empty'."
        )

    def _frames(self, seen: np.ndarray, draw: Draw) -> FrameIndex:
        seed = self.seed + 7919 * draw.view
        chance = None if draw.epoch < 0 else self.chance(seed, draw.epoch, draw.clip, draw.position)
        return choose(self.sampler, seen, self.frames, chance, draw.view, self.views)

    def _batch(self, keypoints: np.ndarray, score: np.ndarray, clips: np.ndarray) -> Batch:
        seen = torch.from_numpy(score)
        return Batch(
            keypoints=torch.from_numpy(keypoints),
            score=seen,
            valid=(seen > 0).any(-1),
            label=torch.from_numpy(self.store.labels[clips]),
            index=torch.from_numpy(clips),
            image_size=torch.from_numpy(np.asarray(self.store.image_sizes[clips], dtype=np.float32)),
            fps=torch.from_numpy(np.asarray(self.store.fps[clips], dtype=np.float32)),
        )


class EpochBatches(TorchSampler):
    """Batches of draws for training, epoch after epoch, resumable at any step.

    Every rank gets its share of each global batch. The order is a function of (seed, epoch); where it begins is
    asked of ``position``, the number of steps done, at every start.

    Args:
        indices: rows of the store that are the training part.
        batch: clips of one optimiser step, over all ranks together.
        seed: of the order.
        order: replaces the shuffle: epoch -> positions in ``indices`` (or None for the shuffle).
        position: steps done so far.
        rank, world: of this process.
        views: crops of each clip, consecutive in the batch.
    """

    def __init__(
        self, indices: np.ndarray, batch: int, seed: int, position: Callable[[], int],
        order: Callable[[int], np.ndarray | None] | None = None, rank: int = 0, world: int = 1, views: int = 1,
    ) -> None:  # fmt: skip
        self.indices, self.seed, self.position, self.order = indices, seed, position, order
        self.rank, self.world, self.views = rank, world, views
        self.size = len(self._sequence(0))
        self.batch = min(batch, self.size)

    def _sequence(self, epoch: int) -> np.ndarray:
        given = self.order(epoch) if self.order is not None else None
        if given is not None:
            return np.asarray(given)
        return generator(self.seed, epoch, 0, 0xFFFFFFFF).permutation(len(self.indices))

    def __len__(self) -> int:
        """Steps of an epoch; an incomplete last batch is left out."""
        return self.size // self.batch

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch, begin = divmod(self.position(), len(self))
        sequence = self._sequence(epoch)
        for step in range(begin, len(self)):
            places = range(step * self.batch, (step + 1) * self.batch)[self.rank :: self.world]
            yield [
                Draw(int(self.indices[sequence[place]]), epoch, place, view)
                for place in places
                for view in range(self.views)
            ]


class OrderedBatches(TorchSampler):
    """Every clip once, in order, for validation and test; each rank takes its own clips, none is repeated."""

    def __init__(self, indices: np.ndarray, batch: int, views: int = 1, rank: int = 0, world: int = 1) -> None:
        self.indices, self.batch, self.views = indices[rank::world], max(1, batch // views), views

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch)

    def __iter__(self) -> Iterator[list[Draw]]:
        for start in range(0, len(self.indices), self.batch):
            clips = self.indices[start : start + self.batch]
            yield [Draw(int(clip), -1, 0, view) for clip in clips for view in range(self.views)]


def make_loader(reader: BatchReader, batches: TorchSampler, workers: int = 0) -> DataLoader:
    """A torch loader that yields ready batches; with 0 workers it reads in this process, which is usually fastest."""
    return DataLoader(reader, sampler=batches, batch_size=None, num_workers=workers, persistent_workers=workers > 0)
