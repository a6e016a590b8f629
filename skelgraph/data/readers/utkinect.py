"""UTKinect-Action3D (Xia, Chen, Aggarwal, HAU3D at CVPR 2012): takes of ten actions in a row by Kinect v1."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from skelgraph.data.clip import Clip
from skelgraph.data.readers.base import READERS, Reader, need_file, need_folder, need_items
from skelgraph.data.readers.number_rows import number_rows, read_lines
from skelgraph.errors import UserError

NAME = re.compile(r"joints_(s\d\d_e\d\d)\.txt")
TAKE, ROW = re.compile(r"s\d\d_e\d\d"), re.compile(r"(\w+):\s*(\d+|NaN)\s+(\d+|NaN)", re.I)
JOINTS, RATE = 20, 30.0
LABELS = ("actionLabel_modified.txt", "actionLabel.txt")
TRAIN_SUBJECTS = (
    (2, 5, 7, 8, 9), (2, 3, 8, 9, 10), (2, 3, 6, 7, 8), (3, 5, 6, 8, 9), (2, 4, 5, 6, 10),
    (3, 6, 7, 8, 9), (1, 2, 4, 6, 7), (2, 7, 8, 9, 10), (1, 3, 6, 9, 10), (1, 6, 8, 9, 10),
)  # fmt: skip


class Action(NamedTuple):
    """What a label row says: class, first and last frame number, both in; and where it stands."""

    label: int
    first: int
    last: int
    row: str


@READERS.register("utkinect")
class UtKinect(Reader):
    """UTKinect-Action3D, 10 classes of 3-D joints, cut or as takes; protocols split1 to split10, leave_out_sAA_eBB.

    ``joints_sSS_eEE.txt`` (subject, take) has a row a frame: its number, then x, y, z of 20 joints in metres.
    ``actionLabel.txt`` has, for each take, its name and rows ``action: first last`` in frame numbers, both ends in;
    ``actionLabel_modified.txt``, which corrects seven of them, is preferred where it is there.

    The Kinect wrote nothing where it saw nobody, so frame numbers jump, and some frames stand there twice with slightly
    different joints; the first row of a number is kept. Timestamps are frame numbers over 30.

    Protocol ``splitK``: the K-th of the ten splits by subjects of Vemulapalli et al. (CVPR 2014), the mean of which is
    reported. ``leave_out_sAA_eBB`` tests on one take and trains on the others.

    Args:
        src: the folder of the files, or the one that has ``joints``.
        cut: make a clip of each labelled action; otherwise of each take, with its actions as segments.
        labels: another label file.
    """

    topology, dims, units, up = "kinect20", 3, "metres", "+y"
    classes = ("walk", "sitDown", "standUp", "pickUp", "carry", "throw", "push", "pull", "waveHands", "clapHands")
    source = "UTKinect-Action3D (Xia, Chen, Aggarwal, HAU3D at CVPR 2012)"
    terms = "No licence with the files; cite the paper."

    def __init__(self, src: Path, *, cut: bool = True, labels: str | None = None) -> None:
        super().__init__(need_folder(src, "joints"))
        near = [path for name in LABELS for path in (self.src / name, src / name) if path.is_file()]
        if labels is None and not near:
            raise UserError(f"{src}: neither {LABELS[0]} nor {LABELS[1]} in it; name another by -o labels=FILE.")
        self.labels = near[0] if labels is None else need_file(Path(str(labels)))
        self.cut = cut
        self._actions = _actions(self.labels)
        self.steps = (
            {"name": "rows that repeat a frame number", "become": "dropped"},
            {"name": "cut" if cut else "segments", "labels": self.labels.name},
        )

    def items(self) -> Sequence[Path]:
        files = sorted(path for path in self.src.glob("*.txt") if NAME.fullmatch(path.name))
        return need_items(files, self.src, "file joints_sSS_eEE.txt")

    def read(self, item: Path) -> Iterator[Clip]:
        match = NAME.fullmatch(item.name)
        take = match[1] if match else item.stem
        if take not in self._actions:
            raise UserError(f"{item}: {self.labels.name} does not name this take.")
        rows, lines = number_rows(item, 1 + 3 * JOINTS)
        numbers, first = np.unique(rows[:, 0], return_index=True)
        falls = np.flatnonzero(np.diff(rows[:, 0]) < 0)
        if len(falls):
            place = falls[0] + 1
            raise UserError(f"{item}:{lines[place]}: frame {rows[place, 0]:g} follows frame {rows[place - 1, 0]:g}.")
        joints = rows[first, 1:].reshape(-1, JOINTS, 3)
        segments = tuple(sorted(_segment(action, numbers, item) for action in self._actions[take]))
        facts = {"subject": take[:3], "group": take}
        if not self.cut:
            yield Clip.of(take, joints, timestamps=_seconds(numbers), segments=segments, **facts)
            return
        for start, end, label in segments:
            name = f"{take}_{self.classes[label]}"
            yield Clip.of(name, joints[start:end], label=label, timestamps=_seconds(numbers[start:end]), **facts)

    def protocols(self, names: Collection[str]) -> Mapping[str, Mapping[str, Sequence[str]]]:
        ordered = sorted(names)
        subjects = {f"split{number}": set(chosen) for number, chosen in enumerate(TRAIN_SUBJECTS, 1)}
        train = {name: {clip for clip in ordered if int(clip[1:3]) in chosen} for name, chosen in subjects.items()}
        for take in sorted({clip[:7] for clip in ordered}):
            train[f"leave_out_{take}"] = {clip for clip in ordered if clip[:7] != take}
        return {
            name: {"train": [c for c in ordered if c in kept], "test": [c for c in ordered if c not in kept]}
            for name, kept in train.items()
        }


def _seconds(numbers: np.ndarray) -> np.ndarray:
    return (numbers - numbers[0]) / RATE


def _segment(action: Action, numbers: np.ndarray, item: Path) -> tuple[int, int, int]:
    """Rows of a take that belong to an action: start, end (not included), label."""
    start, end = np.searchsorted(numbers, action.first, "left"), np.searchsorted(numbers, action.last, "right")
    if start >= end:
        raise UserError(f"{action.row}: no frame from {action.first} to {action.last} in {item.name}.")
    return int(start), int(end), action.label


def _actions(path: Path) -> dict[str, list[Action]]:
    """The actions of each take; those marked NaN are missing.

    Raises:
        UserError: a row that is neither a take nor an action, a name unknown or twice; names the line.
    """
    takes: dict[str, list[Action]] = {}
    current: list[Action] | None = None
    for number, line in enumerate(read_lines(path), 1):
        text, where = line.strip(), f"{path}:{number}"
        match = ROW.fullmatch(text)
        if TAKE.fullmatch(text):
            if text in takes:
                raise UserError(f"{where}: take {text} stands there twice.")
            current = takes.setdefault(text, [])
        elif match and current is not None and match[1] in UtKinect.classes:
            label = UtKinect.classes.index(match[1])
            if any(action.label == label for action in current):
                raise UserError(f"{where}: '{match[1]}' stands there twice in one take.")
            if "nan" not in (match[2].lower(), match[3].lower()):
                current.append(Action(label, int(match[2]), int(match[3]), where))
        elif text:
            raise UserError(f"{where}: '{text[:40]}' is neither a take (s01_e01) nor an action of one (walk: 252 390).")
    return takes
