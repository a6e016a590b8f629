"""Puts a further modality into a store: files called after its clips, or one file for all of them."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from skelgraph.data.attach_files import Source, found_in
from skelgraph.data.clip import Clip
from skelgraph.data.media import Size, Steps
from skelgraph.data.modalities import Clock, align, usual_kind
from skelgraph.data.schema import Kind, ModalityFacts
from skelgraph.data.shard_stores import Whole
from skelgraph.data.store import PathLike, Store
from skelgraph.data.writer import StoreWriter
from skelgraph.errors import UserError

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
OWN = ("meta.json", "classes.json", "splits.json")


@dataclass(frozen=True)
class Form:
    """What is said of a modality when it is attached; the rest follows from its files.

    Attributes:
        kind: frames, sequence or features; None takes it from the first file.
        unit, rate, lag, spans, mirror: see `ModalityFacts`.
        suffix: what file names have behind the clip's name.
        size: height and width at which pictures and videos go into the store itself; None leaves them where they are.
    """

    kind: Kind | None = None
    unit: str = ""
    rate: float | None = None
    lag: float = 0.0
    spans: bool = False
    mirror: Sequence[float] | None = None
    suffix: str = ""
    size: Size | None = None

    def facts(self, first: Steps) -> ModalityFacts:
        """What the store will say."""
        kind = self.kind or usual_kind(first)
        signs = None if self.mirror is None else list(self.mirror)
        return ModalityFacts(kind=kind, unit=self.unit, rate=self.rate, lag=self.lag, spans=self.spans, mirror=signs)


@dataclass(frozen=True)
class Attached:
    """What became of a modality.

    Attributes:
        path, name: store and modality.
        clips: how many have it now.
        missing: clip -> why it does not have it, also in ``attached_NAME.csv`` inside the store.
        unused: files that belong to no clip.
        facts: what the store says of it.
    """

    path: Path
    name: str
    clips: int
    missing: Mapping[str, str]
    unused: tuple[str, ...]
    facts: ModalityFacts

    def lines(self) -> list[str]:
        """The same in plain words."""
        text = [f"{self.clips} clips of {self.path} have '{self.name}' ({self.facts.kind})"]
        if self.missing:
            text.append(f"{len(self.missing)} do not, reasons in {self.path / _list_name(self.name)}; the first:")
            text.extend(f"  {clip}: {reason}" for clip, reason in list(self.missing.items())[:3])
        if self.unused:
            text.append(f"{len(self.unused)} files belong to no clip, e.g. {self.unused[0]}")
        return text


def attach(
    path: PathLike, name: str, sources: Sequence[PathLike], form: Form | None = None, *, strict: bool = False,
    overwrite: bool = False,
) -> Attached:  # fmt: skip
    """Give the clips of a store a further modality; the store is written anew and replaced when that is done.

    Arrays go into the store; pictures and videos stay where they are, unless ``form.size`` asks for them. A clip
    without file lacks the modality, and so does one whose file is damaged or cannot be aligned with its skeleton.

    Args:
        path: the store.
        name: of the modality.
        sources: folders with a file (.npy, .npz, .csv, video) or a folder of pictures for each clip, called after it;
            .npz files with an array for each clip, or with ``frames`` or ``values``, ``offsets`` and ``names``; or
            another store of these clips, whose joints are taken.
        form: kind, rate and so on.
        strict: stop at the first file that cannot be used.
        overwrite: replace a modality of that name.

    Raises:
        UserError: no store or source there, no file called after a clip, none that can be used, or any that cannot if
            strict.
    """
    store, form = Store.open(path), form or Form()
    if not NAME.fullmatch(name) or name == "skeleton":
        raise UserError(f"'{name}' cannot name a modality; take letters, digits and _, and not 'skeleton'.")
    if name in store.meta.modalities and not overwrite:
        raise UserError(f"{path}: has a modality '{name}' already; say --overwrite.")
    found = found_in([Path(source) for source in sources], form.suffix, form.size)
    known = set(store.names)
    unused = tuple(source.title for clip, source in found.items() if clip not in known)
    if len(unused) == len(found):
        raise UserError(
            f"{sources[0]}: nothing there is called after a clip such as '{store.names[0]}' (but, e.g., "
            f"{unused[0] if unused else 'nothing at all'}); perhaps with a --suffix."
        )
    return _Attaching(store, name, form, found, strict).run(unused)


class _Attaching:
    """One modality on its way into one store."""

    def __init__(self, store: Store, name: str, form: Form, found: Mapping[str, Source], strict: bool) -> None:
        self.store, self.name, self.form, self.found, self.strict = store, name, form, found, strict
        self.missing: dict[str, str] = {}
        self.first = self._first()
        self.facts = form.facts(self.first)
        self.dtype = _stored(self.first.dtype)

    def run(self, unused: tuple[str, ...]) -> Attached:
        """Write the store anew."""
        meta, path, whole = self.store.meta, self.store.paths[0], Whole.read(self.store.paths[0])
        others = {key: value for key, value in meta.modalities.items() if key != self.name}
        facts = {key: value for key, value in meta.modality_facts.items() if key != self.name}
        record = {"name": "attach", "modality": self.name, "suffix": self.form.suffix, "size": self.form.size}
        with StoreWriter(
            path, topology=self.store.topology, dims=meta.dims, classes=self.store.classes, units=meta.units,
            up=meta.up, source=meta.source, terms=meta.terms, demo=meta.demo, overwrite=True,
            steps=[*(step for step in meta.steps if not self._replaced(step)), record],
            modalities={**others, self.name: self.dtype}, modality_facts={**facts, self.name: self.facts},
        ) as writer:  # fmt: skip
            for clip in self._clips():
                writer.write(clip)
            having = len(writer) - len(self.missing)
            if not having:
                reason = ": ".join(next(iter(self.missing.items())))
                raise UserError(f"{path}: no clip can have '{self.name}'; the first reason: {reason}")
            _carry_over(path, writer.folder)
            writer.add_text(_list_name(self.name), _csv(self.missing))
            writer.protocols = whole.splits
        return Attached(path, self.name, having, self.missing, unused, self.facts)

    def _replaced(self, step: Mapping[str, object]) -> bool:
        return step.get("name") == "attach" and step.get("modality") == self.name

    def _first(self) -> Steps:
        """The first file that can be opened: it tells dtype and kind."""
        reason = ""
        for clip, source in self.found.items():
            try:
                if clip in self._names:
                    return source.open()
            except UserError as error:
                reason = reason or str(error)
                if self.strict:
                    raise
        raise UserError(f"{self.store.paths[0]}: no file of '{self.name}' can be read; the first reason: {reason}")

    @property
    def _names(self) -> tuple[str, ...]:
        return self.store.names

    def _clips(self) -> Iterator[Clip]:
        for clip in self.store:
            kept = {key: _relative(item, self.store.paths[0]) for key, item in clip.modalities.items()
                    if key != self.name}  # fmt: skip
            times = {key: item for key, item in clip.modality_times.items() if key != self.name}
            source = self.found.get(clip.name)
            try:
                if source is None:
                    raise UserError("no file")
                item, own = self._taken(source, clip)
                kept[self.name] = item
                times |= {} if own is None else {self.name: own}
            except UserError as error:
                if self.strict and source is not None:
                    raise
                self.missing[clip.name] = str(error)
            yield replace(clip, modalities=kept, modality_times=times)

    def _taken(self, source: Source, clip: Clip) -> tuple[np.ndarray | Path, np.ndarray | None]:
        """What the store will hold of one clip."""
        steps = source.open()
        self._check(source, steps, clip)
        times = None if self.facts.spans or self.facts.rate is not None else steps.times
        if source.path is not None and self.form.size is None:
            return _relative(source.path, self.store.paths[0]), times
        return steps.take(np.arange(steps.count)), times

    def _check(self, source: Source, steps: Steps, clip: Clip) -> None:
        first = self.first
        alike = steps.shape == first.shape if self.facts.kind != "frames" else len(steps.shape) == len(first.shape)
        if not alike or not np.can_cast(steps.dtype, self.dtype, "same_kind"):
            raise UserError(
                f"{source.title}: {steps.dtype} steps of shape {steps.shape}, the first file has {first.dtype} "
                f"{first.shape}."
            )
        times = None if self.facts.rate is not None else steps.times
        try:
            # Which clock serves does not depend on the place.
            clock = Clock(clip.frames, float("nan") if clip.fps is None else clip.fps, clip.timestamps)
            align(np.zeros(1), clock, steps.count, times, self.facts)
        except UserError as error:
            raise UserError(f"{source.title}: {error}") from None


def _stored(dtype: np.dtype) -> str:
    """The dtype that a store has for numbers of another one."""
    if dtype.kind == "f":
        return "float32"
    return str(dtype) if dtype in (np.uint8, np.int16, np.uint16) else "int32"


def _relative(item: np.ndarray | Path, store: Path) -> np.ndarray | Path:
    """A path as the store keeps it: relative where it lies below the store's parent, so that both may move together."""
    if isinstance(item, np.ndarray):
        return item
    whole = Path(os.path.abspath(item))
    return Path(os.path.relpath(whole, store)) if whole.is_relative_to(store.parent) else whole


def _carry_over(old: Path, new: Path) -> None:
    """Further files of the store: lists of what was skipped, pictures and videos that lie inside it."""
    for item in old.iterdir():
        if item.name in OWN or item.suffix == ".arrow":
            continue
        if item.is_dir():
            shutil.copytree(item, new / item.name, copy_function=_link, dirs_exist_ok=True)
        else:
            _link(str(item), str(new / item.name))


def _link(source: str, place: str) -> None:
    try:
        os.link(source, place)
    except OSError:
        shutil.copy2(source, place)


def _list_name(name: str) -> str:
    return f"attached_{name}.csv"


def _csv(missing: Mapping[str, str]) -> str:
    text = io.StringIO()
    rows: Iterable[Sequence[str]] = [("clip", "reason"), *missing.items()]
    csv.writer(text).writerows(rows)
    return text.getvalue()
