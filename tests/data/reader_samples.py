"""One small, sound source for every registered format: what the corpus of damaged files and the fuzz tests start from.

A new format joins by one function in `SAMPLES`: it writes files into a folder and says what to import. Where a format
takes several kinds of files, those that its own sample lacks have one of their own.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet
from sample_clips import annotation


@dataclass(frozen=True)
class Sample:
    """A source: what to import, with which options; ``format`` where it is not the sample's name."""

    src: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    topology: str | None = None
    format: str = ""

    @property
    def files(self) -> list[Path]:
        """Every file of it, to be damaged one at a time."""
        return [self.src] if self.src.is_file() else sorted(path for path in self.src.rglob("*") if path.is_file())


def _points(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).uniform(0.1, 0.9, shape).round(3)


def _save(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def _json(path: Path, value: Any) -> Path:
    return _save(path, json.dumps(value))


def npz(folder: Path) -> Sample:
    np.savez(
        folder / "own.npz", keypoints=_points(3, 1, 4, 17, 2), score=_points(3, 1, 4, 17), label=[0, 1, -1],
        frames=[4, 3, 4], classes=["run", "jump"], names=["a", "b", "c"], subject=["x", "y", "x"], fps=30.0,
        image_size=[480, 640], split_mine=["train", "test", ""], topology="coco17",
    )  # fmt: skip
    return Sample(folder / "own.npz")


def jhmdb(folder: Path) -> Sample:
    np.savez(
        folder / "jhmdb_gt_pose.npz", pose=_points(9, 15, 2), offsets=[0, 4, 9], label=[0, 1],
        split=[[0, 1, 0], [1, 0, 1]], class_names=["run", "jump"],
    )  # fmt: skip
    return Sample(folder / "jhmdb_gt_pose.npz")


def signs(folder: Path) -> Sample:
    np.savez(
        folder / "asl16.npz", keypoints=_points(4, 3, 79, 2), label=[0, 0, 1, 1], split=[0, 1, 0, 2], seq=[0, 1, 0, 1],
        class_names=["a", "b"], split_names=["Train", "Valid", "Test"],
    )  # fmt: skip
    return Sample(folder / "asl16.npz")


def nw_ucla(folder: Path) -> Sample:
    for name in ("a01_s01_e00_v01", "a02_s06_e01_v03"):
        _json(folder / f"{name}.json", {"file_name": name, "skeletons": _points(2, 20, 3).tolist(),
                                        "label": int(name[1:3])})  # fmt: skip
    return Sample(folder)


def penn_action(folder: Path) -> Sample:
    from scipy.io import savemat

    (folder / "labels").mkdir()
    for number in (1, 2):
        x, y = _points(3, 13) * 400, _points(3, 13) * 200
        savemat(folder / "labels" / f"000{number}.mat", {
            "x": x, "y": y, "visibility": np.ones((3, 13)), "action": "bowl", "pose": "left", "train": number % 2,
            "dimensions": [[270, 480, 3]],
        }, do_compression=number == 2)  # fmt: skip
    return Sample(folder)


def utd_mhad(folder: Path) -> Sample:
    from scipy.io import savemat

    (folder / "Skeleton").mkdir()
    for subject in (1, 2):
        path = folder / "Skeleton" / f"a3_s{subject}_t1_skeleton.mat"
        savemat(path, {"d_skel": _points(20, 3, 4)}, do_compression=subject == 2)
    return Sample(folder)


def sbu(folder: Path) -> Sample:
    for sequence in ("001", "002"):
        rows = [",".join(map(str, (frame, *_points(90)))) for frame in (1, 2)]
        _save(folder / "s01s02" / "03" / sequence / "skeleton_pos.txt", "\n".join(rows) + "\n")
    return Sample(folder)


def pku_mmd(folder: Path) -> Sample:
    for video in ("A01N01-L", "A01N02-M"):
        rows = [" ".join(map(str, _points(150))) for _ in range(6)]
        _save(folder / "skeleton" / f"{video}.txt", "\n".join(rows) + "\n")
        _save(folder / "label" / f"{video}.txt", "3,0,3,1\n5,2,6,1\n")
    _save(folder / "cross_subject_v2.txt", "Training\nA01N01-L\nTest\nA01N02-M\n")
    return Sample(folder)


def stgcn_npy(folder: Path) -> Sample:
    for part, names in (("train", ["a", "b"]), ("val", ["c"])):
        np.save(folder / f"{part}_data_joint.npy", _points(len(names), 3, 5, 25, 1).astype(np.float32))
        np.save(folder / f"{part}_num_frame.npy", np.full(len(names), 4))
        _save(folder / f"{part}_label.pkl", pickle.dumps((names, [0] * len(names))))
    return Sample(folder)


def pose_pickle(folder: Path) -> Sample:
    names = ("S001C001P001R001A001", "S001C002P002R001A002")
    notes = [annotation(name, frames=3, label=place) for place, name in enumerate(names)]
    split = {"xsub_train": [names[0]], "xsub_val": [names[1]]}
    return Sample(_save(folder / "poses.pkl", pickle.dumps({"split": split, "annotations": notes})))


def ntu(folder: Path) -> Sample:
    for name in ("S001C001P001R001A001", "S001C002P003R001A002"):
        lines = ["2"]
        for frame in range(2):
            lines += ["1", "72057594037931101 0 1 1 1 1 0 0.02 0.05 2", "25"]
            lines += [" ".join(map(str, (*_points(25, 11)[joint] + frame, 2))) for joint in range(25)]
        _save(folder / f"{name}.skeleton", "\r\n".join(lines) + "\r\n")
    return Sample(folder)


def kinetics(folder: Path) -> Sample:
    for part, name in (("train", "a"), ("val", "b")):
        person = {"pose": _points(36).tolist(), "score": _points(18).tolist()}
        frames = [{"frame_index": number, "skeleton": [person]} for number in (1, 2)]
        _json(folder / f"kinetics_{part}" / f"{name}.json", {"data": frames, "label": "run", "label_index": 0})
        _json(folder / f"kinetics_{part}_label.json", {name: {"has_skeleton": True, "label": "run", "label_index": 0}})
    return Sample(folder)


def openpose(folder: Path) -> Sample:
    for frame in range(3):
        person = {"person_id": [-1], "pose_keypoints_2d": (_points(75) * 300 + frame).tolist()}
        _json(folder / "run" / f"take_{frame:012d}_keypoints.json", {"version": 1.3, "people": [person]})
    return Sample(folder)


def coco(folder: Path) -> Sample:
    results = [{"image_id": number, "category_id": 1, "keypoints": (_points(51) * 99).tolist(), "score": 0.9}
               for number in (1, 2)]  # fmt: skip
    _json(folder / "run" / "results.json", results)
    _json(folder / "jump" / "annotated.json", {
        "images": [{"id": 1, "file_name": "v/0001.jpg", "width": 640, "height": 480, "frame_id": 1}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "track_id": 0,
                         "keypoints": (_points(51) * 99).tolist(), "num_keypoints": 17}],
        "categories": [{"id": 1, "name": "person"}],
    })  # fmt: skip
    return Sample(folder)


