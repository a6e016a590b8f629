"""Measurements with a name: one part of a network or method against another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from skelgraph.batch import Batch, ClipSpec
from skelgraph.bench import cost
from skelgraph.bench.table import QUARTILES, RATIO, Cell, Table, busy, machine, timed
from skelgraph.bench.timing import CASES, Step, Timing, alternate
from skelgraph.errors import UserError
from skelgraph.methods.contrastive import Moco
from skelgraph.methods.halp import HaLP
from skelgraph.models.recurrent import Recurrent, released_name
from skelgraph.nn.deformable import DeformableAttention
from skelgraph.nn.token_attention import TokenAttention, attend
from skelgraph.topology import Topology

NEWEST = 256


def compared(title: str, steps: Mapping[str, Step], timing: Timing, notes: list[str]) -> Table:
    """The table of steps that take turns, with their FLOPs."""
    operations = {name: cost.flops(step) for name, step in steps.items()}
    base = next(iter(operations.values()))
    rows: list[dict[str, Cell]] = []
    for name, times in alternate(steps, timing).items():
        share = operations[name] / base if base else None
        columns = timed(times, "step (ms)", 1e3)
        rows.append({"what": name, **columns, "GFLOPs": operations[name] / 1e9, "FLOPs / first": share})
    return Table(title, machine(timing), rows, [*notes, QUARTILES, f"{RATIO}: in the same round.", *busy()])


def encoder(hidden: int, layers: int, persons: int, frames: int, device: torch.device) -> Recurrent:
    """The recurrent encoder on 25 joints."""
    spec = ClipSpec(Topology.load("ntu25"), channels=3, persons=persons, frames=frames)
    return Recurrent(spec, hidden=hidden, layers=layers).to(device)


def clips(batch: int, persons: int, frames: int, device: torch.device) -> Batch:
    """Clips of noise."""
    return Batch.of(torch.randn(batch, persons, frames, 25, 3, device=device))


@CASES.register("halp-overhead")
def halp_overhead(
    timing: Timing, *, hidden: int = 256, layers: int = 3, batch: int = 16, frames: int = 64, persons: int = 1,
    queue: int = 4096, refresh: int = 10,
) -> Table:  # fmt: skip
    """A training step of HaLP against one of MoCo: ``refresh`` steps each, of which one runs k-means, the queue warm.

    Forward, backward and the queue; the optimiser is the same for both and left out. A wider encoder, such as the
    paper's of 1024 units, makes both slower and leaves HaLP's own work as it is.
    """
    timing.start()
    views = clips(batch, persons, frames, timing.device), clips(batch, persons, frames, timing.device)
    steps: dict[str, Step] = {}

    def prototyped(model: Recurrent, queue: int) -> HaLP:
        return HaLP(model, queue=queue, newest=min(NEWEST, queue), refresh=refresh)

    for name, make in (("MoCo", Moco), ("HaLP", prototyped)):
        method = make(encoder(hidden, layers, persons, frames, timing.device), queue=queue).to(timing.device)
        for _, _, branch in method.streams():
            branch.queue.seen.set(2 * queue)

        def several(method: Moco = method) -> None:
            for _ in range(refresh):
                method.step(views, 0.0)["loss"].backward()
                method.after_step()

        steps[name] = several
    title = f"{refresh} training steps of {batch} clips, {layers} x {hidden} units, a queue of {queue}"
    return compared(title, steps, timing, ["HaLP is to take at most 1.1 of MoCo's time."])


class FrameLoop(nn.Module):
    """The recurrent encoder in the straightforward form: bidirectional, and fed one frame at a time.

    Shapes:
        x (N, T, W); out (N, 2 hidden).
    """

    def __init__(self, ours: Recurrent, layers: int) -> None:
        super().__init__()
        width, hidden = ours.norm.num_features, ours.feature_dim // 2
        self.norm = nn.BatchNorm1d(width)
        self.units = nn.GRU(width, hidden, layers, batch_first=True, bidirectional=True)
        own = ours.state_dict()
        self.units.load_state_dict({k: own[released_name(f"encoder.gru.{k}") or ""] for k in self.units.state_dict()})

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x.transpose(1, 2)).transpose(1, 2)
        carried, outputs = None, []
        for frame in normed.split(1, dim=1):
            out, carried = self.units(frame, carried)
            outputs.append(out)
        return torch.cat(outputs, 1)[:, -1]


@CASES.register("recurrent-encoder")
def recurrent_encoder(
    timing: Timing, *, hidden: int = 1024, layers: int = 3, batch: int = 16, frames: int = 64, persons: int = 2
) -> Table:
    """Forward and backward of the recurrent encoder against a loop over frames; both give the same features first."""
    timing.start()
    device = timing.device
    ours, given = encoder(hidden, layers, persons, frames, device), clips(batch, persons, frames, device)
    loop = FrameLoop(ours, layers).to(device)
    flat = ours.flattened(given)
    with torch.no_grad():
        torch.testing.assert_close(ours.forward_features(given), loop(flat), atol=1e-4, rtol=1e-4)
    steps: dict[str, Step] = {
        "loop over frames": lambda: loop(flat).square().sum().backward(),
        "fused": lambda: ours.forward_features(given).square().sum().backward(),
    }
    title = f"forward and backward of {batch} clips, {layers} x {hidden} units, {frames} frames"
    return compared(title, steps, timing, ["The fused form is to take at most 1 / 1.6 = 0.625 of the loop's time."])


class FullAttention(TokenAttention):
    """Every cell and modal token attends to all of them.

    Shapes:
        cells (N, T, H, W, C), modal (N, K, C); out (N, T H W + K, C).
    """

    def forward(self, cells: Tensor, modal: Tensor) -> Tensor:
        tokens = torch.cat([cells.flatten(1, 3), modal], dim=1)
        normed = self.norm(tokens)
        query, key, value = (self.split(part(normed)) for part in (self.query, self.key, self.value))
        return self.add(tokens, self.merge(attend(query, key, value, None, self.backend)))


@CASES.register("deformable-attention")
def deformable_attention(
    timing: Timing, *, size: Sequence[int] = (16, 7, 7), stride: Sequence[int] = (2, 2, 2), width: int = 256,
    heads: int = 8, modal: int = 2, batch: int = 1,
) -> Table:  # fmt: skip
    """One layer of 3D deformable attention against full attention over the same lattice, forward, without the
    feed-forward part, which both share. ``stride`` is that of the key points, along t, h, w."""
    timing.start()
    for name, sides in (("size", size), ("stride", stride)):
        if not isinstance(sides, Sequence) or len(sides) != 3 or not all(isinstance(n, int) and n > 0 for n in sides):
            raise UserError(f"{name}: '{sides}' will not do; write three whole numbers along t, h, w: {name}=[16,7,7].")
    device = timing.device
    full = FullAttention(width, heads).to(device).eval()
    ours = DeformableAttention(width, heads, search={"stride": stride}).to(device).eval()
    full.feed, ours.feed = nn.Sequential(), nn.Sequential()
    cells, tokens = torch.randn(batch, *size, width, device=device), torch.randn(batch, modal, width, device=device)
    there = torch.ones(batch, size[0], dtype=torch.bool, device=device)

    def run(layer: nn.Module, *given: Tensor) -> Step:
        def step() -> None:
            with torch.no_grad():
                layer(*given)

        return step

    steps = {"full": run(full, cells, tokens), "deformable": run(ours, cells, tokens, there)}
    shape, apart = "x".join(map(str, size)), "x".join(map(str, stride))
    title = f"attention over {shape} cells, key points every {apart}; {width} channels, {heads} heads"
    return compared(title, steps, timing, [])
