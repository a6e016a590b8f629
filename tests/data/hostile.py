"""Damaged and hostile files: a fixed corpus of damages, random ones for fuzzing, and what an import must do with both.

Whatever a file holds, an import ends with a store or a `UserError`; no code of the file is run, memory and time stay
bounded, nothing is written outside the store, and every message names a file.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import resource
import signal
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from reader_samples import Sample

from skelgraph.data import Store, import_data
from skelgraph.errors import UserError
from skelgraph.prediction.sources import open_input

HEADROOM = 512 << 20  # bytes an import of a tiny file may ask for on top
SECONDS = 30
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
NUMBERS = (b"nan", b"NaN", b"inf", b"-Infinity", b"1e999", b"-1", b"0", b"999999999", b"9" * 30, b"9" * 6000, b"1.5",
           b"x", b"", b"0x10", "\u0663".encode())  # fmt: skip
VALUES: tuple[Any, ...] = (None, True, -1, 0, 2**31, 2**70, 1e308, float("nan"), float("inf"), "", "x" * 2000,
                           "../../../../tmp/escaped", "/etc/passwd", "a\x00b", "\ud800", [], {}, [[]], [None],
                           [[[1, 2], [3]]], {"x": 1}, [1e308] * 9)  # fmt: skip


class _Payload:
    """Pickled, it asks whoever loads it to make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


# ---- what must hold ------------------------------------------------------------------------------------------------


