"""A stage of a recipe, measured: training and inference, size, memory, and how long it takes to get going."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skelgraph import recipe as recipes
from skelgraph.batch import Batch
from skelgraph.bench import cost
from skelgraph.bench.table import QUARTILES, RATIO, Cell, Table, busy, clip_words, machine, timed
from skelgraph.bench.timing import Spread, Step, Times, Timing, alternate, peak_megabytes
from skelgraph.bench.variants import Variant, parse
from skelgraph.data.loader import Draw
from skelgraph.engine.clips import TrainingClips
from skelgraph.engine.fit import Fit, Place
from skelgraph.engine.run_folder import Run
from skelgraph.engine.runner import put_demo_data
from skelgraph.errors import UserError, unknown
from skelgraph.methods import Method
from skelgraph.methods.optim import Length
from skelgraph.recipe import FitStage, Study

PRECISIONS = {"32-true": "fp32", "bf16-mixed": "bf16"}
STARTS = 3
STARTED = "import skelgraph.engine.runner"
COUNTED = "FLOPs: matrix products, convolutions and attention, by PyTorch's counter; 1 MAC is 2 FLOPs."
MEMORY = "Memory: what a step takes at its peak beyond what is held between steps."


@dataclass(frozen=True)
class Workload:
    """What every variant of a stage works on.

    Attributes:
        fit: the stage.
        rows: training clips, repeated where they are fewer than a step takes.
        draws: the clips of one step.
        batch: the same, read.
        clips: how many these are; a method with two views has twice as many rows.
        demo: whether they are generated for want of the recipe's own.
        first_batch: seconds from opening the store to the first batch.
    """

    fit: Fit
    rows: np.ndarray
    draws: list[Draw]
    batch: Batch
    clips: int
    demo: bool
    first_batch: float

    @property
    def still(self) -> Batch:
        """One view of each clip, for inference."""
        return self.batch[:: self.fit.kind.loader_views]


def bench_stage(
    target: str | Path,
    overrides: Sequence[str] = (),
    *,
    stage: str | None = None,
    compare: str | None = None,
    demo: bool = False,
    timing: Timing | None = None,
) -> Table:
    """Measure a training stage of a recipe or run.

    Where its data are absent, demo clips of the same shape take their place; sizes, lengths and the network stay the
    recipe's own unless ``demo`` is asked for. Weights are fresh: what a step costs does not hang on them.

    Args:
        target: a recipe or a run folder.
        overrides: ``key.sub=value`` texts for a recipe.
        stage: by default the last one that trains.
        compare: variants that take turns, see `skelgraph.bench.variants.parse`; by default eager, in the stage's
            precision, dense.
        demo: as ``skelgraph run --demo`` would have it.
        timing: rounds, threads, device.

    Raises:
        UserError: whatever is wrong with recipe, run, stage or variants; a variant that cannot be computed.
    """
    timing = timing or Timing()
    timing.start()
    study = _study(target, overrides, demo)
    name, entry = _stage(study, stage, str(target))
    variants = parse(compare, Variant("eager", precision=PRECISIONS.get(entry.precision, "fp32")))
    with tempfile.TemporaryDirectory(prefix="skelgraph-bench-") as folder:
        work = _workload(study, name, entry, Path(folder), absent=not demo)
        return _measured(str(target), name, work, variants, timing)


def _study(target: str | Path, overrides: Sequence[str], demo: bool) -> Study:
    if not (Path(target) / "run.json").is_file():
        study = recipes.load(target, overrides, demo=demo)
        recipes.check(study)
        return study
    if overrides or demo:
        raise UserError(f"{target}: a run keeps its settings; measure its recipe to change some.")
    run = Run.open(target)
    if run.recipe.get("plugins"):
        raise UserError(f"{target}: needs plugins ({', '.join(run.recipe['plugins'])}), and a run's code is not "
                        "executed unasked; measure its recipe instead.")  # fmt: skip
    study = recipes.from_data(run.recipe, str(run.path / "recipe.json"), bool(run.about.get("demo")))
    recipes.check(study)
    return study


def _stage(study: Study, name: str | None, target: str) -> tuple[str, FitStage]:
    stages = study.fit_stages()
    if not stages:
        raise UserError(f"{target}: has no stage that trains.")
    if name is not None and name not in stages:
        raise unknown("training stage", name, stages, "--stage")
    chosen = name or list(stages)[-1]
    return chosen, stages[chosen]


def _workload(study: Study, name: str, entry: FitStage, folder: Path, absent: bool) -> Workload:
    data = study.data_for(name)
    stores = [data.store] if isinstance(data.store, str) else data.store
    made = not all((Path(store) / "meta.json").is_file() for store in stores) or not absent
    if made:
        put_demo_data(study, folder)
    # Weights of an earlier stage change no time, and would have to be trained first.
    entry.from_ = None
    begin = time.perf_counter()
    fit = Fit(study, name, Run(folder), Place())
    parts = fit.parts(False)
    opened = time.perf_counter() - begin
    # Few clips must not make the step smaller than the recipe's.
    rows = np.tile(parts.train, -(-entry.batch // len(parts.train)))
    order = fit.build().draws(fit.clips.store.labels[rows], fit.seed, 0)
    begin = time.perf_counter()
    training = TrainingClips(
        fit.clips, replace(parts, train=rows), entry.batch, fit.kind.loader_views, lambda epoch: order
    )
    draws = next(iter(training.batches()))
    batch = fit.clips.reader(fit.kind.loader_views)[draws]
    return Workload(fit, rows, draws, batch, entry.batch, made, opened + time.perf_counter() - begin)


@contextmanager
def _plain(variant: Variant) -> Iterator[None]:
    """What goes wrong in a variant, as one line."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"variant '{variant.name}' cannot be computed ({reason}); leave it out of --compare.") from None


