"""Checkpoints of HaLP and CMD: what their tensors say of the encoders, queues and prototypes in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from skelgraph.errors import UserError
from skelgraph.topology import Topology
from skelgraph.weights.layout import State, misfit

FAMILY = "halp"
TITLE = "HaLP and CMD"
TOPOLOGY, CHANNELS = "ntu25", 3
# Our input, with the ending of its encoder and queue and with that of its prototypes in a file of three streams.
STREAMS = {"joint": ("", "_j"), "joint_motion": ("_motion", "_m"), "bone": ("_bone", "_b")}
_KNOWN = re.compile(r"(encoder_[qk](_motion|_bone)?\.|queue(_ptr)?(_motion|_bone)?$|prototypes(_[jmb])?$)")


@dataclass(frozen=True)
class FoundEncoder:
    """What the tensors of a checkpoint say of its encoders.

    Attributes:
        family, title: which family, and whose.
        layers, hidden: number of layers, and channels of each of their two units.
        joints, persons: V, M.
        streams: the inputs of a file with several encoders; empty for one encoder, whose input is not recorded.
        head: ``mlp``, ``linear`` or ``classifier``.
        dim: D, or K of a classifier.
        queue, prototypes: their numbers; 0 where there are none.
        parameters: numbers that training changes, of one encoder with its head.
    """

    family: str
    title: str
    layers: int
    hidden: int
    joints: int
    persons: int
    streams: tuple[str, ...]
    head: str
    dim: int
    queue: int
    prototypes: int
    parameters: int = 0

    def rows(self, place: str, part: str | None, inputs: Sequence[str]) -> list[tuple[str, str]]:
        """For the console."""
        size = f", {self.parameters:,} parameters" if self.parameters else ""
        chosen = f" ({', '.join(inputs)})" if inputs else ""
        seen = ", ".join(self.streams) or f"one encoder, whose input the file does not tell{chosen}"
        ending = f"classifier of {self.dim}" if self.head == "classifier" else f"{self.head}, to {self.dim}"
        return [
            ("weights", f"{self.title} ({self.family}), {self.layers} layers of two units of {self.hidden}{size}"),
            ("joints", f"{self.joints} ({place})"),
            ("persons", str(self.persons)),
            ("inputs", seen),
            ("head", ending),
            ("keys", f"a queue of {self.queue}, {self.prototypes} prototypes" if self.queue else "none"),
        ]


def fits(state: State) -> bool:
    """Whether a state dict is of this family."""
    return any(re.match(r"encoder_[qk](_motion|_bone)?\.encoder\.gru\.", key) for key in state)


def measure(state: State, name: str, topology: Topology | str | Path | None = None) -> FoundEncoder:
    """Read the sizes off the tensors.

    Raises:
        UserError: a tensor that tells one of them is missing, keys that are not known, or an input that cannot be so
            many joints.
    """

    def tensor(key: str, dims: int) -> Tensor:
        if key not in state or state[key].dim() != dims:
            raise misfit(name, TITLE, [key], [], [])
        return state[key]

    extra = [key for key in state if not _KNOWN.match(key)]
    if extra:
        raise misfit(name, TITLE, [], extra, [])
    first = "encoder_q.encoder.gru.weight_{}_l0"
    hidden, width = tensor(first.format("hh"), 2).shape[1], tensor(first.format("ih"), 2).shape[1]
    layers = sum(f"encoder_q.encoder.gru.weight_ih_l{i}" in state for i in range(100))
    streams = tuple(s for s, (ending, _) in STREAMS.items() if any(k.startswith(f"encoder_q{ending}.") for k in state))
    contrastive = any(key.startswith("encoder_k") for key in state)
    head = "mlp" if "encoder_q.fc.0.weight" in state else "linear" if contrastive else "classifier"
    dim = len(tensor("encoder_q.fc.2.weight" if head == "mlp" else "encoder_q.fc.weight", 2))
    joints = len(Topology.load(TOPOLOGY if topology is None else topology).joints)
    if width % (CHANNELS * joints):
        raise UserError(f"{name}: a frame is {width} values, no multiple of {joints} joints with {CHANNELS} "
                        "coordinates; name the topology it was trained with.")  # fmt: skip
    made = next((state[key] for key in ("prototypes", "prototypes_j") if key in state), ())
    queue = tensor("queue", 2).shape[1] if contrastive else 0
    return FoundEncoder(FAMILY, TITLE, layers, hidden, joints, width // (CHANNELS * joints),
                        streams if len(streams) > 1 else (), head, dim, queue, len(made))  # fmt: skip
