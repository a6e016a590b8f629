"""Every shipped topology, the facts of the specs, and every error a file can cause."""

import copy
import pickle
import warnings
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from skelgraph import assets, yamlfile
from skelgraph.errors import UserError
from skelgraph.topology import Topology
from skelgraph.topology_file import from_data

SHIPPED = sorted(path.stem for path in (Path(__file__).parents[1] / "topologies").glob("*.yaml"))
NEEDED = {
    "ntu25", "ntux67", "ntux118", "coco17", "coco_wholebody133", "openpose18", "openpose25", "kinect20",
    "kinect20_utd", "hand21", "hand22", "mediapipe33", "mediapipe_holistic", "jhmdb15", "penn13", "sbu15",
    "ntu25_published", "ntux67_published", "hand22_published",
}  # fmt: skip
BODIES = ["ntu25", "ntux67", "ntux118", "coco17", "coco_wholebody133", "openpose18", "openpose25", "kinect20",
          "kinect20_utd", "mediapipe33", "mediapipe_holistic", "jhmdb15", "penn13", "sbu15"]  # fmt: skip


@pytest.fixture(params=SHIPPED)
def shipped(request: pytest.FixtureRequest) -> Topology:
    return Topology.load(request.param)


def test_all_needed_are_shipped() -> None:
    assert set(SHIPPED) >= NEEDED


def test_shipped_files_load_without_warning_and_say_where_they_come_from(shipped: Topology) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = Topology.load(shipped.name)
    assert again.name in SHIPPED
    assert again.title
    assert again.source
    assert shipped.name.endswith("_published") or again.checks


def test_round_trips(shipped: Topology) -> None:
    assert Topology.from_dict(shipped.to_dict()) == shipped
    text = yaml.safe_dump(shipped.to_dict(), sort_keys=False)
    assert from_data(yamlfile.parse(text, "text").data, "text") == shipped
    shipped.hops  # noqa: B018  fills a cache, which must not travel
    twin = pickle.loads(pickle.dumps(shipped))
    assert twin == shipped
    assert hash(twin) == hash(shipped)
    assert copy.deepcopy(shipped) == shipped


def test_arrays_agree_with_networkx(shipped: Topology) -> None:
    count, graph = len(shipped.joints), shipped.to_networkx()
    near = dict(nx.all_pairs_shortest_path_length(graph))
    expected = [[near[a].get(b, count) for b in shipped.joints] for a in shipped.joints]
    np.testing.assert_array_equal(shipped.hops, expected)
    np.testing.assert_array_equal(shipped.adjacency("plain"), nx.to_numpy_array(graph, nodelist=shipped.joints))
    assert shipped.edge_index.shape == (2, 2 * len(shipped.edges))
    assert (np.diff(shipped.edge_index[0] * count + shipped.edge_index[1]) > 0).all()
    assert shipped.edge_index.dtype == shipped.parents.dtype == np.int64
    twice = shipped.mirror_permutation[shipped.mirror_permutation]
    np.testing.assert_array_equal(twice, np.arange(count))


def test_tree_arrays(shipped: Topology) -> None:
    parents, depth = shipped.parents, shipped.depth
    own = np.arange(len(parents))
    moving = parents != own
    np.testing.assert_array_equal(depth[moving], depth[parents[moving]] + 1)
    assert {shipped.joints[i] for i in own[~moving]} == set(shipped.roots)
    assert shipped.root in shipped.roots
    np.testing.assert_array_equal(shipped.ancestor(1), parents)
    np.testing.assert_array_equal(shipped.ancestor(0), own)


def test_parts_and_layout(shipped: Topology) -> None:
    assert shipped.coordinates(2).shape == (len(shipped), 2)
    assert shipped.coordinates(3).shape == (len(shipped), 3)
    assert set(shipped.layout) == set(shipped.joints)
    for name in shipped.part_names:
        part = shipped.part(name)
        assert part.joints == tuple(shipped.joints[i] for i in shipped.part_index(name))
        assert Topology.from_dict(part.to_dict()) == part


@pytest.mark.parametrize("name", BODIES)
def test_bodies_have_the_parts_and_the_pictures_a_mirror_keeps(name: str) -> None:
    topology = Topology.load(name)
    six = ["head", "torso", "left_arm", "right_arm", "left_leg", "right_leg"]
    assert {*six, "body", "hands", "legs", "upper", "lower"} <= set(topology.part_names)
    both = [joint for part in ("upper", "lower") for joint in topology.parts[part].joints]
    assert sorted(both) == sorted(topology.joints)
    limbs = [joint for part in six for joint in topology.parts[part].joints]
    assert len(limbs) == len(set(limbs))
    assert set(limbs) == set(topology.joints)
    places = topology.coordinates(2)
    np.testing.assert_allclose(places[topology.mirror_permutation], places * [-1, 1], atol=1e-6)


