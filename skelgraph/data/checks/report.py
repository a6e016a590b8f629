"""What a check of a store has found, counted and with the worst of each kind."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from skelgraph.data.checks.base import Finding, Severity
from skelgraph.errors import UserError


class Tally:
    """Findings of one code, for one protocol or for the store: all are counted, the worst are kept.

    Attributes:
        code, protocol: of the findings.
        severity: the worst of them.
        findings: how many.
        joints: how many at each joint.
    """

    def __init__(self, code: str, protocol: str | None, most: int) -> None:
        self.code, self.protocol, self.most = code, protocol, most
        self.severity, self.findings = Severity.NOTE, 0
        self.joints: Counter[str] = Counter()
        self._clips: set[str] = set()
        self._heap: list[tuple[int, float, int, Finding]] = []
        self._order = count(0, -1)

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it if it is among the worst; of equals the first."""
        self.findings += 1
        self.severity = max(self.severity, finding.severity)
        if finding.clip is not None:
            self._clips.add(finding.clip)
        if finding.joint is not None:
            self.joints[finding.joint] += 1
        item = (int(finding.severity), finding.weight, next(self._order), finding)
        if len(self._heap) < self.most:
            heapq.heappush(self._heap, item)
        else:
            heapq.heappushpop(self._heap, item)

    @property
    def clips(self) -> int:
        """How many clips are named."""
        return len(self._clips)

    def worst(self) -> list[Finding]:
        """The findings that were kept, the worst first."""
        return [item[-1] for item in sorted(self._heap, reverse=True)]


@dataclass
class CheckReport:
    """The result of a check.

    Attributes:
        facts: what `Store.info` says.
        counts: clips of each class by part, ``{protocol: {part: [number]}}``.
        tallies: what was found, the worst first.
        clear: checks that found nothing.
        titles: what each check is about, by code.
        thresholds: of each check.
        seconds: how long it took.
    """

    facts: dict[str, Any]
    counts: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    tallies: list[Tally] = field(default_factory=list)
    clear: list[str] = field(default_factory=list)
    titles: dict[str, str] = field(default_factory=dict)
    thresholds: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0

    def number(self, severity: Severity) -> int:
        """Findings of tallies whose worst is of this severity."""
        return sum(tally.findings for tally in self.tallies if tally.severity == severity)

    @property
    def errors(self) -> int:
        """Findings that are errors; 0 means that the data can be used."""
        return self.number(Severity.ERROR)

    def by_code(self) -> list[list[Tally]]:
        """Tallies of one code together, whatever protocol they concern; the worst first."""
        groups: dict[str, list[Tally]] = {}
        for tally in self.tallies:
            groups.setdefault(tally.code, []).append(tally)
        return list(groups.values())

    def of(self, code: str, protocol: str | None = None) -> list[Finding]:
        """The worst findings of one code."""
        found = [tally for tally in self.tallies if (tally.code, tally.protocol) == (code, protocol)]
        return found[0].worst() if found else []

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "store": self.facts["paths"],
            "content_hash": self.facts["content_hash"],
            "clips": self.facts["clips"],
            "errors": self.errors,
            "warnings": self.number(Severity.WARNING),
            "notes": self.number(Severity.NOTE),
            "clear": self.clear,
            "thresholds": self.thresholds,
            "classes": list(self.facts["classes"]),
            "class_counts": self.counts,
            "checks": [
                {
                    "code": tally.code, "protocol": tally.protocol, "title": self.titles[tally.code],
                    "severity": tally.severity.word, "findings": tally.findings, "clips": tally.clips,
                    "joints": dict(tally.joints.most_common()),
                    "worst": [finding.to_dict() for finding in tally.worst()],
                }
                for tally in self.tallies
            ],
        }  # fmt: skip

    def write_json(self, path: Path) -> None:
        """Write `to_dict` to a file.

        Raises:
            UserError: it cannot be written.
        """
        try:
            path.write_text(json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}).") from None


def ordered(tallies: Sequence[Tally]) -> list[Tally]:
    """Errors first; among equals what concerns most clips."""
    return sorted(tallies, key=lambda tally: (-tally.severity, -tally.clips, -tally.findings, tally.code))
