"""What a search may try: ``key=loguniform(1e-4, 1e-1)`` and its kin, read without running anything."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skelgraph import yamlfile
from skelgraph.errors import UserError, unknown

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

KINDS = {
    "uniform": "uniform(0.0, 0.5)",
    "loguniform": "loguniform(1e-4, 1e-1)",
    "int": "int(1, 4)",
    "logint": "logint(8, 256)",
    "choice": "choice(sgd, adamw)",
}
DIGITS = 4
_WORD = re.compile(r"[A-Za-z_][\w./-]*")
_CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*\((.*)\)\s*", re.DOTALL)


@dataclass(frozen=True)
class Parameter:
    """A key of the recipe and the values it may have.

    Attributes:
        key: ``stages.train.optimizer.lr``.
        kind: of `KINDS`.
        values: lowest and highest (both can be drawn), or the choices as YAML.
    """

    key: str
    kind: str
    values: tuple[Any, ...]

    def distribution(self) -> BaseDistribution:
        """As Optuna has it; choices by their text."""
        from optuna import distributions

        if self.kind == "choice":
            return distributions.CategoricalDistribution(self.values)
        low, high = self.values
        if self.kind in ("int", "logint"):
            return distributions.IntDistribution(low, high, log=self.kind == "logint")
        return distributions.FloatDistribution(low, high, log=self.kind == "loguniform")

    def override(self, value: Any) -> str:
        """The override that sets a drawn value; numbers are rounded to four digits first, so that what is printed is
        what ran."""
        if isinstance(value, float):
            low, high = self.values
            value = min(max(float(f"{value:.{DIGITS}g}"), low), high)
        return f"{self.key}={value}"

    def samples(self) -> list[str]:
        """Overrides by which the recipe can be checked before anything runs: all choices, or both ends."""
        return [self.override(value) for value in self.values]


def parse(word: str) -> Parameter | None:
    """A parameter out of ``key=kind(...)``; None for a plain override ``key=value``.

    Arguments are YAML, so a choice may be a number, a word or ``{name: sgd, lr: 0.1}``.

    Raises:
        UserError: unknown kind, or arguments that make no sense.
    """
    key, sign, text = word.partition("=")
    found = _CALL.fullmatch(text)
    if not sign or not key.strip() or found is None:
        return None
    kind, where = found[1], f"'{word}'"
    if kind not in KINDS:
        raise unknown("distribution", kind, KINDS, where)
    values = yamlfile.parse(f"[{found[2]}]", where).data
    if kind == "choice":
        return Parameter(key.strip(), kind, _choices(values, where))
    return Parameter(key.strip(), kind, _ends(values, kind, where))


def _choices(values: Sequence[Any], where: str) -> tuple[str, ...]:
    texts = tuple(map(_yaml, values))
    if not texts or len(set(texts)) < len(texts):
        raise UserError(f"{where}: name different values to choose from, for example {KINDS['choice']}.")
    return texts


def _yaml(value: Any) -> str:
    """A value as text that YAML reads back: a word as it is, all else as JSON, which is YAML too."""
    plain = isinstance(value, str) and _WORD.fullmatch(value) and yamlfile.parse(value, value).data == value
    return str(value) if plain else json.dumps(value)


def _ends(values: Sequence[Any], kind: str, where: str) -> tuple[Any, Any]:
    whole = kind in ("int", "logint")
    wanted = int if whole else (int, float)
    numbers = all(
        isinstance(value, wanted) and not isinstance(value, bool) and math.isfinite(value) for value in values
    )
    if len(values) != 2 or not numbers or values[0] >= values[1]:
        raise UserError(f"{where}: give the lowest and the highest {'whole ' if whole else ''}number: {KINDS[kind]}.")
    if kind.startswith("log") and values[0] <= 0:
        raise UserError(f"{where}: on a logarithmic scale both ends are above 0: {KINDS[kind]}.")
    return (values[0], values[1]) if whole else (float(values[0]), float(values[1]))