@contextmanager
def bounded() -> Iterator[None]:
    """Bounds memory and time."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    status = Path("/proc/self/status").read_text()
    used = int(re.search(r"VmData:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_DATA, (used + HEADROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def survive(format: str, sample: Sample, folder: Path) -> str:
    """Import a damaged source into ``folder``; "" if all was read, else the first complaint.

    Raises:
        AssertionError: something that must hold does not.
    """
    names = [path.name for path in sample.files] + [sample.src.name]
    _forget()
    around = {path.name for path in folder.parent.iterdir()} | {folder.name}
    try:
        with bounded():
            report = import_data(
                sample.format or format, sample.src, folder, topology=sample.topology, progress=False, overwrite=True,
                **sample.options,
            )  # fmt: skip
            texts = [item.reason for item in report.skipped]
            for clip in (store := Store.open(folder)):
                clip.check(store.topology, store.meta.dims, len(store.classes))
    except UserError as error:
        texts = [str(error)]
    _sound(texts, names)
    assert {path.name for path in folder.parent.iterdir()} <= around, "something was written elsewhere"
    assert not Path("/tmp/escaped").exists()
    return texts[0] if texts else ""


def survive_prediction(format: str, sample: Sample) -> str:
    """Read the poses of a damaged source as prediction does; "" if all was read, else the first complaint.

    Raises:
        AssertionError: something that must hold does not.
    """
    _forget()
    try:
        with bounded():
            source = open_input(sample.src, sample.format or format, sample.topology)
            for _ in source.clips():
                pass
            texts = source.skipped
    except UserError as error:
        texts = [str(error)]
    _sound(texts, [path.name for path in sample.files] + [sample.src.name])
    return texts[0] if texts else ""


def _sound(texts: Sequence[str], names: Sequence[str]) -> None:
    """Messages name a file, and tell of no memory or time that was asked for in vain."""
    for text in texts:
        assert any(name in text for name in names), f"no file is named: {text}"
        assert not re.search(r"MemoryError|TimeoutError|malloc|allocate", text), text
        assert len(text) < 4000, f"a message of {len(text)} letters"


def _forget() -> None:
    """Readers remember the file they read last, by its path; here its content changes."""
    for name, module in list(sys.modules.items()):
        if name.startswith("skelgraph.data.readers."):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


# ---- fixed damages -------------------------------------------------------------------------------------------------

Damage = Callable[[Path], None]


def corpus(path: Path, trace: Path) -> Iterator[tuple[str, Damage]]:
    """Named damages that make sense for a file of this kind; code that runs makes the folder ``trace``."""
    content = path.read_bytes()
    yield from _plain_damages(content)
    kind = path.suffix.lstrip(".")
    if kind in ("json", "jsonl", "csv", "txt", "skeleton"):
        yield from _text_damages(content)
    if kind in ("json", "jsonl"):
        yield "deep lists", _bytes(b"[" * 300_000)
        yield "deep objects", _bytes(b'{"a":' * 200_000)
        for place in (0, 5):
            for value in VALUES:
                yield f"value {place} is {value!r:.30}", lambda p, k=place, v=value: change_json(p, k, v)
    if kind in ("npz", "npy"):
        yield from _array_damages(path, trace)
    if kind == "parquet":
        yield from (
            (f"byte {at} turned", _bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]))
            for at in range(0, len(content), max(1, len(content) // 60))
        )
    if kind == "pkl":
        yield "code", _bytes(pickle.dumps(_Payload(trace)))
        yield "code inside", _bytes(pickle.dumps({"split": {}, "annotations": [_Payload(trace)]}))
        yield "a text of 2^60 bytes", _bytes(b"\x80\x04\x8d" + (2**60).to_bytes(8, "little") + b"x.")
        yield "a table of 2^31 places", _bytes(b"\x80\x04Nr" + (2**31 - 1).to_bytes(4, "little") + b".")
        yield "deep lists", _bytes(b"\x80\x04" + b"(" * 100_000 + b"l" * 100_000 + b".")
    if kind == "mat":
        yield (
            "dimensions",
            _bytes(content.replace(b"\x05\x00\x00\x00\x08\x00\x00\x00", b"\x05\x00\x00\x00\xf8\xff\xff\x7f")),
        )
        if content[128] != 15:  # once, for the file that is not compressed
            yield "bomb", mat_bomb


def _bytes(content: bytes) -> Damage:
    return lambda path: path.write_bytes(content) and None  # type: ignore[func-returns-value]


def _plain_damages(content: bytes) -> Iterator[tuple[str, Damage]]:
    half = len(content) // 2
    noise = np.random.default_rng(0).bytes(500)
    yield "empty", _bytes(b"")
    yield "half", _bytes(content[:half])
    yield "last byte gone", _bytes(content[:-1])
    yield "first bytes only", _bytes(content[:10])
    yield "noise", _bytes(noise)
    yield "zeros", _bytes(bytes(4096))
    yield "noise inside", _bytes(content[:half] + noise + content[half:])
    yield "twice", _bytes(content + content)
    yield "header overwritten", _bytes(b"\xff" * 8 + content[8:])
    yield "gone", lambda path: path.unlink()
    yield "a folder", lambda path: (path.unlink(), path.mkdir())[0]


def _text_damages(content: bytes) -> Iterator[tuple[str, Damage]]:
    count = len(NUMBER.findall(content))
    for place in sorted({0, 2, count // 2}):
        for number in NUMBERS:
            yield f"number {place} is {number[:12]!r}", lambda p, k=place, n=number: change_number(p, k, n)
    lines = content.splitlines(keepends=True)
    yield "no first line", _bytes(b"".join(lines[1:]))
    yield "no last line", _bytes(b"".join(lines[:-1]))
    yield "a line twice", _bytes(b"".join([*lines[:2], *lines[1:]]))
    yield "UTF-16", _bytes(content.decode("latin1").encode("utf-16"))
    yield "NUL", _bytes(content.replace(b",", b"\x00,").replace(b" ", b"\x00 "))
    yield "one long line", _bytes(content.replace(b"\n", b" ") * 50)
    yield "long field", _bytes(content + b"7" * 1_000_000)


def _array_damages(path: Path, trace: Path) -> Iterator[tuple[str, Damage]]:
    keys = list(np.load(path).files) if path.suffix == ".npz" else [""]
    for key in keys:
        for name, make in ARRAYS.items():
            yield f"{key}: {name}", lambda p, k=key, m=make: change_array(p, k, m)
        yield f"{key}: 2^40 numbers", lambda p, k=key: huge_header(p, k)
        yield f"{key}: code", lambda p, k=key: code_in_array(p, k, trace)
    if path.suffix == ".npz":
        yield "bomb", lambda p: npz_bomb(p, keys[0])
        yield "path escape", escaping_member


ARRAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "nan": lambda a: np.full(a.shape, np.nan),
    "inf": lambda a: np.full(a.shape, np.inf),
    "below zero": lambda a: np.full(a.shape, -7),
    "large": lambda a: np.full(a.shape, 2**62),
    "text": lambda a: np.full(a.shape, "../../escaped"),
    "complex": lambda a: np.full(a.shape, 1j),
    "times": lambda a: np.full(a.shape, np.datetime64("2020-01-01")),
    "empty": lambda a: a[:0] if a.ndim else np.zeros(0),
    "one less": lambda a: a[:-1] if a.ndim else a,
    "one axis more": lambda a: a[None],
    "no axis": lambda a: a.ravel()[0],
    "records": lambda a: np.zeros(a.shape, [("x", "f4"), ("y", "i8")]),
    "no width": lambda a: np.zeros((*a.shape, 0)),
}


# ---- single changes, shared with fuzzing ---------------------------------------------------------------------------


def change_number(path: Path, place: int, number: bytes) -> None:
    """Replace the number at ``place`` in a text."""
    content = path.read_bytes()
    found = list(NUMBER.finditer(content))
    if found:
        match = found[place % len(found)]
        path.write_bytes(content[: match.start()] + number + content[match.end() :])


def change_json(path: Path, place: int, value: Any) -> None:
    """Replace the value at ``place`` of a json, counted from the root; infinity is written as Python does."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    tree = [json.loads(line) for line in lines]
    spots = list(_spots(tree))
    holder, key = spots[place % len(spots)]
    holder[key] = value
    path.write_text("\n".join(json.dumps(item) for item in tree))