def test_cached_arrays_cannot_be_spoilt() -> None:
    topology = Topology.load("coco17")
    topology.parents[:] = 0
    topology.adjacency("plain")[:] = 7
    assert topology.parents[9] == 7
    assert topology.adjacency("plain").max() == 1


# -- facts of the specs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("links", "diameter", "eigenvalue"), [(False, 8, 3.4212), (True, 6, 3.9440)])
def test_coco17_facts(links: bool, diameter: int, eigenvalue: float) -> None:
    data = Topology.load("coco17").to_dict()
    topology = Topology.from_dict(data if links else {k: v for k, v in data.items() if k != "links"})
    graph = topology.to_networkx()
    assert sum(1 for _ in nx.isomorphism.GraphMatcher(graph, graph).isomorphisms_iter()) == 4
    assert topology.hops.max() == diameter
    looped = topology.adjacency("self_loops")
    assert np.linalg.eigvalsh(looped).max() == pytest.approx(eigenvalue, abs=5e-5)
    assert np.linalg.matrix_rank(looped) == 16


def test_coco17_parts_of_skeletonmae() -> None:
    topology = Topology.load("coco17")
    names = ["head", "torso", "left_arm", "right_arm", "left_leg", "right_leg"]
    expected = [[0, 1, 2, 3, 4], [5, 6, 11, 12], [7, 9], [8, 10], [13, 15], [14, 16]]
    assert topology.part_names[:6] == tuple(names)
    assert [topology.part_index(name).tolist() for name in names] == expected


def test_psumnet_published_leg_bones() -> None:
    legs = Topology.load("ntu25_published").part("legs")
    assert legs.parents.tolist() == [0, 0, 1, 2, 0, 4, 5, 6, 8]


def test_psumnet_streams() -> None:
    ntu, ntux = Topology.load("ntu25"), Topology.load("ntux67")
    assert ntu.part_index("hands").tolist() == [20, 4, 5, 6, 7, 21, 22, 8, 9, 10, 11, 23, 24]
    assert ntu.part_index("legs").tolist() == [0, 12, 13, 14, 15, 16, 17, 18, 19]
    fingers = [46, 50, 54, 58, 62, 66, 25, 29, 33, 37, 41, 45]
    assert ntux.part_index("body").tolist() == [*range(25), *fingers]
    assert ntux.part_index("hands").tolist() == [*range(2, 8), *range(46, 67), *range(25, 46)]
    assert ntux.part_index("legs").tolist() == [8, 9, 10, 11, 24, 22, 23, 12, 13, 14, 21, 19, 20]


SKIPS = {
    "ntu25": [20, 1, 2, 20, 4, 20, 4, 5, 8, 20, 8, 9, 1, 0, 12, 13, 1, 0, 16, 17, 20, 7, 6, 11, 10],
    "kinect20": [2, 1, 2, 3, 4, 2, 4, 5, 8, 2, 8, 9, 1, 0, 12, 13, 1, 0, 16, 17],
    "openpose18": [0, 1, 0, 1, 2, 0, 1, 5, 1, 2, 8, 1, 5, 11, 14, 15, 0, 0],
    "coco17_pyskl": [0, 1, 2, 0, 0, 5, 6, 0, 0, 5, 6, 11, 12, 0, 0, 11, 12],
}


@pytest.mark.parametrize("name", SKIPS)
def test_brl_skip_sources(name: str) -> None:
    assert Topology.load(name).ancestor(2).tolist() == SKIPS[name]


def test_brl_upper_and_lower() -> None:
    ntu = Topology.load("ntu25")
    assert sorted(ntu.part_index("upper")) == [*range(1, 12), *range(20, 25)]
    assert sorted(ntu.part_index("lower")) == [0, *range(12, 20)]


# -- files of users ----------------------------------------------------------------------------------------------


OCTOPUS = "name: octopus\njoints: [mantle, {joints}]\nbones: {{{bones}}}\nparts: {{left_half: [{half}]}}\n"


