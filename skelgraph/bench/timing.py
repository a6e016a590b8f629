"""Taking times: what is compared takes turns in one process, so that what else the machine does falls on all alike."""

from __future__ import annotations

import ctypes
import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.progress import track

from skelgraph.registry import Registry

Step = Callable[[], object]
# Named measurements: functions of a `Timing` that give a `Table`; their keyword parameters can be set by KEY=VALUE.
CASES: Registry = Registry("bench")
CPU = torch.device("cpu")
TURN_SECONDS = 0.1
MOST_CALLS = 1000


@dataclass(frozen=True)
class Timing:
    """How to measure.

    Attributes:
        rounds: turns of every step, after one call that is not counted.
        threads: of PyTorch on the CPU; None leaves its own number.
        device: where tensors lie.
        turn: seconds that a turn takes at least; a quick step is repeated within it.
    """

    rounds: int = 9
    threads: int | None = None
    device: torch.device = CPU
    turn: float = TURN_SECONDS

    def start(self, threads: int | None = None) -> None:
        """Set the number of threads: the one that was asked for, or ``threads``, or PyTorch's own."""
        wanted = self.threads or threads
        if wanted:
            torch.set_num_threads(wanted)
        torch.manual_seed(0)


class Spread(NamedTuple):
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


class Times(NamedTuple):
    """Seconds of one step.

    Attributes:
        first: of the very first call, with whatever it compiles or allocates.
        calls: of one call, in each round.
        ratio: to the first step of the comparison, round by round.
    """

    first: float
    calls: Spread
    ratio: Spread


def seconds(step: Step, device: torch.device, calls: int = 1) -> float:
    """Mean time of a call."""
    _settle(device)
    begin = time.perf_counter()
    for _ in range(calls):
        step()
    _settle(device)
    return (time.perf_counter() - begin) / calls


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def alternate(steps: Mapping[str, Step], timing: Timing) -> dict[str, Times]:
    """Times of several steps that take turns, every second round in reverse order.

    Ratios are taken within a round: a machine that slows down between two rounds does not change them.
    """
    device = timing.device
    first = {name: seconds(step, device) for name, step in steps.items()}
    calls = {
        name: min(MOST_CALLS, max(1, math.ceil(timing.turn / seconds(step, device)))) for name, step in steps.items()
    }
    found: dict[str, list[float]] = {name: [] for name in steps}
    for number in track(range(timing.rounds), "rounds", console=Console(stderr=True), transient=True):
        for name in list(steps)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(seconds(steps[name], device, calls[name]))
    base = next(iter(found.values()))
    return {
        name: Times(first[name], Spread.of(own), Spread.of([a / b for a, b in zip(own, base, strict=True)]))
        for name, own in found.items()
    }


def peak_megabytes(step: Step, device: torch.device) -> float | None:
    """Memory that a call needs at its peak beyond what is held before it, in MB (1e6 bytes).

    On the CPU by the kernel's high-water mark of this process, on CUDA by PyTorch's allocator; None on a system that
    has neither.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        _settle(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    gc.collect()
    # Freed memory that the C library keeps for later would hide what the call needs.
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _kilobytes("VmRSS")
        step()
        return max(0.0, (_kilobytes("VmHWM") - before) * 1024 / 1e6)
    except OSError:
        return None


def _kilobytes(key: str) -> int:
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in text.splitlines() if line.startswith(f"{key}:")).split()[1])
