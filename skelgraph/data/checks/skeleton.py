"""What the checks need of a topology, computed once for a store."""

from __future__ import annotations

import numpy as np

from skelgraph.topology import Topology

FORWARD = (("ankle", "foot"), ("ankle", "big_toe"), ("heel", "big_toe"))


class Skeleton:
    """Arrays of a topology.

    Attributes:
        topology: as given.
        edges: (E, 2) joints of every edge.
        bones: (E,) bool, which edges are bones and keep their length.
        chains: (P, E) float32; the edges on the way from one end of the skeleton to another.
        mirror: (K, 2) left and right joint of each pair.
        up, across: (from, to) joints of these axes, where the topology names them.
        forward: (F, 2) pairs of joints from the back to the front of a foot, in names all topologies share.
    """

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.joints = topology.joints
        self.edges = topology.edges
        pairs = {frozenset(pair) for pair in topology.bones}
        self.bones = np.array([{self.joints[a], self.joints[b]} in pairs for a, b in self.edges.tolist()], dtype=bool)
        self.chains = _chains(topology)
        self.mirror = np.array([topology.indices(pair) for pair in topology.mirror], dtype=np.int64).reshape(-1, 2)
        self.up, self.across = self._axis("up"), self._axis("across")
        named = [(f"{side}_{a}", f"{side}_{b}") for side in ("left", "right") for a, b in FORWARD]
        known = [topology.indices(pair) for pair in named if set(pair) <= set(topology.joints)]
        self.forward = np.array(known, dtype=np.int64).reshape(-1, 2)

    def _axis(self, name: str) -> tuple[int, int] | None:
        pair = self.topology.axes.get(name)
        return None if pair is None else (self.topology.index(pair[0]), self.topology.index(pair[1]))


def _chains(topology: Topology) -> np.ndarray:
    """Shortest ways between all pairs of ends, by number of edges."""
    edges, hops = topology.edges, topology.hops
    degree = np.bincount(edges.ravel(), minlength=len(topology.joints))
    leaves: list[int] = np.flatnonzero(degree == 1).tolist()
    ends = leaves if len(leaves) > 1 else list(range(len(topology.joints)))
    number = {frozenset(edge): i for i, edge in enumerate(edges.tolist())}
    near = [np.flatnonzero(row == 1) for row in hops]
    found = []
    for place, goal in enumerate(ends):
        for start in ends[place + 1 :]:
            if hops[start, goal] < len(topology.joints):
                found.append(_way(start, goal, hops, near, number))
    chains = np.zeros((len(found), len(edges)), dtype=np.float32)
    for row, way in zip(chains, found, strict=True):
        row[way] = 1
    return chains


def _way(at: int, goal: int, hops: np.ndarray, near: list[np.ndarray], number: dict[frozenset[int], int]) -> list[int]:
    """Numbers of the edges from one joint to another."""
    way = []
    while at != goal:
        following = int(near[at][np.argmin(hops[near[at], goal])])
        way.append(number[frozenset((at, following))])
        at = following
    return way
