"""SBU Kinect Interaction v2.0 (Yun et al., HAU3D at CVPR 2012): two persons, one text file a sequence."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from skelgraph.data.clip import Clip
from skelgraph.data.readers.base import READERS, Reader, need_folder, need_items
from skelgraph.errors import UserError

JOINTS, WIDTH = 15, 1 + 2 * 15 * 3
FOLDS = (
    ("s01s02", "s03s04", "s05s02", "s06s04"),
    ("s02s03", "s02s07", "s03s05", "s05s03"),
    ("s01s03", "s01s07", "s07s01", "s07s03"),
    ("s02s01", "s02s06", "s03s02", "s03s06"),
    ("s04s02", "s04s03", "s04s06", "s06s02", "s06s03"),
)
PAIRS = frozenset(pair for fold in FOLDS for pair in fold)
FACTOR, ORIGIN = np.array([-2.56, -1.92, 1.28]), np.array([1.28, 0.96, 0.0])


@READERS.register("sbu")
class Sbu(Reader):
    """SBU Kinect Interaction, 8 classes of two persons in 3-D; protocols fold1 to fold5.

    ``sAAsBB/CC/NNN/skeleton_pos.txt`` (pair, class, sequence) has one frame a line: its number, then x, y, z of the 15
    joints of the one person and of the other.

    The files hold x and y in [0, 1] and z in [0, 7.8125]. The data set's notes undo that by X = 1280 - 2560 x,
    Y = 960 - 1920 y, Z = 10000 z / 7.8125; so does this reader, and divides by 1000. All three axes are then metres,
    which the notes do not say: in the recordings a bone keeps its length best just where z and y have the scale of x,
    and the lengths are human (upper arm 0.28, thigh 0.43). y points up, z away from the camera, x so that the axes
    are right-handed and left shoulders lie on the left of their owners.

    Protocol ``foldK`` tests on the pairs of the K-th published fold and trains on all others; published figures are
    means over the five. Folds separate pairs, not people: s01s02 and s02s01 are the same two. All sequences of a pair
    are cut from one recording, hence the pair is the group.

    Args:
        src: the folder of the pairs, or one above it.
    """

    topology, dims, units, up = "sbu15", 3, "metres", "+y"
    classes = (
        "approaching", "departing", "kicking", "pushing", "shaking hands", "hugging", "exchanging", "punching",
    )  # fmt: skip
    source = "SBU Kinect Interaction v2.0 (Yun, Honorio, Chattopadhyay, Berg, Samaras, HAU3D at CVPR 2012)"
    terms = "For the purposes of research only (the data set's own notes); cite the paper."
    pattern = "skeleton_pos.txt"
    steps = (
        {"name": "normalisation undone", "x": "1.28 - 2.56 x", "y": "0.96 - 1.92 y", "z": "1.28 z", "unit": "metres"},
    )

    def items(self) -> Sequence[Path]:
        return need_items(sorted(need_folder(self.src).rglob("skeleton_pos.txt")), self.src, "skeleton_pos.txt")

    def read(self, item: Path) -> Iterator[Clip]:
        pair, number, sequence = item.parts[-4:-1] if len(item.parts) > 3 else ("", "", "")
        if not re.fullmatch(r"0[1-8]", number) or not re.fullmatch(r"\d{3}", sequence):
            raise UserError(f"{item}: the folders are not of the form s01s02/01/001.")
        if pair not in PAIRS:
            raise UserError(f"{item}: '{pair}' is none of the {len(PAIRS)} pairs of the published folds.")
        for clip in self.poses(item):
            yield replace(clip, name=f"{pair}_{number}_{sequence}", label=int(number) - 1, subject=pair, group=pair)

    def poses(self, item: Path) -> Iterator[Clip]:
        frames = _frames(item)[:, 1:].reshape(-1, 2, JOINTS, 3).swapaxes(0, 1)
        # Undoing moves the origin, after which a joint that the file gives as zeros would not be told from a seen one.
        score = (frames != 0).any(-1)
        yield Clip.of("_".join(item.parts[-4:-1]) or item.stem, frames * FACTOR + ORIGIN, score, fps=15.0)

    def protocols(self, names: Collection[str]) -> Mapping[str, Mapping[str, Sequence[str]]]:
        return {
            f"fold{number}": {
                "train": [name for name in sorted(names) if name[:6] not in pairs],
                "test": [name for name in sorted(names) if name[:6] in pairs],
            }
            for number, pairs in enumerate(FOLDS, 1)
        }


def _frames(path: Path) -> np.ndarray:
    """All rows of a file, ``(T, 91)``.

    Raises:
        UserError: no text, no frame, or a line with something else than 91 numbers or out of turn.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__}: {error}).") from None
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            rows.append(_row(line, f"{path}:{number}"))
            if len(rows) > 1 and rows[-1][0] != rows[-2][0] + 1:
                raise UserError(f"{path}:{number}: frame {rows[-1][0]:g} follows frame {rows[-2][0]:g}.")
    if not rows:
        raise UserError(f"{path}: empty, no frame in it.")
    return np.array(rows)


def _row(line: str, where: str) -> list[float]:
    fields = line.split(",")
    if len(fields) != WIDTH:
        raise UserError(f"{where}: {len(fields)} numbers, a frame of two persons has {WIDTH}.")
    row = []
    for field in fields:
        try:
            row.append(float(field))
        except ValueError:
            raise UserError(f"{where}: '{field.strip()[:30]}' is not a number.") from None
        if not math.isfinite(row[-1]):
            raise UserError(f"{where}: '{field.strip()[:30]}' is not a finite number.")
    return row
