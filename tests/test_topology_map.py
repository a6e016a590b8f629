"""Joints of one topology from those of another, by name."""

import itertools

import numpy as np
import pytest

from skelgraph import assets
from skelgraph.topology import Topology, TopologyMap
from skelgraph.topology_map import RULES


def between(source: str, target: str) -> TopologyMap:
    return TopologyMap.between(Topology.load(source), Topology.load(target))


def test_onto_itself_is_the_identity() -> None:
    for name in ("ntu25", "hand22", "coco_wholebody133"):
        found = between(name, name)
        np.testing.assert_array_equal(found.matrix, np.eye(len(found.target)))
        assert (found.missing, found.derived, found.unused) == ((), {}, ())


def test_every_pair_is_row_stochastic_where_a_partner_is() -> None:
    loaded = [Topology.load(name) for name in assets.names("topologies")]
    for source, target in itertools.product(loaded, loaded):
        found = TopologyMap.between(source, target)
        rows = [float(joint not in found.missing) for joint in target.joints]
        assert found.matrix.dtype == np.float32
        assert found.matrix.shape == (len(target), len(source))
        np.testing.assert_allclose(found.matrix.sum(1), rows, atol=1e-6)


def test_a_permuted_order_is_a_permutation() -> None:
    found = between("kinect20", "kinect20_utd")
    assert (found.missing, found.derived, found.unused) == ((), {}, ())
    assert (found.matrix.sum(0) == 1).all()


def test_kinect_to_coco() -> None:
    found = between("ntu25", "coco17")
    assert found.missing == ("left_eye", "right_eye", "left_ear", "right_ear")
    assert found.derived == {"nose": ("head",)}
    assert "left_foot" in found.unused


def test_penn_and_jhmdb() -> None:
    there, back = between("penn13", "jhmdb15"), between("jhmdb15", "penn13")
    assert not there.missing
    assert there.derived["neck"] == ("left_shoulder", "right_shoulder")
    neck = there.matrix[there.target.index("neck")]
    assert neck[there.source.index("left_shoulder")] == 0.5
    assert (back.missing, back.derived) == ((), {})
    assert back.unused == ("neck", "spine_mid")


@pytest.mark.parametrize("name", ["coco17", "openpose18", "openpose25", "kinect20", "sbu15", "mediapipe33", "ntux67"])
def test_every_body_fills_the_joints_of_jhmdb(name: str) -> None:
    assert not between(name, "jhmdb15").missing


def test_hands_agree() -> None:
    assert not between("hand22", "hand21").missing
    found = between("hand21", "hand22")
    assert found.derived == {"palm": ("wrist", "middle_mcp")}


def test_the_rules_speak_the_vocabulary_of_the_files() -> None:
    known = {joint for name in assets.names("topologies") for joint in Topology.load(name).joints}
    used = {joint for joint, groups in RULES.items() for joint in (joint, *itertools.chain(*groups))}
    assert used <= known
