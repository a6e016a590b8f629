"""Hand gestures in one form: SHREC'17 (De Smedt et al., 3DOR 2017) and DHG-14/28 (De Smedt et al., CVPRW 2016).

``gesture_G/finger_F/subject_S/essai_E/`` holds a text file of the joints, a frame a line: x, y, z of 22 joints in
metres, or x, y in the depth image of 640 x 480 pixels. ``finger_1`` is done with one finger, ``finger_2`` with the
whole hand.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from skelgraph.data.clip import Clip
from skelgraph.data.readers.base import READERS, Reader, need_file, need_folder, need_items
from skelgraph.data.readers.number_rows import number_rows, read_lines, whole_rows
from skelgraph.errors import UserError, unknown

GESTURES, FINGERS, JOINTS = 14, 2, 22
IMAGE_SIZE = (480, 640)
DHG_SUBJECTS = 20


class Essai(NamedTuple):
    """A row of a list: where it stands, whose files it means, label from 0, first and last frame (-1 = the end)."""

    row: str
    gesture: int
    finger: int
    subject: int
    essai: int
    label: int
    part: str = ""
    first: int = 0
    last: int = -1

    @property
    def name(self) -> str:
        """The clip's."""
        return f"g{self.gesture:02d}_f{self.finger}_s{self.subject:02d}_e{self.essai:02d}"

    @property
    def folder(self) -> Path:
        """Where its files are, below the source."""
        return Path(
            f"gesture_{self.gesture}", f"finger_{self.finger}", f"subject_{self.subject}", f"essai_{self.essai}"
        )


class _HandGestures(Reader):
    """What both sets share."""

    topology = "hand22"
    terms = "For research; the authors' terms are not repeated with the files. Cite the paper."
    files: ClassVar[Mapping[str, str]] = {}

    def __init__(self, src: Path, format: str, classes: int, coordinates: str, class_names: str | None) -> None:
        super().__init__(src)
        if classes not in (GESTURES, GESTURES * FINGERS):
            raise UserError(f"{format}: 'classes' is 14 or 28, got {classes}.")
        if coordinates not in self.files:
            raise unknown("value of 'coordinates'", coordinates, self.files, format)
        self.file, self.fine = self.files[coordinates], classes != GESTURES
        self.dims, self.units, self.up = (3, "metres", None) if coordinates == "world" else (2, "pixels", "-y")
        self._sequences = self._listed()
        self.classes = self._class_names(classes) if class_names is None else _names(Path(str(class_names)), classes)

    def _listed(self) -> list[Essai]:
        """All sequences that the set's lists name."""
        raise NotImplementedError

    def _class_names(self, classes: int) -> tuple[str, ...]:
        """Names by gesture, and finger where that counts; holds the labels of the lists against them."""
        names: dict[int, str] = {}
        for item in self._sequences:
            name = f"gesture_{item.gesture}" + (f"_finger_{item.finger}" if self.fine else "")
            if not 0 <= item.label < classes or names.setdefault(item.label, name) != name:
                raise UserError(f"{item.row}: label {item.label + 1} for {name}, of {classes} classes; damaged list.")
        return tuple(names.get(label, str(label + 1)) for label in range(classes))

    def items(self) -> Sequence[Essai]:
        return need_items(self._sequences, self.src, "sequence in its lists")

    def title(self, item: Essai) -> str:
        return str(self.src / item.folder / self.file)

    def read(self, item: Essai) -> Iterator[Clip]:
        path = self.src / item.folder / self.file
        frames = number_rows(path, JOINTS * self.dims)[0].reshape(-1, JOINTS, self.dims)
        last = len(frames) - 1 if item.last < 0 else item.last
        # Whether the last number of a row is a frame or a count is not documented; published code takes either.
        if not item.first <= last <= len(frames) or item.first >= len(frames):
            raise UserError(f"{path}: has {len(frames)} frames, {item.row} cuts {item.first} to {item.last}.")
        yield Clip.of(
            item.name, frames[item.first : last + 1], label=item.label, fps=30.0, subject=f"s{item.subject:02d}",
            image_size=IMAGE_SIZE if self.dims == 2 else None,
        )  # fmt: skip


