"""Northwestern-UCLA Multiview Action3D (Wang et al., CVPR 2014) as json, in the form CTR-GCN uses (``all_sqe``)."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from skelgraph.data.clip import Clip
from skelgraph.data.readers.base import READERS, Reader, need_folder, need_items
from skelgraph.errors import UserError

NAME = re.compile(r"(a\d\d)_(s\d\d)_(e\d\d)_(v\d\d)")
ACTIONS = ("a01", "a02", "a03", "a04", "a05", "a06", "a08", "a09", "a11", "a12")
TRAIN_SUBJECTS = ("s01", "s02", "s03", "s04", "s05")


@READERS.register("nw-ucla")
class NwUcla(Reader):
    """Northwestern-UCLA json, 10 classes of 3-D joints; protocols v12_v3, v23_v1, cross_subject.

    File names ``aAA_sSS_eEE_vVV.json`` tell action, subject, episode, camera.

    In the circulating files every camera-3 clip of a02 and a03 repeats the camera-2 clip number for number
    (`is_copy`). All clips are kept; the protocols deal with it:

    * ``v12_v3``, as published: cameras 1 and 2 against 3, copies included; ``test_clean`` leaves them out.
    * ``v23_v1``: cameras 2 and 3 without the copies against 1. No clip shared, all ten classes.
    * ``cross_subject``: subjects 1-5 against 6-10, without the copies.

    Args:
        src: the folder of the json files, or the one that has ``all_sqe``.
    """

    topology, dims, units, up = "kinect20", 3, "metres", "+y"
    classes = (
        "pick up with one hand", "pick up with two hands", "drop trash", "walk around", "sit down", "stand up",
        "donning", "doffing", "throw", "carry",
    )  # fmt: skip
    source = "Northwestern-UCLA Multiview Action3D, json of CTR-GCN (Wang et al., CVPR 2014)"
    pattern = "*.json"
    terms = "No licence stated for the data; cite the paper and check the authors' terms before republishing."

    def items(self) -> Sequence[Path]:
        return need_items(sorted(need_folder(self.src, "all_sqe").glob("*.json")), self.src, "*.json file")

    def read(self, item: Path) -> Iterator[Clip]:
        match = NAME.fullmatch(item.stem)
        if match is None:
            raise UserError(f"{item}: the name is not of the form a01_s01_e00_v01.json.")
        action, subject, episode, camera = match.groups()
        points, number = _load(item, "skeletons", "label")
        if action not in ACTIONS or number != ACTIONS.index(action) + 1:
            raise UserError(f"{item}: label {number} does not belong to action '{action}' of its name.")
        group = f"{action}_{subject}_{episode}"
        label = ACTIONS.index(action)
        yield Clip.of(item.stem, points, label=label, subject=subject, camera=camera, group=group)

    def poses(self, item: Path) -> Iterator[Clip]:
        yield Clip.of(item.stem, *_load(item, "skeletons"))

    def protocols(self, names: Collection[str]) -> Mapping[str, Mapping[str, Sequence[str]]]:
        clean = [name for name in sorted(names) if not is_copy(name)]
        return {
            "v12_v3": {
                "train": [name for name in clean if _camera(name) != "v03"],
                "test": [name for name in sorted(names) if _camera(name) == "v03"],
                "test_clean": [name for name in clean if _camera(name) == "v03"],
            },
            "v23_v1": {
                "train": [name for name in clean if _camera(name) != "v01"],
                "test": [name for name in clean if _camera(name) == "v01"],
            },
            "cross_subject": {
                "train": [name for name in clean if name[4:7] in TRAIN_SUBJECTS],
                "test": [name for name in clean if name[4:7] not in TRAIN_SUBJECTS],
            },
        }


def _load(item: Path, *keys: str) -> list[Any]:
    """Values of a json file.

    Raises:
        UserError: no json, or a key is missing.
    """
    try:
        data = json.loads(item.read_text(encoding="utf-8"))
        return [data[key] for key in keys]
    except json.JSONDecodeError as error:
        raise UserError(f"{item}:{error.lineno}: not valid json ({error.msg}).") from None
    except (OSError, UnicodeDecodeError, RecursionError, TypeError, KeyError) as error:
        raise UserError(f"{item}: damaged ({type(error).__name__}: {error}).") from None


def is_copy(name: str) -> bool:
    """Whether a clip repeats the camera-2 clip of the same performance."""
    return name[:3] in ("a02", "a03") and _camera(name) == "v03"


def _camera(name: str) -> str:
    return name[-3:]
