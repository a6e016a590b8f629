"""Reads pickles that hold numpy arrays and plain containers, and nothing else.

A pickle is a program. Two guards stand before it: a scan of its instructions (complete, no size beyond the file, no
table larger than the program), and a table of the only names it may call, each replaced by a function of ours that
checks its arguments. Arrays written by numpy 1.x and 2.x differ in module names only.
"""

from __future__ import annotations

import math
import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np

from skelgraph.errors import UserError

MAX_DEPTH = 200
_DTYPE = re.compile(r"[<>|=]?([biufc]\d{1,2}|[SU]\d{1,6}|\?|O8?|b1)")


class _Refused(Exception):
    """The pickle asks for something that is not data; the text says what."""


class _DType:
    """Stands for a numpy dtype while the pickle is read; only numbers, text and lists are admitted."""

    __slots__ = ("order", "text")

    def __init__(self, text: Any, align: Any = False, copy: Any = True) -> None:
        if not isinstance(text, str) or not _DTYPE.fullmatch(text):
            raise _Refused(f"array type {text!r:.40}")
        self.text, self.order = text.lstrip("<>|="), ""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "=") or any(state[2:5]):
            raise _Refused("a structured array type")
        self.order = state[1]

    @property
    def real(self) -> np.dtype:
        try:
            return np.dtype(self.order + self.text)
        except TypeError:
            raise _Refused(f"array type {self.text!r}") from None


class _Array(np.ndarray):
    """An array whose content is checked before numpy fills it in."""

    def __setstate__(self, state: Any) -> None:
        *_, shape, dtype, fortran, raw = state
        real = _checked(shape, dtype, raw)
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        numpy_state: Any = (1, shape, real, bool(fortran), raw)
        super().__setstate__(numpy_state)


def _checked(shape: Any, dtype: Any, raw: Any) -> np.dtype:
    """The dtype, if ``raw`` has just the size that dtype and shape need."""
    plain = isinstance(shape, tuple) and all(type(side) is int and side >= 0 for side in shape)
    if not plain or not isinstance(dtype, _DType) or not isinstance(raw, bytes | bytearray | str | list):
        raise _Refused("a malformed array")
    real, count = dtype.real, math.prod(shape)
    if (real.kind == "O") != isinstance(raw, list):
        raise _Refused("a malformed array of objects")
    if len(raw) != (count if isinstance(raw, list) else count * real.itemsize):
        raise _Refused("an array whose size does not fit its shape")
    return real


def _reconstruct(kind: Any, shape: Any = (0,), code: Any = b"b") -> np.ndarray:
    return np.ndarray.__new__(_Array, (0,), "b")


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    real = _checked(shape, dtype, raw)
    if real.kind == "O":
        raise _Refused("a malformed array of objects")
    return np.frombuffer(raw, dtype=real).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: Any, raw: Any = b"") -> Any:
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    real = _checked((), dtype, raw)
    if real.kind == "O":
        raise _Refused("a malformed number")
    return np.frombuffer(raw, dtype=real)[0]


def _latin1(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Refused("a text encoding other than latin1")
    return text.encode("latin1")


class _Admitted:
    """One of our functions as the pickle sees it: it can be called and nothing else (no attribute can be set)."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise _Refused("a change to a function")


def _no_bytes() -> bytes:
    """What protocol 2 calls for empty bytes; with an argument it could ask for any amount of memory."""
    return b""


def _no_call(*args: Any) -> None:
    raise _Refused("a bare array constructor")


_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _no_call,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _latin1,
    ("collections", "OrderedDict"): OrderedDict,
    **{(module, "set"): set for module in ("builtins", "__builtin__")},
    **{(module, "frozenset"): frozenset for module in ("builtins", "__builtin__")},
    **{(module, "bytes"): _no_bytes for module in ("builtins", "__builtin__")},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise _Refused(f"'{module}.{name}'")
        return _Admitted(_NAMES[module, name])


def load(path: Path) -> Any:
    """What a pickle holds: numpy arrays and numbers, dict, list, tuple, set, text, bytes, numbers, None.

    Text of Python 2 pickles is read as latin1.

    Raises:
        UserError: absent, cut off, damaged, or more than data; nothing of the pickle is run in any of these cases.
    """
    try:
        with open(path, "rb") as file:
            _scan(file, path.stat().st_size)
            file.seek(0)
            return _Unpickler(file, encoding="latin1").load()
    except _Refused as refusal:
        raise UserError(
            f"{path}: refused, the pickle contains {refusal}; only numpy arrays and plain containers are read."
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise UserError(f"{path}: no pickle, or cut off or damaged ({str(error)[:120]}).") from None
    except (MemoryError, OverflowError, RecursionError):
        raise UserError(f"{path}: damaged, it asks for more memory than there is.") from None


def _scan(file: BinaryIO, size: int) -> None:
    """Walk through the instructions without obeying them; raises on truncation, false sizes and deep nesting."""
    depth = 0
    for count, (code, argument, _) in enumerate(pickletools.genops(cast("IO[bytes]", _Limited(file, size)))):
        number = argument if isinstance(argument, int) else 0
        if code.name in ("LONG_BINPUT", "PUT", "BINPUT") and number > count:
            raise _Refused("a table larger than the file")
        if code.name == "FRAME" and number > size:
            raise ValueError("cut off inside a frame")
        depth += (code.name == "MARK") - (pickletools.markobject in code.stack_before)
        if depth > MAX_DEPTH:
            raise _Refused(f"containers nested deeper than {MAX_DEPTH}")


class _Limited:
    """A file that refuses to read beyond its end, so that a false length allocates nothing."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    def read(self, size: int = -1) -> bytes:
        if size > self._size:
            raise ValueError("cut off: a length beyond the end of the file")
        return self._file.read(size)

    def readline(self, size: int | None = -1) -> bytes:
        return self._file.readline(self._size)
