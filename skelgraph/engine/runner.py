"""Runs a recipe: stages in order, each resumable, into one run folder."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from skelgraph import recipe as recipes
from skelgraph.data.store import Store
from skelgraph.engine import fuse, processes, weight_card
from skelgraph.engine.clips import StageClips
from skelgraph.engine.evaluate import Evaluate
from skelgraph.engine.fit import Fit, Place
from skelgraph.engine.run_folder import Run
from skelgraph.errors import UserError
from skelgraph.recipe import FitStage, FuseStage, Study
from skelgraph.topology import Topology

PACKAGES = ("torch", "torch-geometric", "lightning", "numpy", "pyarrow", "torchmetrics")


def run(
    recipe: str | Path,
    overrides: Sequence[str] = (),
    *,
    demo: bool = False,
    seed: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    place: Place | None = None,
) -> Run:
    """Run a recipe to its end.

    Args:
        recipe: name or path.
        overrides: ``key.sub=value`` texts.
        demo: generated data and short lengths in the place of the recipe's own.
        seed: in the place of the recipe's.
        out: the run folder; by default ``runs/NAME/seedS``, with a number added where that is taken.
        resume: go on with the newest unfinished run of this recipe and seed (or the one in ``out``).
        place: devices.

    Returns:
        The run: ``.path``, ``.metrics``, ``.report``.

    Raises:
        UserError: anything wrong in recipe, data or folder, before a long computation where possible.
    """
    texts = [*overrides, *([] if seed is None else [f"seed={seed}"])]
    study = recipes.load(recipe, texts, demo=demo)
    recipes.check(study)
    place = place or Place()
    root = Path("runs") / (study.recipe.name + ("-demo" if demo else ""))
    alone = place.devices in (1, "1") and place.nodes == 1 and not processes.several()
    if not alone and out is None:
        raise UserError("several processes must agree on the run folder: name it with --out.")
    if demo:
        put_demo_data(study, root.parent)
    _check_stores(study, str(recipe))
    folder = _folder(root, study, out, resume)
    started = _open(folder, study)
    return _stages(started, study, resume, place)


def _stages(started: Run, study: Study, resume: bool, place: Place) -> Run:
    from skelgraph.engine import report

    for name, stage in study.recipe.stages.items():
        folder, first = started.stage(name), processes.rank() == 0
        if folder.result() is not None:
            _say(f"{name}: finished before")
            continue
        _say(f"{name}:")
        if isinstance(stage, FitStage):
            done = Fit(study, name, started, place)(resume)
        elif first and isinstance(stage, FuseStage):
            done = fuse.run_stage(study, name, started)
            _say(fuse.console(done))
        elif first:
            done = Evaluate(study, name, started, place)(resume)
        if first:
            folder.finish(done)
            weight_card.write_all(started)
        processes.wait_for(folder.path / "done.json")
    if processes.rank() == 0:
        report.write(started)
    return started


def _say(text: str) -> None:
    if processes.rank() == 0:
        print(text, file=sys.stderr, flush=True)


def put_demo_data(study: Study, root: Path) -> None:
    """Generate demo data for the recipe's topology (once for the same arguments) and let every stage use it."""
    from skelgraph.data.synthetic import write_demo

    demo, names = study.recipe.demo, sorted(study.recipe.stages)
    topology = Topology.load(study.recipe.topology)
    protocols = sorted({study.recipe.data.protocol, *(study.data_for(name).protocol for name in names)})
    modalities = sorted({key for name in names for key in study.data_for(name).wanted})
    shape = {**demo.model_dump(exclude={"data", "stages"}), "protocols": protocols, "topology": topology.to_dict(),
             "modalities": modalities}  # fmt: skip
    mark = hashlib.sha256(json.dumps(shape, sort_keys=True, default=str).encode()).hexdigest()[:10]
    path = root / "demo-data" / f"{topology.name}-{mark}"
    if not (path / "meta.json").is_file() and processes.rank() == 0:
        _say(f"generating {demo.clips} demo clips ...")
        write_demo(path, topology=topology, clips=demo.clips, classes=demo.classes, persons=demo.persons,
                   dims=demo.dims, protocols=tuple(protocols), imbalance_factor=demo.imbalance_factor,
                   modalities=modalities, task=demo.task, overwrite=True)  # fmt: skip
    processes.wait_for(path / "meta.json")
    study.recipe.data.store = str(path)
    for stage in study.recipe.stages.values():
        if not isinstance(stage, FuseStage):
            stage.data.pop("store", None)


def _check_stores(study: Study, asked: str) -> None:
    """Say what to get, from where, when the data are not there."""
    needs = " ".join(study.recipe.needs.split())
    for name in study.recipe.stages:
        data = study.data_for(name)
        paths = [data.store] if isinstance(data.store, str) else data.store
        for path in paths:
            if not (Path(path) / "meta.json").is_file():
                how = needs or f"Import it: skelgraph data import FORMAT SRC {path}"
                raise UserError(
                    f"{path}: no data here. {how}\nTo try the recipe without data: skelgraph run {asked} --demo"
                )
        store = Store.open(paths)
        if data.protocol not in store.protocols:
            raise UserError(
                f"{', '.join(paths)}: no protocol '{data.protocol}'; there are {', '.join(store.protocols)}. {needs}"
            )
        if data.wanted:
            StageClips(data, study.recipe.protocol, Topology.load(study.recipe.topology), 0).pipeline()


def _folder(root: Path, study: Study, out: str | Path | None, resume: bool) -> Path:
    """The folder of this run."""
    if out is not None:
        path = Path(out)
        if (path / "run.json").is_file() and not resume and processes.rank() == 0:
            raise UserError(f"{path}: holds a run already; go on with it by --resume, or choose another --out.")
        return path
    base = root / f"seed{study.recipe.seed}"
    taken = [base, *sorted(root.glob(f"{base.name}-*"), key=lambda p: int(p.name.rsplit("-", 1)[1]))]
    taken = [path for path in taken if path.exists()]
    if resume:
        open_runs = [path for path in taken if (path / "run.json").is_file() and not Run(path).finished]
        if open_runs:
            return open_runs[-1]
    return base if not taken else root / f"{base.name}-{len(taken) + 1}"


def _open(path: Path, study: Study) -> Run:
    if processes.rank() > 0:
        processes.wait_for(path / "run.json")
        return Run(path)
    data = study.recipe.model_dump(by_alias=True)
    if (path / "run.json").is_file():
        existing = Run(path)
        if existing.recipe != json.loads(json.dumps(data, default=str)):
            raise UserError(f"{path}: was begun with another recipe or other overrides; choose another --out.")
        return existing
    about = {
        "seed": study.recipe.seed,
        "demo": study.demo,
        "recipe_file": study.source.file,
        "command": " ".join(["skelgraph", *sys.argv[1:]]),
        "environment": environment(),
    }
    return Run.create(path, data, about)


def environment() -> dict[str, Any]:
    """Versions and the kind of machine."""
    import torch

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "missing"
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu_cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "packages": versions,
    }


def seed_list(text: str) -> list[int]:
    """Seeds out of ``0,1,2``."""
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--seeds {text}: write whole numbers with commas, for example 0,1,2.") from None
    if len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds {text}: a seed is named twice.")
    return seeds
