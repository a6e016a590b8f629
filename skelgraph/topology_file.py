"""The YAML format of topologies: its keys, and how a file becomes a checked `Topology`.

::

    name: coco17
    title: COCO keypoints (HRNet, RTMPose, ViTPose)
    joints: [nose, left_eye, right_eye]             # order = order in the data
    bones: {left_eye: nose, right_eye: nose}        # child: parent, a forest
    links: [[left_eye, right_eye]]                  # edges that are no bones
    mirror: [[left_eye, right_eye]]                 # or the word `names`: every left_x with its right_x
    root: nose                                      # needed only where several joints have no parent
    center: [nose]                                  # mean of these is the origin; the root where left out
    axes: {across: [right_eye, left_eye]}           # directions, from and to
    parts:
      eyes: [left_eye, right_eye]                   # parents are inherited ...
      mask: {joints: [...], bones: {...}, links: [...], graph: [...]}     # ... or a graph of its own
    layout: {nose: [0, 0], left_eye: [0.1, 0.1]}    # where to draw; y up, the person faces you
    graph: [[left_eye, nose]]                       # only where a publication's adjacency differs from the bones
    checks: off                                     # only where a published graph is faulty on purpose
    compose: [...]                                  # start from other topologies, see `skelgraph.topology_compose`
    source: where this order is documented
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from skelgraph import assets, yamlfile
from skelgraph.errors import UserError, unknown
from skelgraph.topology import Pair, Part, Topology
from skelgraph.topology_check import check


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class PartKeys(_Keys):
    """Keys of a part with a graph of its own; a plain list means ``joints`` only."""

    joints: list[str]
    bones: dict[str, str] | None = None
    links: list[list[str]] = []
    root: str | None = None
    graph: list[list[str]] | None = None


class PlaceKeys(_Keys):
    """How the drawing of a component is placed: flipped in x, scaled, turned (degrees), then shifted."""

    flip: bool = False
    scale: float = 1.0
    rotate: float = 0.0
    shift: list[float] = [0.0, 0.0]


class ComponentKeys(_Keys):
    """Keys of one entry of ``compose``."""

    topology: str
    prefix: str = ""
    rename: dict[str, str] = {}
    glue: dict[str, str] = {}
    attach: dict[str, str] = {}
    place: PlaceKeys = PlaceKeys()


class TopologyKeys(_Keys):
    """Keys of a topology file."""

    name: str | None = None
    title: str = ""
    joints: list[str] = []
    bones: dict[str, str] = {}
    links: list[list[str]] = []
    mirror: list[list[str]] | Literal["names"] = []
    root: str | None = None
    center: list[str] = []
    axes: dict[str, list[str]] = {}
    parts: dict[str, PartKeys] = {}
    layout: dict[str, list[float]] = {}
    graph: list[list[str]] | None = None
    checks: Literal["on", "off"] = "on"
    compose: list[ComponentKeys] = []
    source: str = ""

    @field_validator("parts", mode="before")
    @classmethod
    def _lists_of_joints(cls, parts: Any) -> Any:
        if not isinstance(parts, Mapping):
            return parts
        return {name: {"joints": part} if isinstance(part, list) else part for name, part in parts.items()}


_LEVELS: dict[Any, type[BaseModel]] = {"parts": PartKeys, "compose": ComponentKeys}


def _read_keys(document: yamlfile.Document) -> TopologyKeys:
    """Hold plain data against the format; the first fault becomes a `UserError` with its line."""
    data = document.data
    if not isinstance(data, Mapping):
        raise UserError(f"{document.where()}: a topology is a mapping with the keys name, joints, bones, ...")
    try:
        return TopologyKeys.model_validate(dict(data))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
    place = tuple(fault["loc"])
    where = document.where(*place)
    if fault["type"] == "extra_forbidden":
        level = TopologyKeys if len(place) == 1 else PlaceKeys if "place" in place else _LEVELS[place[0]]
        raise unknown("key", place[-1], level.model_fields, where)
    name = ".".join(str(step) for step in place)
    raise UserError(f"{where}: {name}: {fault['msg'].lower()} (got {fault['input']!r}).")


def load(name: str | os.PathLike[str], beside: Path | None = None, trail: tuple[Path, ...] = ()) -> Topology:
    """Read the topology called ``name``.

    Args:
        name: a path or the name of an asset.
        beside: folder of the file that mentions it.
        trail: files being read now, to notice a file that composes itself.

    Raises:
        UserError: not found, or a fault; names file, line and joint.
    """
    path = assets.find("topologies", name, "topology", beside)
    if path.resolve() in trail:
        raise UserError(f"{path}: the topology is composed of itself.")
    return _build(yamlfile.read(path), path.stem, path.parent, (*trail, path.resolve()))


def from_data(data: Mapping[str, Any], source: str) -> Topology:
    """A topology from plain data; see `Topology.from_dict`."""
    return _build(yamlfile.Document(data, source), None, None, ())


def _build(document: yamlfile.Document, stem: str | None, folder: Path | None, trail: tuple[Path, ...]) -> Topology:
    keys = _read_keys(document)
    if keys.compose:
        from skelgraph.topology_compose import compose

        parts = [load(entry.topology, folder, trail) for entry in keys.compose]
        merged = compose(parts, keys, document)
        keys = _read_keys(yamlfile.Document(merged, document.source, document.lines))
    if keys.name is None and stem is None:
        raise UserError(f"{document.where()}: a topology needs a name.")
    keys = keys.model_copy(update={"name": keys.name or stem, "mirror": _mirror_pairs(keys)})
    check(keys, document)
    return _topology(keys)


def _mirror_pairs(keys: TopologyKeys) -> list[list[str]]:
    if keys.mirror != "names":
        return [list(pair) for pair in keys.mirror]
    joints = set(keys.joints)
    lefts = [joint for joint in keys.joints if "left" in joint]
    return [[joint, joint.replace("left", "right")] for joint in lefts if joint.replace("left", "right") in joints]


def _pairs(pairs: Any) -> tuple[Pair, ...]:
    return tuple((first, second) for first, second in pairs)


def _ordered(bones: Mapping[str, str], joints: list[str]) -> tuple[Pair, ...]:
    """Bones in the order of the joints, so that equal content is equal however a file is sorted."""
    return tuple((child, bones[child]) for child in joints if child in bones)


def _topology(keys: TopologyKeys) -> Topology:
    root = keys.root or next(joint for joint in keys.joints if joint not in keys.bones)
    return Topology(
        name=str(keys.name),
        title=keys.title,
        joints=tuple(keys.joints),
        bones=_ordered(keys.bones, keys.joints),
        links=_pairs(keys.links),
        mirror=_pairs(keys.mirror),
        root=root,
        center=tuple(keys.center) or (root,),
        axes={name: (pair[0], pair[1]) for name, pair in keys.axes.items()},
        parts={name: _part(part) for name, part in keys.parts.items()},
        layout={joint: tuple(place) for joint, place in keys.layout.items()},
        graph=None if keys.graph is None else _pairs(keys.graph),
        checks=keys.checks == "on",
        source=keys.source,
    )


def _part(part: PartKeys) -> Part:
    return Part(
        joints=tuple(part.joints),
        bones=None if part.bones is None else _ordered(part.bones, part.joints),
        links=_pairs(part.links),
        root=part.root,
        graph=None if part.graph is None else _pairs(part.graph),
    )


def to_data(topology: Topology) -> dict[str, Any]:
    """Plain data of a topology, without the keys that are empty; see `Topology.to_dict`."""
    data: dict[str, Any] = {
        "name": topology.name,
        "title": topology.title,
        "joints": list(topology.joints),
        "bones": dict(topology.bones),
        "links": [list(pair) for pair in topology.links],
        "mirror": [list(pair) for pair in topology.mirror],
        "root": topology.root,
        "center": list(topology.center),
        "axes": {name: list(pair) for name, pair in topology.axes.items()},
        "parts": {name: _part_data(part) for name, part in topology.parts.items()},
        "layout": {joint: list(place) for joint, place in topology.layout.items()},
        "source": topology.source,
    }
    data = {key: value for key, value in data.items() if value}
    if topology.graph is not None:
        data["graph"] = [list(pair) for pair in topology.graph]
    return data if topology.checks else {**data, "checks": "off"}


def _part_data(part: Part) -> list[str] | dict[str, Any]:
    if part.bones is None:
        return list(part.joints)
    data: dict[str, Any] = {"joints": list(part.joints), "bones": dict(part.bones)}
    if part.links:
        data["links"] = [list(pair) for pair in part.links]
    if part.root is not None:
        data["root"] = part.root
    if part.graph is not None:
        data["graph"] = [list(pair) for pair in part.graph]
    return data
