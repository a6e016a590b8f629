"""Demo modalities show the very motion of the joints; XOR sets hold nothing on the label in one modality alone."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from skelgraph.data.store import Store
from skelgraph.data.synthetic import TASKS, Demo, write_demo
from skelgraph.data.synthetic.generate import FPS
from skelgraph.data.synthetic.pictures import MARGIN
from skelgraph.data.synthetic.sensors import EVERY, SIZE
from skelgraph.errors import UserError
from skelgraph.topology import Topology

ALL = ("rgb", "depth", "infrared", "inertial")
NTU = Topology.load("ntu25")


def sharp(dims: int, modalities: tuple[str, ...], **settings: int) -> Demo:
    """Demo clips without noise and occlusion."""
    return Demo(NTU, dims=dims, noise=0.0, modalities=modalities, **settings)


@pytest.mark.parametrize(("name", "persons"), [("ntu25", 2), ("hand21", 1)])
def test_joints_are_the_same_with_and_without_modalities(name: str, persons: int) -> None:
    topology = Topology.load(name)
    plain, rich = (Demo(topology, persons=persons, dims=3, modalities=names) for names in ((), ALL))
    for index in range(8):
        clip = rich.clip(index)
        assert np.array_equal(plain.clip(index).keypoints, clip.keypoints)
        assert set(clip.modalities) == set(ALL)
        pictures = -(-clip.frames // EVERY)
        shapes = {key: np.shape(clip.modalities[key]) for key in ALL}
        assert shapes["rgb"] == (pictures, SIZE, SIZE, 3)
        assert shapes["depth"] == shapes["infrared"] == (pictures, SIZE, SIZE)
        assert shapes["inertial"] == (int((clip.frames - 1) / FPS * 50) + 1, 6)


def test_the_accelerometer_feels_gravity_and_the_second_derivative_of_the_wrist() -> None:
    """Its length does not depend on how the sensor is turned; the camera only turns and moves the world."""
    demo = sharp(3, ("inertial",))
    pitches = []
    for index in range(16):
        clip = demo.clip(index)
        wrist = clip.keypoints[0, :, NTU.index("right_wrist")].astype(np.float64)
        speed_up = (wrist[2:] - 2 * wrist[1:-1] + wrist[:-2]) * FPS**2
        # Frames 3, 6, 9, ... of 30 a second fall on samples 5, 10, 15, ... of 50.
        frames = np.arange(3, clip.frames - 1, 3)
        felt = clip.modalities["inertial"][frames // 3 * 5, :3] * 9.81
        asked = speed_up[frames - 1]
        free = (np.abs(felt) < 8 * 9.81 * 0.999).all(1)
        # |a + g|^2 = |a|^2 + 2 a.g + |g|^2, where g points up but for the camera's pitch, the same for the whole clip.
        rest = (felt**2).sum(1) - (asked**2).sum(1) - 9.81**2
        up, *_ = np.linalg.lstsq(2 * asked[free], rest[free], rcond=None)
        assert np.abs(2 * asked[free] @ up - rest[free]).max() < 0.02 * np.abs((felt[free] ** 2).sum(1)).max()
        pitches.append((np.linalg.norm(up), up[1]))
    length, height = np.median(pitches, axis=0)
    assert length == pytest.approx(9.81, rel=0.02)
    assert height > 9.3


def test_the_gyroscope_turns_as_the_forearm_does() -> None:
    """The forearm lies along the sensor's y axis, so its direction moves by what turns about x and z."""
    demo = sharp(3, ("inertial",), classes=8)
    for index in range(8):
        clip = demo.clip(index)
        joints = clip.keypoints[0].astype(np.float64)
        arm = joints[:, NTU.index("right_wrist")] - joints[:, NTU.index("right_elbow")]
        arm /= np.linalg.norm(arm, axis=1, keepdims=True)
        angle = np.arccos(np.clip((arm[1:] * arm[:-1]).sum(1), -1, 1))
        turned = np.radians(clip.modalities["inertial"][:, 3:6]) / 50
        swept = np.hypot(turned[:, 0], turned[:, 2])
        assert swept.sum() == pytest.approx(angle.sum(), rel=0.06, abs=0.1)


