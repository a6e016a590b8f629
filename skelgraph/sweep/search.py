"""Runs the trials of a search: any number of processes on one folder, each killed and started again at will."""

from __future__ import annotations

import fcntl
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from skelgraph import recipe as recipes
from skelgraph.engine.callbacks import mixed_seed
from skelgraph.engine.fit import Place
from skelgraph.engine.run_folder import Run
from skelgraph.engine.runner import put_demo_data, run
from skelgraph.errors import UserError
from skelgraph.sweep.outcome import Outcome
from skelgraph.sweep.plan import Plan, make_plan

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

STORAGE, LOCK, TRIALS = "study.log", "study.lock", "trials"


def sweep(
    recipe: str | Path,
    words: Sequence[str],
    *,
    trials: int = 20,
    stage: str | None = None,
    demo: bool = False,
    seed: int | None = None,
    out: str | Path | None = None,
    place: Place | None = None,
) -> Outcome:
    """Search for the overrides that are best on validation clips; the test part is not read.

    Values are drawn by the tree-structured Parzen estimator of Optuna. Started again, or beside itself in another
    process, it goes on with the same folder until there are ``trials`` of them altogether; a trial whose process has
    died is taken up where its run stopped.

    Args:
        recipe: name or file.
        words: overrides ``key=value`` and parameters ``key=kind(...)``, see `skelgraph.sweep.space`.
        trials: how many, over all processes.
        stage: whose validation figure is judged; by default the last stage that has one.
        demo, seed: as `skelgraph.run` has them.
        out: folder of the search; by default ``sweeps/NAME``.
        place: devices.

    Raises:
        UserError: Optuna is missing; as `make_plan`; a folder with another search; no trial that ended well.
    """
    plan = make_plan(recipe, words, stage=stage, demo=demo, seed=seed)
    folder = Path(out) if out is not None else Path("sweeps") / (plan.name + ("-demo" if demo else ""))
    search = Search(plan, folder, trials, place)
    search.work()
    return search.outcome()


class Search:
    """One process's part in a search.

    Args:
        plan: what is tried.
        folder: storage, table and runs.
        trials: how many, over all processes.
        place: devices.
    """

    def __init__(self, plan: Plan, folder: Path, trials: int, place: Place | None) -> None:
        self.plan, self.folder, self.trials, self.place = plan, folder, trials, place
        try:
            (folder / TRIALS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another --out.") from None
        with self._alone():
            self.study = self._open()
            if plan.demo:  # made once, before several processes want them
                drawn = [item.samples()[0] for item in plan.space]
                put_demo_data(recipes.load(plan.recipe, plan.overrides(drawn), demo=True), Path("runs"))

    def outcome(self) -> Outcome:
        """What all processes have found so far."""
        return Outcome(self.plan, self.folder, self._counted())

    def work(self) -> None:
        """Run trials until there are enough."""
        while (found := self._next()) is not None:
            trial, held = found
            with held:
                self._try(trial)
            with self._alone():
                self.outcome().write()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process of this search is in such a block; the lock goes with its process."""
        with (self.folder / LOCK).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _open(self) -> Study:
        try:
            import optuna
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend
        except ImportError:
            raise UserError("sweep needs Optuna: pip install 'skelgraph[sweep]'") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = JournalStorage(JournalFileBackend(str(self.folder / STORAGE)))
        direction = "maximize" if self.plan.mode == "max" else "minimize"
        study = optuna.create_study(study_name="sweep", storage=storage, direction=direction, load_if_exists=True)
        known, own = study.user_attrs.get("plan"), json.loads(json.dumps(self.plan.identity(), default=str))
        if known is not None and known != own:
            raise UserError(f"{self.folder}: holds a search of another recipe, other overrides or distributions; "
                            "choose another --out.")  # fmt: skip
        study.set_user_attr("plan", own)
        return study

    def _counted(self) -> list[FrozenTrial]:
        """Trials that count: those done, failed with a reason, or being run."""
        from optuna.trial import TrialState

        counted = []
        for trial in self.study.get_trials(deepcopy=False):
            stopped = trial.state == TrialState.FAIL and "reason" not in trial.user_attrs
            if not stopped and trial.state != TrialState.WAITING:
                counted.append(trial)
        return counted

    def _next(self) -> tuple[Trial, IO[str]] | None:
        """A trial to run and the lock that says so; None where there are enough."""
        with self._alone():
            self._take_up_the_dead()
            counted = self._counted()
            if len(counted) >= self.trials:
                return None
            self.study.sampler = self._sampler()
            trial = self.study.ask({item.key: item.distribution() for item in self.plan.space})
            held = self._hold(trial.number)
            assert held is not None
            trial.set_user_attr("folder", trial.user_attrs.get("folder", f"{trial.number:04d}"))
            print(f"trial {len(counted) + 1} of {self.trials}: {' '.join(self._drawn(trial))}", file=sys.stderr)
            return trial, held

    def _sampler(self) -> Any:
        """Seeded by the number of trials there were, so that a search begun again draws what an unbroken one does."""
        from optuna.exceptions import ExperimentalWarning
        from optuna.samplers import TPESampler

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            seed = mixed_seed(self.plan.seed, len(self._counted())) % 2**32
            return TPESampler(seed=seed, constant_liar=True)

    def _hold(self, number: int) -> IO[str] | None:
        """The lock of a trial; None where a living process has it."""
        file = (self.folder / TRIALS / f"{number:04d}.lock").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        return file

    def _take_up_the_dead(self) -> None:
        """Trials that say they run, but whose process has gone, are queued again with their folder."""
        from optuna.trial import TrialState

        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            held = self._hold(trial.number)
            if held is None:
                continue
            with held:
                self.study.tell(trial.number, state=TrialState.FAIL)
                folder = trial.user_attrs.get("folder", f"{trial.number:04d}")
                self.study.enqueue_trial(trial.params, user_attrs={"folder": folder})

    def _drawn(self, trial: Trial | FrozenTrial) -> list[str]:
        return [item.override(trial.params[item.key]) for item in self.plan.space]

    def _try(self, trial: Trial) -> None:
        """Run a trial; what fails within its training counts as a trial that failed, all else ends the search."""
        from optuna.trial import TrialState

        path = self.folder / TRIALS / trial.user_attrs["folder"]
        try:
            done = run(self.plan.recipe, self.plan.overrides(self._drawn(trial)), demo=self.plan.demo, out=path,
                       resume=True, place=self.place)  # fmt: skip
        except UserError as error:
            if not any(path.glob("stages/**/metrics.csv")):
                self.study.tell(trial, state=TrialState.FAIL)
                raise
            trial.set_user_attr("reason", str(error))
            self.study.tell(trial, state=TrialState.FAIL)
            print(f"  failed: {error}", file=sys.stderr)
            return
        value, step = self._judge(done)
        trial.set_user_attr("step", step)
        self.study.tell(trial, value)

    def _judge(self, done: Run) -> tuple[float, int]:
        """The validation figure of a trial and its step."""
        result = done.stage(self.plan.stage).result() or {}
        if "best_value" not in result:
            raise UserError(f"{done.path}: stage '{self.plan.stage}' was not validated; the training part may be too "
                            "small for protocol.validation.")  # fmt: skip
        return float(result["best_value"]), int(result["best_step"])