def csv_table(folder: Path) -> Sample:
    from skelgraph.topology import Topology

    joints = Topology.load("hand21").joints
    head = ["clip", "frame", "label", *(f"{joint}_{axis}" for joint in joints for axis in "xy")]
    rows = [",".join(map(str, (clip, frame, clip, *_points(42)))) for clip in ("wave", "fist") for frame in (0, 1, 3)]
    return Sample(_save(folder / "own.csv", "\n".join([",".join(head), *rows]) + "\n"))


def mediapipe(folder: Path) -> Sample:
    point = {"x": 0.4, "y": 0.6, "z": -0.1, "visibility": 0.9}
    frames = [{"timestamp_ms": 33 * number, "pose_landmarks": [[point] * 33]} for number in range(3)]
    _json(folder / "wave" / "a.json", {"fps": 30, "width": 640, "height": 480, "frames": frames})
    _save(folder / "fist" / "b.jsonl", "\n".join(json.dumps(frame) for frame in frames))
    return Sample(folder, {"image": "640x480"})


def csv_parquet(folder: Path) -> Sample:
    path = csv_table(folder).src
    parquet.write_table(csv.read_csv(path), path.with_suffix(".parquet"))
    path.unlink()
    return Sample(path.with_suffix(".parquet"), format="csv")


