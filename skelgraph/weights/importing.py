"""Published weights as a folder that a recipe starts from, and what such files hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skelgraph import assets
from skelgraph.engine.run_folder import StageFolder, digest
from skelgraph.errors import UserError
from skelgraph.topology import Topology
from skelgraph.weights import recurrent
from skelgraph.weights.families import LICENCES
from skelgraph.weights.reading import Source, read
from skelgraph.weights.recurrent import FoundEncoder
from skelgraph.weights.released import Found, load, measure, recognise


@dataclass(frozen=True)
class Report:
    """What was found in a checkpoint and, where it was imported, what became of it.

    Attributes:
        found: what the tensors say.
        source, sha256: the file; no hash for a state dict.
        topology, part, inputs: how its input is made; empty inputs take a stream tensor.
        folder: where our weights are; None where they were only looked at.
    """

    found: Found | FoundEncoder
    source: str
    sha256: str | None
    topology: str | None = None
    part: str | None = None
    inputs: tuple[str, ...] = ()
    folder: Path | None = None

    def lines(self) -> list[str]:
        """For the console."""
        place = self.topology or _topologies_of(self.found.joints)
        rows = [*self.found.rows(place, self.part, self.inputs), ("source", self.source)]
        rows += [("sha256", self.sha256)] if self.sha256 else []
        rows += [("written", f"{self.folder}; start from it with 'from: {self.folder}'")] if self.folder else []
        return [f"{key:<9} {text}" for key, text in rows]

    def card(self) -> dict[str, Any]:
        """For ``model.json``."""
        return {**asdict(self.found), "source": self.source, "sha256": self.sha256}


def import_released(
    family: str,
    source: Source,
    out: str | Path,
    *,
    topology: Topology | str | Path | None = None,
    part: str | None = None,
    inputs: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    overwrite: bool = False,
    licence: str | None = None,
    data: str | None = None,
) -> Report:
    """Write published weights as the folder of a trained stage: ``from: OUT`` starts from it or tests it.

    Args:
        family, source, topology, part, classes: as `load_released` has them.
        out: the folder; made here.
        inputs: as `load_released`; None takes those that the family was published with where the number of channels
            allows it (PSUMNet: joints, bones and the motion of both; others: joints), an empty list the stream tensor.
        overwrite: replace what is in the folder.
        licence, data: for the card beside the weights: their licence, where it is not that of their authors' code,
            and what they were trained on, which no file tells.

    Of ``halp``, a folder with everything that training goes on with: encoder, head, key encoder, queue, prototypes;
    ``inputs`` None takes all streams of the file.

    Raises:
        UserError: as `load_released`; or the folder is there.
    """
    folder = StageFolder(Path(out))
    if folder.path.exists() and not (overwrite and folder.path.is_dir()) and any(_content(folder.path)):
        raise UserError(f"{out}: is there already; choose another folder or say --overwrite.")
    from skelgraph.engine import weight_card
    from skelgraph.engine.fit import spec_card  # Lightning comes with it, and loading alone does not need that.
    from skelgraph.weights import contrastive

    found: Found | FoundEncoder
    if family == recurrent.FAMILY:
        spec, settings, exports, found = contrastive.unpacked(source, topology, part, inputs, classes)
    else:
        model, settings, found = load(family, source, topology, part, inputs, classes)
        spec, exports = model.spec, {"backbone": model.state_dict()}
    seen = _inputs(settings)
    report = Report(found, *_origin(source), spec.topology.name, settings.get("part"), seen, folder.path)
    card = {"model": settings, "method": "weights import", "spec": spec_card(spec), "released": report.card()}
    try:
        folder.open()
        folder.save_exports(exports, card)
        weight_card.write(folder.path, weight_card.of_import(
            folder, f"{found.title}, imported from {Path(report.source).name}", found.parameters,
            licence or LICENCES.get(found.title, weight_card.UNSAID), data,
        ))  # fmt: skip
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}).") from None
    return report


def inspect(path: str | Path) -> Report:
    """What a checkpoint file holds, or what an imported folder was made from.

    Raises:
        UserError: neither, or a layout that is not known.
    """
    path = Path(path)
    if path.is_dir():
        return _imported(path)
    state, name = read(path)
    if recurrent.fits(state):
        return Report(recurrent.measure(state, name), *_origin(path))
    return Report(measure(recognise(state, name), state, name), *_origin(path))


def describe(path: str | Path) -> list[str]:
    """What weights are, in lines for the console: a checkpoint file, imported weights, a run or stage of ours.

    Raises:
        UserError: none of these.
    """
    from skelgraph.engine import weight_card

    path, run = Path(path), Path(str(path).partition(":")[0])
    ours = (path / weight_card.WEIGHTS).is_file() and "released" not in StageFolder(path).card()
    if ours or (run / "run.json").is_file():
        return weight_card.lines(weight_card.read(path))
    found = inspect(path).lines()
    return [*found, *weight_card.terms(weight_card.read(path))] if (path / weight_card.CARD).is_file() else found


def _imported(path: Path) -> Report:
    if not (path / "model.json").is_file():
        raise UserError(f"{path}: neither a checkpoint file nor a folder of imported weights.")
    card = StageFolder(path).card()
    if "released" not in card:
        raise UserError(f"{path}: these weights were trained here, not imported; see model.json.")
    released, model = dict(card["released"]), card["model"]
    source, sha256 = released.pop("source"), released.pop("sha256")
    found: Found | FoundEncoder
    if released["family"] == recurrent.FAMILY:
        found = FoundEncoder(**{**released, "streams": tuple(released["streams"])})
    else:
        found = Found(**{**released, "layers": tuple(map(tuple, released["layers"]))})
    return Report(found, source, sha256, card["spec"]["topology"]["name"], model.get("part"), _inputs(model), path)


def _inputs(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """What a network sees of the joints, or each network of several."""
    return tuple(settings.get("inputs", settings.get("streams", ())))


def _origin(source: Source) -> tuple[str, str | None]:
    return (str(source), digest(Path(source))) if isinstance(source, str | Path) else ("a state dict", None)


def _content(path: Path) -> list[Path]:
    return list(path.iterdir()) if path.is_dir() else [path]


def _topologies_of(joints: int) -> str:
    """Shipped topologies, or parts of them, with that many joints."""
    found = []
    for name in assets.names("topologies"):
        topology = Topology.load(name)
        if len(topology.joints) == joints:
            found.append(name)
        else:
            found += [f"{name} part {part}" for part in topology.part_names if len(topology.part_index(part)) == joints]
    return ", ".join(found) or "of no topology that is shipped"
