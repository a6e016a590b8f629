"""The explicit graph of a clip: its nodes, its edges, and the way to the graph libraries and back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from skelgraph.errors import UserError
from skelgraph.graph import TemporalGraph, tile_edges
from skelgraph.topology import Topology

HAND = Topology.from_dict(
    {
        "name": "claw",
        "joints": ["palm", "thumb", "finger", "tip"],
        "bones": {"thumb": "palm", "finger": "palm", "tip": "finger"},
        "links": [["thumb", "finger"]],
        "root": "palm",
        "center": ["palm"],
    }
)
SHAPES = [(1, 1, 1), (1, 5, 1), (2, 4, 1), (3, 6, 2), (2, 2, 5)]


def neighbour_sum(x: Tensor, edge_index: Tensor) -> Tensor:
    """For each node (row) the sum of its sources."""
    return torch.zeros_like(x).index_add(0, edge_index[1], x[edge_index[0]])


def test_nodes_are_a_flattened_clip() -> None:
    graph = TemporalGraph(HAND, frames=3, persons=2)
    for m, t, v in [(0, 0, 0), (0, 2, 3), (1, 0, 1), (1, 2, 2)]:
        node = (m * 3 + t) * 4 + v
        assert (graph.person[node], graph.frame[node], graph.joint[node]) == (m, t, v)
    places = torch.stack([graph.person, graph.frame, graph.joint], 1)
    grid = torch.stack(torch.meshgrid(*(torch.arange(n) for n in (2, 3, 4)), indexing="ij"), -1)
    assert torch.equal(graph.from_nodes(places)[0], grid)


@pytest.mark.parametrize("topology", [HAND, "coco17", "ntu25"])
@pytest.mark.parametrize(("persons", "frames", "hops"), SHAPES)
@pytest.mark.parametrize("inter_person", ["root", "none", "all"])
def test_edges_are_as_many_as_the_formula_says(
    topology: Topology | str, persons: int, frames: int, hops: int, inter_person: str
) -> None:
    graph = TemporalGraph(topology, frames, persons, temporal_hops=hops, inter_person=inter_person)  # type: ignore[arg-type]
    joints, bones = len(graph.topology.joints), len(graph.topology.edges)
    meeting = {"none": 0, "root": len(graph.topology.center), "all": joints}[inter_person]
    assert graph.edges("spatial").shape[1] == persons * frames * 2 * bones
    steps = sum(max(frames - hop, 0) for hop in range(1, hops + 1))
    assert graph.edges("temporal").shape[1] == 2 * persons * joints * steps
    assert graph.edges("person").shape[1] == persons * (persons - 1) * frames * meeting
    assert graph.num_edges == sum(graph.edges(name).shape[1] for name in graph.edge_names)


def test_edges_join_what_their_type_says() -> None:
    graph = TemporalGraph(HAND, frames=5, persons=2, temporal_hops=2, inter_person="root")
    joint, frame, person = graph.joint, graph.frame, graph.person
    a, b = graph.edges("spatial")
    assert torch.equal(frame[a], frame[b])
    assert torch.equal(person[a], person[b])
    assert (torch.from_numpy(HAND.adjacency())[joint[a], joint[b]] == 1).all()
    a, b = graph.edges("temporal")
    assert torch.equal(joint[a], joint[b])
    assert torch.equal(person[a], person[b])
    assert set((frame[a] - frame[b]).tolist()) == {-2, -1, 1, 2}
    a, b = graph.edges("past")
    assert (frame[a] < frame[b]).all()
    assert torch.equal(graph.edges("past").flip(0)[:, :1], graph.edges("future")[:, :1])
    a, b = graph.edges("person")
    assert (joint[a] == 0).all()
    assert torch.equal(frame[a], frame[b])
    assert (person[a] != person[b]).all()


@pytest.mark.parametrize(("persons", "frames", "hops"), SHAPES)
def test_edges_are_mutual_unique_and_no_loops(persons: int, frames: int, hops: int) -> None:
    graph = TemporalGraph(HAND, frames, persons, temporal_hops=hops, inter_person="all")
    pairs = [tuple(pair) for pair in graph.edge_index.T.tolist()]
    assert len(set(pairs)) == len(pairs)
    assert {(b, a) for a, b in pairs} == set(pairs)
    assert all(a != b for a, b in pairs)


def test_spatial_then_temporal_block_is_message_passing_on_the_graph() -> None:
    topology, frames = Topology.load("coco17"), 7
    graph = TemporalGraph(topology, frames, persons=2)
    x = torch.randn(2, frames, 17, 3, dtype=torch.float64)
    adjacency = torch.from_numpy(topology.adjacency()).double()
    dense = torch.einsum("uv,mtvc->mtuc", adjacency, x)
    kernel = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64).expand(3, 1, 3)
    series = dense.permute(0, 2, 3, 1).reshape(-1, 3, frames)
    dense = torch.conv1d(series, kernel, padding=1, groups=3).view(2, 17, 3, frames).permute(0, 3, 1, 2)
    nodes = neighbour_sum(neighbour_sum(x.flatten(0, 2), graph.edges("spatial")), graph.edges("temporal"))
    torch.testing.assert_close(graph.from_nodes(nodes)[0], dense, rtol=1e-10, atol=1e-10)


def test_sum_of_dense_blocks_is_one_relational_layer() -> None:
    from torch_geometric.nn import RGCNConv

    graph = TemporalGraph("coco17", frames=5, persons=2, inter_person="all")
    layer = RGCNConv(3, 4, num_relations=3, aggr="add").double()
    x = torch.randn(2, 5, 17, 3, dtype=torch.float64, requires_grad=True)
    out = layer(x.flatten(0, 2), graph.edge_index, graph.edge_type)
    adjacency = torch.from_numpy(graph.topology.adjacency()).double()
    before, after = torch.zeros_like(x), torch.zeros_like(x)
    before[:, 1:], after[:, :-1] = x[:, :-1], x[:, 1:]
    spatial = torch.einsum("uv,mtvc->mtuc", adjacency, x)
    dense = x @ layer.root + layer.bias
    for relation, messages in enumerate((spatial, before + after, x.flip(0))):
        dense = dense + messages @ layer.weight[relation]
    torch.testing.assert_close(graph.from_nodes(out)[0], dense, rtol=1e-10, atol=1e-10)
    (one,), (other,) = (torch.autograd.grad(o.square().sum(), x, retain_graph=True) for o in (out, dense))
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_union_has_no_edge_between_clips() -> None:
    graph = TemporalGraph(HAND, frames=3, persons=2)
    index, kind = graph.union(4)
    assert torch.equal(index[0] // graph.num_nodes, index[1] // graph.num_nodes)
    assert index.shape[1] == 4 * graph.num_edges == len(kind)
    assert torch.equal(index[:, graph.num_edges : 2 * graph.num_edges], graph.edge_index + graph.num_nodes)
    assert graph.union(4).edge_index is index
    for copies in range(5, 14):
        graph.union(copies)
    assert graph.union(4).edge_index is not index, "old sizes must be let go"


def test_tile_edges_of_one_copy_is_the_graph() -> None:
    graph = TemporalGraph(HAND, frames=2)
    assert torch.equal(tile_edges(graph.edge_index, 1, graph.num_nodes), graph.edge_index)


def test_pyg_data_and_back() -> None:
    graph = TemporalGraph("coco17", frames=4, persons=2)
    x, score = torch.randn(2, 4, 17, 3), torch.rand(2, 4, 17)
    data = graph.to_pyg(x, score, label=5)
    assert data.validate()
    assert (data.num_nodes, data.num_edges, data.y.tolist()) == (136, graph.num_edges, [5])
    assert torch.equal(data.score, score.flatten())
    assert data.is_undirected()
    assert not data.has_self_loops()
    assert torch.equal(graph.from_nodes(data), x[None])


def test_pyg_batch_equals_the_library_s_own() -> None:
    from torch_geometric.data import Batch

    graph = TemporalGraph(HAND, frames=3, persons=2)
    x, score, label = torch.randn(5, 2, 3, 4, 2), torch.rand(5, 2, 3, 4), torch.arange(5)
    ours = graph.to_pyg(x, score, label)
    single = [graph.to_pyg(x[i], score[i], label[i]) for i in range(5)]
    theirs = Batch.from_data_list(single)
    assert ours.num_graphs == theirs.num_graphs == 5
    assert ours.num_nodes == theirs.num_nodes
    for key in ("x", "edge_index", "edge_type", "score", "y", "batch", "ptr"):
        assert torch.equal(ours[key], theirs[key]), key
    for one, other in zip(ours.to_data_list(), single, strict=True):
        for key in ("x", "edge_index", "edge_type", "score", "y"):
            assert torch.equal(one[key], other[key]), key
    assert torch.equal(graph.from_nodes(ours), x)
    assert torch.equal(graph.to_pyg(list(x)).x, ours.x)


def test_dgl_and_back() -> None:
    pytest.importorskip("dgl")
    graph = TemporalGraph(HAND, frames=3, persons=2)
    x = torch.randn(4, 2, 3, 4, 2)
    batch = graph.to_dgl(x, torch.rand(4, 2, 3, 4))
    assert batch.batch_size == 4
    assert batch.batch_num_nodes().tolist() == [graph.num_nodes] * 4
    assert torch.equal(torch.stack(batch.edges()), graph.union(4).edge_index)
    assert torch.equal(batch.edata["type"], graph.union(4).edge_type)
    assert torch.equal(graph.from_nodes(batch), x)
    assert torch.equal(graph.from_nodes(graph.to_dgl(x[0])), x[:1])
    batch.update_all(*_copy_and_sum())
    expected = neighbour_sum(x.reshape(-1, 2), graph.union(4).edge_index)
    torch.testing.assert_close(batch.ndata["sum"], expected)


def _copy_and_sum() -> tuple[object, object]:
    from dgl import function

    return function.copy_u("x", "message"), function.sum("message", "sum")


def test_dgl_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "dgl", None)
    with pytest.raises(UserError, match=r"pip install 'skelgraph\[dgl\]'"):
        TemporalGraph(HAND, frames=2).to_dgl(torch.zeros(1, 2, 4, 3))


def test_networkx_and_back() -> None:
    import networkx

    graph = TemporalGraph(HAND, frames=3, persons=2)
    x = torch.randn(2, 3, 4, 2)
    drawn = graph.to_networkx(x)
    assert drawn.number_of_nodes() == graph.num_nodes
    assert drawn.number_of_edges() * 2 == graph.num_edges
    assert drawn.nodes[(1 * 3 + 2) * 4 + 3]["joint"] == "tip"
    assert (drawn.nodes[23]["frame"], drawn.nodes[23]["person"]) == (2, 1)
    assert networkx.is_connected(drawn)
    directed = {(a, b): kind for a, b, kind in drawn.to_directed().edges(data="type")}
    kinds = [graph.edge_names[kind] for kind in graph.edge_type]
    assert directed == {tuple(pair): kind for pair, kind in zip(graph.edge_index.T.tolist(), kinds, strict=True)}
    torch.testing.assert_close(graph.from_nodes(drawn), x[None])


@pytest.mark.parametrize("bad", [{"frames": 0}, {"frames": 3, "persons": 0}, {"frames": 3, "inter_person": "hands"}])
def test_figures_out_of_range_are_refused(bad: dict) -> None:
    with pytest.raises(UserError):
        TemporalGraph(HAND, **bad)


def test_clips_that_do_not_fit_are_refused() -> None:
    graph = TemporalGraph(HAND, frames=3)
    with pytest.raises(UserError, match="expected clips"):
        graph.to_pyg(torch.zeros(1, 4, 4, 3))
    with pytest.raises(UserError, match="whole number of clips"):
        graph.from_nodes(torch.zeros(13, 2))
    with pytest.raises(UserError, match="past"):
        graph.edges("tempora")


def test_repr_counts_edges() -> None:
    assert repr(TemporalGraph(HAND, 2)) == "TemporalGraph('claw', 8 nodes, edges: 16 spatial, 8 temporal, 0 person)"
