"""Steps of a modality where they lie: in the store, in an .npy or .npz file, as pictures or as a video.

Letters: S steps of the whole recording, s steps that are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np

from skelgraph.errors import UserError

ARRAYS = (".npy", ".npz")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
VIDEOS = (".avi", ".mp4", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".m4v")
# Of the frames that a video announces so many must be there; encoders miscount by one or two.
WHOLE = 0.95
Size = tuple[int, int]


class Steps(Protocol):
    """Steps that are read when they are asked for.

    Attributes:
        count: S.
        shape, dtype: of one step.
        times: (S,) seconds, where known.
        kind: what the modality is, where the form of the file tells.
    """

    count: int
    shape: tuple[int, ...]
    dtype: np.dtype
    times: np.ndarray | None
    kind: str | None

    def take(self, index: np.ndarray) -> np.ndarray:
        """Steps by number, each from 0 to S - 1, ``(s, *shape)``."""
        ...


@dataclass
class ArraySteps:
    """Steps of an array (S, ...), which may be mapped from a file."""

    array: np.ndarray
    times: np.ndarray | None = None
    kind: str | None = None

    def __post_init__(self) -> None:
        self.count, self.shape, self.dtype = len(self.array), self.array.shape[1:], self.array.dtype

    def take(self, index: np.ndarray) -> np.ndarray:
        return self.array[index]


def open_steps(content: np.ndarray | Path, times: np.ndarray | None = None, size: Size | None = None) -> Steps:
    """The steps of an array, a file or a folder; of a file nothing but its outline is read yet.

    Args:
        content: an array (S, ...); an .npy or .npz file (of one array, or ``values`` and perhaps ``times``); a folder
            of pictures in the order of their names; a video.
        times: seconds of each step, in place of what the file says.
        size: height and width that coloured or grey pictures and videos are resized to while they are read.

    Raises:
        UserError: absent, damaged, without steps, or of no kind that can be read; names the file.
    """
    if isinstance(content, np.ndarray):
        return ArraySteps(content, times)
    if content.is_dir():
        return Pictures(content, times, size)
    if not content.is_file():
        raise UserError(f"{content}: no such file or folder.")
    if content.suffix.lower() in ARRAYS:
        return _from_numpy(content, times)
    if content.suffix.lower() in VIDEOS:
        return Video(content, times, size)
    known = ", ".join([*ARRAYS, *VIDEOS])
    raise UserError(f"{content}: neither a folder of pictures nor one of {known}.")


def _from_numpy(path: Path, times: np.ndarray | None) -> ArraySteps:
    try:
        loaded = np.load(path, mmap_mode="r" if path.suffix == ".npy" else None, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            values, own = loaded, None
        else:
            with loaded:
                key = "values" if "values" in loaded else next(iter(loaded.files))
                values, own = loaded[key], loaded["times"] if "times" in loaded and key != "times" else None
    except (OSError, ValueError, EOFError, BadZipFile, StopIteration, KeyError) as error:
        raise UserError(f"{path}: damaged or no plain array ({error}).") from None
    if values.ndim < 1 or not values.size or values.dtype.kind not in "fiu":
        raise UserError(f"{path}: {values.dtype} of shape {values.shape}, no steps of numbers.")
    if times is None and own is not None and own.shape != values.shape[:1]:
        raise UserError(f"{path}: {own.size} times for {len(values)} steps.")
    return ArraySteps(values, own if times is None else times)


# ---- pictures -----------------------------------------------------------------------------------------------------


class Pictures:
    """A folder of pictures of one size, a step each, in the order of the numbers in their names.

    Shapes:
        a step is (height, width, 3), or (height, width) of grey pictures, which may have 16 bits.

    Raises:
        UserError: no picture in it, or the first one cannot be read.
    """

    kind: str | None = "frames"

    def __init__(self, folder: Path, times: np.ndarray | None = None, size: Size | None = None) -> None:
        self.files = sorted((path for path in folder.iterdir() if path.suffix.lower() in PICTURES), key=_by_number)
        if not self.files:
            raise UserError(f"{folder}: no picture in it ({', '.join(PICTURES)}).")
        self.times, self.size, self.count = times, size, len(self.files)
        first = self._read(self.files[0])
        self.shape, self.dtype = first.shape, first.dtype

    def take(self, index: np.ndarray) -> np.ndarray:
        read = {number: self._read(self.files[number]) for number in np.unique(index).tolist()}
        for number, picture in read.items():
            if picture.shape != self.shape or picture.dtype != self.dtype:
                raise UserError(f"{self.files[number]}: {picture.shape}, but {self.files[0].name} is {self.shape}.")
        return np.stack([read[number] for number in index.tolist()])

    def _read(self, path: Path) -> np.ndarray:
        try:
            from PIL import Image
        except ImportError:
            raise UserError("reading pictures needs Pillow: pip install 'skelgraph[video]'") from None
        try:
            with Image.open(path) as picture:
                if picture.mode[0] in "IF":
                    whole = np.asarray(picture)
                    return whole.astype(np.uint16) if whole.dtype.kind in "iu" else whole
                plain = picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB")
                if self.size is not None:
                    plain = plain.resize(self.size[::-1], Image.Resampling.BILINEAR)
                return np.asarray(plain)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UserError(f"{path}: damaged or no picture ({error}).") from None


def _by_number(path: Path) -> list[Any]:
    """Key that puts frame9 before frame10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.stem)]


