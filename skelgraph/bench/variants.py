"""Ways to compute the same thing, to be compared: eager or compiled, float32 or bfloat16, and the graph backends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import torch

from skelgraph.errors import UserError, unknown
from skelgraph.nn.propagation import BACKENDS, backend

AXES = {"mode": ("eager", "compiled"), "precision": ("fp32", "bf16"), "backend": BACKENDS}
WORDS = {word: axis for axis, words in AXES.items() for word in words}
FREEZING = {"freezing": True}


@dataclass(frozen=True)
class Variant:
    """One way.

    Attributes:
        name: as it was asked for.
        mode: ``eager`` or ``compiled`` (by `torch.compile`; at inference with its weights frozen in).
        precision: ``fp32``, or ``bf16`` by autocast.
        backend: of the graph layers.
    """

    name: str
    mode: str = "eager"
    precision: str = "fp32"
    backend: str = "dense"

    @contextmanager
    def active(self, device: torch.device) -> Iterator[None]:
        """Within it, graph layers and products are computed this way."""
        with backend(self.backend), torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            yield

    def made(self, function: Callable[..., Any], inference: bool) -> Callable[..., Any]:
        """A function of tensors, compiled where this variant is."""
        if self.mode == "eager":
            return function
        # Every clip has the same shape here; without this a second variant would be compiled for any shape.
        return torch.compile(function, dynamic=False, options=dict(FREEZING) if inference else None)


def parse(text: str | None, usual: Variant) -> list[Variant]:
    """The variants of ``--compare``: words with commas between them, joined by ``+`` where several hold at once.

    Args:
        text: for example ``eager,compiled,compiled+bf16``; None is ``usual`` alone.
        usual: what holds where a variant says nothing.

    Raises:
        UserError: a word that is not known, two of one kind, the same variant twice, DGL where it is not installed.
    """
    if text is None:
        return [usual]
    found: list[Variant] = []
    for name in (part.strip() for part in text.split(",")):
        chosen: dict[str, str] = {}
        for word in name.split("+"):
            if word not in WORDS:
                raise unknown("variant", word, WORDS, "--compare")
            if WORDS[word] in chosen:
                raise UserError(f"--compare {name}: '{chosen[WORDS[word]]}' and '{word}' exclude each other.")
            chosen[WORDS[word]] = word
        variant = replace(usual, name=name, **chosen)
        if any(replace(other, name="") == replace(variant, name="") for other in found):
            raise UserError(f"--compare {text}: '{name}' is named twice.")
        if variant.backend == "dgl" and find_spec("dgl") is None:
            raise UserError("--compare dgl: DGL is not installed; pip install 'skelgraph[dgl]' (Python 3.11).")
        found.append(variant)
    return found
