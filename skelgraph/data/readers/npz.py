"""Own data as one ``.npz`` file: the plainest way into a store.

Keys (N clips, M persons, T frames, V joints, C coordinates); only the first is required:

* ``keypoints``: ``(N, M, T, V, C)``, shorter clips filled up with zeros at the end and counted by ``frames (N,)``; or
  with ``offsets (N + 1,)`` all frames one after another: ``(sum T, V, C)``, or ``(sum T, M, V, C)`` for several
  persons. Clip i is ``[offsets[i] : offsets[i + 1]]``.
* ``score``: the same shape without C, in [0, 1]. A joint with score 0, or with all coordinates exactly 0, is missing.
* ``label (N,)``: class numbers, -1 = unlabelled; ``classes (K,)``: class names.
* ``names (N,)``: unique; ``subject``, ``camera``, ``setup``, ``group`` ``(N,)``: text or numbers.
* ``fps``: one number or ``(N,)``; ``image_size``: ``(2,)`` or ``(N, 2)``, height and width in pixels.
* ``split_<protocol> (N,)``: ``train``, ``val``, ``test`` or an empty text for each clip.
* ``topology``: name of the joint layout, unless given on the command line.

    numpy.savez("mine.npz", keypoints=points, label=labels, classes=["run", "jump"], split_mine=parts)
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from skelgraph.data.clip import Clip
from skelgraph.data.readers.base import READERS, Reader, need_file, need_items
from skelgraph.data.readers.declared import need_size, numbered_classes
from skelgraph.errors import UserError

TEXTS = ("subject", "camera", "setup", "group")


@READERS.register("npz")
class Npz(Reader):
    """Own data as arrays in one npz file; the layout stands in ``skelgraph/data/readers/npz.py``.

    Args:
        src: the file.
        units: of the coordinates.
        up: the axis that points up, e.g. ``+y``.
    """

    in_memory = True

    def __init__(self, src: Path, *, units: str = "", up: str | None = None) -> None:
        super().__init__(need_file(src))
        self._data = load_arrays(src, ("keypoints",))
        self._ragged = "offsets" in self._data
        self.units, self.up, self.source = str(units), None if up is None else str(up), src.name
        self.dims = self._data["keypoints"].shape[-1] if self._data["keypoints"].ndim else 0
        self._size = len(self._data["offsets"]) - 1 if self._ragged else len(self._data["keypoints"])
        self._check_shapes()
        if "topology" in self._data:
            self.topology = str(self._data["topology"])
            # A name and no path: a file of somebody else's must not choose what else is read here.
            if not re.fullmatch(r"\w[\w-]{0,99}", self.topology):
                raise UserError(f"{src}: topology {ascii(self.topology)[:60]} is no name of a joint layout.")
        self.classes = self._class_names()

    def items(self) -> Sequence[int]:
        return need_items(range(self._size), self.src, "clip")

    def title(self, item: int) -> str:
        return f"{self.src}, clip {item}"

    def read(self, item: int) -> Iterator[Clip]:
        data = self._data
        score = self._part("score", item) if "score" in data else None
        label = int(data["label"][item]) if "label" in data else -1
        size, fps = self._each("image_size", item, 2), self._each("fps", item, 1)
        yield Clip.of(
            self._name(item), self._part("keypoints", item), score, label=None if label == -1 else label,
            image_size=None if size is None else (int(size[0]), int(size[1])),
            fps=None if fps is None else float(fps),
            **{key: str(data[key][item]) for key in TEXTS if key in data},
        )  # fmt: skip

    def protocols(self, names: Collection[str]) -> Mapping[str, Mapping[str, Sequence[str]]]:
        result: dict[str, dict[str, list[str]]] = {}
        for key in self._data:
            if key.startswith("split_"):
                parts = result.setdefault(key.removeprefix("split_"), {})
                for item, part in enumerate(self._data[key]):
                    if str(part):
                        parts.setdefault(str(part), []).append(self._name(item))
        return result

    def _name(self, item: int) -> str:
        return str(self._data["names"][item]) if "names" in self._data else f"{self.src.stem}_{item:06d}"

    def _part(self, key: str, item: int) -> np.ndarray:
        """Joints or scores of a clip, persons first."""
        values, plain = self._data[key], 3 if key == "keypoints" else 2
        if not self._ragged:
            frames = int(self._data["frames"][item]) if "frames" in self._data else values.shape[2]
            return values[item, :, :frames]
        start, end = self._data["offsets"][item : item + 2]
        part = values[start:end]
        return part if part.ndim == plain else part.swapaxes(0, 1)

    def _each(self, key: str, item: int, width: int) -> Any:
        """A value that stands once for all clips or once a clip."""
        if key not in self._data:
            return None
        values = self._data[key]
        return values if values.ndim == width - 1 else values[item]

    def _class_names(self) -> tuple[str, ...]:
        if "classes" in self._data:
            return tuple(str(name) for name in self._data["classes"])
        return numbered_classes(map(int, np.unique(self._data["label"]))) if "label" in self._data else ()

    def _check_shapes(self) -> None:
        data, joints = self._data, self._data["keypoints"]
        allowed = (3, 4) if self._ragged else (5,)
        if joints.ndim not in allowed or joints.dtype.kind not in "fiu" or self.dims not in (2, 3):
            raise UserError(f"{self.src}: keypoints of shape {joints.shape} ({joints.dtype}) do not fit the layout.")
        if "score" in data and data["score"].shape != joints.shape[:-1]:
            raise UserError(f"{self.src}: score has shape {data['score'].shape}, expected {joints.shape[:-1]}.")
        if self._ragged:
            offsets = data["offsets"]
            sound = offsets.ndim == 1 and offsets.dtype.kind in "iu" and offsets.size > 0
            if not sound or offsets[0] != 0 or offsets[-1] != len(joints) or (np.diff(offsets) < 0).any():
                raise UserError(f"{self.src}: offsets must rise from 0 to the number of frames, {len(joints)}.")
        if "label" in data and data["label"].dtype.kind not in "iu":
            raise UserError(f"{self.src}: label must be whole numbers.")
        for key in ("label", "names", "frames", *TEXTS, *(key for key in data if key.startswith("split_"))):
            if key in data and data[key].shape != (self._size,):
                raise UserError(f"{self.src}: {key} has shape {data[key].shape}, there are {self._size} clips.")
        for key, width in (("fps", ()), ("image_size", (2,))):
            if key in data and data[key].shape not in (width, (self._size, *width)):
                raise UserError(f"{self.src}: {key} has shape {data[key].shape}, there are {self._size} clips.")


def load_arrays(path: Path, required: Sequence[str]) -> dict[str, np.ndarray]:
    """All arrays of an npz file; object arrays are refused, since reading one runs a pickle.

    Raises:
        UserError: no npz, cut off, an object array, a size beyond belief, or a required key is missing.
    """
    try:
        _check_sizes(path)
        with np.load(path, allow_pickle=False) as file:
            data = {key: file[key] for key in file.files}
    except UserError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise whatever the damaged byte leads to
        raise UserError(f"{path}: no npz file of plain arrays ({str(error)[:120]}).") from None
    for key in required:
        if key not in data:
            raise UserError(f"{path}: has no array '{key}', only {', '.join(data) or 'nothing'}.")
    return data


def _check_sizes(path: Path) -> None:
    """Hold what the arrays of an npz say of their sizes against what there is.

    Raises:
        UserError: an array is larger than its part of the file, or all are larger than is believable.
    """
    with zipfile.ZipFile(path) as file:
        parts = file.infolist()
        need_size(path, sum(part.file_size for part in parts), "the archive")
        for part in parts:
            with file.open(part) as stream:
                size = _declared(stream)
            if size > part.file_size:
                raise UserError(f"{path}: '{part.filename}' says it has {size} bytes, there are {part.file_size}.")


def _declared(stream: IO[bytes]) -> int:
    """Bytes of numbers that the header of an npy file promises; 0 where it is none, which numpy refuses later."""
    if stream.read(6) != b"\x93NUMPY":
        return 0
    version = tuple(stream.read(2))
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return math.prod(shape) * dtype.itemsize