def octopus() -> str:
    joints = [f"arm{arm}_{joint}" for arm in range(8) for joint in range(3)]
    bones = [f"arm{a}_{j}: {'mantle' if j == 0 else f'arm{a}_{j - 1}'}" for a in range(8) for j in range(3)]
    return OCTOPUS.format(joints=", ".join(joints), bones=", ".join(bones), half=", ".join(joints[:12]))


def test_an_octopus_needs_no_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "topologies").mkdir()
    file = tmp_path / "topologies" / "octopus.yaml"
    file.write_text(octopus())
    monkeypatch.chdir(tmp_path)
    topology = Topology.load("octopus")
    assert topology == Topology.load(file)
    assert "octopus" in assets.names("topologies")
    assert (len(topology), topology.root, topology.center) == (25, "mantle", ("mantle",))
    places = topology.coordinates()
    np.testing.assert_allclose(np.hypot(*places.T), topology.depth, atol=1e-6)
    assert len(np.unique(places.round(4), axis=0)) == 25


def test_compose_glues_attaches_and_orders(tmp_path: Path) -> None:
    (tmp_path / "leg.yaml").write_text("joints: [top, foot]\nbones: {foot: top}\nparts: {all: [top, foot]}\n")
    file = tmp_path / "walker.yaml"
    file.write_text(
        "joints: [left_foot, tail]\nbones: {tail: left_top}\nmirror: names\ncompose:\n"
        "  - {topology: leg.yaml, prefix: left_}\n"
        "  - {topology: leg.yaml, prefix: right_, attach: {top: left_top}}\n"
        "  - {topology: leg.yaml, prefix: extra_, glue: {top: right_foot}, rename: {foot: toe}}\n"
    )
    with pytest.warns(UserWarning, match="does not carry"):
        topology = Topology.load(file)
    assert topology.joints == ("left_top", "right_top", "right_foot", "toe", "left_foot", "tail")
    assert dict(topology.bones) == {
        "left_foot": "left_top", "right_foot": "right_top", "right_top": "left_top", "toe": "right_foot",
        "tail": "left_top",
    }  # fmt: skip
    assert topology.mirror == (("left_top", "right_top"), ("left_foot", "right_foot"))
    assert topology.parts["extra_all"].joints == ("right_foot", "toe")


def test_a_part_without_its_own_graph_inherits_parents() -> None:
    part = Topology.load("ntux67").part("body")
    assert dict(part.bones)["left_index_tip"] == "left_hand_root"
    torso = Topology.load("coco17").part("torso")
    assert dict(torso.bones) == {"left_hip": "left_shoulder", "right_hip": "right_shoulder"}
    assert len(torso.links) == 2