@READERS.register("shrec17")
class Shrec17(_HandGestures):
    """SHREC'17 hand gestures, 14 or 28 classes in 3-D or 2-D; protocol official.

    ``train_gestures.txt`` (1960 rows) and ``test_gestures.txt`` (840) say gesture, finger, subject, essai, label of 14,
    label of 28, number of frames.

    Args:
        src: the folder of the lists, or the one that has ``HandGestureDataset_SHREC2017``.
        classes: 14 gestures, or 28 with the way they are done.
        coordinates: ``world`` in metres, or ``image`` in pixels.
        class_names: a text file with one class name a line; without it classes are called gesture_1 and so on.
    """

    source = "SHREC'17 track, 3D hand gesture recognition (De Smedt, Wannous, Vandeborre et al., 3DOR 2017)"
    files: ClassVar[Mapping[str, str]] = {"world": "skeletons_world.txt", "image": "skeletons_image.txt"}

    def __init__(
        self, src: Path, *, classes: int = 14, coordinates: Literal["world", "image"] = "world",
        class_names: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(need_folder(src, "HandGestureDataset_SHREC2017"), "shrec17", classes, coordinates, class_names)

    def _listed(self) -> list[Essai]:
        found = []
        for part in ("train", "test"):
            path = need_file(self.src / f"{part}_gestures.txt")
            for line, (gesture, finger, subject, essai, coarse, fine, _) in whole_rows(path, 7):
                label = (fine if self.fine else coarse) - 1
                found.append(Essai(f"{path}:{line}", gesture, finger, subject, essai, label, part))
        return found

    def protocols(self, names: Collection[str]) -> Mapping[str, Mapping[str, Sequence[str]]]:
        return {
            "official": {
                part: [item.name for item in self._sequences if item.part == part] for part in ("train", "test")
            }
        }


@READERS.register("dhg")
class Dhg(_HandGestures):
    """DHG-14/28 hand gestures, 14 or 28 classes in 3-D or 2-D; protocols fold1 to fold20.

    ``informations_troncage_sequences.txt`` says gesture, finger, subject, essai, first and last frame of the gesture,
    counted from 0. Protocol ``foldK`` tests on subject K and trains on the others; published figures are means over
    the twenty.

    Args:
        src: the folder of that list.
        classes, coordinates, class_names: as in `Shrec17`; label of 28 is 2 (gesture - 1) + finger - 1.
        cut: keep what the list calls the gesture; otherwise the whole recordings.
    """

    source = "DHG-14/28 (De Smedt, Wannous, Vandeborre, CVPR Workshops 2016)"
    files: ClassVar[Mapping[str, str]] = {"world": "skeleton_world.txt", "image": "skeleton_image.txt"}

    def __init__(
        self, src: Path, *, classes: int = 14, coordinates: Literal["world", "image"] = "world",
        class_names: str | None = None, cut: bool = True,
    ) -> None:  # fmt: skip
        self.cut = cut
        self.steps = ({"name": "cut", "to": "the gesture" if cut else "nothing"},)
        super().__init__(need_folder(src), "dhg", classes, coordinates, class_names)

    def _listed(self) -> list[Essai]:
        path, found = need_file(self.src / "informations_troncage_sequences.txt"), []
        for line, (gesture, finger, subject, essai, first, last) in whole_rows(path, 6):
            where = f"{path}:{line}"
            if not 1 <= gesture <= GESTURES or not 1 <= finger <= FINGERS or not 0 <= first <= last:
                raise UserError(f"{where}: not of the form gesture, finger, subject, essai, first, last frame.")
            label = FINGERS * (gesture - 1) + finger - 1 if self.fine else gesture - 1
            frames = (first, last) if self.cut else (0, -1)
            found.append(Essai(where, gesture, finger, subject, essai, label, "", *frames))
        return found

    def protocols(self, names: Collection[str]) -> Mapping[str, Mapping[str, Sequence[str]]]:
        subjects = {item.name: item.subject for item in self._sequences if item.name in names}
        return {
            f"fold{fold}": {
                "train": [name for name, subject in subjects.items() if subject != fold],
                "test": [name for name, subject in subjects.items() if subject == fold],
            }
            for fold in range(1, DHG_SUBJECTS + 1)
        }


def _names(path: Path, classes: int) -> tuple[str, ...]:
    found = tuple(line.strip() for line in read_lines(path) if line.strip())
    if len(found) != classes:
        raise UserError(f"{path}: {len(found)} names of classes, there are {classes}.")
    return found
