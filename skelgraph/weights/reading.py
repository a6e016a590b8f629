"""Reads checkpoint files without running anything that stands in them."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from skelgraph.errors import UserError

WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIX = "module."
Source = str | Path | Mapping[str, Any]
OWN = ("backbone/", "encoder/")


class _Ignored:
    """Stands for numpy's numbers in the notes of a checkpoint (best score and the like), which nobody needs here."""

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


_NOTES: list[Any] = [
    (_Ignored, name)
    for name in ("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
]  # fmt: skip


def read(source: Source) -> tuple[dict[str, Tensor], str]:
    """The tensors of a checkpoint by key, and a name for it in messages.

    A dict around the state dict (``state_dict``, ``model``) and a leading ``module.`` of every key are taken off.

    Args:
        source: a safetensors file, a file of `torch.save`, or what such a file holds; arrays of numpy count as tensors.

    Raises:
        UserError: absent, damaged, without tensors, or a pickle that names more than tensors; nothing of it is run.
    """
    name = "the state dict" if isinstance(source, Mapping) else str(source)
    state = _unwrapped(source if isinstance(source, Mapping) else _file(Path(source)))
    arrays = {key: value for key, value in state.items() if isinstance(value, Tensor | np.ndarray)}
    tensors = {key: torch.as_tensor(value).detach().cpu() for key, value in arrays.items()}
    if not tensors:
        raise UserError(f"{name}: holds no tensors by name, so it is no state dict.")
    if any(key.startswith(OWN) for key in tensors):
        raise UserError(f"{name}: these are weights of skelgraph; name their folder in 'from:', no import is needed.")
    if all(key.startswith(PREFIX) for key in tensors):
        tensors = {key.removeprefix(PREFIX): value for key, value in tensors.items()}
    return tensors, name


def _unwrapped(content: Any) -> Mapping[str, Any]:
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            inner: Mapping[str, Any] = content[key]
            return inner
    return content if isinstance(content, Mapping) else {}


def _file(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: no such file.")
    damaged = UserError(f"{path}: no checkpoint, or cut off or damaged.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_NOTES), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on old pickles; what it cannot read is an error anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(path, str(error)) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})." if error.strerror else str(damaged)) from None
    except (EOFError, SafetensorError, RuntimeError, ValueError, LookupError, TypeError, AttributeError,
            AssertionError):  # fmt: skip
        raise damaged from None


def _refusal(path: Path, text: str) -> UserError:
    named = re.search(r"GLOBAL (\S+)", text)
    if named is None:
        return UserError(f"{path}: refused, no plain file of torch.save: another kind of pickle, or damaged.")
    return UserError(
        f"{path}: refused, reading it would run code: it names '{named[1]}' beside tensors. Ask its authors for the "
        "bare state dict, or save that one where you trust the file."
    )
