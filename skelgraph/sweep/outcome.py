"""What a search has found: a table of its trials, and the command that runs the best."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skelgraph.engine.run_folder import replacing
from skelgraph.errors import UserError
from skelgraph.sweep.plan import Plan

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

TABLE = "trials.csv"
SHOWN = 10


@dataclass(frozen=True)
class Outcome:
    """Trials of a search.

    Attributes:
        plan: what was tried.
        folder: where.
        trials: done, failed or still running in another process.
    """

    plan: Plan
    folder: Path
    trials: Sequence[FrozenTrial]

    @property
    def ranked(self) -> list[FrozenTrial]:
        """Trials that ended well, best first; of equals the earlier."""
        sign = -1 if self.plan.mode == "max" else 1
        done = [(sign * trial.value, trial) for trial in self.trials if trial.value is not None]
        return [trial for _, trial in sorted(done, key=lambda pair: pair[0])]

    @property
    def best(self) -> FrozenTrial:
        """The best trial.

        Raises:
            UserError: none has ended well.
        """
        if not self.ranked:
            reasons = [trial.user_attrs["reason"] for trial in self.trials if "reason" in trial.user_attrs]
            raise UserError(
                f"{self.folder}: no trial has ended well" + (f"; the last: {reasons[-1]}" if reasons else "")
            )
        return self.ranked[0]

    def overrides(self, trial: FrozenTrial) -> list[str]:
        """The user's own overrides and those of a trial."""
        return [*self.plan.fixed, *(item.override(trial.params[item.key]) for item in self.plan.space)]

    def command(self) -> str:
        """Trains and tests with the best overrides."""
        words = [
            "skelgraph",
            "run",
            self.plan.recipe,
            *self.overrides(self.best),
            *(["--demo"] if self.plan.demo else []),
        ]
        return shlex.join(words)

    def rows(self) -> list[dict[str, Any]]:
        """A row for every trial, in the order they were begun."""
        return [
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                self.plan.figure: trial.value,
                "step": trial.user_attrs.get("step"),
                "minutes": None if trial.duration is None else round(trial.duration.total_seconds() / 60, 2),
                **{item.key: item.override(trial.params[item.key]).partition("=")[2] for item in self.plan.space},
                "run": f"trials/{trial.user_attrs['folder']}",
                "reason": trial.user_attrs.get("reason"),
            }
            for trial in self.trials
            if len(trial.params) == len(self.plan.space) and "folder" in trial.user_attrs
        ]

    def write(self) -> Path:
        """Write the table beside the search; old or new, never half."""
        path, rows = self.folder / TABLE, self.rows()
        with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]) if rows else ["trial"])
            writer.writeheader()
            writer.writerows(rows)
        return path

    def text(self) -> str:
        """For a terminal: the best trials, and what to run."""
        best, figure = self.best, self.plan.figure
        lines = [f"{figure} of stage {self.plan.stage} on validation, best first:"]
        for trial in self.ranked[:SHOWN]:
            drawn = self.overrides(trial)[len(self.plan.fixed) :]
            lines.append(
                f"  {trial.value:.4f}  trial {trial.number}, step {trial.user_attrs['step']}: {' '.join(drawn)}"
            )
        failed = sum("reason" in trial.user_attrs for trial in self.trials)
        running = len(self.trials) - len(self.ranked) - failed
        beside = f", {running} still running elsewhere" if running else ""
        lines += [f"{len(self.ranked)} trials done, {failed} failed{beside}; table: {self.folder / TABLE}"]
        lines += [f"The best of many is flattered by chance: hold {best.value:.4f} against a test of its own."]
        return "\n".join([*lines, "Train and test with the best:", f"  {self.command()}"])
