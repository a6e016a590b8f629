"""MATLAB 5 files by way of scipy, for the readers of data sets that come as ``.mat``.

scipy takes the types that a file declares for indices of a table and ends the process by a wrong one. So the variables
that are wanted are looked at first: a header of 128 bytes, then elements, each a tag (type and size, 4 bytes each) and
its bytes, filled up to a multiple of 8. An element of at most 4 bytes may stand in its tag, behind type and size of 2
bytes each. A variable is an element of type 14, or 15 where it is packed by zlib, that holds flags, shape, name and
numbers as elements of their own.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from skelgraph.data.readers.declared import need_size
from skelgraph.errors import UserError

WIDTH = 8  # bytes of a double
PEEK = 4096  # bytes of a variable in which its flags, shape, name and the tag of its numbers must stand
MATRIX, PACKED = 14, 15
TEXT_CLASS, NUMBER_CLASSES = 4, range(6, 16)
COMPLEX = 0x800
NUMBER_TYPES = frozenset((*range(1, 8), 9, 12, 13))
TEXT_TYPES = NUMBER_TYPES | {16, 17, 18}


class _Element(NamedTuple):
    type: int
    size: int
    content: bytes
    end: int


def load_mat(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """The named variables of a MATLAB 5 file, real numbers or text.

    Raises:
        UserError: scipy is not installed, the file is damaged or of another kind, or a variable is missing or empty.
    """
    try:
        from scipy.io import loadmat
    except ImportError:
        raise UserError("reading .mat files needs scipy: pip install 'skelgraph[mat]'") from None
    try:
        with path.open("rb") as file:
            declared = sum(_need_readable(*variable) for variable in _variables(file) if variable[0] in names)
        need_size(path, declared, "what it declares")
        data = loadmat(path, variable_names=names)
    except UserError:
        raise
    except Exception as error:  # scipy raises whatever the damaged byte leads to, struct.error and zlib.error included
        raise UserError(f"{path}: damaged MATLAB file ({str(error)[:100]}).") from None
    for name in names:
        if name not in data or not np.size(data[name]):
            raise UserError(f"{path}: has no variable '{name}'.")
    return data


def _variables(file: BinaryIO) -> Iterator[tuple[str, bytes, str]]:
    """Name, first bytes and byte order of every variable."""
    order = {b"\0\1IM": "<", b"\1\0MI": ">"}.get(file.read(128)[124:])
    if order is None:
        raise ValueError("not of version 5; MATLAB's save(..., '-v7') writes that")
    while tag := file.read(8):
        kind, size = struct.unpack(f"{order}II", tag)
        following = file.tell() + size
        start = file.read(min(size, PEEK))
        if kind == PACKED:
            start = zlib.decompressobj().decompress(start, PEEK)
            kind = struct.unpack_from(f"{order}I", start)[0]
            start = start[8:]
        if kind != MATRIX:
            raise ValueError(f"an element of type {kind} in the place of a variable")
        shape = _element(start, 16, order)
        yield _element(start, shape.end, order).content.decode("latin1"), start, order
        file.seek(following)


def _need_readable(name: str, start: bytes, order: str) -> int:
    """Bytes that a variable will take; raises unless it holds real numbers or text of a known type."""
    flags = struct.unpack_from(f"{order}I", start, 8)[0]
    shape = _element(start, 16, order)
    numbers = _element(start, _element(start, shape.end, order).end, order)
    kind = flags & 0xFF
    if flags & COMPLEX or not (kind == TEXT_CLASS or kind in NUMBER_CLASSES):
        raise ValueError(f"'{name}' holds {'complex numbers' if flags & COMPLEX else 'neither numbers nor text'}")
    if numbers.type not in (TEXT_TYPES if kind == TEXT_CLASS else NUMBER_TYPES):
        raise ValueError(f"'{name}' holds numbers of type {numbers.type}, which is none")
    lengths = struct.unpack(f"{order}{shape.size // 4}i", shape.content[: shape.size // 4 * 4])
    return max(numbers.size, WIDTH * math.prod(max(0, length) for length in lengths))


def _element(data: bytes, at: int, order: str) -> _Element:
    """The element at a place; the content may be cut off where it is long."""
    first, size = struct.unpack_from(f"{order}II", data, at)
    if first >> 16:
        size = min(first >> 16, 4)
        return _Element(first & 0xFFFF, size, data[at + 4 : at + 4 + size], at + 8)
    return _Element(first, size, data[at + 8 : at + 8 + size], at + 8 + -(-size // 8) * 8)
