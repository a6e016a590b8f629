"""One ``.skeleton`` file of NTU RGB+D: text that says, frame by frame, which bodies a Kinect v2 saw and where.

A file is: the number of frames; for each frame the number of bodies; for each body a line of ten values (tracking id,
clipped edges, confidence and state of both hands, restricted, lean x and y, tracking state), the number of joints, and
a line a joint with twelve (x, y, z in metres; x, y in the depth image; x, y in the colour image; orientation w, x, y,
z; tracking state). Tracking states are 0 not tracked, 1 inferred (joints only), 2 tracked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from skelgraph.errors import UserError

JOINTS, FIELDS, BODY_FIELDS = 25, 12, 10
WORLD, STATE = (0, 1, 2), 11
IMAGES = {"depth": ((3, 4), (424, 512)), "color": ((5, 6), (1080, 1920))}


@dataclass(frozen=True, eq=False)
class Recording:
    """What a file tells, a row for each body in each frame (R rows).

    Attributes:
        frames: how many, those without a body included.
        frame: (R,) the frame of a row, never falling.
        slot: (R,) which body of its frame a row is.
        body: (R,) number of its tracking id, in order of first appearance.
        tracked: (R,) whether the Kinect called the body tracked.
        joints: (R, 25, 3) metres.
        image: (R, 25, 2) pixels, where they were asked for.
        state: (R, 25) 0 not tracked, 1 inferred, 2 tracked.
    """

    frames: int
    frame: np.ndarray
    slot: np.ndarray
    body: np.ndarray
    tracked: np.ndarray
    joints: np.ndarray
    image: np.ndarray | None
    state: np.ndarray


def read_recording(path: Path, image: str | None = None) -> Recording:
    """A file of NTU RGB+D.

    Args:
        path: the file.
        image: ``depth`` or ``color`` also reads where the joints lie in those images.

    Raises:
        UserError: no such file, cut off, wrong counts, something that is no number; names the line.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    frames, rows, starts = _structure(lines, path)
    if not rows:
        raise UserError(f"{path}: no body in any of its {frames} frames.")
    columns = (*WORLD, *(IMAGES[image][0] if image else ()), STATE)
    values = _joint_values(lines, starts, columns, path).reshape(len(rows), JOINTS, len(columns))
    frame, slot, body, tracked = (np.array(column) for column in zip(*rows, strict=True))
    return Recording(
        frames, frame, slot, body, tracked, values[..., :3], values[..., 3:5] if image else None, values[..., -1],
    )  # fmt: skip


def _structure(lines: Sequence[bytes], path: Path) -> tuple[int, list[tuple[int, int, int, bool]], list[int]]:
    """Frames, (frame, slot, body, tracked) of each row, and the line at which the joints of each row begin."""
    frames, at = _count(lines, 0, path, "frames"), 1
    rows: list[tuple[int, int, int, bool]] = []
    starts: list[int] = []
    bodies: dict[bytes, int] = {}
    for frame in range(frames):
        here: set[int] = set()
        count = _count(lines, at, path, f"bodies, in frame {frame + 1} of {frames}")
        at += 1
        for slot in range(count):
            if at + 1 + JOINTS >= len(lines):
                raise UserError(f"{path}:{len(lines)}: ends within frame {frame + 1} of {frames}.")
            fields = lines[at].split()
            if len(fields) != BODY_FIELDS or fields[-1] not in (b"0", b"1", b"2"):
                raise UserError(f"{path}:{at + 1}: not the {BODY_FIELDS} values of a body.")
            if lines[at + 1].strip() != b"%d" % JOINTS:
                raise UserError(f"{path}:{at + 2}: {_shown(lines[at + 1])} joints, a body has {JOINTS}.")
            body = bodies.setdefault(fields[0], len(bodies))
            if body in here:
                raise UserError(f"{path}:{at + 1}: body {_shown(fields[0])} stands twice in frame {frame + 1}.")
            here.add(body)
            rows.append((frame, slot, body, fields[-1] != b"0"))
            starts.append(at + 2)
            at += 2 + JOINTS
    surplus = next((place for place in range(at, len(lines)) if lines[place].strip()), None)
    if surplus is not None:
        raise UserError(f"{path}:{surplus + 1}: goes on after the last of {frames} frames.")
    return frames, rows, starts


def _count(lines: Sequence[bytes], at: int, path: Path, what: str) -> int:
    """The whole number that a line consists of."""
    text = lines[at].strip() if at < len(lines) else b""
    if not text and at >= len(lines) - 1:
        raise UserError(f"{path}:{at + 1}: ends where it should tell the number of {what}.")
    if not text.isdigit() or len(text) > 9:
        raise UserError(f"{path}:{at + 1}: {_shown(text)} is no number of {what}.")
    return int(text)


def _joint_values(lines: Sequence[bytes], starts: Sequence[int], columns: Sequence[int], path: Path) -> np.ndarray:
    """The named columns of all joint lines, ``(lines, columns)`` float32."""
    text = b"\n".join(line for start in starts for line in lines[start : start + JOINTS])
    names = [str(number) for number in range(FIELDS)]
    chosen = [names[column] for column in columns]
    try:
        table = csv.read_csv(
            pa.BufferReader(text),
            csv.ReadOptions(use_threads=False, column_names=names),
            csv.ParseOptions(delimiter=" ", quote_char=False),
            csv.ConvertOptions(include_columns=chosen, column_types=dict.fromkeys(chosen, pa.float32()),
                               null_values=[]),
        )  # fmt: skip
        values = np.stack([table.column(name).to_numpy() for name in chosen], axis=1)
    except pa.ArrowInvalid:
        values = np.zeros((0, len(columns)), np.float32)
    sound = len(values) == JOINTS * len(starts) and np.isfinite(values[:, :3]).all()
    if sound and ((values[:, -1] == 2) | (values[:, -1] == 1) | (values[:, -1] == 0)).all():
        return values
    rows = [_joint(lines[at], columns, f"{path}:{at + 1}") for start in starts for at in range(start, start + JOINTS)]
    return np.array(rows, np.float32)


def _joint(line: bytes, columns: Sequence[int], where: str) -> list[float]:
    """One joint, read with care: says what is wrong with a line that the fast way refuses."""
    fields = line.split()
    if len(fields) != FIELDS:
        raise UserError(f"{where}: {len(fields)} values, a joint has {FIELDS}.")
    row = []
    for column in columns:
        try:
            row.append(float(fields[column]))
        except ValueError:
            raise UserError(f"{where}: {_shown(fields[column])} is not a number.") from None
        if column in WORLD and not np.isfinite(row[-1]):
            raise UserError(f"{where}: {_shown(fields[column])} is not a finite number.")
    if row[-1] not in (0, 1, 2):
        raise UserError(f"{where}: {_shown(fields[STATE])} is no tracking state, which is 0, 1 or 2.")
    return row


def _shown(text: bytes) -> str:
    return repr(text.strip()[:30].decode("ascii", "replace"))
