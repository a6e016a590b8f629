"""Findings in words, the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Sequence

from skelgraph.data.checks.base import Finding
from skelgraph.data.checks.report import Tally

PROTOCOLS = 3


def plural(number: int, word: str) -> str:
    """A number and its word."""
    return f"{number} {word}" + ("" if number == 1 else "s")


def where_found(tallies: Sequence[Tally]) -> str:
    """The protocols that the findings of one code concern, with how many; empty for those about the store."""
    named = [f"{tally.protocol} {tally.findings}" for tally in tallies if tally.protocol is not None]
    more = f" and {len(named) - PROTOCOLS} more" if len(named) > PROTOCOLS else ""
    return f"split {', '.join(named[:PROTOCOLS])}{more}" if named else ""


def in_words(finding: Finding) -> str:
    """Clip, person, joint, and what was found there."""
    where = [finding.clip or ""]
    where += [f"person {finding.person}"] if finding.person else []
    where += [finding.joint] if finding.joint else []
    place = " ".join(word for word in where if word)
    return f"{place}: {finding.message}" if place else finding.message
