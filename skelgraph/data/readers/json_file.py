"""Plain json values from a file, or the place of the damage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skelgraph.errors import UserError


def load_json(path: Path) -> Any:
    """The value of a json file, or for ``.jsonl`` the list of the values of its lines.

    Raises:
        UserError: unreadable or no json; names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: no text in UTF-8 ({error.reason} at byte {error.start}).") from None
    if path.suffix.lower() == ".jsonl":
        lines = enumerate(text.splitlines(), 1)
        return [_parse(line, path, number) for number, line in lines if line.strip()]
    return _parse(text, path, 1)


def need_list(value: Any, where: str, what: str) -> list[Any]:
    """``value`` if it is a list.

    Raises:
        UserError: it is not; says where and what it should have been.
    """
    if not isinstance(value, list):
        raise UserError(f"{where}: {what} must be a list, not {_kind(value)}.")
    return value


def need_dict(value: Any, where: str, what: str) -> Mapping[str, Any]:
    """``value`` if it is an object.

    Raises:
        UserError: it is not; says where and what it should have been.
    """
    if not isinstance(value, dict):
        raise UserError(f"{where}: {what} must be an object, not {_kind(value)}.")
    return value


def numbers(value: Any, where: str, what: str) -> np.ndarray:
    """A list of numbers as float64; null is NaN.

    Raises:
        UserError: anything else in it.
    """
    values = need_list(value, where, what)
    try:
        return np.array([np.nan if item is None else _number(item) for item in values], dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{where}: {what} must hold numbers only.") from None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(value)
    return float(value)


def _parse(text: str, path: Path, first: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{first + error.lineno - 1}: not valid json ({error.msg}).") from None
    except (RecursionError, ValueError):
        raise UserError(f"{path}:{first}: not valid json (nested too deep, or a number too long).") from None


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
