"""Steps of HaLP under ``torch.distributed.run``; rank 0 saves the state of every rank after them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from skelgraph.batch import Batch, ClipSpec
from skelgraph.methods.hallucinate import Draws
from skelgraph.methods.halp import HaLP
from skelgraph.models import create
from skelgraph.topology import Topology

CLIPS, STEPS = 8, 6


class Shared(HaLP):
    """HaLP whose draws are those of the whole batch, of which each process takes its share."""

    number = 0

    def chance(self, stream: str, keys: Tensor) -> Draws:
        self.number += 1
        torch.manual_seed(self.number)
        rank, world = distributed.get_rank(), distributed.get_world_size()
        whole = super().chance(stream, keys.new_zeros(CLIPS, keys.shape[1]))
        return Draws(*(item[rank::world] for item in whole))


class Step(nn.Module):
    """A method whose forward is its loss."""

    def __init__(self, method: HaLP) -> None:
        super().__init__()
        self.method = method

    def forward(self, views: tuple[Batch, Batch]) -> Tensor:
        return self.method.step(views, 0.0)["loss"]


def views(step: int) -> tuple[Batch, Batch]:
    """Two views of eight clips of random motion."""
    generator = torch.Generator().manual_seed(step)
    first, second = (torch.randn(CLIPS, 1, 5, 17, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    return Batch.of(first), Batch.of(second)


def method(streams: bool) -> HaLP:
    torch.manual_seed(0)
    spec, one = ClipSpec(Topology.load("coco17"), 2, 1, 5), {"name": "gru", "hidden": 6, "layers": 2}
    plan = {"base": one, "streams": ["joint", "bone"]} if streams else one
    model = create("multi_stream" if streams else "gru", spec, **{k: v for k, v in plan.items() if k != "name"})
    made = Shared(model, queue=16, dim=7, prototypes=4, newest=12, positives=5, refresh=2, warmup=16, momentum=0.9)
    made.double().train()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()  # its statistics are of the share of one process
    return made


def trained(streams: bool) -> dict[str, Tensor]:
    """State after a few steps, and the losses."""
    rank, world = distributed.get_rank(), distributed.get_world_size()
    learner = method(streams)
    step = DistributedDataParallel(Step(learner))
    optimizer = torch.optim.SGD([p for p in learner.parameters() if p.requires_grad], 0.1, 0.9)
    result = {}
    for number in range(STEPS):
        optimizer.zero_grad()
        shares = tuple(view[slice(rank, None, world)] for view in views(number))
        loss = step(shares)
        loss.backward()
        optimizer.step()
        learner.after_step()
        total = loss.detach().clone()
        distributed.all_reduce(total)
        result[f"loss{number}"] = total / world
    return result | dict(learner.state_dict())


def main() -> None:
    distributed.init_process_group("gloo")
    own: Mapping[str, Tensor] = {
        f"{name}/{key}": value for name in ("one", "two") for key, value in trained(name == "two").items()
    }
    ranks: list = [None] * distributed.get_world_size()
    distributed.all_gather_object(ranks, own)
    if distributed.get_rank() == 0:
        torch.save(ranks, sys.argv[1])
    # Both have what they need; taking gloo down while the other process leaves has been seen to wait for ever.
    distributed.barrier()
    os._exit(0)


if __name__ == "__main__":
    main()