def _planned(work: Workload) -> Method:
    """A fresh method with its optimiser's settings, as training makes it."""
    fit = work.fit
    method = fit.build()
    # Some methods count the classes when they are asked for the order of an epoch.
    method.draws(fit.clips.store.labels[work.rows], fit.seed, 0)
    total = fit.stage.steps or fit.stage.epochs or 1
    method.plan(fit.stage.optimizer, fit.stage.schedule, Length(total, 1), fit.clips.pipeline())
    return method


def _training(work: Workload, variant: Variant, device: torch.device) -> Step:
    """One optimiser step: to the device, transforms, forward, backward, update."""
    method = _planned(work).to(device)
    assert method.pipeline is not None
    method.pipeline.to(device)
    optimizer = method.configure_optimizers()["optimizer"]
    step = variant.made(method.step, inference=False)
    limit = work.fit.stage.clip_gradient

    def run() -> None:
        with variant.active(device):
            figures = step(method.prepare(work.batch.to(device)), 0.0)
        figures["loss"].backward()
        if limit is not None:
            torch.nn.utils.clip_grad_norm_(method.parameters(), limit)
        optimizer.step()
        optimizer.zero_grad()
        method.after_step()

    return run


def _inference(work: Workload, variant: Variant, device: torch.device, model: torch.nn.Module) -> Step:
    """One answer: to the device, the transforms of a test, forward."""
    own = deepcopy(model).to(device).eval()
    pipeline = work.fit.clips.pipeline().to(device)
    answer = variant.made(own, inference=True)

    def run() -> None:
        with torch.inference_mode(), variant.active(device):
            answer(pipeline(work.still.to(device), training=False))

    return run


def _measured(target: str, name: str, work: Workload, variants: Sequence[Variant], timing: Timing) -> Table:
    device, stage = timing.device, work.fit.stage
    method = _planned(work)
    model = deepcopy(method.model).eval()
    facts: dict[str, Cell] = {**machine(timing), **_shape(work, model), **_costs(work, method, model)}
    rows: list[dict[str, Cell]] = []
    kinds: dict[str, Callable[[Variant], Step]] = {
        "training": lambda variant: _training(work, variant, device),
        "inference": lambda variant: _inference(work, variant, device, model),
    }
    for kind, make in kinds.items():
        steps = {variant.name: _guarded(variant, make) for variant in variants}
        times = alternate(steps, timing)
        rows += [_row(f"{kind}, {key}", work, times[key], steps[key], timing) for key in steps]
    facts |= _getting_going(work, timing)
    usual = variants[0]
    title = f"{target}, stage {name}: {stage.method}, {stage.model.name}; {usual.precision}, {usual.backend}"
    return Table(title, facts, rows, [*_remarks(work), QUARTILES, _ratios(variants), COUNTED, MEMORY, *busy()])


def _guarded(variant: Variant, make: Callable[[Variant], Step]) -> Step:
    with _plain(variant):
        step = make(variant)

    def run() -> None:
        with _plain(variant):
            step()

    return run


def _row(name: str, work: Workload, times: Times, step: Step, timing: Timing) -> dict[str, Cell]:
    rate = Spread(*(work.clips / seconds for seconds in (times.calls.median, times.calls.high, times.calls.low)))
    peak = peak_megabytes(step, timing.device)
    return {"what": name, "clips/s": rate, **timed(times, "step (ms)", 1e3), "memory (MB)": peak}


def _ratios(variants: Sequence[Variant]) -> str:
    return f"{RATIO}: to '{variants[0].name}' in the same round; below 1 is quicker."


def _shape(work: Workload, model: Any) -> dict[str, Cell]:
    spec = model.spec
    return {"clips a step": work.clips, "a clip": clip_words(spec), "classes": len(spec.classes)}


def _costs(work: Workload, method: Method, model: torch.nn.Module) -> dict[str, Cell]:
    """Size and products, counted on the CPU with the dense backend."""
    size = cost.size(model)
    pipeline = work.fit.clips.pipeline()
    forward = cost.forward_flops(model, pipeline(work.still[:1], training=False))
    trained = cost.flops(lambda: method.step(method.prepare(work.batch), 0.0)["loss"].backward())
    return {
        "parameters": size.parameters,
        "weights (MB)": size.megabytes,
        "MACs a clip, inference (M)": forward / 2e6,
        "FLOPs a clip, inference (M)": forward / 1e6,
        "FLOPs a clip, training (M)": trained / work.clips / 1e6,
    }


def _getting_going(work: Workload, timing: Timing) -> dict[str, Cell]:
    """Loading, and how long a new process takes before it works."""
    reader = work.fit.clips.reader(work.fit.kind.loader_views)
    loading = alternate({"": lambda: reader[work.draws]}, replace(timing, device=torch.device("cpu")))[""].calls
    rate = Spread(*(work.clips / seconds for seconds in (loading.median, loading.high, loading.low)))
    starts = []
    for _ in range(min(STARTS, timing.rounds)):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", STARTED], check=True)
        starts.append(time.perf_counter() - begin)
    return {"loading (clips/s)": rate, "start-up (s)": Spread.of(starts), "time to first batch (s)": work.first_batch}


def _remarks(work: Workload) -> list[str]:
    if not work.demo:
        return []
    return ["Measured on demo clips: shapes are those of the table above, the number of classes is the demo's."]
