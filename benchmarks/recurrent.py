"""Training steps of the contrastive methods: the recurrent encoder against a loop over frames, and HaLP against MoCo.

    python benchmarks/recurrent.py encoder [HIDDEN [BATCH]]       (1024, 16 clips of 64 frames, 25 joints, 2 persons)
    python benchmarks/recurrent.py halp [HIDDEN [BATCH]]

Times are ratios of one step (forward, backward, for ``halp`` all that a step does) measured alternately in this process
on two threads: median of 9 rounds after one that is not counted. The loop is the straightforward form of the published
encoder: a bidirectional unit of PyTorch, fed one frame at a time; its features are compared with ours before.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from skelgraph.batch import Batch, ClipSpec
from skelgraph.methods.contrastive import Moco
from skelgraph.methods.halp import HaLP
from skelgraph.models.recurrent import Recurrent, released_name
from skelgraph.topology import Topology

ROUNDS, FRAMES, PERSONS, LAYERS = 9, 64, 2, 3
QUEUE, REFRESH = 16384, 10


class FrameLoop(nn.Module):
    """The same network step by step.

    Shapes:
        x (N, T, W); out (N, 2 hidden).
    """

    def __init__(self, encoder: Recurrent) -> None:
        super().__init__()
        width, hidden = encoder.norm.num_features, encoder.feature_dim // 2
        self.norm = nn.BatchNorm1d(width)
        self.units = nn.GRU(width, hidden, LAYERS, batch_first=True, bidirectional=True)
        own = encoder.state_dict()
        self.units.load_state_dict({k: own[released_name(f"encoder.gru.{k}") or ""] for k in self.units.state_dict()})

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x.transpose(1, 2)).transpose(1, 2)
        carried, outputs = None, []
        for frame in normed.split(1, dim=1):
            out, carried = self.units(frame, carried)
            outputs.append(out)
        return torch.cat(outputs, 1)[:, -1]


def clips(batch: int) -> Batch:
    return Batch.of(torch.randn(batch, PERSONS, FRAMES, 25, 3))


def encoder(hidden: int) -> Recurrent:
    spec = ClipSpec(Topology.load("ntu25"), channels=3, persons=PERSONS, frames=FRAMES)
    return Recurrent(spec, hidden=hidden, layers=LAYERS)


def of_encoder(hidden: int, batch: int) -> dict[str, Callable[[], object]]:
    """One step of the loop and one of ours."""
    ours, given = encoder(hidden), clips(batch)
    loop = FrameLoop(ours)
    frames = ours.flattened(given)
    with torch.no_grad():
        torch.testing.assert_close(ours.forward_features(given), loop(frames), atol=1e-4, rtol=1e-4)
    return {
        "loop over frames": lambda: loop(frames).square().sum().backward(),
        "fused": lambda: ours.forward_features(given).square().sum().backward(),
    }


def of_halp(hidden: int, batch: int) -> dict[str, Callable[[], object]]:
    """``REFRESH`` steps each, of which one runs k-means, with the queue warm."""
    views = clips(batch), clips(batch)
    steps: dict[str, Callable[[], object]] = {}
    for kind in (Moco, HaLP):
        method = kind(encoder(hidden), queue=QUEUE)
        for _, _, branch in method.streams():
            branch.queue.seen.set(2 * QUEUE)

        def several(method: Moco = method) -> None:
            for _ in range(REFRESH):
                method.step(views, 0.0)["loss"].backward()
                method.after_step()

        steps[kind.__name__] = several
    return steps


def seconds(step: Callable[[], object]) -> float:
    begin = time.perf_counter()
    step()
    return time.perf_counter() - begin


def main(words: Sequence[str]) -> None:
    torch.set_num_threads(2)
    torch.manual_seed(0)
    hidden, batch = [int(word) for word in words[1:]] + [1024, 16][len(words) - 1 :]
    steps = {"encoder": of_encoder, "halp": of_halp}[words[0]](hidden, batch)
    times = [[seconds(step) for step in steps.values()] for _ in range(ROUNDS + 1)][1:]
    print("step | time, relative to the first row | seconds")
    for column, name in enumerate(steps):
        ratio = statistics.median(row[column] / row[0] for row in times)
        print(f"{name} | {ratio:.3f} | {statistics.median(row[column] for row in times):.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