@pytest.mark.parametrize("persons", [1, 2])
def test_figures_cover_the_projected_joints(persons: int) -> None:
    """The square of the picture is that around everybody in the clip, enlarged; joints in it fall on the figure."""
    demo = sharp(2, ("depth", "rgb"), persons=persons, classes=8)
    covered = []
    for index in range(8):
        clip = demo.clip(index)
        joints, depth = clip.keypoints[:, ::EVERY], clip.modalities["depth"]
        low, high = joints.min((0, 1, 2)), joints.max((0, 1, 2))
        side = (high - low).max() * MARGIN
        cell = np.floor((joints - (low + high - side) / 2) * (SIZE / side)).astype(int)
        frame = np.broadcast_to(np.arange(len(depth))[:, None], cell.shape[1:3])
        for person in cell:
            near = [
                depth[frame, (person[..., 1] + down).clip(0, SIZE - 1), (person[..., 0] + right).clip(0, SIZE - 1)] > 0
                for down in (-1, 0, 1) for right in (-1, 0, 1)
            ]  # fmt: skip
            covered.append(np.any(near, axis=0).mean())
        share = (depth > 0).mean((1, 2))
        assert share.min() > 0.02
        assert share.max() < 0.5
    assert np.min(covered) > 0.93


def test_depth_is_the_distance_of_the_nearest_person_in_millimetres() -> None:
    demo = sharp(3, ("depth",), classes=4)
    for index in range(4):
        clip = demo.clip(index)
        depth = clip.modalities["depth"].astype(float)
        distance = 1000 * clip.keypoints[0, ::EVERY, :, 2]
        seen = np.where(depth > 0, depth, np.nan)
        # The surface lies before the joints, by no more than the thickness of a trunk; finger tips are not drawn.
        assert (np.nanmin(seen, (1, 2)) < distance.min(1) + 60).all()
        assert (np.nanmin(seen, (1, 2)) > distance.min(1) - 260).all()
        assert (np.nanmax(seen, (1, 2)) < distance.max(1) + 150).all()


def test_a_store_of_modalities_is_the_same_twice_and_says_what_they_are(tmp_path: Path) -> None:
    paths = [write_demo(tmp_path / name, clips=12, classes=2, frames=(12, 15), modalities=ALL) for name in "ab"]
    one, other = (Store.open(path) for path in paths)
    assert one.meta.content_hash == other.meta.content_hash
    facts = one.meta.modality_facts
    assert {name: (item.kind, item.rate) for name, item in facts.items()} == {
        **dict.fromkeys(ALL[:3], ("frames", 10.0)),
        "inertial": ("sequence", 50.0),
    }
    rgb = one[3].modalities["rgb"]
    assert isinstance(rgb, np.ndarray)
    assert rgb.dtype == np.uint8
    assert np.array_equal(
        rgb, Demo(Topology.load("coco17"), 2, (12, 15), modalities=("rgb",)).clip(3).modalities["rgb"]
    )


@pytest.mark.parametrize("task", sorted(TASKS))
def test_each_modality_of_a_xor_set_alone_is_exactly_balanced(task: str, tmp_path: Path) -> None:
    """Every content of one modality, byte for byte, stands in as many clips of one class as of the other."""
    store = Store.open(write_demo(tmp_path / task, clips=120, task=task, protocols=("p",)))
    parts = store.protocol("p")
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 80, "test": 40}
    assert store.classes == ("same", "different")
    for rows in parts.values():
        alone: list[dict[bytes, list[int]]] = [defaultdict(list), defaultdict(list)]
        both = set()
        for row in rows:
            clip = store[row]
            other = np.asarray(clip.modalities[TASKS[task].modality])
            contents = (clip.keypoints.tobytes(), other.tobytes())
            both.add(contents)
            for seen, content in zip(alone, contents, strict=True):
                seen[content].append(clip.label)
        assert len(both) == len(rows)
        assert all(sorted(labels) == [0, 1] for seen in alone for labels in seen.values())
    groups = [{store.groups[row] for row in rows} for rows in parts.values()]
    assert not groups[0] & groups[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modalities": ["thermal"]}, "thermal"),
        ({"task": "xnor"}, "xor_sequence"),
        ({"task": "xor_frames", "modalities": ["rgb"]}, "picture"),
        ({"task": "xor_frames", "clips": 8}, "at least 12"),
    ],
)
def test_senseless_wishes_are_refused(settings: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        write_demo(tmp_path / "d", **settings)  # type: ignore[arg-type]
