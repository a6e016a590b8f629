"""The queue of earlier keys, equal on all processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from skelgraph.methods.sphere import unit


class Count(nn.Module):
    """A whole number that is kept in checkpoints and that the host knows: a device is asked once after loading only."""

    value: Tensor

    def __init__(self, value: int = 0) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(value))
        self._known: int | None = value

    def __int__(self) -> int:
        if self._known is None:
            self._known = int(self.value)
        return self._known

    def set(self, value: int) -> None:
        """Let the number be ``value``."""
        self.value.fill_(value)
        self._known = value

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._known = None


def gathered(rows: Tensor) -> Tensor:
    """The rows of all processes in the order of one process: rank r of w holds rows r, r + w, ... of a batch."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.stack(parts, 1).flatten(0, 1)


class KeyQueue(nn.Module):
    """The newest ``size`` keys; before that many have come, random directions.

    Args:
        size: K.
        dim: D.

    Attributes:
        keys: unit vectors (K, D), the oldest at the place where the next will be written.
        seen: how many keys ever came.
    """

    keys: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("keys", unit(torch.randn(size, dim)))
        self.seen = Count()

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def pointer(self) -> int:
        """Where the next key will be written."""
        return int(self.seen) % len(self)

    def newest(self, number: int) -> Tensor:
        """The last ``number`` keys ``(number, D)``, oldest first."""
        return self.keys.roll(-self.pointer, 0)[len(self) - number :]

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Write the keys ``(N, D)`` of every process over the oldest ones."""
        new = gathered(keys.detach().to(self.keys.dtype))
        places = torch.arange(self.pointer, self.pointer + len(new), device=new.device) % len(self)
        self.keys.index_copy_(0, places, new)
        self.seen.set(int(self.seen) + len(new))