ERRORS = {
    "unknown joint in bones": (
        "name: a\njoints: [head, neck]\nbones:\n  head: nekc\n",
        "bad.yaml:4: unknown joint 'nekc'. Did you mean 'neck'?",
    ),
    "duplicate joint": ("joints:\n- head\n- neck\n- head\nbones: {head: neck}\n", "bad.yaml:4: joint 'head' is listed"),
    "two parents": (
        "joints: [a, b, c]\nbones:\n  a: b\n  c: b\n  a: c\n",
        "bad.yaml:5: 'a' is given twice (first on line 3)",
    ),
    "cycle": ("joints: [a, b, c, d]\nbones:\n  d: a\n  a: b\n  b: c\n  c: a\n", "bad.yaml:4: the bones form a cycle"),
    "isolated": ("joints:\n- a\n- b\n- c\nbones: {a: b}\n", "bad.yaml:4: joint 'c' is isolated"),
    "unknown in part": (
        "joints: [head, neck]\nbones: {head: neck}\nparts:\n  top:\n  - head\n  - nekc\n",
        "bad.yaml:6: unknown joint 'nekc'",
    ),
    "unknown in part with bones": (
        "joints: [head, neck]\nbones: {head: neck}\nparts:\n  top:\n    joints: [head]\n    bones:\n      head: neck\n",
        "bad.yaml:7: unknown joint 'neck'",
    ),
    "unknown root": ("joints: [a, b]\nbones: {a: b}\nroot: c\n", "bad.yaml:3: unknown joint 'c'"),
    "root with parent": ("joints: [a, b]\nbones: {a: b}\nroot: a\n", "bad.yaml:3: root 'a' has a parent ('b')"),
    "forest": ("joints: [a, b, c, d]\nbones: {a: b, c: d}\n", "bad.yaml:2: several joints have no parent (b, d)"),
    "unknown key": ("joints: [a, b]\nbnes: {a: b}\n", "bad.yaml:2: unknown key 'bnes'. Did you mean 'bones'?"),
    "unknown key of a part": (
        "joints: [a, b]\nbones: {a: b}\nparts:\n  p:\n    joint: [a]\n    joints: [a]\n",
        "bad.yaml:5: unknown key 'joint'. Did you mean 'joints'?",
    ),
    "number as a joint": ("joints: [a, 7]\nbones: {a: b}\n", "bad.yaml:1: joints.1"),
    "no mapping": ("- a\n- b\n", "bad.yaml:1: a topology is a mapping"),
    "empty": ("", "bad.yaml: a topology is a mapping"),
    "no joints": ("name: a\n", "bad.yaml:1: a topology needs the key 'joints'"),
    "link to itself": ("joints: [a, b]\nbones: {a: b}\nlinks:\n- [a, a]\n", "bad.yaml:4: links takes pairs"),
    "mirrored twice": (
        "joints: [a, b, c]\nbones: {a: c, b: c}\nmirror:\n- [a, b]\n- [b, c]\n",
        "bad.yaml:5: joint 'b' is mirrored twice",
    ),
    "axis": ("joints: [a, b]\nbones: {a: b}\naxes:\n  up: [a, x]\n", "bad.yaml:4: unknown joint 'x'"),
    "layout": ("joints: [a, b]\nbones: {a: b}\nlayout:\n  a: [0]\n", "bad.yaml:4: the place of 'a'"),
    "composed of itself": ("compose:\n- topology: bad.yaml\n", "composed of itself"),
    "composed of nothing": ("compose:\n- {topology: coc17}\n", "unknown topology 'coc17'. Did you mean 'coco17'?"),
    "composed twice": ("compose:\n- {topology: penn13}\n- {topology: penn13}\n", "bad.yaml:3: joint 'head' is there"),
    "glue to nothing": (
        "compose:\n- {topology: penn13}\n- {topology: hand21, glue: {wrist: wrist}}\n",
        "bad.yaml:3: unknown joint 'wrist'. Did you mean",
    ),
    "glue of a limb": (
        "compose:\n- {topology: penn13}\n- {topology: hand21, glue: {thumb_cmc: left_wrist}}\n",
        "bad.yaml:3: joint 'left_wrist' would get two parents",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_file_line_and_joint(case: str, tmp_path: Path) -> None:
    text, message = ERRORS[case]
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        Topology.load(file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broken_mirror_is_a_warning_that_names_the_bone(tmp_path: Path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text("joints: [a, left_b, right_b]\nbones:\n  left_b: a\n  right_b: left_b\nmirror: names\n")
    with pytest.warns(UserWarning, match=r"odd.yaml:3: .* bone a - left_b"):
        Topology.load(file)


def test_unknown_names_of_a_loaded_topology() -> None:
    topology = Topology.load("coco17")
    with pytest.raises(UserError, match="Did you mean 'left_arm'"):
        topology.part("leftarm")
    with pytest.raises(UserError, match="Did you mean 'nose'"):
        topology.index("noze")
    with pytest.raises(UserError, match="2 or 3 dimensions"):
        topology.coordinates(4)


@st.composite
def forests(draw: st.DrawFn) -> dict[str, object]:
    """Random forests in random joint order; names that YAML may take for something else."""
    words = st.text("abcno01.-~#:' _", min_size=1, max_size=6)
    joints = draw(st.lists(words, min_size=2, max_size=9, unique=True))
    bones = {joints[i]: joints[draw(st.integers(0, i - 1))] for i in range(1, len(joints)) if draw(st.booleans())}
    roots = [joint for joint in joints if joint not in bones]
    links = [[roots[0], joint] for joint in roots[1:]]
    order = draw(st.permutations(joints))
    return {"name": "forest", "joints": order, "bones": bones, "links": links, "root": roots[0]}


@given(forests())
def test_random_forests_round_trip_through_text(data: dict[str, object]) -> None:
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    topology = from_data(yamlfile.parse(text, "forest.yaml").data, "forest.yaml")
    assert topology.joints == tuple(data["joints"])  # type: ignore[arg-type]
    again = from_data(yamlfile.parse(yaml.safe_dump(topology.to_dict()), "again").data, "again")
    assert again == topology
    assert not topology.bones or nx.is_forest(nx.Graph(topology.bones))
    assert topology.hops.max() < len(topology)
