"""What a reader is: the bridge from somebody's files to `Clip`.

A new format is one class, registered in `READERS`; a user's own file may do that too::

    @READERS.register("my-format")
    class MyReader(Reader):
        topology, dims, units = "coco17", 2, "pixels"
        classes = ("run", "jump")

        def __init__(self, src: Path, *, fps: float = 30.0) -> None: ...
        def items(self): return sorted(self.src.glob("*.txt"))
        def read(self, item): yield Clip.of(item.stem, points, score, label=0)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from skelgraph.data.clip import Clip
from skelgraph.data.schema import ModalityFacts
from skelgraph.errors import UserError
from skelgraph.registry import Registry

READERS: Registry = Registry("format")


class Reader(ABC):
    """Reads one format.

    A reader is built from the source path and keyword-only options. Its work is cut into cheap, picklable items, each
    of which `read` turns into clips without regard to the others, so that items can be read in any process and in any
    order. Facts that hold for all clips are attributes, set on the class or by the constructor:

    Attributes:
        topology: name of the joint layout; None = the user must say.
        dims, units, up: of the coordinates; ``up`` is None where unknown.
        classes: class names; labels are positions in it.
        source, terms: where the data come from, what may be done with them.
        modalities: dtype of each further modality, by name.
        modality_facts: what each of them is.
        steps: what the reader changes in the data, each a dict with the key ``name`` and its parameters.
        pattern: name of the files that are one item each, e.g. ``*.json``, where the source is a folder of them, so
            that `skelgraph.prediction.sources` can read a single one; empty = an item is no file of its own.
        labelling: options that concern labels alone; prediction reads files without them.
        in_memory: the constructor reads the whole source, so that reading in further processes would only multiply it.
    """

    topology: str | None = None
    dims: int = 2
    units: str = ""
    up: str | None = None
    classes: tuple[str, ...] = ()
    source: str = ""
    terms: str = ""
    modalities: Mapping[str, str] = {}
    modality_facts: Mapping[str, ModalityFacts] = {}
    steps: Sequence[Mapping[str, Any]] = ()
    pattern: str = ""
    labelling: tuple[str, ...] = ()
    in_memory: bool = False

    def __init__(self, src: Path) -> None:
        self.src = src

    @abstractmethod
    def items(self) -> Sequence[Any]:
        """Work items in a fixed order, e.g. file paths.

        Raises:
            UserError: nothing of this format at the source.
        """

    @abstractmethod
    def read(self, item: Any) -> Iterator[Clip]:
        """The clips of one item.

        Raises:
            UserError: the item is damaged; says in which line or at which key and why.
        """

    def poses(self, item: Any) -> Iterator[Clip]:
        """The clips of one item for prediction: no label and no telling file name is needed; by default as `read`.

        Raises:
            UserError: as `read`.
        """
        return self.read(item)

    def title(self, item: Any) -> str:
        """How an item is called in messages."""
        return str(item)

    def protocols(self, names: Collection[str]) -> Mapping[str, Mapping[str, Iterable[str]]]:
        """Published splits, ``{protocol: {part: clip names}}``; names of clips that were skipped may stand in it.

        Args:
            names: the clips that were read.
        """
        return {}


def need_folder(src: Path, *inside: str) -> Path:
    """``src`` or the first of its sub-folders ``inside`` that exists.

    Raises:
        UserError: no such folder.
    """
    for name in inside:
        if (src / name).is_dir():
            return src / name
    if not src.is_dir():
        raise UserError(f"{src}: no such folder.")
    return src


def need_file(src: Path) -> Path:
    """``src`` if it is a file.

    Raises:
        UserError: it is not.
    """
    if not src.is_file():
        raise UserError(f"{src}: no such file.")
    return src


def need_items(items: Sequence[Any], src: Path, what: str) -> Sequence[Any]:
    """``items`` unless there are none.

    Raises:
        UserError: empty; says ``what`` was looked for.
    """
    if not items:
        raise UserError(f"{src}: no {what} in it.")
    return items
