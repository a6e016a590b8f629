"""A user's own layers, models and transforms: Python files named in a recipe, ``plugins: [my_layers.py]``."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from skelgraph.errors import UserError

PREFIX = "skelgraph_plugin_"


def load(paths: Iterable[str | Path], beside: Path | None = None) -> list[ModuleType]:
    """Run Python files so that what they register (`CONVS`, `MODELS`, ...) can be named.

    A file is run once a process, however often it is named; it lives in ``sys.modules`` under a name made of its own
    and a digest of its path, so it can neither hide nor be hidden by another module. It runs with all rights of the
    user: load none that you would not run yourself.

    Args:
        paths: files, absolute or relative to ``beside``.
        beside: folder of the recipe that names them; by default the working folder.

    Returns:
        The modules, in the order of ``paths``.

    Raises:
        UserError: a file that is missing or no Python file, or an error in it; names the file and the line.
    """
    return [_load(_find(Path(path), beside or Path())) for path in paths]


def _find(path: Path, beside: Path) -> Path:
    found = (beside / path).resolve()
    if not found.is_file():
        raise UserError(f"plugin '{path}' not found (looked for {found}).")
    if found.suffix != ".py":
        raise UserError(f"plugin '{path}' is no Python file (.py).")
    return found


def module_name(path: Path) -> str:
    """The name under which a plugin is imported."""
    stem = re.sub(r"\W", "_", path.stem)
    return f"{PREFIX}{stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"


def _load(path: Path) -> ModuleType:
    name = module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"plugin '{path}' cannot be imported.")
    module = importlib.util.module_from_spec(spec)
    # Classes defined in the file look their module up by name (dataclasses, pickle) while it still runs.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(_describe(error, path)) from error
    return module


def _describe(error: BaseException, path: Path) -> str:
    """``file:line: what happened`` with the last line of the plugin itself that was running."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(path) else None
    if line is None:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(frames) if frame.filename == str(path)), None)
    place = f"{path}:{line}" if line else str(path)
    what = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return f"{place}: error in this plugin: {what}"
