"""PKU-MMD (Liu et al., arXiv 1703.07475): long Kinect v2 recordings as text, cut into clips by their label rows."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from skelgraph.data.clip import Clip
from skelgraph.data.readers.base import READERS, Reader, need_folder, need_items
from skelgraph.errors import UserError
from skelgraph.topology import Topology

if TYPE_CHECKING:
    from skelgraph.transforms import Pipeline

BODIES, JOINTS = 2, 25
WIDTH = BODIES * JOINTS * 3
SPLITS = {"xsub": re.compile(r"cross.?subject.*\.txt"), "xview": re.compile(r"cross.?view.*\.txt")}
NORMALISE = {"loop": {}, "center": {"per": "frame"}, "align": {}}

_NAMES = """
bow; brushing hair; brushing teeth; check time (from watch); cheer up; clapping; cross hands in front; drink water;
drop; eat meal or snack; falling; giving something to other person; hand waving; handshaking; hopping;
hugging other person; jump up; kicking other person; kicking something; phone call; pat on back of other person;
pick up; playing with phone or tablet; point finger at other person; pointing to something with finger;
punching or slapping other person; pushing other person; put on a hat or cap; put something inside pocket; reading;
rub two hands together; salute; sitting down; standing up; take off a hat or cap; take off glasses; take off jacket;
take out something from pocket; taking a selfie; tear up paper; throw; touch back; touch chest; touch head; touch neck;
typing on a keyboard; use a fan; wear jacket; wear on glasses; wipe face; writing
"""

PKU_CLASSES: tuple[str, ...] = tuple(" ".join(name.split()) for name in _NAMES.split(";"))


class Row(NamedTuple):
    """A row of a label file: where it stands, its text, and the file of the joints (None = there is none)."""

    labels: Path
    number: int
    text: str
    joints: Path | None


@READERS.register("pku-mmd")
class PkuMmd(Reader):
    """PKU-MMD, phase I or II: 51 actions in 3-D; protocols xsub and xview.

    Files ``VIDEO.txt`` in a folder whose name contains ``skeleton`` hold a frame a line: x, y, z of the 25 joints of
    one body, then of the other, 150 numbers. The file of the same name in a folder whose name contains ``label`` holds
    an action a line: class from 1, start, end, confidence. A clip is the frames start to end - 1, counted from 0, and
    is called ``VIDEO_ROW``. ``cross_subject_v2.txt`` and ``cross_view_v2.txt`` list the training videos on their second
    line and the test videos on their fourth; without that line all others are test videos. Phase II knows 41 of the 51
    classes. Videos are recordings (``group``): all cameras (the L, M or R at the end of a name) and all actions of one.

    Args:
        src: the folder that holds all of them.
        longest: frames after which a clip is cut, 300 in published work; 0 keeps all.
        normalise: store the joints as HaLP and CMD have them, from the whole clip: `loop`, `center` per frame, `align`.

    Source: HaLP (CVPR 2023) for cutting and normalising; spec halp §4.3, §4.4.
    """

    topology, dims, units, up = "ntu25", 3, "metres", "+y"
    classes = PKU_CLASSES
    source = "PKU-MMD (Liu, Hu, Li, Song, Liu, arXiv 1703.07475)"
    terms = "Terms of the PKU-MMD authors; ask them before use, cite the paper."

    def __init__(self, src: Path, *, longest: int = 300, normalise: bool = False) -> None:
        super().__init__(need_folder(src))
        if longest < 0:
            raise UserError(f"pku-mmd: 'longest' is a number of frames, or 0 for all, got {longest}.")
        self.longest = longest
        self.pipeline = _pipeline(self.topology or "") if normalise else None
        self.steps = [{"name": "cut", "longest": longest}, {"name": "drop persons never seen"}]
        if normalise:
            self.up = "+z"
            self.steps += [{"name": name, **settings} for name, settings in NORMALISE.items()]
        files = sorted(src.rglob("*.txt"))
        kinds = [_kind(path, src) for path in files]
        self._joints = {path.stem: path for path, kind in zip(files, kinds, strict=True) if kind == "skeleton"}
        self._labels = [path for path, kind in zip(files, kinds, strict=True) if kind == "label"]
        self._splits = {name: _one(files, pattern, src) for name, pattern in SPLITS.items()}
        if not any(self._splits.values()):
            raise UserError(f"{src}: neither cross_subject_v2.txt nor cross_view_v2.txt in it, which list the parts.")

    def items(self) -> Sequence[Row]:
        rows = [
            Row(path, number, text, self._joints.get(path.stem))
            for path in self._labels
            for number, text in enumerate(_lines(path), 1)
            if text.strip()
        ]
        return need_items(rows, self.src, "text file with rows in a folder called label")

    def title(self, item: Row) -> str:
        return f"{item.labels}:{item.number}"

    def read(self, item: Row) -> Iterator[Clip]:
        label, start, end = _label(item.text, self.title(item))
        if item.joints is None:
            raise UserError(f"{self.title(item)}: no file {item.labels.name} in a folder called skeleton.")
        frames = _frames(item.joints)
        if not 0 <= start < min(end, len(frames)):
            raise UserError(f"{self.title(item)}: frames {start} to {end} of {len(frames)} are no clip.")
        cut = frames[start:end][: self.longest or None].reshape(-1, BODIES, JOINTS, 3).swapaxes(0, 1)
        seen = (cut != 0).any((1, 2, 3))
        cut = cut[seen] if seen.any() else cut[:1]
        video = item.labels.stem
        recording, _, camera = video.rpartition("-")
        clip = Clip.of(f"{video}_{item.number:03d}", cut, label=label, fps=30.0, camera=camera or None,
                       group=recording or video)  # fmt: skip
        yield clip if self.pipeline is None else _normalised(clip, self.pipeline)

    def protocols(self, names: Collection[str]) -> Mapping[str, Mapping[str, Sequence[str]]]:
        videos: dict[str, list[str]] = {}
        for name in sorted(names):
            videos.setdefault(name.rpartition("_")[0], []).append(name)
        return {
            name: {part: [clip for video in listed for clip in videos[video]] for part, listed in parts.items()}
            for name, path in self._splits.items()
            if path is not None and (parts := _parts(path, list(videos)))
        }


def _pipeline(topology: str) -> Pipeline:
    # Torch takes seconds to import, and only this option needs it.
    from skelgraph.transforms import Pipeline

    return Pipeline(Topology.load(topology), NORMALISE)


def _normalised(clip: Clip, pipeline: Pipeline) -> Clip:
    """A clip through the published pre-normalisation."""
    import torch

    from skelgraph.batch import Batch

    # Kinect reports all joints of a body or none; told by zeros, the centre itself would pass for a missing joint.
    made = pipeline(Batch.of(torch.from_numpy(clip.keypoints)[None]))
    return replace(clip, keypoints=made.keypoints[0].numpy(), score=made.score[0].numpy())


def _kind(path: Path, src: Path) -> str | None:
    """What the innermost folder below ``src`` that says so calls a file: ``skeleton`` or ``label``."""
    for folder in reversed(path.relative_to(src).parts[:-1]):
        for kind in ("label", "skeleton"):
            if kind in folder.lower():
                return kind
    return None


def _one(files: Sequence[Path], pattern: re.Pattern[str], src: Path) -> Path | None:
    """The split file of this name; the files of both phases in one folder are an error."""
    found = [path for path in files if pattern.fullmatch(path.name.lower())]
    if len(found) > 1:
        raise UserError(
            f"{src}: {found[0].name} and {found[1].name} belong to two phases; import each from its own folder."
        )
    return found[0] if found else None


def _parts(path: Path, videos: Sequence[str]) -> dict[str, list[str]]:
    """The videos of train and test among those that there are."""
    lines = [[Path(word).stem for word in re.split(r"[\s,;]+", line) if word] for line in _lines(path)]
    train = [video for video in videos if len(lines) > 1 and video in set(lines[1])]
    if not train:
        raise UserError(f"{path}:2: names no video that is here; the second line lists the training videos.")
    others = [video for video in videos if video not in set(train)]
    return {"train": train, "test": [video for video in others if len(lines) < 4 or video in set(lines[3])]}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__}: {error}).") from None


def _numbers(line: str, where: str) -> list[float]:
    """The numbers of a line, between spaces or commas."""
    result = []
    for field in line.replace(",", " ").split():
        try:
            result.append(float(field))
        except ValueError:
            raise UserError(f"{where}: '{field[:30]}' is not a number.") from None
        if not math.isfinite(result[-1]):
            raise UserError(f"{where}: '{field[:30]}' is not a finite number.")
    return result


def _label(line: str, where: str) -> tuple[int, int, int]:
    """Class from 0, first frame and the frame after the last, of a label row."""
    row = _numbers(line, where)
    if len(row) not in (3, 4) or any(value != int(value) for value in row[:3]):
        raise UserError(f"{where}: '{line.strip()[:40]}' is not of the form class,start,end,confidence.")
    action, start, end = (int(value) for value in row[:3])
    if not 1 <= action <= len(PKU_CLASSES):
        raise UserError(f"{where}: class {action}, there are 1 to {len(PKU_CLASSES)}.")
    return action - 1, start, end


@lru_cache(maxsize=1)
def _frames(path: Path) -> np.ndarray:
    """All frames of a video, (T, 150) float32; that of the video read last is kept, as its rows follow one another."""
    rows = []
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            rows.append(_numbers(line, f"{path}:{number}"))
            if len(rows[-1]) != WIDTH:
                raise UserError(f"{path}:{number}: {len(rows[-1])} numbers, a frame of two bodies has {WIDTH}.")
    if not rows:
        raise UserError(f"{path}: empty, no frame in it.")
    return np.array(rows, dtype=np.float32)