def mediapipe_tables(folder: Path) -> Sample:
    points = _points(3, 75, 3)
    _save(folder / "wave" / "a.npy", b"")
    np.save(folder / "wave" / "a.npy", points)
    parts = [("pose", number) for number in range(33)] + [
        (f"{s}_hand", n) for s in ("left", "right") for n in range(21)
    ]
    rows = [(frame, *part, *points[frame, place]) for frame in range(3) for place, part in enumerate(parts)]
    names = ("frame", "type", "landmark_index", "x", "y", "z")
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    for name, write in (("b.parquet", parquet.write_table), ("c.csv", csv.write_csv)):
        write(table, _save(folder / "fist" / name, b""))
    return Sample(folder, {"image": "640x480"}, format="mediapipe")


def _gesture(folder: Path, subject: int, name: str) -> None:
    rows = [" ".join(map(str, _points(66))) for _ in range(4)]
    place = folder / "gesture_1" / "finger_1" / f"subject_{subject}" / "essai_1"
    _save(place / f"{name}_world.txt", "\n".join(rows) + "\n")


def shrec17(folder: Path) -> Sample:
    for subject, part in ((1, "train"), (2, "test")):
        _gesture(folder, subject, "skeletons")
        _save(folder / f"{part}_gestures.txt", f"1 1 {subject} 1 1 1 4\n")
    return Sample(folder)


def dhg(folder: Path) -> Sample:
    for subject in (1, 2):
        _gesture(folder, subject, "skeleton")
    _save(folder / "informations_troncage_sequences.txt", "1 1 1 1 0 2\n1 1 2 1 1 3\n")
    return Sample(folder)


def utkinect(folder: Path) -> Sample:
    for take in ("s01_e01", "s02_e01"):
        rows = [" ".join(map(str, (number, *_points(60)))) for number in (10, 12, 12, 14, 18)]
        _save(folder / "joints" / f"joints_{take}.txt", "\n".join(rows) + "\n")
    _save(folder / "joints" / "actionLabel.txt", "".join(
        f"{take}\nwalk: 10 12\nsitDown: 13 18\ncarry: NaN NaN\n" for take in ("s01_e01", "s02_e01")
    ))  # fmt: skip
    return Sample(folder)


SAMPLES: dict[str, Callable[[Path], Sample]] = {
    "coco": coco, "csv": csv_table, "csv-parquet": csv_parquet, "dhg": dhg, "diving48": pose_pickle,
    "finegym": pose_pickle, "jhmdb": jhmdb, "kinetics-skeleton": kinetics, "mediapipe": mediapipe,
    "mediapipe-signs": signs, "mediapipe-tables": mediapipe_tables, "npz": npz, "ntu": ntu,
    "ntu120_hrnet": pose_pickle, "ntu60_hrnet": pose_pickle, "nw-ucla": nw_ucla, "openpose": openpose,
    "penn-action": penn_action, "pku-mmd": pku_mmd, "pyskl": pose_pickle, "sbu": sbu, "shrec17": shrec17,
    "stgcn-npy": stgcn_npy, "utd-mhad": utd_mhad, "utkinect": utkinect,
}  # fmt: skip
