"""Writes a store: into a folder beside its place, renamed when everything is there.

With a journal the folder outlives a kill, and the same work goes on where the last full record batch was safe.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from skelgraph.data import shard_stores
from skelgraph.data.arrow_rows import record_batch
from skelgraph.data.clip import Clip
from skelgraph.data.content_hash import RollingHash, clip_digest
from skelgraph.data.journal import Journal, State
from skelgraph.data.schema import MODALITY_DTYPES, Meta, ModalityFacts, columns
from skelgraph.data.shard_files import ShardFiles
from skelgraph.errors import UserError, unknown
from skelgraph.topology import Topology

BATCH_BYTES = 16 << 20
SHARD_BYTES = 256 << 20

Protocols = Mapping[str, Mapping[str, Iterable[str]]]


class Interrupted(UserError):
    """The work ended early through no fault of its data; the same command goes on with it."""


class StoreWriter:
    """Context manager that makes a store; leaves nothing behind when its block fails.

    Args:
        dst: the folder to make. An existing store is replaced only with ``overwrite``; any other folder never.
        topology: joints of every clip, or the name of a topology.
        dims: coordinates of every joint.
        classes: class names.
        units, up, source, terms, steps, demo: see `Meta`.
        modalities: dtype of each further modality, by name.
        modality_facts: what each of them is, see `ModalityFacts`.
        shard_bytes: size at which the next file begins; 256 MiB unless told.
        work: plain data that tells this work from another. With it a store in the making survives a kill, Ctrl-C and a
            full disk, and a writer with equal ``work`` goes on from there.
        restart: throw away what such a kill has left.
        append: the store that is there grows; the joints, dims, units, modalities and classes must be equal.

    Attributes:
        protocols: ``{protocol: {part: names}}``, to be set before the block ends; added to those that there are.
        resumed: the ``note`` of the last clip that survived a kill, empty at a fresh start; known inside the block.
        may_be_empty: whether a store without clips is made rather than refused.
    """

    def __init__(
        self, dst: str | os.PathLike[str], *, topology: Topology | str, dims: int, classes: Sequence[str] = (),
        units: str = "", up: str | None = None, source: str = "", terms: str = "",
        steps: Sequence[Mapping[str, Any]] = (), modalities: Mapping[str, str] | None = None,
        modality_facts: Mapping[str, ModalityFacts] | None = None, demo: bool = False, overwrite: bool = False,
        shard_bytes: int | None = None, work: Mapping[str, Any] | None = None, restart: bool = False,
        append: bool = False,
    ) -> None:  # fmt: skip
        self.path, self.overwrite, self.append = Path(dst), overwrite, append
        self.topology = Topology.load(topology) if isinstance(topology, str) else topology
        self.classes = tuple(str(name) for name in classes)
        self.protocols: Protocols = {}
        for name, dtype in (modalities or {}).items():
            if dtype not in MODALITY_DTYPES:
                raise unknown(f"dtype of modality '{name}'", dtype, MODALITY_DTYPES)
        for name in modality_facts or {}:
            if name not in (modalities or {}):
                raise unknown("modality", name, modalities or {}, "modality_facts")
        if dims not in (2, 3):
            raise UserError(f"{self.path}: joints have 2 or 3 coordinates, not {dims}.")
        self.meta = Meta(
            topology=self.topology.to_dict(), dims=2 if dims == 2 else 3, units=units, up=up, source=source,
            terms=terms, steps=[dict(step) for step in steps], modalities=dict(modalities or {}),
            modality_facts=dict(modality_facts or {}), demo=demo,
        )  # fmt: skip
        self.resumed: dict[str, Any] = {}
        self.may_be_empty = False
        self._journal = None if work is None else Journal(self.path, work, restart)
        own = f".{self.path.name}.partial-{os.getpid()}"
        self._folder = self.path.parent / own if self._journal is None else self._journal.folder
        self._files = ShardFiles(self._folder, columns(self.meta.modalities), shard_bytes or SHARD_BYTES)
        self._rows: list[Clip] = []
        self._bytes = 0
        self._names: set[str] = set()
        self._hash = RollingHash()
        self._old: shard_stores.Whole | None = None

    def __enter__(self) -> StoreWriter:
        try:
            state = self._open()
        except OSError as error:
            raise UserError(f"{self.path}: cannot be made ({error.strerror}: {error.filename}).") from None
        try:
            self._refuse_existing()
            if self.append:
                self._continue_store()
            if state is not None:
                self._recover(state)
        except BaseException:
            # What an earlier process has left is not this one's to remove.
            self._leave(keep=state is not None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupted = kind is not None and not issubclass(kind, Exception)
        keep = self._journal is not None and (interrupted or isinstance(error, Interrupted))
        try:
            if kind is None:
                self._finish()
        except OSError as fault:
            keep = self._journal is not None
            raise Interrupted(f"{self.path}: cannot be written ({fault.strerror}).{self._advice()}") from None
        finally:
            # Where the disk is full even closing fails, and must hide neither the cause nor the cleaning up.
            with suppress(OSError):
                self._files.close()
            self._leave(keep)

    def __len__(self) -> int:
        return self.meta.clips

    @property
    def names(self) -> frozenset[str]:
        """Names of the clips written so far."""
        return frozenset(self._names)

    @property
    def folder(self) -> Path:
        """Where the store is made; further files may be put there."""
        return self._folder

    def write(self, clip: Clip, source: str = "", *, digest: bytes | None = None, note: Any = None) -> None:
        """Append a clip.

        Args:
            clip: its joints, dimensions, label and numbers are checked.
            source: the file it came from, for the message.
            digest: `clip_digest` of a clip that has been checked already, so that neither is done again.
            note: plain data that `resumed` brings back if this is the last clip that survives a kill.

        Raises:
            UserError: a faulty clip, or a name that was written before.
        """
        if digest is None:
            clip.check(self.topology, self.meta.dims, len(self.classes), source)
        where = f"{source}: clip '{clip.name}'" if source else f"clip '{clip.name}'"
        if clip.name in self._names:
            raise UserError(f"{where}: a clip of that name was written before.")
        for name in clip.modalities:
            if name not in self.meta.modalities:
                raise unknown("modality", name, self.meta.modalities, where)
        self._names.add(clip.name)
        self.meta.clips += 1
        self._hash = self._hash.add(digest or clip_digest(clip))
        self._rows.append(clip)
        self._bytes += clip.keypoints.nbytes + clip.score.nbytes
        self._bytes += sum(item.nbytes for item in clip.modalities.values() if isinstance(item, np.ndarray))
        if self._bytes >= min(BATCH_BYTES, self._files.limit):
            self._flush()
            self._save(note)

    def add_text(self, name: str, text: str) -> None:
        """Put a further text file into the store's folder."""
        (self._folder / name).write_text(text, encoding="utf-8")

    def read_text(self, name: str) -> str | None:
        """A further text file of the store that is appended to."""
        return None if self._old is None else self._old.text(name)

    def _open(self) -> State | None:
        """Make or take the folder; what was safe in it."""
        if self._journal is None:
            self._folder.mkdir(parents=True)
            return None
        state = self._journal.open()
        aside = self._aside()
        if aside.exists():
            if self.path.exists():
                shutil.rmtree(aside)
            else:
                aside.rename(self.path)
        return state

    def _refuse_existing(self) -> None:
        if self.append:
            return
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return
        if not (self.path / "meta.json").is_file():
            raise UserError(f"{self.path}: exists and is no store; choose another place.")
        if not self.overwrite:
            raise UserError(f"{self.path}: exists; choose another place or say --overwrite.")

    def _continue_store(self) -> None:
        """Begin with the clips of the store that is there, by links to its files."""
        self._old = old = shard_stores.Whole.read(self.path)
        shard_stores.agree(self.path, old, self.meta, self.classes, "the new clips")
        self._files.shards = old.link_shards(self._folder)
        self._names, self._hash = set(old.names), old.hash
        self.meta = self.meta.model_copy(update={
            "clips": old.meta.clips, "demo": old.meta.demo or self.meta.demo,
            "steps": [*old.meta.steps, *(step for step in self.meta.steps if step not in old.meta.steps)],
            "source": old.meta.source if self.meta.source in old.meta.source else
            "; ".join(filter(None, (old.meta.source, self.meta.source))),
            "terms": old.meta.terms if self.meta.terms in old.meta.terms else
            "; ".join(filter(None, (old.meta.terms, self.meta.terms))),
        })  # fmt: skip

    def _recover(self, state: State) -> None:
        """Take up the work at a saved state."""
        self._files.recover(state.shards, state.batches, state.size)
        self._names = set(shard_stores.names(self._folder, self._files.shards, self._files.batches))
        self.meta.clips, self._hash = state.clips, RollingHash.of(state.hash, state.clips)
        self.resumed = state.note

    def _flush(self) -> None:
        if not self._rows:
            return
        try:
            self._files.write(record_batch(self._rows, self.meta, self._files.schema), self._bytes)
        except OSError as error:
            raise Interrupted(f"{self.path}: cannot be written ({error}).{self._advice()}") from None
        self._rows, self._bytes = [], 0

    def _save(self, note: Any) -> None:
        """Make everything flushed so far safe."""
        if self._journal is None:
            return
        try:
            self._files.settle()
            self._journal.save(State(
                work=self._journal.work, clips=self.meta.clips, hash=self._hash.text, shards=self._files.shards,
                batches=self._files.batches, size=self._files.size, note=note or {},
            ))  # fmt: skip
        except OSError as error:
            raise Interrupted(f"{self.path}: cannot be written ({error.strerror}).{self._advice()}") from None

    def _advice(self) -> str:
        return "" if self._journal is None else " The same command goes on once that is mended."

    def _finish(self) -> None:
        if not self.meta.clips and not self.may_be_empty:
            raise UserError(f"{self.path}: no clip was written, so there is no store.")
        splits = check_splits(self.protocols, self._names, str(self.path))
        if self._old is not None:
            splits = shard_stores.merged(self._old.splits, splits)
            check_splits(splits, self._names, str(self.path))
        self._flush()
        self._files.close()
        self.meta.shards = self._files.shards
        self.meta.set_hash(self._hash, self.classes, splits)
        self.add_text("splits.json", json.dumps(splits))
        self.add_text("classes.json", json.dumps(self.classes, indent=1, ensure_ascii=False))
        self.add_text("meta.json", self.meta.model_dump_json(indent=1))
        self._put_in_place()

    def _put_in_place(self) -> None:
        old = self._aside()
        replaced = self.path.exists()
        if self._journal is not None:
            self._journal.close()
        if replaced:
            self.path.rename(old)
        try:
            self._folder.rename(self.path)
        except OSError:
            if replaced:
                old.rename(self.path)
            raise
        shutil.rmtree(old, ignore_errors=True)

    def _aside(self) -> Path:
        """Where the old store stands for the moment between two renames."""
        return self._folder.with_name(self._folder.name.replace(".partial", ".old"))

    def _leave(self, keep: bool) -> None:
        if not keep:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._journal is not None:
            self._journal.release()


def check_splits(protocols: Protocols, names: Container[str], where: str) -> dict[str, dict[str, list[str]]]:
    """Splits as plain lists.

    Raises:
        UserError: a part names a clip that is not there, or a clip of train stands in val or test as well.
    """
    plain = {name: {part: list(clips) for part, clips in parts.items()} for name, parts in protocols.items()}
    for protocol, parts in plain.items():
        train = set(parts.get("train", ()))
        for part, clips in parts.items():
            missing = next((clip for clip in clips if clip not in names), None)
            if missing is not None:
                raise UserError(f"{where}: protocol '{protocol}', part '{part}': there is no clip '{missing}'.")
            shared = train.intersection(clips) if part != "train" else ()
            if shared:
                raise UserError(f"{where}: protocol '{protocol}': clip '{min(shared)}' is in train and in {part}.")
    return plain