def _spots(tree: Any) -> Iterator[tuple[Any, Any]]:
    waiting = [tree]
    seen = {id(tree)}  # a damaged pickle may hold a list that holds itself
    for node in waiting:
        for key in list(node if isinstance(node, dict) else range(len(node))):
            yield node, key
            if isinstance(node[key], dict | list) and id(node[key]) not in seen:
                seen.add(id(node[key]))
                waiting.append(node[key])


def change_pickle(path: Path, place: int, value: Any) -> None:
    """Replace the value at ``place`` of a pickle of our own making."""
    tree = [_listed(pickle.loads(path.read_bytes()))]
    spots = list(_spots(tree))
    holder, key = spots[place % len(spots)]
    holder[key] = value
    path.write_bytes(pickle.dumps(tree[0]))


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def change_array(path: Path, key: str, make: Callable[[np.ndarray], np.ndarray]) -> None:
    """Put another array into an npz, or in place of an npy."""
    if path.suffix == ".npy":
        np.save(path, make(np.load(path)))
        return
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(path, **{**arrays, key: make(arrays[key])})


def _change_member(path: Path, key: str, make: Callable[[bytes], bytes]) -> None:
    """Rewrite the npy bytes of a member of an npz, or of an npy."""
    if path.suffix == ".npy":
        path.write_bytes(make(path.read_bytes()))
        return
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, make(content) if name == f"{key}.npy" else content)


def huge_header(path: Path, key: str) -> None:
    """An array that says it has 2^40 numbers and holds few."""
    text = io.BytesIO()
    np.lib.format.write_array_header_1_0(text, {"descr": "<f8", "fortran_order": False, "shape": (2**20, 2**20)})
    _change_member(path, key, lambda content: text.getvalue() + content[-64:])


