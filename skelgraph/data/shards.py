"""Memory-mapped shards: columns by name, and the joints of a clip as views that copy nothing."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from skelgraph.data.schema import MODALITY
from skelgraph.errors import UserError


def map_batches(path: Path, schema: pa.Schema | None = None) -> list[pa.RecordBatch]:
    """The record batches of a shard; their buffers are the mapped file.

    Args:
        path: the file.
        schema: names and types that its columns must have, in any order; it may have further modalities, which are
            attached to the shards before ``meta.json`` tells of them.

    Raises:
        UserError: the file is gone or damaged, or has other columns.
    """
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        if schema is not None:
            _need_columns(reader.schema, schema)
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        for batch in batches:
            # Reads offsets and text, not the joints. A wrong offset would otherwise end the process.
            batch.validate(full=True)
        return batches
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: damaged or unreadable ({reason}); import the data again.") from None


def _need_columns(found: pa.Schema, wanted: pa.Schema) -> None:
    types = {field.name: str(field.type) for field in wanted}
    odd = [name for name, kind in types.items() if name not in found.names or str(found.field(name).type) != kind]
    odd += [name for name in found.names if name not in types and not name.startswith(MODALITY)]
    if odd:
        raise pa.ArrowInvalid(f"columns unlike those of a store: {', '.join(odd):.80}")


class _Part(NamedTuple):
    """Views of one record batch: where each clip begins, and all numbers."""

    persons: np.ndarray
    frames: np.ndarray
    keypoint_offsets: np.ndarray
    keypoints: np.ndarray
    score_offsets: np.ndarray
    score: np.ndarray


class Rows:
    """Joints by row number over all shards of a store."""

    def __init__(self, batches: list[pa.RecordBatch], joints: int, dims: int) -> None:
        self.joints, self.dims = joints, dims
        self._parts = [_views(batch) for batch in batches]
        self._ends = np.cumsum([batch.num_rows for batch in batches]).tolist()
        self._starts = [0, *self._ends[:-1]]

    def __call__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints (M, T, V, C) and score (M, T, V) of a row, read-only views of the mapped file."""
        which = bisect_right(self._ends, index)
        part, row = self._parts[which], index - self._starts[which]
        persons, frames = part.persons[row], part.frames[row]
        begin, seen_begin = part.keypoint_offsets[row], part.score_offsets[row]
        size = int(persons) * int(frames) * self.joints
        keypoints = part.keypoints[begin : begin + size * self.dims].reshape(persons, frames, self.joints, self.dims)
        return keypoints, part.score[seen_begin : seen_begin + size].reshape(persons, frames, self.joints)

    def locate(self, index: int) -> tuple[int, int]:
        """Number of the record batch that holds a row, and the row's place in it."""
        which = bisect_right(self._ends, index)
        return which, index - self._starts[which]


def _views(batch: pa.RecordBatch) -> _Part:
    keypoints, score = batch.column("keypoints"), batch.column("score")
    return _Part(
        persons=batch.column("persons").to_numpy(),
        frames=batch.column("frames").to_numpy(),
        keypoint_offsets=keypoints.offsets.to_numpy(),
        keypoints=keypoints.values.to_numpy(),
        score_offsets=score.offsets.to_numpy(),
        score=score.values.to_numpy(),
    )


def column(batches: list[pa.RecordBatch], name: str) -> pa.ChunkedArray:
    """One column over all batches."""
    return pa.chunked_array([batch.column(name) for batch in batches])


def numbers(batches: list[pa.RecordBatch], name: str, missing: Any, dtype: type) -> np.ndarray:
    """A numeric column as an array (N,); null becomes ``missing``."""
    values = column(batches, name)
    if values.null_count:
        values = values.cast(pa.from_numpy_dtype(dtype)).fill_null(missing)
    return values.to_numpy().astype(dtype, copy=False)
