"""Checks of a topology file: every fault a `UserError` that names file, line and joint."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from skelgraph.errors import UserError, unknown
from skelgraph.yamlfile import Document

if TYPE_CHECKING:
    from skelgraph.topology_file import PartKeys, TopologyKeys


def check(keys: TopologyKeys, document: Document) -> None:
    """Check names everywhere; trees, root and mirror unless the file says ``checks: off``.

    Raises:
        UserError: names file, line and joint.
    """
    if not keys.joints:
        raise UserError(f"{document.where()}: a topology needs the key 'joints'.")
    _unique(keys.joints, document, ("joints",))
    _names(keys, document)
    for name, part in keys.parts.items():
        _part_names(name, part, keys, document)
    if keys.checks == "off":
        return
    _tree(keys.bones, document, ("bones",))
    _isolated(keys, document)
    _root(keys.root, keys.joints, keys.bones, document)
    for name, part in keys.parts.items():
        if part.bones is not None:
            _tree(part.bones, document, ("parts", name, "bones"))
    _mirror(keys, document)


def _unique(names: Sequence[str], document: Document, path: tuple[Hashable, ...]) -> None:
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        if name in seen:
            raise UserError(f"{document.where(*path, i)}: joint '{name}' is listed twice (items {seen[name]} and {i}).")
        seen[name] = i


def _known(names: Iterable[str], allowed: Iterable[str], document: Document, *path: Hashable) -> None:
    for i, name in enumerate(names):
        if name not in allowed:
            raise unknown("joint", name, allowed, document.where(*path, i))


def _pair_list(pairs: Sequence[Sequence[str]], allowed: Sequence[str], document: Document, *path: Hashable) -> None:
    for i, pair in enumerate(pairs):
        _known(pair, allowed, document, *path, i)
        if len(pair) != 2 or pair[0] == pair[1]:
            place = document.where(*path, i)
            raise UserError(f"{place}: {path[-1]} takes pairs of two different joints, got {list(pair)}.")


def _bone_names(bones: Mapping[str, str], allowed: Sequence[str], document: Document, *path: Hashable) -> None:
    for child, parent in bones.items():
        _known([child, parent], allowed, document, *path, child)


def _names(keys: TopologyKeys, document: Document) -> None:
    joints = keys.joints
    _bone_names(keys.bones, joints, document, "bones")
    _pair_list(keys.links, joints, document, "links")
    _pair_list(keys.mirror if isinstance(keys.mirror, list) else [], joints, document, "mirror")
    _pair_list(keys.graph or [], joints, document, "graph")
    if keys.root is not None:
        _known([keys.root], joints, document, "root")
    _known(keys.center, joints, document, "center")
    for name, pair in keys.axes.items():
        _pair_list([pair], joints, document, "axes", name)
    for joint, place in keys.layout.items():
        _known([joint], joints, document, "layout", joint)
        if len(place) not in (2, 3):
            raise UserError(f"{document.where('layout', joint)}: the place of '{joint}' is [x, y] or [x, y, z].")


def _part_names(name: str, part: PartKeys, keys: TopologyKeys, document: Document) -> None:
    path = ("parts", name)
    if not part.joints:
        raise UserError(f"{document.where(*path)}: part '{name}' has no joints.")
    inside = (*path, "joints") if (*path, "joints") in document.lines else path
    _known(part.joints, keys.joints, document, *inside)
    _unique(part.joints, document, inside)
    _bone_names(part.bones or {}, part.joints, document, *path, "bones")
    _pair_list(part.links, part.joints, document, *path, "links")
    _pair_list(part.graph or [], part.joints, document, *path, "graph")
    if part.root is not None:
        _known([part.root], part.joints, document, *path, "root")


def _tree(bones: Mapping[str, str], document: Document, path: tuple[Hashable, ...]) -> None:
    for start in bones:
        walk = [start]
        while walk[-1] in bones:
            walk.append(bones[walk[-1]])
            if walk[-1] == start:
                raise UserError(f"{document.where(*path, start)}: the bones form a cycle: {' > '.join(walk)}.")
            if len(walk) > len(bones) + 1:
                break


def _isolated(keys: TopologyKeys, document: Document) -> None:
    touched = {joint for pair in [*keys.bones.items(), *map(tuple, keys.links)] for joint in pair}
    for i, joint in enumerate(keys.joints):
        if joint not in touched and len(keys.joints) > 1:
            place = document.where("joints", i)
            raise UserError(f"{place}: joint '{joint}' is isolated; give it a bone or a link, or say 'checks: off'.")


def _root(root: str | None, joints: Sequence[str], bones: Mapping[str, str], document: Document) -> None:
    tops = [joint for joint in joints if joint not in bones]
    if root is not None and root in bones:
        raise UserError(f"{document.where('root')}: root '{root}' has a parent ('{bones[root]}').")
    if root is None and len(tops) > 1:
        place = document.where("bones")
        raise UserError(f"{place}: several joints have no parent ({', '.join(tops)}); name the main one with 'root:'.")


def _mirror(keys: TopologyKeys, document: Document) -> None:
    pairs = [(pair[0], pair[1]) for pair in keys.mirror]
    seen: set[str] = set()
    for i, pair in enumerate(pairs):
        for joint in pair:
            if joint in seen:
                raise UserError(f"{document.where('mirror', i)}: joint '{joint}' is mirrored twice.")
            seen.add(joint)
    image = dict(pairs) | {right: left for left, right in pairs}
    edges: dict[frozenset[str], tuple[str, Hashable]] = {
        frozenset(bone): ("bones", bone[0]) for bone in keys.bones.items()
    }
    edges |= {frozenset(link): ("links", i) for i, link in enumerate(keys.links)}
    for edge, path in edges.items():
        if pairs and frozenset(image.get(joint, joint) for joint in edge) not in edges:
            names = " - ".join(sorted(edge))
            warnings.warn(
                f"{document.where(*path)}: the mirror does not carry the {path[0][:-1]} {names} onto another one.",
                stacklevel=2,
            )
