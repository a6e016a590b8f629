"""Joints, bones, parts and mirror of a skeleton: the one place that knows a joint layout.

A topology is a YAML file under ``topologies/`` (format: `skelgraph.topology_file`). Everything else in the toolkit asks
a `Topology` for arrays and never knows a joint number by heart.

Letters: V joints, E edges, P joints of a part, K subsets.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelgraph.errors import unknown
from skelgraph.topology_map import TopologyMap

__all__ = ["Part", "Topology", "TopologyMap"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Pair = tuple[str, str]


def _cached_array(function: Callable[[Any], Ints]) -> property:
    """A property computed once that hands out copies: a buffer made from it can be overwritten without harm."""
    slot = f"_{function.__name__}"

    def get(self: Topology) -> Ints:
        if slot not in self.__dict__:
            self.__dict__[slot] = function(self)
        return self.__dict__[slot].copy()

    return property(get, doc=function.__doc__)


@dataclass(frozen=True)
class Part:
    """Some joints in an order of their own; with ``bones`` (child, parent) the part has a graph of its own.

    Without ``bones`` each joint hangs on its nearest ancestor within the part; links and explicit graph edges inside it
    are kept.
    ``graph`` lists the (child, parent) edges of the adjacency where these differ from the bones.
    """

    joints: tuple[str, ...]
    bones: tuple[Pair, ...] | None = None
    links: tuple[Pair, ...] = ()
    root: str | None = None
    graph: tuple[Pair, ...] | None = None


@dataclass(frozen=True, eq=False)
class Topology:
    """A skeleton as an explicit graph; immutable, equal by content, picklable. Make one with `load` or `from_dict`.

    Attributes:
        name, title: the short name, and one line for people.
        joints: V names, in the order of the data.
        bones: (child, parent) pairs, a forest.
        links: extra edges that are no bones.
        mirror: (left, right) pairs that a reflection swaps.
        root: root of the bone tree (of the first tree, where there are several).
        center: the mean of these joints is the origin.
        axes: named directions ``{"up": (from, to), "across": (from, to)}``.
        parts: named groups of joints.
        layout: where to draw each joint, ``(x, y)`` or ``(x, y, z)``, y upwards, the person facing the viewer.
        graph: explicit (child, parent) edges of the adjacency where a publication's differ from bones and links.
        checks: False where a published, faulty graph is kept on purpose.
        source: where this order is documented.
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[Pair, ...] = ()
    links: tuple[Pair, ...] = ()
    mirror: tuple[Pair, ...] = ()
    root: str = ""
    center: tuple[str, ...] = ()
    axes: Mapping[str, Pair] = field(default_factory=dict)
    parts: Mapping[str, Part] = field(default_factory=dict)
    layout: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    graph: tuple[Pair, ...] | None = None
    checks: bool = True
    title: str = ""
    source: str = ""

    @classmethod
    def load(cls, name: str | os.PathLike[str] | Topology) -> Topology:
        """The topology called ``name``, or in the file ``name``; a `Topology` is returned as it is.

        Raises:
            UserError: no such topology, or a fault in its file (names file, line and joint).

        Examples:
            >>> body = Topology.load("coco17")
            >>> body.joints[:2], body.index("left_wrist")
            (('nose', 'left_eye'), 9)
        """
        if isinstance(name, Topology):
            return name
        from skelgraph.topology_file import load

        return load(name)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "topology") -> Topology:
        """A topology from plain data in the format of the files; ``source`` names it in errors.

        Raises:
            UserError: as `load`.
        """
        from skelgraph.topology_file import from_data

        return from_data(data, source)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `from_dict` turns back into an equal topology."""
        from skelgraph.topology_file import to_data

        return to_data(self)

    def __len__(self) -> int:
        return len(self.joints)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Topology):
            return NotImplemented
        return self is other or all(getattr(self, f.name) == getattr(other, f.name) for f in fields(self))

    def __hash__(self) -> int:
        return hash((self.name, self.joints, self.bones, self.links, self.graph))

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __repr__(self) -> str:
        return f"Topology('{self.name}', {len(self.joints)} joints, {len(self.edges)} edges)"

    # -- joints ----------------------------------------------------------------------------------------------------

    def index(self, joint: str) -> int:
        """Position of a joint in the data.

        Raises:
            UserError: no such joint; names the nearest.
        """
        try:
            return self.joints.index(joint)
        except ValueError:
            raise unknown("joint", joint, self.joints, f"topology '{self.name}'") from None

    def indices(self, joints: Sequence[str]) -> Ints:
        """Positions of several joints, in the order given."""
        return np.array([self.index(joint) for joint in joints], dtype=np.int64)

    def _pairs(self, pairs: tuple[Pair, ...]) -> Ints:
        at = {joint: i for i, joint in enumerate(self.joints)}
        return np.array([(at[a], at[b]) for a, b in pairs], dtype=np.int64).reshape(-1, 2)

    @_cached_array
    def parents(self) -> Ints:
        """(V,) parent of each joint in the bone tree; a root is its own parent."""
        result = np.arange(len(self.joints), dtype=np.int64)
        bones = self._pairs(self.bones)
        result[bones[:, 0]] = bones[:, 1]
        return result

    def ancestor(self, hops: int) -> Ints:
        """(V,) the joint ``hops`` steps up the bone tree, or the joint itself where the tree is not that high.

        ``x - x[ancestor(1)]`` is the bone stream, ``x - x[ancestor(2)]`` the skip stream.
        """
        own, parents = np.arange(len(self.joints), dtype=np.int64), self.parents
        result = own
        for _ in range(hops):
            result = parents[result]
        return np.where(self.depth >= hops, result, own)

    @_cached_array
    def depth(self) -> Ints:
        """(V,) number of bones between a joint and its root."""
        parents = self.parents
        at, result = parents.copy(), np.zeros(len(parents), dtype=np.int64)
        previous, steps = np.arange(len(parents)), 0
        while (moving := at != previous).any() and steps < len(parents):
            result += moving
            previous, at, steps = at, parents[at], steps + 1
        return result

    @property
    def roots(self) -> tuple[str, ...]:
        """Every joint without parent."""
        children = {child for child, _ in self.bones}
        return tuple(joint for joint in self.joints if joint not in children)

    @_cached_array
    def mirror_permutation(self) -> Ints:
        """(V,) ``x[..., mirror_permutation, :]`` swaps left and right."""
        result = np.arange(len(self.joints), dtype=np.int64)
        pairs = self._pairs(self.mirror)
        result[pairs[:, 0]], result[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
        return result

    @property
    def center_index(self) -> Ints:
        """Positions of the joints whose mean is the origin."""
        return self.indices(self.center)

    # -- edges -----------------------------------------------------------------------------------------------------

    @_cached_array
    def edges(self) -> Ints:
        """(E, 2) undirected edges, each once: bones (child first), then links; or the explicit graph, where given."""
        listed = self._pairs(self.graph if self.graph is not None else self.bones + self.links)
        seen: dict[frozenset[int], tuple[int, int]] = {}
        for a, b in listed.tolist():
            seen.setdefault(frozenset((a, b)), (a, b))
        return np.array(list(seen.values()), dtype=np.int64).reshape(-1, 2)

    @_cached_array
    def edge_index(self) -> Ints:
        """(2, 2E) both directions of every edge, sorted by first, then second joint; no self loops."""
        edges = self.edges
        both = np.concatenate([edges, edges[:, ::-1]])
        return both[np.lexsort((both[:, 1], both[:, 0]))].T.copy()

    @_cached_array
    def hops(self) -> Ints:
        """(V, V) length of the shortest path over edges; V where there is none."""
        count = len(self.joints)
        near = self._plain() > 0
        result = np.full((count, count), count, dtype=np.int64)
        reached = front = np.eye(count, dtype=bool)
        for step in range(count):
            result[front] = step
            front = (front @ near) & ~reached
            reached = reached | front
        return result

    def adjacency(self, kind: str = "plain") -> Floats:
        """The graph as matrices with ``out_u = sum_v A[u, v] x_v``.

        Args:
            kind: ``plain`` (V, V) edges; ``self_loops`` A + I; ``normalized`` D^-1/2 (A + I) D^-1/2; ``spatial``
                (3, V, V) itself, inward (a parent receives the sum of its children), outward (a child receives its
                parent's value divided by the number of children), columns summing to one or zero (CTR-GCN, PSUMNet);
                ``spatial_rows`` its transpose (3, V, V): itself, from the parent, mean of the children (PYSKL);
                ``distance`` (3, V, V) the mean over a joint and its neighbours, split into itself, those as far from
                the root as it or farther, and those nearer (ST-GCN); ``distance_published`` the same, but all joints
                more than one edge from the root count as equally far, as in ST-GCN's code; ``khop:K`` (K+1, V, V),
                one for pairs of joints exactly k edges apart.

        Raises:
            UserError: no such kind.
        """
        if kind.startswith("khop:") and kind[5:].isdigit():
            hops = self.hops
            return np.stack([hops == k for k in range(int(kind[5:]) + 1)]).astype(np.float32)
        makers = {
            "plain": self._plain,
            "self_loops": self._self_loops,
            "normalized": self._normalized,
            "spatial": self._spatial,
            "spatial_rows": lambda: self._spatial().transpose(0, 2, 1),
            "distance": self._distance,
            "distance_published": lambda: self._distance(known=1),
        }
        if kind not in makers:
            raise unknown("kind of adjacency", kind, [*makers, "khop:2"])
        return makers[kind]().astype(np.float32)

    def _plain(self) -> NDArray[np.float64]:
        result = np.zeros((len(self.joints),) * 2)
        first, second = self.edge_index
        result[first, second] = 1
        return result

    def _self_loops(self) -> NDArray[np.float64]:
        return self._plain() + np.eye(len(self.joints))

    def _normalized(self) -> NDArray[np.float64]:
        looped = self._self_loops()
        scale = looped.sum(1) ** -0.5
        return scale[:, None] * looped * scale[None, :]

    def _spatial(self) -> NDArray[np.float64]:
        child, parent = self._pairs(self.graph if self.graph is not None else self.bones).T
        result = np.zeros((3, len(self.joints), len(self.joints)))
        result[0] = np.eye(len(self.joints))
        result[1, parent, child] = 1
        result[2, child, parent] = 1
        sums = result.sum(1, keepdims=True)
        return result / np.where(sums == 0, 1, sums)

    def _distance(self, known: int | None = None) -> NDArray[np.float64]:
        looped = self._self_loops()
        mean = looped / looped.sum(1, keepdims=True)
        steps = self.hops[self.index(self.root)]
        far = steps if known is None else np.minimum(steps, known + 1)
        nearer, own = far[None, :] < far[:, None], np.eye(len(looped), dtype=bool)
        return np.stack([mean * own, mean * (~nearer & ~own), mean * nearer])

    def to_networkx(self) -> Any:
        """An undirected ``networkx.Graph`` of joint names; edges carry ``kind`` (``bone`` or ``link``)."""
        import networkx

        bones = {frozenset(pair) for pair in self.bones}
        graph = networkx.Graph(name=self.name)
        graph.add_nodes_from((joint, {"index": i}) for i, joint in enumerate(self.joints))
        for a, b in self.edges.tolist():
            ends = self.joints[a], self.joints[b]
            graph.add_edge(*ends, kind="bone" if frozenset(ends) in bones else "link")
        return graph

    def coordinates(self, dims: int = 2) -> Floats:
        """(V, dims) where to draw the joints: the file's ``layout``, or the bone tree spread out around its root."""
        from skelgraph.topology_draw import coordinates

        return coordinates(self, dims)

    # -- parts -----------------------------------------------------------------------------------------------------

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the parts, in the order of the file."""
        return tuple(self.parts)

    def _part(self, name: str) -> Part:
        if name not in self.parts:
            raise unknown("part", name, self.parts, f"topology '{self.name}'")
        return self.parts[name]

    def part_index(self, name: str) -> Ints:
        """(P,) positions of a part's joints in the data, in the part's own order.

        Raises:
            UserError: no such part.
        """
        return self.indices(self._part(name).joints)

    def part(self, name: str) -> Topology:
        """A part as a topology of its own; it keeps mirror pairs, smaller parts and layout as far as they lie inside.

        Raises:
            UserError: no such part.
        """
        part = self._part(name)
        kept = set(part.joints)
        bones, links, graph = part.bones, part.links, part.graph
        if bones is None:
            bones, links = self._inherited_bones(part.joints), _inside(self.links, kept)
            graph = None if self.graph is None else _inside(self.graph, kept)
        children = {child for child, _ in bones}
        root = part.root or next((joint for joint in part.joints if joint not in children), part.joints[0])
        return Topology(
            name=f"{self.name}/{name}",
            joints=part.joints,
            bones=bones,
            links=links,
            mirror=_inside(self.mirror, kept),
            root=root,
            center=tuple(joint for joint in self.center if joint in kept) or (root,),
            axes={key: pair for key, pair in self.axes.items() if kept.issuperset(pair)},
            parts={n: Part(p.joints) for n, p in self.parts.items() if n != name and kept.issuperset(p.joints)},
            layout={joint: self.layout[joint] for joint in part.joints if joint in self.layout},
            graph=graph,
            checks=False,
            title=f"{name} of {self.title or self.name}",
            source=self.source,
        )

    def _inherited_bones(self, joints: tuple[str, ...]) -> tuple[Pair, ...]:
        parents = dict(self.bones)
        result = []
        for joint in joints:
            above = parents.get(joint)
            while above is not None and above not in joints:
                above = parents.get(above)
            if above is not None:
                result.append((joint, above))
        return tuple(result)


def _inside(pairs: tuple[Pair, ...], joints: set[str]) -> tuple[Pair, ...]:
    return tuple(pair for pair in pairs if joints.issuperset(pair))
