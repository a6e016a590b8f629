"""Writes the shards of a store one after another, and takes up an unfinished one where it was left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from skelgraph.data.schema import Shard
from skelgraph.errors import UserError

MAGIC = 8  # bytes before the record batches of an Arrow file


class ShardFiles:
    """Record batches into files of bounded size.

    Args:
        folder: where the files are made.
        schema: of every batch.
        limit: bytes at which a file is closed.

    Attributes:
        shards: the files so far, the open one last.
        batches: record batches in the open file; 0 = none is open.
        size: bytes of joints in the open file, as the caller counts them.
    """

    def __init__(self, folder: Path, schema: pa.Schema, limit: int) -> None:
        self.folder, self.schema, self.limit = folder, schema, limit
        self.shards: list[Shard] = []
        self.batches = self.size = 0
        self._file: pa.ipc.RecordBatchFileWriter | None = None

    def write(self, batch: pa.RecordBatch, size: int) -> None:
        """Append a batch of ``size`` bytes of joints; closes the file when that fills it."""
        if self._file is None:
            self._begin(Shard(file=f"clips-{len(self.shards):05d}.arrow", clips=0))
        assert self._file is not None
        self._file.write_batch(batch)
        self.shards[-1].clips += batch.num_rows
        self.batches += 1
        self.size += size
        if self.size >= self.limit:
            self.close()

    def close(self) -> None:
        """Finish the open file, if there is one."""
        file, self._file = self._file, None
        self.batches = self.size = 0
        if file is not None:
            file.close()

    def settle(self) -> None:
        """Have the disk hold what was written last."""
        if self.shards:
            with open(self.folder / self.shards[-1].file, "rb") as file:
                os.fsync(file.fileno())

    def recover(self, shards: list[Shard], batches: int, size: int) -> None:
        """Go back to an earlier state: of the last file its first ``batches`` are kept (0 = it was closed).

        Raises:
            UserError: a file lacks what it should hold.
        """
        kept = {shard.file for shard in shards}
        for path in self.folder.glob("clips-*.arrow"):
            if path.name not in kept:
                path.unlink()
        self.shards = [shard.model_copy() for shard in shards]
        if not batches:
            return
        last = self.shards.pop()
        old = self.folder / f"{last.file}.old"
        # A second kill during recovery finds the file under either name.
        if not old.exists():
            (self.folder / last.file).rename(old)
        self._begin(Shard(file=last.file, clips=0))
        assert self._file is not None
        for batch in first_batches(old, batches):
            self._file.write_batch(batch)
            self.shards[-1].clips += batch.num_rows
        if self.shards[-1].clips != last.clips:
            raise UserError(f"{old}: holds {self.shards[-1].clips} clips, not {last.clips}; say --restart.")
        self.batches, self.size = batches, size
        self.settle()
        old.unlink()

    def _begin(self, shard: Shard) -> None:
        self._file = pa.ipc.new_file(str(self.folder / shard.file), self.schema)
        self.shards.append(shard)


def first_batches(path: Path, count: int) -> Iterator[pa.RecordBatch]:
    """The first record batches of an Arrow file that may lack its end: after its magic it reads like a stream."""
    try:
        source = pa.memory_map(str(path))
        source.seek(MAGIC)
        stream = pa.ipc.open_stream(source)
        for _ in range(count):
            yield stream.read_next_batch()
    except (OSError, StopIteration, pa.ArrowInvalid) as error:
        raise UserError(f"{path}: the unfinished import is damaged ({error}); say --restart.") from None
