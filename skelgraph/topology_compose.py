"""``compose:`` joins topologies, or starts a file from another one.

::

    compose:
      - {topology: openpose25}                      # the first one gives root, center and axes
      - topology: hand21
        prefix: left_                               # thumb_tip becomes left_thumb_tip, part thumb left_thumb
        rename: {wrist: left_hand_root}             # the whole new name of single joints, no prefix added
        attach: {wrist: left_wrist}                 # both stay; a bone makes the former a child of the latter
        place: {flip: true, scale: 0.2, rotate: 90, shift: [0, 0]}      # of the drawing, about the attached joint
      - {topology: hand21, prefix: right_, glue: {wrist: right_wrist}}  # the same point: merged, keeps the place
    joints: [tail]                                  # further joints; a component's joint named again moves there
    bones: {tail: mid_hip}                          # further bones; replaces the parent a joint had
    parts: {tail: [tail]}                           # further or replaced parts (and so for `layout`)
    links: [[tail, left_hip]]                       # further links (and so for `mirror` pairs)

The file's own ``center``, ``axes``, ``root``, ``graph`` and ``mirror: names`` replace those of the components.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from skelgraph.errors import UserError, unknown
from skelgraph.yamlfile import Document

if TYPE_CHECKING:
    from skelgraph.topology import Part, Topology
    from skelgraph.topology_file import ComponentKeys, PlaceKeys, TopologyKeys


def compose(components: list[Topology], keys: TopologyKeys, document: Document) -> dict[str, Any]:
    """Plain data of the joined topology, in the format of a file without ``compose``.

    Raises:
        UserError: names file, line and joint.
    """
    data: dict[str, Any] = {key: [] for key in ("joints", "links", "mirror")}
    data |= {key: {} for key in ("bones", "parts", "layout", "axes")}
    for i, (component, entry) in enumerate(zip(components, keys.compose, strict=True)):
        where = document.where("compose", i)
        if component.graph is not None and len(components) > 1:
            raise UserError(f"{where}: '{component.name}' has an explicit graph and cannot be joined to others.")
        renamed = _Component(component, entry, where)
        _join(data, renamed)
        if i == 0:
            data |= renamed.frame()
    return _own_keys(data, keys)


def _own_keys(data: dict[str, Any], keys: TopologyKeys) -> dict[str, Any]:
    own = keys.model_dump(exclude_unset=True, exclude={"compose"})
    own["parts"] = {
        name: part.joints if part.bones is None else part.model_dump(exclude_unset=True)
        for name, part in keys.parts.items()
    }
    merged = {**data, **own}
    merged["joints"] = [joint for joint in data["joints"] if joint not in keys.joints] + keys.joints
    merged["links"] = data["links"] + keys.links
    if isinstance(keys.mirror, list):
        merged["mirror"] = data["mirror"] + keys.mirror
    for key in ("bones", "parts", "layout"):
        merged[key] = {**data[key], **own.get(key, {})}
    return merged


class _Component:
    """A topology under the names it gets in the composition."""

    def __init__(self, topology: Topology, entry: ComponentKeys, where: str) -> None:
        self.topology, self.entry, self.where = topology, entry, where
        for mapping in (entry.rename, entry.glue, entry.attach):
            for joint in mapping:
                if joint not in topology.joints:
                    raise unknown("joint", joint, topology.joints, where)
        self.names = {joint: entry.rename.get(joint, entry.prefix + joint) for joint in topology.joints} | entry.glue

    def pairs(self, pairs: tuple[tuple[str, str], ...]) -> list[list[str]]:
        return [[self.names[a], self.names[b]] for a, b in pairs]

    def frame(self) -> dict[str, Any]:
        """What only the first component gives."""
        names, topology = self.names, self.topology
        frame: dict[str, Any] = {"root": names[topology.root], "center": [names[joint] for joint in topology.center]}
        frame["axes"] = {axis: [names[joint] for joint in pair] for axis, pair in topology.axes.items()}
        return frame if topology.graph is None else {**frame, "graph": self.pairs(topology.graph)}

    def part(self, part: Part) -> Any:
        joints = [self.names[joint] for joint in part.joints]
        if part.bones is None:
            return joints
        data: dict[str, Any] = {"joints": joints, "bones": dict(self.pairs(part.bones))}
        data["links"] = self.pairs(part.links)
        if part.graph is not None:
            data["graph"] = self.pairs(part.graph)
        return data if part.root is None else {**data, "root": self.names[part.root]}


def _join(data: dict[str, Any], component: _Component) -> None:
    """Add one component to what has been joined so far."""
    topology, entry = component.topology, component.entry
    for joint in (*entry.glue.values(), *entry.attach.values()):
        if joint not in data["joints"]:
            raise unknown("joint", joint, data["joints"], component.where)
    for joint in topology.joints:
        name = component.names[joint]
        if joint in entry.glue:
            continue
        if name in data["joints"]:
            raise UserError(f"{component.where}: joint '{name}' is there already; use prefix, rename or glue.")
        data["joints"].append(name)
    attached = [(component.names[child], parent) for child, parent in entry.attach.items()]
    for child, parent in [*component.pairs(topology.bones), *attached]:
        if child in data["bones"]:
            raise UserError(
                f"{component.where}: joint '{child}' would get two parents, '{data['bones'][child]}' and '{parent}'; "
                f"glue or attach the root of '{topology.name}'."
            )
        data["bones"][child] = parent
    data["links"] += component.pairs(topology.links)
    data["mirror"] += [pair for pair in component.pairs(topology.mirror) if pair not in data["mirror"]]
    for name, part in topology.parts.items():
        data["parts"].setdefault(entry.prefix + name, component.part(part))
    places = _places(component, data["layout"])
    data["layout"] = {**places, **data["layout"]}


def _places(component: _Component, layout: dict[str, Any]) -> dict[str, Any]:
    """Drawing places of a component, moved so that its first glued or attached joint falls on its partner."""
    own, entry = component.topology.layout, component.entry
    moved = {joint: _move(place, entry.place) for joint, place in own.items()}
    for joint, partner in (*entry.glue.items(), *entry.attach.items()):
        if joint in moved and partner in layout:
            dx, dy = (layout[partner][axis] - moved[joint][axis] for axis in (0, 1))
            moved = {name: [x + dx, y + dy, *z] for name, (x, y, *z) in moved.items()}
            break
    sx, sy = entry.place.shift
    return {component.names[name]: [x + sx, y + sy, *z] for name, (x, y, *z) in moved.items()}


def _move(place: tuple[float, ...], how: PlaceKeys) -> list[float]:
    x, y, *z = place
    x = -x if how.flip else x
    cos, sin = math.cos(math.radians(how.rotate)), math.sin(math.radians(how.rotate))
    return [how.scale * (cos * x - sin * y), how.scale * (sin * x + cos * y), *(how.scale * depth for depth in z)]
