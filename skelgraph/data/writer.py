"""Writes a store: into a folder beside its place, renamed when everything is there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from skelgraph.data.clip import Clip
from skelgraph.data.schema import MODALITY_DTYPES, Meta, Shard, columns, modality_column
from skelgraph.errors import UserError, unknown
from skelgraph.topology import Topology

BATCH_BYTES = 16 << 20
SHARD_BYTES = 256 << 20

Protocols = Mapping[str, Mapping[str, Iterable[str]]]


class StoreWriter:
    """Context manager that makes a store; leaves nothing behind when its block fails.

    Args:
        dst: the folder to make. An existing store is replaced only with ``overwrite``; any other folder never.
        topology: joints of every clip, or the name of a topology.
        dims: coordinates of every joint.
        classes: class names.
        units, up, source, terms, steps, demo: see `Meta`.
        modalities: dtype of each further modality, by name.
        shard_bytes: size at which the next file begins.

    Attributes:
        protocols: ``{protocol: {part: names}}``, to be set before the block ends.
    """

    def __init__(
        self, dst: str | os.PathLike[str], *, topology: Topology | str, dims: int, classes: Sequence[str] = (),
        units: str = "", up: str | None = None, source: str = "", terms: str = "",
        steps: Sequence[Mapping[str, Any]] = (), modalities: Mapping[str, str] | None = None, demo: bool = False,
        overwrite: bool = False, shard_bytes: int = SHARD_BYTES,
    ) -> None:  # fmt: skip
        self.path, self.overwrite, self.shard_bytes = Path(dst), overwrite, shard_bytes
        self.topology = Topology.load(topology) if isinstance(topology, str) else topology
        self.classes = tuple(str(name) for name in classes)
        self.protocols: Protocols = {}
        for name, dtype in (modalities or {}).items():
            if dtype not in MODALITY_DTYPES:
                raise unknown(f"dtype of modality '{name}'", dtype, MODALITY_DTYPES)
        if dims not in (2, 3):
            raise UserError(f"{self.path}: joints have 2 or 3 coordinates, not {dims}.")
        self.meta = Meta(
            topology=self.topology.to_dict(), dims=2 if dims == 2 else 3, units=units, up=up, source=source,
            terms=terms, steps=[dict(step) for step in steps], modalities=dict(modalities or {}), demo=demo,
        )  # fmt: skip
        self._schema = columns(self.meta.modalities)
        self._folder = self.path.parent / f".{self.path.name}.partial-{os.getpid()}"
        self._rows: list[Clip] = []
        self._bytes = self._shard_size = 0
        self._names: set[str] = set()
        self._hash = blake2b(digest_size=16)
        self._file: pa.ipc.RecordBatchFileWriter | None = None

    def __enter__(self) -> StoreWriter:
        self._refuse_existing()
        try:
            self._folder.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be made ({error.strerror}: {error.filename}).") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except OSError as fault:
            raise UserError(f"{self.path}: cannot be written ({fault.strerror}).") from None
        finally:
            # Where the disk is full even closing fails, and must hide neither the cause nor the cleaning up.
            with suppress(OSError):
                self._close_shard()
            shutil.rmtree(self._folder, ignore_errors=True)

    def __len__(self) -> int:
        return self.meta.clips

    @property
    def names(self) -> frozenset[str]:
        """Names of the clips written so far."""
        return frozenset(self._names)

    def write(self, clip: Clip, source: str = "") -> None:
        """Append a clip.

        Args:
            clip: its joints, dimensions, label and numbers are checked.
            source: the file it came from, for the message.

        Raises:
            UserError: a faulty clip, or a name that was written before.
        """
        clip.check(self.topology, self.meta.dims, len(self.classes), source)
        where = f"{source}: clip '{clip.name}'" if source else f"clip '{clip.name}'"
        if clip.name in self._names:
            raise UserError(f"{where}: a clip of that name was written before.")
        for name in clip.modalities:
            if name not in self.meta.modalities:
                raise unknown("modality", name, self.meta.modalities, where)
        self._names.add(clip.name)
        self.meta.clips += 1
        self._digest(clip)
        self._rows.append(clip)
        self._bytes += clip.keypoints.nbytes + clip.score.nbytes
        self._bytes += sum(item.nbytes for item in clip.modalities.values() if isinstance(item, np.ndarray))
        if self._bytes >= min(BATCH_BYTES, self.shard_bytes):
            self._flush()

    def add_text(self, name: str, text: str) -> None:
        """Put a further text file into the store's folder."""
        (self._folder / name).write_text(text, encoding="utf-8")

    def _refuse_existing(self) -> None:
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return
        if not (self.path / "meta.json").is_file():
            raise UserError(f"{self.path}: exists and is no store; choose another place.")
        if not self.overwrite:
            raise UserError(f"{self.path}: exists; choose another place or say --overwrite.")

    def _digest(self, clip: Clip) -> None:
        facts = [
            clip.name, clip.label, clip.keypoints.shape, clip.fps, clip.image_size, clip.subject, clip.camera,
            clip.setup, clip.group, clip.segments,
        ]  # fmt: skip
        self._hash.update(json.dumps(facts, default=int).encode())
        further = [clip.modalities[key] for key in sorted(clip.modalities)]
        for item in (clip.keypoints, clip.score, clip.timestamps, *further):
            whole = np.ascontiguousarray(item).data if isinstance(item, np.ndarray) else str(item).encode()
            self._hash.update(whole)

    def _flush(self) -> None:
        if not self._rows:
            return
        try:
            if self._file is None:
                shard = Shard(file=f"clips-{len(self.meta.shards):05d}.arrow", clips=0)
                self.meta.shards.append(shard)
                self._file = pa.ipc.new_file(str(self._folder / shard.file), self._schema)
                self._shard_size = 0
            self._file.write_batch(_record_batch(self._rows, self.meta, self._schema))
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error}).") from None
        self.meta.shards[-1].clips += len(self._rows)
        self._shard_size += self._bytes
        self._rows, self._bytes = [], 0
        if self._shard_size >= self.shard_bytes:
            self._close_shard()

    def _close_shard(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _finish(self) -> None:
        if not self.meta.clips:
            raise UserError(f"{self.path}: no clip was written, so there is no store.")
        splits = check_splits(self.protocols, self._names, str(self.path))
        self._flush()
        self._close_shard()
        self._hash.update(json.dumps([self.topology.joints, self.classes, splits]).encode())
        self.meta.content_hash = self._hash.hexdigest()
        self.add_text("splits.json", json.dumps(splits))
        self.add_text("classes.json", json.dumps(self.classes, indent=1, ensure_ascii=False))
        self.add_text("meta.json", self.meta.model_dump_json(indent=1))
        self._put_in_place()

    def _put_in_place(self) -> None:
        old = self._folder.with_name(self._folder.name.replace(".partial-", ".old-"))
        replaced = self.path.exists()
        if replaced:
            self.path.rename(old)
        try:
            self._folder.rename(self.path)
        except OSError:
            if replaced:
                old.rename(self.path)
            raise
        shutil.rmtree(old, ignore_errors=True)


def check_splits(protocols: Protocols, names: set[str], where: str) -> dict[str, dict[str, list[str]]]:
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


def _record_batch(clips: list[Clip], meta: Meta, schema: pa.Schema) -> pa.RecordBatch:
    """Clips as one Arrow record batch in the order of ``schema``."""
    data: dict[str, Any] = {
        name: [getattr(clip, name) for clip in clips]
        for name in ("name", "label", "frames", "persons", "fps", "timestamps", "subject", "camera", "setup", "group")
    }
    data["height"] = [clip.image_size[0] if clip.image_size else None for clip in clips]
    data["width"] = [clip.image_size[1] if clip.image_size else None for clip in clips]
    data["segments"] = [
        None if clip.segments is None else [{"start": s, "end": e, "label": k} for s, e, k in clip.segments]
        for clip in clips
    ]
    data["keypoints"] = _flat([clip.keypoints for clip in clips])
    data["score"] = _flat([clip.score for clip in clips])
    for name, dtype in meta.modalities.items():
        data[modality_column(name)] = [_modality(clip.modalities.get(name), dtype) for clip in clips]
    arrays = [
        data[field.name] if isinstance(data[field.name], pa.Array) else pa.array(data[field.name], field.type)
        for field in schema
    ]
    return pa.record_batch(arrays, schema=schema)


def _flat(arrays: list[np.ndarray]) -> pa.LargeListArray:
    """Arrays of any shape as one ``large_list<float32>``."""
    offsets = np.cumsum([0, *(item.size for item in arrays)], dtype=np.int64)
    values = np.concatenate([np.asarray(item, dtype=np.float32).ravel() for item in arrays])
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))


def _modality(item: np.ndarray | Path | None, dtype: str) -> dict[str, Any] | None:
    if item is None:
        return None
    if not isinstance(item, np.ndarray):
        return {"shape": None, "values": None, "path": str(item)}
    return {"shape": list(item.shape), "values": item.astype(dtype).ravel(), "path": None}
