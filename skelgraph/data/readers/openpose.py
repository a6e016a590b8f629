"""Output of OpenPose's ``--write_json``: a folder with a json file for every frame."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skelgraph.data.clip import Clip
from skelgraph.data.readers.base import READERS
from skelgraph.data.readers.json_file import load_json, need_dict, need_list, numbers
from skelgraph.data.readers.own_files import OwnFiles, frame_places, natural, parse_image
from skelgraph.data.readers.tracks import STEP, Found, follow
from skelgraph.errors import UserError
from skelgraph.topology import Topology

FRAME = re.compile(r"(.*?)_?(\d+)_keypoints", re.S)
BODY, LEFT, RIGHT = "pose_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d"
BODIES = {25: "openpose25", 18: "openpose18"}
PARTS = {"openpose25": (BODY,), "openpose18": (BODY,), "ntux67": (BODY, LEFT, RIGHT), "hand21": (LEFT,)}
SIZES = {"openpose25": (25,), "openpose18": (18,), "ntux67": (25, 21, 21), "hand21": (21,)}
PEEK = 200


class Take(NamedTuple):
    """The frames of one clip: its folder, or folder and first part of the file names."""

    path: Path
    folder: Path
    prefix: str


@READERS.register("openpose")
class OpenPose(OwnFiles):
    """Own recordings by OpenPose: folders of ``NAME_000000000000_keypoints.json``, several persons.

    A folder is a clip; where the files of a folder bear different names, each name is one. The layout is ``openpose25``
    or ``openpose18``, with hands ``ntux67`` (25 and two hands): what the first files hold, or what --topology says;
    ``hand21`` reads the hands of the largest person alone, the left and the right one as two persons. A joint with
    confidence 0 is missing. People are followed over time by their places (`skelgraph.data.readers.tracks`), or by
    ``person_id`` where it is not -1.

    Args:
        src: the folder of the files, or one with such folders at any depth.
        topology: one of the four; other layouts by --map.
        image: size of the picture as ``1280x720``; needed where ``--keypoint_scale 3`` has made shares of x and y.
        labels, fps, persons: see `OwnFiles`.

    Source: OpenPose, doc/02_output.md.
    """

    dims, units, up = 2, "pixels", "-y"
    suffixes = (".json",)

    def __init__(
        self, src: Path, *, topology: str | None = None, image: str | None = None, labels: str | None = None,
        fps: float | None = None, persons: int = 2,
    ) -> None:  # fmt: skip
        if topology is not None and topology not in PARTS:
            raise UserError(f"--topology {topology}: openpose gives {', '.join(PARTS)}; for others use --map.")
        self.image = parse_image(image)
        self._takes: dict[Take, list[tuple[int, Path]]] = {}
        super().__init__(src, labels=labels, fps=fps, persons=persons)
        found, self._shares = self._peek()
        self.topology = topology or found
        if self._shares and self.image is None:
            raise UserError(
                f"{src}: x and y are shares of the picture (--keypoint_scale 3), so its size is needed: "
                "say -o image=1280x720."
            )
        self._joints = len(Topology.load(self.topology).joints)
        self.steps = [{"name": "persons", "kept": persons or "all"}, STEP]

    def find(self) -> list[Take]:
        folders: dict[Path, dict[str, list[tuple[int, Path]]]] = {}
        for path in self.files(self.src):
            match = FRAME.fullmatch(path.stem)
            if match is not None:
                prefixes = folders.setdefault(path.parent, {})
                prefixes.setdefault(match[1], []).append((int(match[2]), path))
        for folder, prefixes in folders.items():
            whole = len(prefixes) == 1 and folder != self._root
            for prefix, frames in prefixes.items():
                self._takes[Take(folder if whole else folder / (prefix or folder.name), folder, prefix)] = frames
        return sorted(self._takes, key=lambda take: natural(take.path))

    def path_of(self, item: Take) -> Path:
        return item.path

    def read(self, item: Take) -> Iterator[Clip]:
        files = self._takes[item]
        places = frame_places([number for number, _ in files], str(item.path))
        frames: list[Sequence[Found]] = [()] * (max(places) + 1)
        for place, (_, path) in zip(places, files, strict=True):
            frames[place] = [self._found(person, where) for person, where in _people(path)]
        name = self.name_of(item)
        keypoints, score = self._hands(frames) if self.topology == "hand21" else self._bodies(frames)
        yield Clip.of(name, keypoints, score, fps=self.fps, image_size=self.image, **self.facts(item, name))

    def _bodies(self, frames: Sequence[Sequence[Found]]) -> tuple[np.ndarray, np.ndarray]:
        return follow(frames, self._joints, 2, self.persons)

    def _hands(self, frames: Sequence[Sequence[Found]]) -> tuple[np.ndarray, np.ndarray]:
        """Left and right hand of the largest person as two persons; one that is never seen is left out."""
        keypoints, score = follow(frames, 2 * self._joints, 2, 1)
        keypoints = np.concatenate(np.split(keypoints, 2, axis=2))
        score = np.concatenate(np.split(score, 2, axis=2))
        there = score.any((1, 2))
        kept = there if there.any() else np.array([True, False])
        return keypoints[kept], score[kept]

    def _found(self, person: Mapping[str, Any], where: str) -> Found:
        keys = (LEFT, RIGHT) if self.topology == "hand21" else PARTS[self.topology or ""]
        sizes = SIZES[self.topology or ""] * (2 if self.topology == "hand21" else 1)
        rows = np.concatenate([_triples(person, key, size, where) for key, size in zip(keys, sizes, strict=True)])
        points, score = rows[:, :2], rows[:, 2]
        if self._shares and self.image is not None:
            points = points * (self.image[1], self.image[0])
        identity = person.get("person_id")
        known = isinstance(identity, list) and bool(identity) and isinstance(identity[0], int) and identity[0] >= 0
        who = f"person {identity[0]}" if known and identity is not None else None
        return Found(points.astype(np.float32), score.clip(0, 1).astype(np.float32), who)

    def _peek(self) -> tuple[str, bool]:
        """The layout of the first files in which anybody is, and whether x and y are shares of the picture."""
        fault: UserError | None = None
        paths = (path for take in self._items for _, path in self._takes[take])
        for path in islice(paths, PEEK):
            try:
                for person, where in _people(path):
                    body = numbers(person.get(BODY, []), where, BODY)
                    hands = any(person.get(key) for key in (LEFT, RIGHT))
                    body = body.reshape(-1, 3) if len(body) % 3 == 0 else np.zeros((0, 3))
                    if len(body) not in BODIES:
                        known = ", ".join(map(str, BODIES))
                        raise UserError(f"{where}: {BODY} has {len(body)} joints; known are {known}.")
                    layout = "ntux67" if hands and len(body) == 25 else BODIES[len(body)]
                    return layout, self._are_shares(body, where)
            except UserError as error:
                fault = fault or error
        raise fault or UserError(f"{self.src}: nobody is seen in the first {PEEK} frames; say --topology.")

    def _are_shares(self, body: np.ndarray, where: str) -> bool:
        seen = body[body[:, 2] > 0, :2]
        if seen.size and (seen < 0).any() and np.abs(seen).max() <= 1:
            raise UserError(f"{where}: x and y lie between -1 and 1; run OpenPose with --keypoint_scale 0 or 3.")
        return bool(seen.size) and float(seen.max()) <= 1


def _people(path: Path) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Entries of ``people`` with their place in the file."""
    value = need_dict(load_json(path), str(path), "the file")
    for number, person in enumerate(need_list(value.get("people"), str(path), "people")):
        where = f"{path}, person {number}"
        yield need_dict(person, where, "a person"), where


def _triples(person: Mapping[str, Any], key: str, size: int, where: str) -> np.ndarray:
    """x, y and confidence of each joint; zeros where the part was not looked for."""
    values = numbers(person.get(key) or [0.0] * 3 * size, where, key)
    if len(values) != 3 * size:
        raise UserError(f"{where}: {key} has {len(values)} numbers, {3 * size} are wanted (x, y, confidence).")
    rows = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).reshape(size, 3)
    # OpenPose writes 0, 0 for a joint that it did not find, at times with some confidence.
    rows[~rows[:, :2].any(1), 2] = 0
    return rows
