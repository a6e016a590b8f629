"""What a check is: a short function from a clip, or from a survey of all clips, to findings.

A check of one clip takes `skelgraph.data.checks.clip_facts.ClipFacts`, a check of the store takes
`skelgraph.data.checks.survey.Survey`; its keyword-only parameters are thresholds, which ``-o CHECK.KEY=VALUE`` sets::

    @CLIP_CHECKS.register("low")
    def low(clip: ClipFacts, *, height: float = 0.2) -> Iterator[Finding]:
        \"\"\"The head is near the ground.\"\"\"
        ...
        yield Finding("low", Severity.WARNING, "the head is at 0.1 m", "Look at the clip.", clip=clip.name)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

from skelgraph.registry import Registry

CLIP_CHECKS: Registry[Callable[..., Iterator[Finding]]] = Registry("check")
STORE_CHECKS: Registry[Callable[..., Iterator[Finding]]] = Registry("check")


class Severity(IntEnum):
    """How much a finding matters; larger is worse."""

    NOTE = 0
    WARNING = 1
    ERROR = 2

    @property
    def word(self) -> str:
        """In small letters."""
        return self.name.lower()


@dataclass(frozen=True)
class Finding:
    """One thing that a check has found.

    Attributes:
        code: name of the check.
        severity: error: figures measured on these data would be wrong, or training would fail; warning: look at it;
            note: know it.
        message: what was found, with its numbers; a clause without the clip's name.
        advice: what to do.
        clip, person, joint, frame: where, as far as it has a place.
        protocol: the split it concerns.
        others: further clips that belong to it, such as the training twin of a copied test clip.
        weight: how bad it is among findings of the same code; the worst are shown.
    """

    code: str
    severity: Severity
    message: str
    advice: str
    clip: str | None = None
    person: int | None = None
    joint: str | None = None
    frame: int | None = None
    protocol: str | None = None
    others: tuple[str, ...] = ()
    weight: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not known is left out."""
        plain = asdict(self) | {"severity": self.severity.word, "others": list(self.others)}
        plain["what_to_do"] = plain.pop("advice")
        return {key: value for key, value in plain.items() if value not in (None, []) and key != "weight"}
