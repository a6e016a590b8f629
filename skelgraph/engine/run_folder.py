"""A run is a folder; everything in it is plain text or tensors, written so that a kill leaves no half file.

``recipe.json`` resolved recipe, ``run.json`` seed, environment and command, ``stages/NAME/`` with ``metrics.csv``,
``last.ckpt`` (for --resume), ``exports.safetensors`` and ``model.json`` (what later stages take), their card
``weights.json`` and ``weights.md``,
``scores.safetensors`` and ``clips.csv`` (per-clip answers), ``done.json`` (the figures; its presence means finished).
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from skelgraph import yamlfile
from skelgraph.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that takes its place when the block ends well."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """Write JSON; the file is old or new, never half."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(data, indent=2, default=str) + "\n", encoding="utf-8")


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """Read JSON written by `write_json`: an object that has the ``keys``."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}).") from None
    if not isinstance(data, dict) or not data.keys() >= set(keys):
        raise UserError(f"{path}: damaged, not what a run writes.")
    return data


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a csv of a run."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error}).") from None


def read_figures(path: Path) -> list[tuple[int, str, float]]:
    """Step, figure and value of ``metrics.csv``, without a last line that a kill has cut; empty where there is none."""
    found = []
    for row in read_rows(path) if path.is_file() else []:
        with suppress(KeyError, TypeError, ValueError):
            found.append((int(row["step"]), row["figure"], float(row["value"])))
    return found


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write safetensors; shared storage is copied apart."""
    with replacing(path) as temporary:
        save_file({key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}, temporary)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors."""
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read ({error}).") from None
    return tensors


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class StageFolder:
    """The folder of one stage of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        return self.path.name

    def open(self) -> None:
        """Make the folder."""
        self.path.mkdir(parents=True, exist_ok=True)

    def result(self) -> dict[str, Any] | None:
        """The figures of a finished stage; None while it is not finished."""
        file = self.path / "done.json"
        return read_json(file) if file.is_file() else None

    def finish(self, figures: dict[str, Any]) -> None:
        """Mark the stage as finished."""
        write_json(self.path / "done.json", figures)

    def save_exports(self, parts: dict[str, dict[str, Tensor]], card: dict[str, Any]) -> None:
        """Keep the named parts that later stages may start from, and how the model was built."""
        flat = {f"{part}/{key}": value for part, state in parts.items() for key, value in state.items()}
        write_tensors(self.path / "exports.safetensors", flat)
        write_json(self.path / "model.json", card)

    def exports(self) -> dict[str, dict[str, Tensor]]:
        """The parts kept by `save_exports`."""
        if not (self.path / "exports.safetensors").is_file():
            raise UserError(f"{self.path}: this stage has exported no weights (is it finished?).")
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in read_tensors(self.path / "exports.safetensors").items():
            part, _, name = key.partition("/")
            parts.setdefault(part, {})[name] = value
        return parts

    def card(self) -> dict[str, Any]:
        """How the stage's model was built."""
        return read_json(self.path / "model.json", "model", "spec")


class Run:
    """A run folder.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @classmethod
    def open(cls, path: Path | str) -> Run:
        """An existing run.

        Raises:
            UserError: not a run folder.
        """
        run = cls(path)
        if not (run.path / "run.json").is_file():
            raise UserError(f"{path}: not a run folder (it has no run.json).")
        return run

    @classmethod
    def create(cls, path: Path, recipe: dict[str, Any], about: dict[str, Any]) -> Run:
        """Make the folder of a new run.

        Raises:
            UserError: the place cannot be written.
        """
        try:
            (path / "stages").mkdir(parents=True, exist_ok=True)
            write_json(path / "recipe.json", recipe)
            write_json(path / "run.json", about)
        except OSError as error:
            reason = f"cannot write the run here ({error.strerror}); choose another with --out."
            raise UserError(f"{path}: {reason}") from None
        return cls(path)

    @property
    def about(self) -> dict[str, Any]:
        """Seed, demo flag, command, environment."""
        return read_json(self.path / "run.json", "seed", "demo")

    @property
    def recipe(self) -> dict[str, Any]:
        """The resolved recipe."""
        return read_json(self.path / "recipe.json", "name", "stages")

    def stage(self, name: str) -> StageFolder:
        """The folder of a stage, present or not."""
        return StageFolder(self.path / "stages" / name)

    def stages(self) -> list[StageFolder]:
        """Folders of all stages of the recipe, in order."""
        return [self.stage(name) for name in self.recipe["stages"]]

    @property
    def metrics(self) -> dict[str, float]:
        """Figures of all evaluations: ``stage/metric``."""
        result = {}
        for folder in self.stages():
            for key, value in ((folder.result() or {}).get("metrics") or {}).items():
                result[f"{folder.name}/{key}"] = value
        return result

    @property
    def finished(self) -> bool:
        """Whether every stage is done."""
        return all(folder.result() is not None for folder in self.stages())

    @property
    def report(self) -> Path:
        """The report page."""
        return self.path / "report.html"


def find_exports(name: str, run: Run) -> StageFolder:
    """The stage meant by ``from:``: one of this run, a run folder (its last trained stage) or ``folder:stage``.

    A folder of weights alone, as ``skelgraph weights import`` writes it, is taken as a stage.
    """
    own = run.stage(name)
    if own.path.is_dir():
        return own
    folder, _, stage = name.partition(":")
    if not stage and (Path(folder) / "exports.safetensors").is_file():
        return StageFolder(Path(folder))
    other = Run.open(folder)
    if stage:
        return other.stage(stage)
    trained = [item for item in other.stages() if (item.path / "exports.safetensors").is_file()]
    if not trained:
        raise UserError(f"{folder}: no finished training stage in this run.")
    return trained[-1]


def to_yaml(data: dict[str, Any]) -> str:
    """A resolved recipe as text that `yamlfile` reads back."""
    import yaml

    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
    assert yamlfile.parse(text, "recipe").data is not None
    return text
