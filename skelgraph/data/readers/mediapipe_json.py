"""Results of MediaPipe Tasks and of the older solutions, written as json.

MediaPipe itself writes no files, so this is what the result objects become when somebody does: a list with a result a
frame, the same under ``frames`` beside ``fps``, ``width`` and ``height``, a line a frame (``.jsonl``), or one result
alone. Names as in Python (``pose_landmarks``) or in JavaScript (``poseLandmarks``, ``landmarks``) are understood.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skelgraph.data.readers.json_file import load_json, need_dict, need_list
from skelgraph.data.readers.mediapipe_parts import HAND, POSE, Frame, Recording
from skelgraph.errors import UserError

SIDES = ("handedness", "handednesses", "multi_handedness")
RESULT_KEYS = (*SIDES, "landmarks", "timestamp_ms")


def is_one_frame(value: Any) -> bool:
    """Whether a json value is the result of a single frame."""
    return isinstance(value, dict) and not isinstance(value.get("frames"), list)


def read_json(path: Path, world: bool) -> Recording:
    """A file of one clip, or of one frame.

    Raises:
        UserError: no such json; names frame and key.
    """
    value = load_json(path)
    head: Mapping[str, Any] = value if isinstance(value, dict) else {}
    results = [value] if is_one_frame(value) else need_list(head.get("frames", value), str(path), "the frames")
    frames: list[Frame] = []
    times: list[Any] = []
    handed = False
    for number, result in enumerate(results):
        where = f"{path}, frame {number}"
        named = {_snake(key): item for key, item in need_dict(result or {}, where, "a result").items()}
        frames.append(_frame(named, world, where))
        handed = handed or any(key in named for key in SIDES)
        times.append(named.get("timestamp_ms"))
    if not frames:
        raise UserError(f"{path}: has no frames.")
    if not any(_known(key) for result in results for key in result or {}) and any(results):
        keys = ", ".join(sorted({str(key) for result in results for key in result or {}})[:8])
        raise UserError(
            f"{path}: no result of MediaPipe; looked for pose_landmarks, landmarks and the like, it has {keys}."
        )
    return Recording(frames, _seconds(times, path), _positive(head, "fps", path), _size(head, path), handed)


def _frame(keys: Mapping[str, Any], world: bool, where: str) -> Frame:
    kind = "_world" if world else ""
    frame = Frame()
    for key in (f"pose{kind}_landmarks", f"{kind[1:]}{'_' if kind else ''}landmarks"):
        for pose in _groups(keys.get(key), where, key):
            if len(pose) == POSE:
                frame.poses.append(pose)
            elif key.startswith("pose"):
                raise UserError(f"{where}: {key} has {len(pose)} landmarks, a pose has {POSE}.")
    for side in ("left", "right"):
        key = f"{side}_hand{kind}_landmarks"
        groups = _groups(keys.get(key), where, key)
        if groups:
            setattr(frame, side, _hand(groups[0], where, key))
    _add_hands(frame, keys, kind, where)
    return frame


def _add_hands(frame: Frame, keys: Mapping[str, Any], kind: str, where: str) -> None:
    """Hands of a hand landmarker, which come as a list with a list of their sides; the surest of each side counts."""
    for key in (f"hand{kind}_landmarks", f"multi_hand{kind}_landmarks", f"{kind[1:]}{'_' if kind else ''}landmarks"):
        hands = [hand for hand in _groups(keys.get(key), where, key) if len(hand) != POSE]
        if not hands:
            continue
        given = next((keys[name] for name in SIDES if keys.get(name)), None)
        sides = [_side(item, where) for item in need_list(given, where, "handedness")] if given is not None else []
        if len(sides) != len(hands):
            raise UserError(f"{where}: {len(hands)} hands in {key}, but the handedness of {len(sides)}.")
        for _, side, hand in sorted(zip((s[1] for s in sides), (s[0] for s in sides), hands, strict=True), key=_sure):
            setattr(frame, side, _hand(hand, where, key))


def _sure(item: tuple[float, str, np.ndarray]) -> float:
    return item[0]


def _side(item: Any, where: str) -> tuple[str, float]:
    """Side and certainty out of ``[{category_name, score}]``, ``{classification: [{label, score}]}`` or a text."""
    if isinstance(item, dict) and isinstance(item.get("classification"), list):
        item = item["classification"]
    if isinstance(item, list) and item:
        item = item[0]
    keys = {_snake(key): value for key, value in item.items()} if isinstance(item, dict) else {"label": item}
    name = str(keys.get("category_name") or keys.get("label") or keys.get("display_name")).lower()
    if name not in ("left", "right"):
        raise UserError(f"{where}: handedness '{name:.20}' is neither Left nor Right.")
    score = keys.get("score", 1.0)
    return name, float(score) if isinstance(score, int | float) else 1.0


def _groups(value: Any, where: str, key: str) -> list[np.ndarray]:
    """Landmarks of everybody under a key: a list of lists, or one list where only one can be found."""
    if isinstance(value, dict):
        value = value.get("landmark", value.get("landmarks"))
    if not value:
        return []
    entries = need_list(value, where, key)
    first = entries[0]
    several = isinstance(first, list) and bool(first) and not _is_number(first[0])
    wrapped = isinstance(first, dict) and ("landmark" in first or "landmarks" in first)
    if not (several or wrapped or first == []):
        entries = [entries]
    lists = [item.get("landmark", item.get("landmarks")) if isinstance(item, dict) else item for item in entries]
    return [_landmarks(item, where, key) for item in lists if item]


def _landmarks(entries: Any, where: str, key: str) -> np.ndarray:
    """(V, 4): x, y, z and score; a landmark without z or visibility has 0 and 1."""
    rows = []
    for number, entry in enumerate(need_list(entries, where, key)):
        if isinstance(entry, dict):
            # JavaScript and older versions write visibility 0 where the model has none (hands), Python null.
            numbers = [entry.get("x"), entry.get("y"), entry.get("z") or 0.0, entry.get("visibility")]
        else:
            numbers = [*need_list(entry, where, f"{key}, landmark {number}"), *([None] * 4)][:4]
        if not all(_is_number(item) for item in numbers[:2]) or not all(
            item is None or _is_number(item) for item in numbers[2:]
        ):
            raise UserError(f"{where}: {key}, landmark {number}: x, y, z and visibility must be numbers.")
        rows.append([numbers[0], numbers[1], numbers[2] or 0.0, np.nan if numbers[3] is None else numbers[3]])
    points = np.array(rows, np.float64)
    unknown = np.isnan(points[:, 3])
    points[:, 3] = 1.0 if not points[~unknown, 3].any() else np.where(unknown, 1.0, points[:, 3])
    return points


def _hand(points: np.ndarray, where: str, key: str) -> np.ndarray:
    if len(points) != HAND:
        raise UserError(f"{where}: {key} has {len(points)} landmarks, a hand has {HAND}.")
    return points


def _seconds(times: list[Any], path: Path) -> np.ndarray | None:
    if not all(_is_number(time) for time in times):
        return None
    seconds = np.array(times, np.float64) / 1000
    if (np.diff(seconds) <= 0).any():
        frame = int(np.flatnonzero(np.diff(seconds) <= 0)[0]) + 1
        raise UserError(f"{path}, frame {frame}: timestamp_ms does not rise.")
    return seconds if len(seconds) > 1 else None


def _size(head: Mapping[str, Any], path: Path) -> tuple[int, int] | None:
    for before in ("", "image_"):
        height, width = (_positive(head, before + side, path) for side in ("height", "width"))
        if height and width:
            return round(height), round(width)
    return None


def _positive(head: Mapping[str, Any], key: str, path: Path) -> float | None:
    value = head.get(key)
    if value is None:
        return None
    if not _is_number(value) or not 0 < value < 1e6:
        raise UserError(f"{path}: {key} must be a number above 0, not {value!r:.30}.")
    return float(value)


def _known(key: Any) -> bool:
    name = _snake(key)
    return name.endswith("landmarks") or name in RESULT_KEYS


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _snake(key: Any) -> str:
    """``poseLandmarks`` as ``pose_landmarks``."""
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in str(key))
