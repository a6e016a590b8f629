"""One step of each method under ``torch.distributed.run``; rank 0 saves the loss and all gradients."""

from __future__ import annotations

import os
import sys

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from skelgraph.batch import Batch, ClipSpec
from skelgraph.methods import METHODS, Method
from skelgraph.models import create
from skelgraph.topology import Topology


def batch_of(topology: Topology) -> Batch:
    """Eight clips, uneven in what is missing, so that ranks count different numbers of masked joints."""
    generator = torch.Generator().manual_seed(1)
    keypoints = torch.randn(8, 1, 4, len(topology.joints), 2, generator=generator, dtype=torch.float64)
    batch = Batch.of(keypoints)
    score = batch.score.clone()
    score[:3, :, :, 8:12] = 0
    return batch.with_(score=score, label=torch.arange(8) % 3)


class Step(torch.nn.Module):
    """A method whose forward is its loss."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.method.step(batch, 0.0)["loss"]


def main() -> None:
    distributed.init_process_group("gloo")
    rank, world = distributed.get_rank(), distributed.get_world_size()
    topology = Topology.load("coco17")
    result = {}
    for name, model in (("masked", "skeletonmae"), ("supervised", "strl")):
        torch.manual_seed(0)
        spec = ClipSpec(topology, 2, 1, 4, ("a", "b", "c") if name == "supervised" else ())
        settings = {"frames_per_clip": None} if name == "masked" else {}
        method = METHODS.create(name, create(model, spec), **settings).double()
        step = DistributedDataParallel(Step(method), find_unused_parameters=True)
        step.eval()
        loss = step(batch_of(topology)[slice(rank, None, world)])
        loss.backward()
        total = loss.detach().clone()
        distributed.all_reduce(total)
        result[f"{name}/loss"] = total / world
        result |= {f"{name}/grad/{k}": p.grad for k, p in method.named_parameters() if p.grad is not None}
    if rank == 0:
        torch.save(result, sys.argv[1])
    # Both have what they need; taking gloo down while the other process leaves has been seen to wait for ever.
    distributed.barrier()
    os._exit(0)


if __name__ == "__main__":
    main()
