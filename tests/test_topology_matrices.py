"""The graph of a topology as matrices: every kind, the sums that the specs state, and the golden graphs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from skelgraph.errors import UserError
from skelgraph.topology import Topology

SHIPPED = sorted(path.stem for path in (Path(__file__).parents[1] / "topologies").glob("*.yaml"))
SHARED = Path(os.environ.get("SKELGRAPH_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(params=SHIPPED)
def shipped(request: pytest.FixtureRequest) -> Topology:
    return Topology.load(request.param)


def test_adjacency_kinds() -> None:
    topology = Topology.load("ntu25")
    looped, normal = topology.adjacency("self_loops"), topology.adjacency("normalized")
    np.testing.assert_array_equal(looped, topology.adjacency() + np.eye(25))
    np.testing.assert_allclose(np.linalg.eigvalsh(normal).max(), 1, atol=1e-6)
    hops = topology.adjacency("khop:3")
    assert hops.shape == (4, 25, 25)
    assert hops.dtype == np.float32
    np.testing.assert_array_equal(hops[1], topology.adjacency())
    for matrix in topology.adjacency("spatial"):
        assert set(np.round(matrix.sum(0), 6)) <= {0.0, 1.0}
    with pytest.raises(UserError, match="Did you mean 'spatial'"):
        topology.adjacency("spacial")


def test_spatial_rows_turn_spatial_around(shipped: Topology) -> None:
    spatial, rows = shipped.adjacency("spatial"), shipped.adjacency("spatial_rows")
    np.testing.assert_array_equal(rows, spatial.transpose(0, 2, 1))
    np.testing.assert_array_equal(rows[0], np.eye(len(shipped)))
    np.testing.assert_array_equal(rows[1] != 0, (rows[2] != 0).T)
    edges = shipped.graph if shipped.graph is not None else shipped.bones
    for matrix, receivers in ((rows[1], {child for child, _ in edges}), (rows[2], {parent for _, parent in edges})):
        expected = [joint in receivers for joint in shipped.joints]
        np.testing.assert_allclose(matrix.sum(1), expected, atol=1e-6)


def test_a_mirror_keeps_the_graph(shipped: Topology) -> None:
    swap = shipped.mirror_permutation
    for kind in ("normalized", "spatial", "distance", "distance_published", "khop:2"):
        matrices = shipped.adjacency(kind)
        np.testing.assert_allclose(matrices[..., swap, :][..., swap], matrices, atol=1e-7)


def test_rows_receive_from_the_parent_and_the_mean_of_the_children() -> None:
    topology = Topology.load("ntu25")
    rows, x = topology.adjacency("spatial_rows"), np.arange(25.0, dtype=np.float32)
    hand, thumb, base = (topology.index(name) for name in ("left_hand", "left_thumb", "spine_base"))
    assert (rows[1] @ x)[thumb] == hand
    hips = [topology.index("left_hip"), topology.index("right_hip")]
    assert (rows[2] @ x)[base] == np.mean(hips)
    assert (rows[1] @ x)[topology.index(topology.root)] == 0


def test_distance_splits_the_mean_over_the_neighbours(shipped: Topology) -> None:
    distance = shipped.adjacency("distance")
    looped = shipped.adjacency("self_loops")
    np.testing.assert_allclose(distance.sum(0), looped / looped.sum(1, keepdims=True), atol=1e-6)
    assert ((distance != 0).sum(0) <= 1).all()
    np.testing.assert_array_equal(distance[0] != 0, np.eye(len(shipped), dtype=bool))
    far = shipped.hops[shipped.index(shipped.root)]
    receiver, sender = distance[1].nonzero()
    assert (far[sender] >= far[receiver]).all()
    receiver, sender = distance[2].nonzero()
    assert (far[sender] < far[receiver]).all()


def test_published_distance_ends_one_edge_from_the_root() -> None:
    topology = Topology.load("ntu25")
    ours, published = topology.adjacency("distance"), topology.adjacency("distance_published")
    np.testing.assert_array_equal(ours.sum(0), published.sum(0))
    names = ("spine_shoulder", "left_shoulder", "left_elbow", "left_wrist")
    root, shoulder, elbow, wrist = (topology.index(name) for name in names)
    for receiver, sender, split in ((shoulder, root, 2), (root, shoulder, 1), (elbow, shoulder, 2)):
        assert ours[split, receiver, sender] == published[split, receiver, sender] > 0
    assert ours[2, wrist, elbow] > 0
    assert published[1, wrist, elbow] > 0
    assert published[1, elbow, wrist] > 0
    assert not published[2, wrist].any()


# -- facts of the specs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "part", "edges", "inward", "outward", "squares"),
    [
        ("ntu25", "body", 24, 24, 20, 67.75),
        ("ntu25", "hands", 12, 12, 9, 32.5),
        ("ntu25", "legs", 8, 8, 7, 23.5),
        ("ntu25_published", "legs", 8, 7, 7, 22.0),
        ("ntux67", "body", 36, 36, 21, 89.65),
        ("ntux67_published", "body", 36, 36, 20, 87.7),
        ("ntux67", "hands", 47, 47, 38, 130.9),
        ("ntux67", "legs", 12, 12, 9, 32.5),
        ("hand22", "hands", 21, 21, 17, 59.2),
        ("hand22_published", "hands", 21, 17, 21, 59.2),
        ("ntux67", None, 66, 66, 51, 179.65),
    ],
)
def test_psumnet_graph_sums(
    name: str, part: str | None, edges: int, inward: float, outward: float, squares: float
) -> None:
    topology = Topology.load(name)
    topology = topology.part(part) if part else topology
    spatial = topology.adjacency("spatial").astype(np.float64)
    assert len(topology.graph if topology.graph is not None else topology.bones) == edges
    assert spatial[1].sum() == pytest.approx(inward, abs=1e-5)
    assert spatial[2].sum() == pytest.approx(outward, abs=1e-5)
    assert (spatial**2).sum() == pytest.approx(squares, abs=1e-5)


def _golden(*path: str) -> dict[str, np.ndarray]:
    file = SHARED.joinpath("golden", *path)
    if not file.is_file():
        pytest.skip(f"golden arrays not there: {file}")
    return dict(np.load(file))


@pytest.mark.parametrize(
    ("key", "name", "part"),
    [
        ("ntu_body", "ntu25", "body"),
        ("ntu_hand", "ntu25", "hands"),
        ("ntu_leg", "ntu25_published", "legs"),
        ("ntux_body", "ntux67_published", "body"),
        ("ntux_hand", "ntux67", "hands"),
        ("ntux_leg", "ntux67", "legs"),
        ("shrec_hand", "hand22_published", "hands"),
    ],
)
def test_golden_psumnet_graphs(key: str, name: str, part: str) -> None:
    golden = _golden("psumnet", "graphs.npz")
    np.testing.assert_allclose(Topology.load(name).part(part).adjacency("spatial"), golden[key], atol=1e-7)


@pytest.mark.parametrize(
    ("key", "name"),
    [("nturgb+d", "ntu25_pyskl"), ("nw_ucla", "kinect20"), ("openpose", "openpose18_pyskl"), ("coco", "coco17_pyskl")],
)
def test_golden_brl_graphs(key: str, name: str) -> None:
    golden, topology = _golden("brl", "case_a.npz"), Topology.load(name)
    np.testing.assert_allclose(topology.adjacency("spatial"), golden[f"graph/{key}/spatial"], atol=1e-7)
    np.testing.assert_array_equal(topology.adjacency("plain"), golden[f"graph/{key}/binary_adj"][0])


@pytest.mark.parametrize(
    ("key", "name"), [("nturgb+d", "ntu25_pyskl"), ("nw_ucla", "kinect20"), ("coco", "coco17_pyskl")]
)
def test_golden_graphs_of_st_gcn(key: str, name: str) -> None:
    """Without OpenPose-18: there ST-GCN measures from the neck, and the bone tree begins at the nose."""
    golden = _golden("brl", "case_a.npz")[f"graph/{key}/stgcn_spatial"].transpose(0, 2, 1)
    np.testing.assert_allclose(Topology.load(name).adjacency("distance_published"), golden, atol=1e-7)
