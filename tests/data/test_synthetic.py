"""Demo data: people move as bodies do, on every topology, and the same arguments give the same bytes."""

import numpy as np
import pytest

from skelgraph.assets import names as asset_names
from skelgraph.data.store import Store
from skelgraph.data.synthetic import ACTIONS, PAIRS, Beat, Body, Demo, Proportions, class_names, write_demo
from skelgraph.data.synthetic.people import anchors, knows
from skelgraph.data.synthetic.points import POINTS
from skelgraph.data.synthetic.style import complete, follow, mirrored
from skelgraph.errors import UserError
from skelgraph.topology import Topology

ARM = [f"arm{arm}_{joint}" for arm in range(8) for joint in range(5)]
OCTOPUS = Topology.from_dict(
    {
        "name": "octopus",
        "joints": ["head", *ARM],
        "bones": {name: f"{name[:-1]}{int(name[-1]) - 1}" if name[-1] != "0" else "head" for name in ARM},
        "root": "head",
    }
)


def bone_lengths(keypoints: np.ndarray, topology: Topology) -> np.ndarray:
    """(M, T, bones)."""
    own = np.arange(len(topology)) == topology.parents
    return np.linalg.norm(keypoints - keypoints[:, :, topology.parents], axis=-1)[..., ~own]


def perform(action: str, names: list[str], frames: int = 60, flip: bool = False) -> np.ndarray:
    """(T, P, 3) of the average body without style."""
    pose = complete(ACTIONS[action](Beat(np.arange(frames) / 30)), frames)
    follow(pose)
    return Body([POINTS[name] for name in names], Proportions()).move(mirrored(pose) if flip else pose, frames)


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    first = write_demo(tmp_path / "a", clips=20, classes=4, frames=(20, 30))
    second = write_demo(tmp_path / "b", clips=20, classes=4, frames=(20, 30))
    files = sorted(path.name for path in first.iterdir())
    assert files == sorted(path.name for path in second.iterdir())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in files)


def test_a_clip_depends_on_seed_and_number_alone():
    demo = Demo(Topology.load("coco17"), classes=5, seed=3)
    ahead = Demo(Topology.load("coco17"), classes=5, seed=3)
    for index in (9, 2, 7):
        ahead.clip(index)
    assert np.array_equal(demo.clip(7).keypoints, ahead.clip(7).keypoints)
    other = Demo(demo.topology, classes=5, seed=4)
    assert not np.array_equal(demo.clip(7).keypoints[0, 0], other.clip(7).keypoints[0, 0])


def test_store_and_split(tmp_path):
    store = Store.open(write_demo(tmp_path / "d", clips=96, classes=8, frames=(20, 30), protocols=("xsub", "xview")))
    assert store.meta.demo
    assert store.meta.source == "skelgraph demo data (synthetic)"
    assert (store.meta.terms, store.meta.units, store.meta.dims) == ("MIT, generated", "pixels", 2)
    assert store.protocols == ("xsub", "xview")
    parts = store.protocol("xsub")
    subjects = {part: {store.column("subject")[row] for row in rows} for part, rows in parts.items()}
    assert subjects["train"]
    assert subjects["test"]
    assert not subjects["train"] & subjects["test"]
    assert 0.25 < len(parts["test"]) / 96 < 0.42
    for rows in parts.values():
        assert set(store.labels[rows]) == set(range(8))
    clip = store[0]
    assert clip.image_size == (1080, 1920)
    assert clip.camera
    assert clip.group
    seen = clip.keypoints[clip.score > 0]
    assert (seen >= 0).all()
    assert (seen < (1920, 1080)).all()


@pytest.mark.parametrize("name", sorted(asset_names("topologies")))
def test_every_shipped_topology_moves(name):
    topology = Topology.load(name)
    for dims in (2, 3):
        demo = Demo(topology, classes=6, dims=dims, frames=(12, 12), noise=0.0)
        for index in (0, 4):
            clip = demo.clip(index)
            clip.check(topology, dims, 6)
            assert (clip.score == 1).all()
            assert np.ptp(clip.keypoints, axis=1).max() > (10 if dims == 2 else 0.05)
            if dims == 3:
                assert bone_lengths(clip.keypoints, topology).min() > 1e-3
                assert bone_lengths(clip.keypoints, topology).max() < 1.8


def test_bones_keep_their_length():
    rigid = [("left_elbow", "left_shoulder"), ("right_wrist", "right_elbow"), ("left_knee", "left_hip"),
             ("right_ankle", "right_knee"), ("left_hand", "left_wrist"), ("right_foot", "right_ankle")]  # fmt: skip
    demo = Demo(Topology.load("ntu25"), classes=20, dims=3, noise=0.0)
    for index in range(20):
        joints = demo.clip(index).keypoints[0]
        for child, parent in rigid:
            bone = joints[:, demo.topology.index(child)] - joints[:, demo.topology.index(parent)]
            length = np.linalg.norm(bone, axis=-1)
            assert np.ptp(length) < 1e-4
            assert 0.04 < length[0] < 0.7


def test_an_octopus_moves_in_its_own_ways():
    demo = Demo(OCTOPUS, classes=12, dims=3, noise=0.0, frames=(30, 30))
    assert not knows(OCTOPUS)
    assert demo.names[11] == "motion_11"
    paths = []
    for index in range(12):
        joints = demo.clip(index).keypoints
        assert np.ptp(bone_lengths(joints, OCTOPUS), axis=1).max() < 1e-4
        paths.append(np.abs(np.diff(joints[0], axis=0)).sum(0).ravel())
    assert np.linalg.norm(np.array(paths)[:, None] - np.array(paths)[None], axis=-1)[np.triu_indices(12, 1)].min() > 0.1