def code_in_array(path: Path, key: str, trace: Path) -> None:
    """An array of objects, which numpy reads by running a pickle."""
    text = io.BytesIO()
    np.save(text, np.array([_Payload(trace)], dtype=object), allow_pickle=True)
    _change_member(path, key, lambda content: text.getvalue())


def npz_bomb(path: Path, key: str, size: int = 800 << 20) -> None:
    """An npz of few bytes with an array of many."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    shape = (size // (8 * 34), 1, 1, 17, 2)
    np.savez(path, **{name: array for name, array in arrays.items() if name != key})
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        file.open(f"{key}.npy", "w") as part,
    ):
        np.lib.format.write_array_header_1_0(part, {"descr": "<f8", "fortran_order": False, "shape": shape})
        for start in range(0, size, 16 << 20):
            part.write(bytes(min(16 << 20, size - start)))


def escaping_member(path: Path) -> None:
    """An npz with a member that would land outside if it were unpacked."""
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("../../escaped.npy", b"x")


def mat_bomb(path: Path, size: int = 800 << 20) -> None:
    """A MATLAB file of few bytes with a variable of many, in place of its first one."""
    import zlib
    from struct import pack

    from scipy.io import whosmat

    name = whosmat(path)[0][0].encode()
    padded = name + bytes(-len(name) % 8)
    head = pack("<IIII", 6, 8, 6, 0) + pack("<IIii", 5, 8, 1, size // 8)
    head += pack("<II", 1, len(name)) + padded + pack("<II", 9, size)
    packer = zlib.compressobj(1)
    packed = packer.compress(pack("<II", 14, len(head) + size) + head)
    packed += b"".join(packer.compress(bytes(16 << 20)) for _ in range(size // (16 << 20))) + packer.flush()
    path.write_bytes(path.read_bytes()[:128] + pack("<II", 15, len(packed)) + packed)


# ---- random changes ------------------------------------------------------------------------------------------------

Change = tuple[str, float, Any]
changes: st.SearchStrategy[list[Change]] = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.floats(0, 1), st.binary(min_size=1, max_size=40)),
        st.tuples(st.just("over"), st.floats(0, 1), st.binary(min_size=1, max_size=12)),
        st.tuples(st.just("cut"), st.floats(0, 1), st.integers(1, 400)),
        st.tuples(st.just("copy"), st.floats(0, 1), st.integers(1, 400)),
        st.tuples(st.just("number"), st.floats(0, 1), st.sampled_from(NUMBERS)),
        st.tuples(st.just("value"), st.floats(0, 1), st.sampled_from(VALUES) | st.integers() | st.text(max_size=9)),
        st.tuples(st.just("array"), st.floats(0, 1), st.sampled_from(sorted(ARRAYS))),
    ),
    min_size=1,
    max_size=4,
)


def apply(path: Path, steps: Sequence[Change]) -> None:
    """Change a file; a step that does not fit its kind, or comes after one that broke it, changes bytes instead."""
    for kind, where, what in steps:
        try:
            with bounded():  # these steps read what earlier ones have damaged, without any guard
                _apply(path, kind, where, what)
        except Exception:
            _apply(path, "over", where, repr(what).encode()[:12])


def _apply(path: Path, kind: str, where: float, what: Any) -> None:
    content = path.read_bytes()
    at = int(where * len(content))
    place = int(where * 997)
    if kind == "number":
        change_number(path, place, what)
    elif kind == "value":
        (change_json if path.suffix.startswith(".json") else change_pickle)(path, place, what)
    elif kind == "array":
        keys = list(np.load(path).files) if path.suffix == ".npz" else [""]
        change_array(path, keys[place % len(keys)], ARRAYS[what])
    elif kind == "cut":
        path.write_bytes(content[:at] + content[at + what :])
    elif kind == "copy":
        path.write_bytes(content[:at] + content[at : at + what] + content[at:])
    else:
        end = at if kind == "put" else at + len(what)
        path.write_bytes(content[:at] + what + content[end:])
