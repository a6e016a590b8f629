"""Keypoints in COCO's json: lists of results, and annotations with their pictures.

Results (COCO's evaluation, AlphaPose, many others): ``[{"image_id": ..., "keypoints": [x, y, c, ...], "score": ...}]``.
Annotations (COCO, PoseTrack): ``{"images": [...], "annotations": [...], "categories": [...]}``.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from skelgraph.data.clip import Clip
from skelgraph.data.readers.base import READERS
from skelgraph.data.readers.coco_joints import Joints, find_joints
from skelgraph.data.readers.json_file import load_json, need_dict, need_list, numbers
from skelgraph.data.readers.own_files import OwnFiles, frame_places, natural, parse_image
from skelgraph.data.readers.tracks import STEP, Found, follow
from skelgraph.errors import UserError

VIDEO = ("video_id", "vid_id", "video_name")
FRAME = ("frame_id", "frame_index", "frame")
TRACK = ("track_id", "idx")
NUMBER = re.compile(r"(\d+)(?!.*\d)")


class Take(NamedTuple):
    """A clip of a file ("" = all of it)."""

    path: Path
    clip: str


class Picture(NamedTuple):
    """One frame: its number, size (height, width) and the entries of the people in it."""

    number: int | None
    size: tuple[int, int] | None
    people: list[tuple[Mapping[str, Any], str]]


@READERS.register("coco")
class Coco(OwnFiles):
    """Own recordings as COCO keypoints: a list of results, or pictures with annotations; several persons.

    A file is a clip, or holds several by ``video_id`` or ``vid_id`` of a picture, or by the folder in its ``file_name``
    or textual ``image_id``. Frames are numbered by ``frame_id``, else by the last number in the picture's name. People
    are who ``track_id`` (AlphaPose: ``idx``) says, else followed by their places (`skelgraph.data.readers.tracks`).

    In results the third number of a joint is a confidence, above 1 counts as 1; in annotations it is COCO's flag:
    0 missing, 1 occluded (score 0.5), 2 seen.

    Args:
        src: a json file, or a folder with files at any depth.
        topology: the layout; by default ``coco17`` for 17 joints, ``coco_wholebody133`` for 133, or the one with the
            names that the category gives.
        image: size of the picture as ``1280x720``, where the file does not say.
        labels, fps, persons: see `OwnFiles`.

    Source: cocodataset.org (format of data and results); AlphaPose, docs/output.md; PoseTrack21, doc/dataset_structure.
    """

    dims, units, up = 2, "pixels", "-y"
    suffixes = (".json",)
    in_memory = True

    def __init__(
        self, src: Path, *, topology: str | None = None, image: str | None = None, labels: str | None = None,
        fps: float | None = None, persons: int = 2,
    ) -> None:  # fmt: skip
        self.image = parse_image(image)
        super().__init__(src, labels=labels, fps=fps, persons=persons)
        self._joints = self._find_joints(topology)
        self.topology = self._joints.topology
        self.steps = [{"name": "persons", "kept": persons or "all"}, STEP]

    def find(self) -> list[Take]:
        return [Take(path, clip) for path in self.files(self.src) for clip in self._clips(path)]

    def path_of(self, item: Take) -> Path:
        return item.path

    def title(self, item: Take) -> str:
        return f"{item.path}, clip '{item.clip}'" if item.clip else str(item.path)

    def name_of(self, item: Take) -> str:
        return item.clip or super().name_of(item)

    def read(self, item: Take) -> Iterator[Clip]:
        pictures = _grouped(item.path)[item.clip]
        places = _places(pictures, self.title(item))
        frames: list[list[Found]] = [[] for _ in range(max(places) + 1)]
        for place, picture in zip(places, pictures, strict=True):
            frames[place] += [self._found(entry, where) for entry, where in picture.people]
        name, size = self.name_of(item), next((picture.size for picture in pictures if picture.size), None)
        keypoints, score = follow(frames, self._joints.count, 2, self.persons)
        yield Clip.of(
            name, keypoints, score, fps=self.fps, image_size=self.image or size, **self.facts(item, name)
        )  # fmt: skip

    def _clips(self, path: Path) -> list[str]:
        """Clips of a file; a damaged one is told when it is read."""
        try:
            return list(_grouped(path))
        except UserError:
            return [""]

    def _found(self, entry: Mapping[str, Any], where: str) -> Found:
        points, score = self._joints.of(entry, where)
        identity = next((entry[key] for key in TRACK if isinstance(entry.get(key), int | str)), None)
        return Found(points, score, identity)

    def _find_joints(self, topology: str | None) -> Joints:
        """The layout, from the first file in which anybody is."""
        fault: UserError | None = None
        for item in self._items:
            try:
                people = (pair for picture in _grouped(item.path)[item.clip] for pair in picture.people)
                entry, where = next(people, (None, ""))
                if entry is not None:
                    count = len(numbers(entry.get("keypoints"), where, "keypoints"))
                    return find_joints(count, _category(item.path), "annotations" in _head(item.path), topology, where)
            except UserError as error:
                fault = fault or error
        raise fault or UserError(f"{self.src}: nobody is in any of its pictures.")


@lru_cache(maxsize=2)
def _grouped(path: Path) -> dict[str, list[Picture]]:
    """Pictures of each clip of a file, in order."""
    value = _value(path)
    if isinstance(value, list):
        pictures = _of_results(value, path)
    else:
        head = need_dict(value, str(path), "the file")
        if "annotations" not in head:
            raise UserError(f"{path}: neither a list of results nor an object with images and annotations.")
        pictures = _of_annotations(head, path)
    clips: dict[str, list[Picture]] = {}
    for clip, picture in pictures:
        clips.setdefault(clip, []).append(picture)
    if not clips:
        raise UserError(f"{path}: has no pictures.")
    if len(clips) == 1:
        return {"": next(iter(clips.values()))}
    return {clip or path.stem: clips[clip] for clip in sorted(clips, key=natural)}


@lru_cache(maxsize=1)
def _value(path: Path) -> Any:
    return load_json(path)


def _head(path: Path) -> Mapping[str, Any]:
    value = _value(path)
    return value if isinstance(value, dict) else {}


def _category(path: Path) -> list[str] | None:
    """Names of the joints, where the file has them."""
    categories = _head(path).get("categories")
    first = categories[0] if isinstance(categories, list) and categories else None
    names = first.get("keypoints") if isinstance(first, dict) else None
    return [str(name) for name in names] if isinstance(names, list) and names else None


def _of_results(entries: list[Any], path: Path) -> Iterator[tuple[str, Picture]]:
    """Pictures of a list of results, in order of their numbers."""
    pictures: dict[Hashable, list[tuple[Mapping[str, Any], str]]] = {}
    for place, entry in enumerate(entries):
        where = f"{path}, result {place}"
        image = need_dict(entry, where, "a result").get("image_id")
        if isinstance(image, bool) or not isinstance(image, int | str):
            raise UserError(f"{where}: image_id must be a number or a text.")
        clip = next((str(entry[key]) for key in VIDEO if entry.get(key) is not None), _folder(image))
        pictures.setdefault((clip, image), []).append((entry, where))
    for (clip, image), people in sorted(pictures.items(), key=lambda pair: natural(pair[0])):  # type: ignore[misc]
        yield clip, Picture(_number(image), None, people)


def _of_annotations(head: Mapping[str, Any], path: Path) -> Iterator[tuple[str, Picture]]:
    """Pictures of annotations, in order of their numbers; one without people stays."""
    people: dict[Hashable, list[tuple[Mapping[str, Any], str]]] = {}
    for place, entry in enumerate(need_list(head["annotations"], str(path), "annotations")):
        where = f"{path}, annotation {place}"
        image = need_dict(entry, where, "an annotation").get("image_id")
        if not isinstance(image, int | str):
            raise UserError(f"{where}: image_id must be a number or a text.")
        if entry.get("keypoints"):
            people.setdefault(image, []).append((entry, where))
    found = []
    for place, image in enumerate(need_list(head.get("images"), str(path), "images")):
        where = f"{path}, image {place}"
        if not isinstance(need_dict(image, where, "an image").get("id"), int | str):
            raise UserError(f"{where}: has no id.")
        name = str(image.get("file_name", ""))
        clip = next((str(image[key]) for key in VIDEO if image.get(key) is not None), _folder(name))
        number = next((image[key] for key in FRAME if isinstance(image.get(key), int)), _number(name))
        sides = [image.get("height"), image.get("width")]
        size = tuple(sides) if all(isinstance(side, int) and side > 0 for side in sides) else None
        found.append((clip, Picture(number, size, people.pop(image["id"], []))))
    if people:
        raise UserError(f"{next(iter(people.values()))[0][1]}: its image_id is the id of no image.")
    yield from sorted(found, key=lambda pair: (natural(pair[0]), pair[1].number is not None, pair[1].number or 0))


def _folder(name: Any) -> str:
    parent = PurePosixPath(str(name).replace("\\", "/")).parent.as_posix()
    return "" if parent == "." else parent.lstrip("/")


def _number(name: Any) -> int | None:
    match = NUMBER.search(PurePosixPath(str(name)).stem)
    return int(match[1][-15:]) if match else None


def _places(pictures: list[Picture], where: str) -> list[int]:
    """Frame of each picture; in the order of the file where not all have a number of their own."""
    given = [picture.number for picture in pictures]
    if None in given or len(set(given)) < len(given):
        return list(range(len(pictures)))
    return frame_places([number for number in given if number is not None], where)