# ---- videos -------------------------------------------------------------------------------------------------------


class Video:
    """A video, decoded by PyAV from its beginning up to the last frame that is asked for.

    Shapes:
        a step is (height, width, 3) in RGB, or (height, width) of grey videos, which may have 16 bits.

    Raises:
        UserError: PyAV is not installed, or it cannot read the file.
    """

    kind: str | None = "frames"

    def __init__(self, path: Path, times: np.ndarray | None = None, size: Size | None = None) -> None:
        self.path, self.size = path, size
        self.times: np.ndarray | None
        with self._opened() as (container, stream):
            pixels = str(stream.codec_context.pix_fmt or "")
            height, width = size or (stream.codec_context.height, stream.codec_context.width)
            if times is None:
                times = self._times(container, stream)
            announced = stream.frames
        if len(times) <= WHOLE * announced:
            raise UserError(f"{path}: cut off, it has {len(times)} of the {announced} frames that it announces.")
        grey = pixels.startswith("gray")
        deep = grey and pixels not in ("gray", "gray8")
        self.format = "gray16le" if deep else "gray" if grey else "rgb24"
        self.dtype = np.dtype(np.uint16 if deep else np.uint8)
        self.shape: tuple[int, ...] = (height, width) if grey else (height, width, 3)
        self.times, self.count = times, len(times)

    def take(self, index: np.ndarray) -> np.ndarray:
        wanted, back = np.unique(index, return_inverse=True)
        found: list[np.ndarray] = []
        with self._opened() as (container, stream):
            stream.thread_type = "AUTO"
            for number, frame in enumerate(container.decode(stream)):
                if number == wanted[len(found)]:
                    found.append(self._picture(frame))
                    if len(found) == len(wanted):
                        break
        if len(found) < len(wanted):
            raise UserError(f"{self.path}: frame {wanted[len(found)]} of {self.count} cannot be decoded.")
        return np.stack(found)[back]

    def _picture(self, frame: Any) -> np.ndarray:
        picture: np.ndarray = frame.reformat(
            width=self.shape[1], height=self.shape[0], format=self.format, interpolation="AREA"
        ).to_ndarray()
        return picture

    def _times(self, container: Any, stream: Any) -> np.ndarray:
        """Seconds of every frame from the first on, by the packets alone; by the rate where these have no times."""
        marks = [packet.pts for packet in container.demux(stream) if packet.size]
        if None not in marks and len(set(marks)) == len(marks) and stream.time_base:
            ordered = np.sort(np.array(marks, dtype=np.float64))
            return (ordered - ordered[:1]) * float(stream.time_base)
        return np.arange(len(marks)) / float(stream.average_rate or stream.guessed_rate or 30)

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        try:
            import av
        except ImportError:
            raise UserError("reading videos needs PyAV: pip install 'skelgraph[video]'") from None
        try:
            with av.open(str(self.path)) as container:
                if not container.streams.video:
                    raise UserError(f"{self.path}: cannot be decoded (there is no video in it).")
                yield container, container.streams.video[0]
        except (av.FFmpegError, ValueError) as error:
            raise UserError(
                f"{self.path}: cannot be decoded ({error.strerror if isinstance(error, av.FFmpegError) else error})."
            ) from None
