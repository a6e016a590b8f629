"""What a network costs without a clock: parameters, products, bytes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from skelgraph.bench.timing import Step


class Size(NamedTuple):
    """How large a network is.

    Attributes:
        parameters: numbers that training may change.
        megabytes: of its whole state, buffers too, in MB (1e6 bytes).
    """

    parameters: int
    megabytes: float


def size(module: nn.Module) -> Size:
    """Size of a network."""
    state = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    return Size(sum(parameter.numel() for parameter in module.parameters()), state / 1e6)


def flops(step: Step) -> int:
    """FLOPs of a call by PyTorch's counter: two for each multiply-accumulate (MAC).

    It counts matrix products, convolutions and attention, and no element-wise work.
    """
    # The counter knows nothing of the CPU's fused attention; in plain form it is two products.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def forward_flops(model: nn.Module, clips: object) -> int:
    """FLOPs of one pass forward."""
    # With gradient, for the counter's hooks fail on a parameter that is handed to a module without.
    with torch.enable_grad():
        return flops(lambda: model(clips))