def test_two_persons():
    demo = Demo(Topology.load("ntu25"), classes=8, persons=2, dims=3, noise=0.0)
    assert demo.names[:6] == tuple(PAIRS)
    for index in range(6):
        joints = demo.clip(index).keypoints
        assert joints.shape[0] == 2
        apart = np.linalg.norm(joints[0].mean((0, 1)) - joints[1].mean((0, 1)))
        assert 0.4 < apart < 2.0
    persons = {demo.clip(index).persons for index in range(6, 60, 8)}
    assert persons <= {1, 2}


def test_partners_shake_hands():
    topology = Topology.load("ntu25")
    demo = Demo(topology, classes=1, persons=2, dims=3, noise=0.0, frames=(80, 80))
    hands = topology.indices(["left_hand", "right_hand"])
    for index in range(4):
        one, other = demo.clip(index).keypoints[:, :, hands]
        assert np.linalg.norm(one[:, :, None] - other[:, None], axis=-1).min() < 0.3


@pytest.mark.parametrize("count", [99, 120, 400])
def test_as_many_classes_as_large_data_sets_have(count):
    names = class_names(count)
    assert len(set(names)) == count
    assert names[:16] == tuple(ACTIONS)[:16]
    demo = Demo(Topology.load("coco17"), classes=count, frames=(12, 12))
    for index in (count - 1, count // 2):
        assert demo.clip(index).label == index


def test_the_mirror_image_is_a_mirror_image():
    names = ["nose", "left_wrist", "right_wrist", "left_ankle", "right_ankle", "left_index_tip", "right_index_tip"]
    swap = [0, 2, 1, 4, 3, 6, 5]
    for action in ("wave", "throw", "kick", "turn", "lunge"):
        there, back = perform(action, names), perform(action, names, flip=True)
        assert np.allclose(back[:, swap] * (-1, 1, 1), there, atol=1e-9)


def test_people_stand_on_the_floor_and_do_what_they_are_said_to():
    body = ["left_wrist", "right_wrist", "mid_hip", "left_toe", "right_toe", "left_heel", "right_heel", "nose"]
    for action in ACTIONS:
        low = perform(action, body)[:, 3:7, 1].min(1)
        assert low.min() > -0.01
        assert low.max() > 0.15 if action == "jump" else low.max() < 0.16
    squat, jump, wave = (perform(action, body) for action in ("squat", "jump", "wave"))
    assert np.ptp(squat[:, 2, 1]) > 0.35
    assert jump[:, 3:7, 1].min(1).max() > 0.15
    assert wave[30, 1, 1] > wave[30, 7, 1]
    assert wave[30, 0, 1] < 1.0
    clap = perform("clap", body)
    assert np.linalg.norm(clap[:, 0] - clap[:, 1], axis=-1)[20:40].min() < 0.16


def test_a_foot_on_the_floor_does_not_slide():
    """The standing foot of a kick stays; in a squat two feet cannot both be held, so they part a little sideways."""
    assert np.ptp(perform("kick", ["left_ankle"])[:, 0, [0, 2]], axis=0).max() < 0.04
    ankles = perform("squat", ["left_ankle", "right_ankle"])
    assert np.ptp(ankles[:, :, 2], axis=0).max() < 0.01
    assert np.ptp(ankles[:, :, 0], axis=0).max() < 0.08


def test_occlusion_lowers_scores_around_it():
    demo = Demo(Topology.load("coco17"))
    score = np.concatenate([demo.clip(index).score[0] for index in range(40)])
    assert 0.005 < (score == 0).mean() < 0.15
    beside = np.zeros_like(score, dtype=bool)
    beside[1:] |= score[:-1] == 0
    assert score[beside & (score > 0)].mean() + 0.2 < score[~beside & (score > 0)].mean()


def test_names_the_body_does_not_know_ride_beside_their_neighbours():
    odd = Topology.from_dict(
        {
            "name": "odd",
            "joints": ["left_elbow", "right_elbow", "left_shoulder", "right_shoulder", "watch", "strap"],
            "bones": {"left_elbow": "left_shoulder", "right_elbow": "right_shoulder", "right_shoulder": "left_shoulder",
                      "watch": "left_elbow", "strap": "watch"},
            "root": "left_shoulder",
        }
    )  # fmt: skip
    places = anchors(odd)
    assert places[4].segment == places[5].segment == places[0].segment
    assert len({place.offset for place in places[4:]}) == 2


@pytest.mark.parametrize(
    "settings", [{"dims": 4}, {"frames": (1, 5)}, {"frames": (9, 5)}, {"persons": 0}, {"classes": 0}, {"classes": 5000}]
)
def test_senseless_settings_are_refused(settings):
    with pytest.raises(UserError):
        Demo(Topology.load("coco17"), **settings)


def test_demo_data_are_neither_trivial_nor_impossible():
    """The nearest neighbour in centred joints: far from perfect, far above chance (1 in 16)."""
    demo = Demo(Topology.load("coco17"))
    rows, labels, tested = [], [], []
    for index in range(240):
        clip = demo.clip(index)
        at = np.linspace(0, clip.frames - 1, 20).round().astype(int)
        joints, seen = clip.keypoints[0, at], clip.score[0, at, :, None] > 0
        joints = np.where(seen, joints - joints.mean(axis=(0, 1), where=seen), 0)
        rows.append((joints / joints[..., 1].std()).ravel())
        labels.append(demo.label(index))
        tested.append(demo.tested(index))
    points, numbers, test = np.array(rows), np.array(labels), np.array(tested)
    distance = ((points[test][:, None] - points[~test][None]) ** 2).sum(-1)
    accuracy = (numbers[~test][distance.argmin(1)] == numbers[test]).mean()
    assert 0.3 < accuracy < 0.75
