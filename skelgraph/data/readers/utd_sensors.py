"""The inertial sensor and the depth camera of UTD-MHAD, beside its skeletons."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from skelgraph.data.readers.matlab import load_mat
from skelgraph.data.schema import ModalityFacts
from skelgraph.errors import UserError, unknown

DTYPES = {"inertial": "float32", "depth": "uint16"}
# The sensor's 50 and the camera's 30 a second do not fit the lengths of the files (docs/data.md): both are cut to the
# same action. The depth lags by two frames.
FACTS = {
    "inertial": ModalityFacts(kind="sequence", unit="g, deg/s", spans=True),
    "depth": ModalityFacts(kind="frames", unit="mm", rate=30.0, lag=2.0),
}
SIDE = 48
MARGIN = 1.2


class Sensors:
    """Reads the wanted modalities of a clip by its name.

    Args:
        root: the folder that has ``Skeleton``, and beside it ``Inertial`` and ``Depth`` or ``depth``.
        names: ``inertial``, ``depth`` or both.

    Raises:
        UserError: another name, or nothing of that modality at all.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        if isinstance(names, str):
            raise UserError(f"modalities: write a list, -o 'modalities=[{names}]'.")
        self.root, self.names = root, tuple(names)
        for name in self.names:
            if name not in DTYPES:
                raise unknown("modality", name, DTYPES, "utd-mhad")
        if "inertial" in self.names and not any((root / "Inertial").glob("*_inertial.mat")):
            raise UserError(f"{root / 'Inertial'}: no *_inertial.mat file.")
        if "depth" in self.names and not (self._converted() or any((root / "Depth").glob("*_depth.mat"))):
            raise UserError(f"{root}: neither Depth/*_depth.mat nor depth/depth48_*.npz.")

    def read(self, name: str) -> dict[str, np.ndarray]:
        """The modalities of a clip; one without file is left out.

        Raises:
            UserError: a damaged file, or values of another shape.
        """
        found: dict[str, np.ndarray] = {}
        path = self.root / "Inertial" / f"{name}_inertial.mat"
        if "inertial" in self.names and path.is_file():
            found["inertial"] = _matrix(path, "d_iner", (None, 6)).astype(np.float32)
        path = self.root / "Depth" / f"{name}_depth.mat"
        if "depth" in self.names and path.is_file():
            found["depth"] = shrunk(_matrix(path, "d_depth", (None, None, None)).transpose(2, 0, 1))
        elif "depth" in self.names:
            frames = next((frames for file in self._converted() if (frames := _frames(file, name)) is not None), None)
            found |= {} if frames is None else {"depth": frames}
        return found

    def _converted(self) -> list[Path]:
        return sorted((self.root / "depth").glob("depth48_*.npz"))


def shrunk(depth: np.ndarray) -> np.ndarray:
    """Depth frames of a whole sensor as 48 x 48 cells around the person.

    One square for all frames of a clip: around the bounding box of what is not 0, 1.2 times its longer side, on
    sixteenths of a pixel. A cell is the mean of the pixels under it that are not 0, by area, and 0 unless they cover
    half of it.

    Shapes:
        depth (T, height, width), 0 = nothing there; result (T, 48, 48) uint16.

    Raises:
        UserError: nothing is there in any frame.
    """
    there: np.ndarray = np.any(depth > 0, axis=0)
    if not there.any():
        raise UserError("the depth frames are empty.")
    rows, columns = (np.flatnonzero(there.any(axis)) for axis in (1, 0))
    side = round(16 * MARGIN * (1 + max(np.ptp(rows), np.ptp(columns)))) / 16
    over = [_overlap((ends[0] + ends[-1] + 1 - side) / 2, side, there.shape[axis]) for axis, ends in
            enumerate((rows, columns))]  # fmt: skip
    total, covered = (
        over[0] @ layer @ over[1].T for layer in (depth.astype(np.float64), (depth > 0).astype(np.float64))
    )
    mean = np.divide(total, covered, out=np.zeros_like(total), where=covered >= (side / SIDE) ** 2 / 2)
    return np.rint(mean).astype(np.uint16)


def _overlap(begin: float, side: float, pixels: int) -> np.ndarray:
    """Length that each of 48 cells has in common with each pixel ``(48, pixels)``."""
    edges = begin + side / SIDE * np.arange(SIDE + 1)
    low, high = np.maximum.outer(edges[:-1], np.arange(pixels)), np.minimum.outer(edges[1:], np.arange(1, pixels + 1))
    common: np.ndarray = np.clip(high - low, 0, None)
    return common


def _matrix(path: Path, key: str, shape: tuple[int | None, ...]) -> np.ndarray:
    values: np.ndarray = load_mat(path, (key,))[key]
    fits = values.ndim == len(shape) and all(size in (None, got) for size, got in zip(shape, values.shape, strict=True))
    if not fits or values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise UserError(f"{path}: {key} is {values.dtype} of shape {values.shape}, not finite numbers {shape}.")
    return values


class _Converted(NamedTuple):
    frames: np.ndarray
    offsets: np.ndarray
    places: dict[str, int]


@lru_cache(maxsize=2)
def _open(path: Path) -> _Converted:
    try:
        with np.load(path, allow_pickle=False) as file:
            frames, offsets, names = file["frames"], file["offsets"], file["names"]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise UserError(f"{path}: damaged ({error}).") from None
    return _Converted(frames, offsets, {str(name): place for place, name in enumerate(names)})


def _frames(path: Path, name: str) -> np.ndarray | None:
    """Frames of a clip out of a file that holds many."""
    file = _open(path)
    place = file.places.get(name)
    return None if place is None else file.frames[file.offsets[place] : file.offsets[place + 1]]
