"""Kinetics-skeleton (Yan, Xiong, Lin, AAAI 2018): OpenPose on Kinetics-400, one json a clip and one json of labels."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skelgraph.data.clip import Clip
from skelgraph.data.readers.base import READERS, Reader, need_folder, need_items
from skelgraph.data.readers.declared import MOST_CLASSES
from skelgraph.data.readers.json_file import load_json, need_dict
from skelgraph.errors import UserError

JOINTS = 18
PARTS = ("train", "val", "test")
LABELS = re.compile(rf"(.*)_({'|'.join(PARTS)})_label\.json")
LONGEST = 100_000  # frames; more is a damaged index


class Entry(NamedTuple):
    """A clip: its name and part, where it is (None = nowhere), and what the labels say (None = nothing)."""

    name: str
    part: str
    path: Path | None
    label: int | None
    labels: Path


@READERS.register("kinetics-skeleton")
class KineticsSkeleton(Reader):
    """Kinetics-skeleton json, 18 joints in 2-D; protocol official.

    ``kinetics_train_label.json`` maps names of clips to ``has_skeleton``, ``label`` and ``label_index``;
    ``kinetics_train/NAME.json`` has ``data``, a list of ``frame_index`` and ``skeleton``, which lists ``pose`` (x and y
    of 18 joints in shares of the picture) and ``score`` (18) of everybody in view. The same with ``val``, the published
    test part. Own clips in this form may be named otherwise, as long as label files end in ``_train_label.json`` and so
    on, with a folder called the same up to ``_label.json`` or one that ends in ``_train``. One file is read at a time.

    Nobody is tracked: persons stand in each frame in order of the sum of their scores, as in the published loader,
    which looks at the first five only. So "first" may be another person from frame to frame.

    Args:
        src: the folder that has the label files.
        persons: how many to keep, those of the highest scores in each frame; 2 in published work.
        width, height: of the pictures; 340 and 256 in Kinetics-skeleton.
        fps: frames a second; 30 in Kinetics-skeleton.
        empty: keep clips in which nobody was found; published work leaves them out.
    """

    topology, dims, units, up = "openpose18", 2, "pixels", "-y"
    source = "Kinetics-skeleton (Yan, Xiong, Lin, AAAI 2018), OpenPose on Kinetics-400"
    terms = "Poses published with ST-GCN; Kinetics' own terms hold for the clips they were made from."

    def __init__(
        self, src: Path, *, persons: int = 2, width: int = 340, height: int = 256, fps: float = 30.0,
        empty: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(need_folder(src))
        for key, value in (("persons", persons), ("width", width), ("height", height), ("fps", fps)):
            if not value > 0:
                raise UserError(f"kinetics-skeleton: '{key}' must be above 0, got {value}.")
        self.persons, self.size, self.fps, self.empty = int(persons), (int(height), int(width)), float(fps), empty
        files = [(path, match) for path in sorted(src.glob("*.json")) if (match := LABELS.fullmatch(path.name))]
        if not files:
            raise UserError(f"{src}: no file such as kinetics_train_label.json in it, which tells the labels.")
        names: dict[int, str] = {}
        self._entries: list[Entry] = []
        for path, match in sorted(files, key=lambda file: PARTS.index(file[1][2])):
            self._entries += _entries(path, _folder(path, match), match[2], names, empty)
        self.classes = tuple(names.get(number, str(number)) for number in range(max(names, default=-1) + 1))
        self.steps = (
            {"name": "pixels", "from": "shares of the picture", "width": width, "height": height},
            {"name": "persons", "most": persons, "order": "falling sum of scores in each frame"},
            {"name": "clips without anybody", "become": "kept" if empty else "left out"},
        )

    def items(self) -> Sequence[Entry]:
        return need_items(self._entries, self.src, "clip named in a label file")

    def title(self, item: Entry) -> str:
        return str(item.path or item.labels)

    def read(self, item: Entry) -> Iterator[Clip]:
        if item.path is None:
            raise UserError(f"{item.labels}: there is no file for its clip '{item.name}'.")
        if item.label is None:
            raise UserError(f"{item.path}: {item.labels.name} does not name this clip.")
        data = need_dict(load_json(item.path), str(item.path), "the clip")
        if data.get("label_index", item.label) != item.label:
            raise UserError(
                f"{item.path}: label_index {data['label_index']!r:.20}, but {item.labels.name} says {item.label}."
            )
        points, score = _people(data, self.persons, item.path)
        if not score.any() and not self.empty:
            raise UserError(f"{item.path}: nobody in it; -o empty=true keeps such clips.")
        points *= self.size[::-1]
        yield Clip.of(item.name, points, score, label=item.label, fps=self.fps, image_size=self.size)

    def protocols(self, names: Collection[str]) -> Mapping[str, Mapping[str, Sequence[str]]]:
        parts: dict[str, list[str]] = {}
        for entry in self._entries:
            if entry.name in names:
                parts.setdefault(entry.part, []).append(entry.name)
        if "val" in parts and "test" not in parts:
            parts["test"] = parts.pop("val")
        return {"official": parts}


def _folder(path: Path, match: re.Match[str]) -> Path:
    """The folder of the clips that a label file names; the published ``keintics_val_label.json`` is spelt like that."""
    exact = path.with_name(path.name.removesuffix("_label.json"))
    others = [
        other for other in sorted(path.parent.iterdir()) if other.is_dir() and other.name.endswith(f"_{match[2]}")
    ]
    if exact.is_dir() or len(others) != 1:
        return need_folder(exact)
    return others[0]


def _entries(path: Path, folder: Path, part: str, names: dict[int, str], empty: bool) -> list[Entry]:
    """The clips of one part; fills in ``names`` of classes."""
    files = {file.stem: file for file in folder.glob("*.json")}
    entries, known = [], set()
    for clip, note in need_dict(load_json(path), str(path), "the table of labels").items():
        known.add(clip)
        label = note.get("label_index") if isinstance(note, dict) else None
        if not isinstance(label, int) or not 0 <= label < MOST_CLASSES:
            raise UserError(f"{path}: clip '{clip}' has no label_index that is a class number.")
        name = str(note.get("label", label))
        if names.setdefault(label, name) != name:
            raise UserError(f"{path}: class {label} is called '{name}' and '{names[label]}'.")
        if empty or note.get("has_skeleton", True):
            entries.append(Entry(clip, part, files.get(clip), label, path))
    entries += [Entry(clip, part, file, None, path) for clip, file in files.items() if clip not in known]
    return sorted(entries)


def _people(data: Mapping[str, Any], persons: int, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Joints ``(M, T, 18, 2)`` as the file has them and scores ``(M, T, 18)``, the best of each frame first."""
    frames = data.get("data")
    if not isinstance(frames, list):
        raise UserError(f"{path}: has no list 'data' of frames.")
    indices = [_index(frame, f"{path}: data[{number}]") for number, frame in enumerate(frames)]
    if len(set(indices)) < len(indices):
        twice = next(index for place, index in enumerate(indices) if index in indices[:place])
        raise UserError(f"{path}: frame_index {twice} stands there twice.")
    start = min([1, *indices])
    length = max(indices, default=start) - start + 1
    found = [_frame(frame, f"{path}: data[{number}]") for number, frame in enumerate(frames)]
    seen = max(1, min(persons, max((len(score) for _, score in found), default=1)))
    points = np.zeros((seen, length, JOINTS, 2), np.float32)
    scores = np.zeros((seen, length, JOINTS), np.float32)
    for index, (pose, score) in zip(indices, found, strict=True):
        best = np.argsort(-score.sum(1), kind="stable")[:persons]
        points[: len(best), index - start], scores[: len(best), index - start] = pose[best], score[best]
    return points, scores


def _index(frame: Any, where: str) -> int:
    index = frame.get("frame_index") if isinstance(frame, dict) else None
    if not isinstance(index, int) or not 0 <= index < LONGEST:
        raise UserError(f"{where} has no frame_index from 0 to {LONGEST - 1}.")
    return index


def _frame(frame: dict[str, Any], where: str) -> tuple[np.ndarray, np.ndarray]:
    """Everybody in a frame: ``(persons, 18, 2)`` and ``(persons, 18)``."""
    people = frame.get("skeleton", [])
    try:
        pose = np.array([person["pose"] for person in people], np.float32).reshape(len(people), JOINTS, 2)
        score = np.array([person["score"] for person in people], np.float32).reshape(len(people), JOINTS)
    except (TypeError, ValueError, KeyError, LookupError, OverflowError, AttributeError):
        raise UserError(
            f"{where}.skeleton is no list of persons with 'pose' ({2 * JOINTS} numbers) and 'score' ({JOINTS})."
        ) from None
    return pose, score
