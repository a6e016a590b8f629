"""MediaPipe landmarks as arrays (npy) and tables (csv, parquet).

Arrays, T frames of V landmarks with 2 to 4 numbers each, or the same with a flat row a frame:

* 33 a pose; 21 one hand; 42 the left and the right hand; 75 pose, left, right; 543 Holistic in the order of Kaggle's
  sign data: face 468, left hand 21, pose 33, right hand 21;
* flat rows of 1662 or 258 numbers: pose with visibility 33 x 4, (face 468 x 3,) left 21 x 3, right 21 x 3.

Tables: long, a row a landmark with ``frame, type, landmark_index, x, y, z`` (Kaggle's asl-signs); or wide, a row a
frame with ``x_pose_0``, ``y_left_hand_20`` and so on (asl-fingerspelling), several clips by ``sequence_id``.

NaN, and landmarks that are all zeros, are missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from skelgraph.data.readers.mediapipe_parts import FACE, HAND, POSE, Frame, Recording
from skelgraph.data.readers.npy import load_array
from skelgraph.data.readers.table_file import floats, line, load_table, texts
from skelgraph.errors import UserError

POSE_PART, LEFT, RIGHT = "pose", "left_hand", "right_hand"
SIZES = {POSE_PART: POSE, LEFT: HAND, RIGHT: HAND}
ORDERS: dict[int, tuple[tuple[str, int], ...]] = {
    POSE: ((POSE_PART, POSE),),
    HAND: ((RIGHT, HAND),),
    2 * HAND: ((LEFT, HAND), (RIGHT, HAND)),
    POSE + 2 * HAND: ((POSE_PART, POSE), (LEFT, HAND), (RIGHT, HAND)),
    FACE + POSE + 2 * HAND: (("face", FACE), (LEFT, HAND), (POSE_PART, POSE), (RIGHT, HAND)),
}
FLAT = {63: 3, 126: 3, 99: 3, 132: 4, 225: 3, 1629: 3}
MIXED = {1662: FACE, 258: 0}
WIDE = re.compile(r"([xyz])_(pose|left_hand|right_hand)_(\d+)")
MOST_FRAMES = 1_000_000


def is_one_frame(values: np.ndarray) -> bool:
    """Whether an array is a single frame."""
    return values.ndim == 1 or (values.ndim == 2 and values.shape[1] in (2, 3, 4) and values.shape[0] in ORDERS)


def read_array(path: Path) -> Recording:
    """A npy file of one clip, or of one frame.

    Raises:
        UserError: a shape that is none of those known.
    """
    values = load_array(path)
    values = values[None] if is_one_frame(values) else values
    if not len(values):
        raise UserError(f"{path}: has no frames.")
    parts = _from_flat(values) if values.ndim == 2 else _from_points(values) if values.ndim == 3 else None
    if parts is None:
        counts = ", ".join(map(str, ORDERS))
        raise UserError(f"{path}: shape {values.shape} is none of MediaPipe's; landmarks a frame may be {counts}.")
    return recording(parts, len(values))


def read_table(path: Path) -> Iterator[tuple[str, Recording]]:
    """The clips of a table, each with its ``sequence_id``, which is empty where there is one clip.

    Raises:
        UserError: no such columns, a landmark number too high; names line and column.
    """
    table = load_table(path)
    ids = texts(table, "sequence_id") if "sequence_id" in table.column_names else [""] * table.num_rows
    for name in dict.fromkeys(ids):
        rows = np.flatnonzero(np.array([item == name for item in ids]))
        part = table.take(pa.array(rows)) if len(rows) < table.num_rows else table
        yield name, (_long if "landmark_index" in table.column_names else _wide)(part, path, rows)


def recording(parts: dict[str, np.ndarray], frames: int) -> Recording:
    """Parts (T, V, 4) as frames; a part of which nothing is seen in a frame is not found there."""
    made = [Frame() for _ in range(frames)]
    for part, points in parts.items():
        clean = np.where((points[..., :2] == 0).all(-1, keepdims=True), np.nan, points)
        for frame in np.flatnonzero(np.isfinite(clean[..., 0]).any(1)).tolist():
            if part == POSE_PART:
                made[frame].poses.append(clean[frame])
            else:
                setattr(made[frame], part.removesuffix("_hand"), clean[frame])
    return Recording(made)


def _from_points(values: np.ndarray) -> dict[str, np.ndarray] | None:
    """Parts of (T, V, C)."""
    order = ORDERS.get(values.shape[1])
    if order is None or values.shape[2] not in (2, 3, 4):
        return None
    points, start, parts = _four(values), 0, {}
    for name, count in order:
        if name in SIZES:
            parts[name] = points[:, start : start + count]
        start += count
    return parts


def _from_flat(values: np.ndarray) -> dict[str, np.ndarray] | None:
    """Parts of (T, numbers)."""
    frames, width = values.shape
    if width in FLAT:
        return _from_points(values.reshape(frames, -1, FLAT[width]))
    if width not in MIXED:
        return None
    pose, rest = values[:, : 4 * POSE], values[:, 4 * POSE + 3 * MIXED[width] :]
    hands = _four(rest.reshape(frames, 2 * HAND, 3))
    return {POSE_PART: _four(pose.reshape(frames, POSE, 4)), LEFT: hands[:, :HAND], RIGHT: hands[:, HAND:]}


def _four(values: np.ndarray) -> np.ndarray:
    """(T, V, 4) float64 from 2 to 4 numbers a landmark; without z it is 0, without visibility 1."""
    points = np.zeros((*values.shape[:2], 4))
    points[..., 3] = 1
    points[..., : values.shape[2]] = values
    return points


def _long(table: pa.Table, path: Path, rows: np.ndarray) -> Recording:
    for column in ("frame", "type", "x", "y"):
        if column not in table.column_names:
            raise UserError(f"{path}: no column '{column}'; a row a landmark needs frame, type, landmark_index, x, y.")
    kinds = np.array(texts(table, "type"))
    kept = np.isin(kinds, list(SIZES))
    axes = [axis for axis in ("x", "y", "z", "visibility") if axis in table.column_names]
    numbers = floats(table, ["frame", "landmark_index", *axes], path)
    if not np.isfinite(numbers[:, :2]).all():
        row = int(np.flatnonzero(~np.isfinite(numbers[:, :2]).all(1))[0])
        raise UserError(f"{line(int(rows[row]), path)}: no frame or landmark_index.")
    frame = (numbers[:, 0] - numbers[:, 0].min()).astype(np.int64)
    count = int(frame.max()) + 1
    if count > MOST_FRAMES:
        raise UserError(f"{path}: its frames run over {count} numbers; is the column 'frame' a frame number?")
    parts = {}
    for part, size in SIZES.items():
        chosen = np.flatnonzero(kept & (kinds == part))
        if not len(chosen):
            continue
        index = numbers[chosen, 1].astype(np.int64)
        wrong = np.flatnonzero((index < 0) | (index >= size))
        if len(wrong):
            where = line(int(rows[chosen[wrong[0]]]), path)
            raise UserError(f"{where}: landmark_index {index[wrong[0]]} of {part}, which has 0 to {size - 1}.")
        points = np.full((count, size, 4), np.nan)
        points[frame[chosen], index, 3] = 1
        for place, axis in enumerate(axes, 2):
            points[frame[chosen], index, 3 if axis == "visibility" else "xyz".index(axis)] = numbers[chosen, place]
        parts[part] = points
    if not parts:
        raise UserError(f"{path}: no row of type {', '.join(SIZES)}.")
    return recording(_depth_zero(parts), count)


def _wide(table: pa.Table, path: Path, rows: np.ndarray) -> Recording:
    found = {name: match for name in table.column_names if (match := WIDE.fullmatch(name))}
    if not found:
        raise UserError(f"{path}: neither a column landmark_index (a row a landmark) nor columns like x_pose_0.")
    numbers = floats(table, list(found), path)
    parts: dict[str, np.ndarray] = {}
    for place, (name, match) in enumerate(found.items()):
        axis, part, number = match[1], match[2], int(match[3])
        if number >= SIZES[part]:
            raise UserError(f"{path}:1: column '{name}': {part} has the landmarks 0 to {SIZES[part] - 1}.")
        if part not in parts:
            parts[part] = np.full((len(rows), SIZES[part], 4), np.nan)
            parts[part][..., 3] = 1
        parts[part][:, number, "xyz".index(axis)] = numbers[:, place]
    return recording(_depth_zero(parts), len(rows))


def _depth_zero(parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """z is 0 where a table has none."""
    for points in parts.values():
        points[..., 2] = np.where(np.isfinite(points[..., 0]) & np.isnan(points[..., 2]), 0, points[..., 2])
    return parts
