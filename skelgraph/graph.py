"""The explicit temporal graph of a clip: every joint of every frame and person is a node.

`TemporalGraph` is plain tensors, so that any library of graph networks can take it: PyTorch Geometric, DGL, NetworkX.

Letters: N clips, M persons, T frames, V joints, C channels, E edges.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from skelgraph.errors import UserError, unknown
from skelgraph.topology import Topology

InterPerson = Literal["root", "none", "all"]
EDGE_NAMES = ("spatial", "temporal", "person")
KEPT_UNIONS = 8


class Edges(NamedTuple):
    """Directed edges: ``edge_index`` (2, E), sources above targets, and ``edge_type`` (E,), places in `EDGE_NAMES`."""

    edge_index: Tensor
    edge_type: Tensor


def tile_edges(edge_index: Tensor, copies: int, nodes: int) -> Tensor:
    """The edges of ``copies`` graphs side by side without an edge between them, graph after graph.

    Shapes:
        edge_index (2, E) over ``nodes`` nodes -> (2, copies * E) over ``copies * nodes`` nodes.
    """
    offsets = torch.arange(copies, device=edge_index.device) * nodes
    return (edge_index.unsqueeze(1) + offsets.view(1, -1, 1)).reshape(2, -1)


def import_dgl() -> Any:
    """DGL, on its PyTorch backend.

    Raises:
        UserError: it is not installed.
    """
    # Without this variable the first import writes a configuration file to the home folder and says so.
    os.environ.setdefault("DGLBACKEND", "pytorch")
    try:
        import dgl
    except ImportError:
        raise UserError("DGL is not installed: pip install 'skelgraph[dgl]'") from None
    return dgl


class TemporalGraph:
    """The graph of a clip with typed edges, all of them in both directions and without self loops.

    Joint v of person m in frame t is node ``(m * T + t) * V + v``: flattening a clip (M, T, V, C) gives its nodes.

    | type | name     | joints                                                | count                                  |
    |------|----------|-------------------------------------------------------|----------------------------------------|
    | 0    | spatial  | joints of a frame along bones and links               | M T 2 E                                |
    | 1    | temporal | a joint with itself up to ``temporal_hops`` frames on | 2 M V sum_h max(T - h, 0)              |
    | 2    | person   | a joint with the same joint of the other persons      | M (M - 1) T J, J joints that take part |

    Edges stand type after type. `edges` gives those of one type, and the temporal ones also by direction.

    Args:
        topology: the skeleton, or its name.
        frames: T.
        persons: M.
        temporal_hops: frames that a temporal edge may reach; 0 for none.
        inter_person: joints that persons share edges at: ``root`` those in the topology's centre, ``all``, ``none``.

    Raises:
        UserError: a figure out of range, an unknown topology or value.

    Examples:
        >>> graph = TemporalGraph("coco17", frames=64, persons=2)
        >>> graph.num_nodes, tuple(graph.edges("temporal").shape)
        (2176, (2, 4284))
    """

    edge_names = EDGE_NAMES

    def __init__(
        self, topology: Topology | str, frames: int, persons: int = 1, *,
        temporal_hops: int = 1, inter_person: InterPerson = "root",
    ) -> None:  # fmt: skip
        if frames < 1 or persons < 1 or temporal_hops < 0:
            raise UserError(
                "a temporal graph needs frames >= 1, persons >= 1 and temporal_hops >= 0, "
                f"got {frames}, {persons} and {temporal_hops}."
            )
        if inter_person not in ("root", "none", "all"):
            raise unknown("value of inter_person", inter_person, ("root", "none", "all"))
        self.topology = Topology.load(topology)
        self.frames, self.persons, self.joints = frames, persons, len(self.topology.joints)
        self.temporal_hops, self.inter_person = temporal_hops, inter_person
        nodes = torch.arange(self.num_nodes).view(persons, frames, self.joints)
        spatial = tile_edges(torch.from_numpy(self.topology.edge_index), persons * frames, self.joints)
        groups = (spatial, self._temporal(nodes), self._person(nodes))
        self.edge_index = torch.cat(groups, 1)
        self.edge_type = torch.cat([torch.full((g.shape[1],), kind) for kind, g in enumerate(groups)])
        self._unions: OrderedDict[tuple[int, torch.device], Edges] = OrderedDict()

    def __repr__(self) -> str:
        counts = ", ".join(f"{self.edges(name).shape[1]} {name}" for name in self.edge_names)
        return f"TemporalGraph('{self.topology.name}', {self.num_nodes} nodes, edges: {counts})"

    # -- structure -------------------------------------------------------------------------------------------------

    def _temporal(self, nodes: Tensor) -> Tensor:
        groups = [nodes.new_zeros(2, 0)]
        for hop in range(1, min(self.temporal_hops, self.frames - 1) + 1):
            ahead = torch.stack([nodes[:, :-hop].flatten(), nodes[:, hop:].flatten()])
            groups += [ahead, ahead.flip(0)]
        return torch.cat(groups, 1)

    def _person(self, nodes: Tensor) -> Tensor:
        if self.inter_person == "none" or self.persons == 1:
            return nodes.new_zeros(2, 0)
        if self.inter_person == "root":
            nodes = nodes[..., torch.from_numpy(self.topology.indices(self.meeting_joints))]
        flat = nodes.flatten(1)
        pairs = [(a, b) for a in range(self.persons) for b in range(self.persons) if a != b]
        return torch.cat([torch.stack([flat[a], flat[b]]) for a, b in pairs], 1)

    @property
    def meeting_joints(self) -> tuple[str, ...]:
        """Joints where ``inter_person="root"`` joins the persons: the topology's centre, else its root."""
        return self.topology.center or (self.topology.root or self.topology.roots[0],)

    @property
    def num_nodes(self) -> int:
        """M T V."""
        return self.persons * self.frames * self.joints

    @property
    def num_edges(self) -> int:
        """E of all types together."""
        return self.edge_index.shape[1]

    @property
    def joint(self) -> Tensor:
        """(num_nodes,) joint of each node."""
        return torch.arange(self.num_nodes) % self.joints

    @property
    def frame(self) -> Tensor:
        """(num_nodes,) frame of each node."""
        return torch.arange(self.num_nodes) // self.joints % self.frames

    @property
    def person(self) -> Tensor:
        """(num_nodes,) person of each node."""
        return torch.arange(self.num_nodes) // (self.joints * self.frames)

    def edges(self, name: str) -> Tensor:
        """(2, E) edges of one type; ``past`` and ``future`` are the temporal ones whose source lies there.

        Raises:
            UserError: no such type.
        """
        if name in ("past", "future"):
            source, target = temporal = self.edges("temporal")
            return temporal[:, source < target if name == "past" else source > target]
        if name not in self.edge_names:
            raise unknown("type of edge", name, (*self.edge_names, "past", "future"))
        return self.edge_index[:, self.edge_type == self.edge_names.index(name)]

    def union(self, copies: int, device: torch.device | str = "cpu") -> Edges:
        """The edges of ``copies`` clips side by side, clip after clip; the last few sizes are kept.

        Shapes:
            edge_index (2, copies * E), edge_type (copies * E,).
        """
        key = (copies, torch.device(device))
        if key not in self._unions:
            index = tile_edges(self.edge_index, copies, self.num_nodes).to(device)
            self._unions[key] = Edges(index, self.edge_type.repeat(copies).to(device))
            if len(self._unions) > KEPT_UNIONS:
                self._unions.popitem(last=False)
        self._unions.move_to_end(key)
        return self._unions[key]

    # -- to the libraries and back ---------------------------------------------------------------------------------

    def _clips(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """``(N, M, T, V, C)`` from one clip, a list or a batch of clips."""
        clips = x if isinstance(x, Tensor) else torch.stack(list(x))
        clips = clips if clips.dim() == 5 else clips.unsqueeze(0)
        expected = (self.persons, self.frames, self.joints)
        if clips.dim() != 5 or tuple(clips.shape[1:4]) != expected:
            raise UserError(f"expected clips ((N,) M, T, V, C) with M, T, V = {expected}, got {tuple(clips.shape)}.")
        return clips

    def to_pyg(
        self, x: Tensor | Sequence[Tensor], score: Tensor | Sequence[Tensor] | None = None,
        label: Tensor | int | None = None,
    ) -> Any:  # fmt: skip
        """A ``torch_geometric.data.Data`` of one clip, or a ``Batch`` of several made without a loop over them.

        Shapes:
            x (M, T, V, C) -> Data; (N, M, T, V, C) or a list of clips -> Batch. ``score`` like x without C, ``label``
            () or (N,). The data has x (nodes, C), edge_index, edge_type and, where given, score (nodes,) and y (N,).

        Raises:
            UserError: a shape that does not fit this graph.
        """
        from torch_geometric.data import Data

        clips = self._clips(x)
        index, kind = self.union(len(clips), clips.device)
        fields = {"x": clips.reshape(-1, clips.shape[-1]), "edge_index": index, "edge_type": kind}
        if score is not None:
            seen = score if isinstance(score, Tensor) else torch.stack(list(score))
            fields["score"] = self._clips(seen.unsqueeze(-1)).reshape(-1)
        if label is not None:
            fields["y"] = torch.as_tensor(label, device=clips.device).reshape(-1)
        one = isinstance(x, Tensor) and x.dim() == 4
        return Data(num_nodes=self.num_nodes, **fields) if one else self._pyg_batch(len(clips), fields)

    def _pyg_batch(self, count: int, fields: dict[str, Tensor]) -> Any:
        """What ``Batch.from_data_list`` makes of ``count`` clips, including what ``batch[i]`` needs to cut them out."""
        from torch_geometric.data import Batch

        device, steps = fields["x"].device, torch.arange(count + 1)
        batch = Batch(
            batch=torch.arange(count, device=device).repeat_interleave(self.num_nodes),
            ptr=torch.arange(count + 1, device=device) * self.num_nodes,
            **fields,
        )
        batch._num_graphs = count
        batch._slice_dict = {key: steps * (len(value.reshape(-1) if key == "y" else value) // count)
                             for key, value in fields.items() if key != "edge_index"}  # fmt: skip
        batch._slice_dict["edge_index"] = steps * self.num_edges
        batch._inc_dict = {key: torch.zeros(count, dtype=torch.long) for key in fields}
        batch._inc_dict["edge_index"] = steps[:-1] * self.num_nodes
        batch.num_nodes = count * self.num_nodes
        return batch

    def to_dgl(self, x: Tensor | Sequence[Tensor], score: Tensor | None = None) -> Any:
        """A ``DGLGraph`` with ``ndata["x"]`` and ``edata["type"]``; several clips become a batched graph.

        Shapes:
            x and ``score`` as in `to_pyg`; ``score`` becomes ``ndata["score"]``.

        Raises:
            UserError: DGL is not installed; a shape that does not fit this graph.
        """
        dgl = import_dgl()
        clips = self._clips(x)
        count = len(clips)
        index, kind = self.union(count, clips.device)
        graph = dgl.graph((index[0], index[1]), num_nodes=count * self.num_nodes)
        graph.set_batch_num_nodes(torch.full((count,), self.num_nodes, device=clips.device))
        graph.set_batch_num_edges(torch.full((count,), self.num_edges, device=clips.device))
        graph.ndata["x"] = clips.reshape(-1, clips.shape[-1])
        graph.edata["type"] = kind
        if score is not None:
            graph.ndata["score"] = self._clips(score.unsqueeze(-1)).reshape(-1)
        return graph

    def to_networkx(self, x: Tensor | None = None) -> Any:
        """An undirected ``networkx.Graph`` of node numbers.

        Nodes carry ``joint`` (its name), ``frame``, ``person`` and, where a clip x (M, T, V, C) is given, ``x`` (a
        list); edges carry ``type`` (a name of `EDGE_NAMES`).
        """
        import networkx

        graph = networkx.Graph(name=self.topology.name)
        places = zip(self.joint.tolist(), self.frame.tolist(), self.person.tolist(), strict=True)
        for node, (joint, frame, person) in enumerate(places):
            graph.add_node(node, joint=self.topology.joints[joint], frame=frame, person=person)
        for (source, target), kind in zip(self.edge_index.T.tolist(), self.edge_type.tolist(), strict=True):
            graph.add_edge(source, target, type=self.edge_names[kind])
        if x is not None:
            for node, value in enumerate(self._clips(x).reshape(self.num_nodes, -1).tolist()):
                graph.nodes[node]["x"] = value
        return graph

    def from_nodes(self, values: Any) -> Tensor:
        """Clips from node values: the inverse of `to_pyg`, `to_dgl` and `to_networkx`.

        Args:
            values: (..., N * num_nodes, C), or a PyG ``Data`` or ``Batch``, or a DGL or NetworkX graph with ``x``.

        Returns:
            (N, M, T, V, C).

        Raises:
            UserError: the number of nodes is no multiple of this graph's.
        """
        if hasattr(values, "ndata"):
            values = values.ndata["x"]
        elif not isinstance(values, Tensor) and hasattr(values, "nodes") and hasattr(values, "adj"):
            values = torch.tensor([values.nodes[node]["x"] for node in range(len(values))])
        elif not isinstance(values, Tensor):
            values = values.x
        count = values.shape[:-1].numel()
        if count % self.num_nodes:
            raise UserError(f"{count} nodes are no whole number of clips of {self.num_nodes} nodes.")
        return values.reshape(-1, self.persons, self.frames, self.joints, values.shape[-1])
