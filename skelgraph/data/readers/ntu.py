"""NTU RGB+D 60 and 120 (Shahroudy et al., CVPR 2016; Liu et al., TPAMI 2019) from their raw ``.skeleton`` files."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from skelgraph.data.clip import Clip
from skelgraph.data.readers.base import READERS, Reader, need_folder, need_items
from skelgraph.data.readers.ntu_bodies import DENOISE, Body, actors, bodies, denoise, most_energetic
from skelgraph.data.readers.ntu_names import NTU_CLASSES
from skelgraph.data.readers.ntu_skeleton import IMAGES, JOINTS, Recording, read_recording
from skelgraph.errors import UserError, unknown

NAME = re.compile(r"(S\d{3})(C\d{3})(P\d{3})(R\d{3})(A\d{3})")
FPS = 30.0
SUBJECTS_60 = frozenset({1, 2, 4, 5, 8, 9, *range(13, 20), 25, 27, 28, 31, 34, 35, 38})
SUBJECTS_120 = SUBJECTS_60 | frozenset(
    {45, 46, 47, 49, 50, *range(52, 60), 70, 74, 78, *range(80, 87), 89, *range(91, 96), 97, 98, 100, 103}
)
TRAIN_CAMERAS = frozenset({2, 3})
LAST_ACTION_60, LAST_SETUP_60 = 60, 17
SELECTIONS = ("actors", "energy", "all")
INFERRED = 0.5


@READERS.register("ntu")
class Ntu(Reader):
    """NTU RGB+D ``.skeleton`` files, 60 or 120 classes; protocols xsub and xview, or xsub and xset.

    Names ``SsssCccPpppRrrrAaaa.skeleton`` tell setup, camera, performer, replication, action. Files of actions above 60
    or setups above 17 make it NTU RGB+D 120. All cameras of a performance are one recording (``group``).

    Args:
        src: the folder of the files, or one above it.
        missing: a text file that names files to leave out, such as the published lists of missing skeletons
            (``NTU_RGBD_samples_with_missing_skeletons.txt`` and ``NTU_RGBD120_...`` of github.com/shahroudy/NTURGB-D).
        coordinates: ``world`` in metres, or where the joints lie in the ``color`` or ``depth`` image, in pixels.
        bodies: ``actors`` makes two people of all tracking ids (SGN, CTR-GCN, PSUMNet); ``energy`` takes the two
            places of a frame where most happens (ST-GCN, 2s-AGCN, CMD, HaLP); ``all`` keeps every tracking id.
        denoise: which of length, spread, motion tell bodies from things, or ``none``; see `ntu_bodies`. The published
            code has the third and does not call it. Not used with ``energy``.
        empty_frames: ``drop`` frames without a body as published, then the times of the others stand in the clip's
            timestamps; or ``keep`` them as missing.
        states: tracked joints have score 1, inferred ones 0.5, those not tracked are missing; otherwise every joint
            counts as seen, as published.
        official: a body that vanishes and returns goes on right where it left, as in SGN's code.
    """

    topology, pattern, labelling = "ntu25", "*.skeleton", ("missing",)
    source = "NTU RGB+D, .skeleton files (Shahroudy et al., CVPR 2016; Liu et al., TPAMI 2019)"
    terms = "NTU RGB+D: academic research only, by agreement with ROSE Lab."

    def __init__(
        self, src: Path, *, missing: str | None = None, coordinates: Literal["world", "color", "depth"] = "world",
        bodies: Literal["actors", "energy", "all"] = "actors", denoise: str | Sequence[str] = "length,spread",
        empty_frames: Literal["drop", "keep"] = "drop", states: bool = True, official: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(need_folder(src))
        for key, value, allowed in (
            ("coordinates", coordinates, ("world", *IMAGES)), ("bodies", bodies, SELECTIONS),
            ("empty_frames", empty_frames, ("drop", "keep")),
        ):  # fmt: skip
            if value not in allowed:
                raise unknown(f"value of '{key}'", value, allowed, "ntu")
        self.image = None if coordinates == "world" else coordinates
        self.dims, self.units, self.up = (2, "pixels", "-y") if self.image else (3, "metres", "+y")
        self.selection, self.drop, self.states, self.official = bodies, empty_frames == "drop", states, official
        self.rules = _rules(denoise) if bodies != "energy" else ()
        absent = _listed(missing) if missing is not None else frozenset()
        files = sorted(src.rglob("*.skeleton"))
        self._files = [path for path in files if path.stem not in absent]
        parts = [tuple(int(part[1:]) for part in match.groups()) for path in files if (match := _named(path))]
        self.large = any(part[4] > LAST_ACTION_60 or part[0] > LAST_SETUP_60 for part in parts)
        self.classes = NTU_CLASSES if self.large else NTU_CLASSES[:LAST_ACTION_60]
        self.steps = self._steps(missing, len(files) - len(self._files))

    def _steps(self, missing: str | None, left_out: int) -> list[dict[str, Any]]:
        """What this reader does to a file, in order."""
        order = {"actors": "falling motion", "energy": "falling energy", "all": "first appearance"}
        named = [{"name": "files left out by a list", "list": Path(missing).name, "files": left_out}] if missing else []
        return [
            *named,
            *({"name": f"denoise by {rule}", **DENOISE[rule][1]} for rule in self.rules),
            {"name": "bodies", "by": self.selection, "order": order[self.selection], "close_gaps": self.official},
            {"name": "frames without a body", "become": "dropped" if self.drop else "missing"},
            {"name": "score", "of": f"tracking states, inferred {INFERRED}" if self.states else "1 everywhere"},
        ]

    def items(self) -> Sequence[Path]:
        return need_items(self._files, self.src, "*.skeleton file")

    def read(self, item: Path) -> Iterator[Clip]:
        match = _named(item)
        if match is None or not 1 <= int(match[5][1:]) <= len(NTU_CLASSES):
            raise UserError(f"{item}: the name is not of the form S001C001P001R001A001 with A001 to A120.")
        setup, camera, subject, replication, action = match.groups()
        for clip in self.poses(item):
            yield replace(
                clip, label=int(action[1:]) - 1, subject=subject, camera=camera, setup=setup,
                group=f"{setup}{subject}{replication}{action}",
            )  # fmt: skip

    def poses(self, item: Path) -> Iterator[Clip]:
        recording = read_recording(item, self.image)
        points, score, frames = self._people(recording)
        whole = len(frames) == recording.frames
        yield Clip.of(
            item.stem,
            points,
            score,
            fps=FPS if whole else None,
            timestamps=None if whole else frames / FPS,
            image_size=IMAGES[self.image][1] if self.image else None,
        )

    def _people(self, recording: Recording) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Joints ``(M, T, V, C)``, score ``(M, T, V)``, and the frames of the file that the T are."""
        times = np.unique(recording.frame) if self.drop else np.arange(recording.frames)
        chosen = self._choose(recording, np.searchsorted(times, recording.frame))
        values = recording.joints if recording.image is None else recording.image
        score = recording.state / 2 * recording.tracked[:, None] if self.states else np.ones(recording.state.shape)
        if recording.image is not None:
            # The sensor maps joints behind the camera to infinity.
            score = score * np.isfinite(values).all(-1)
        points = np.zeros((len(chosen), len(times), JOINTS, values.shape[-1]), np.float32)
        seen = np.zeros(points.shape[:3], np.float32)
        present = np.zeros(len(times), bool)
        for person, team in enumerate(chosen):
            for body in team:
                points[person, body.frames], seen[person, body.frames] = values[body.rows], score[body.rows]
                present[body.frames] = True
        if self.drop:
            points, seen, times = points[:, present], seen[:, present], times[present]
        return points, seen, times

    def _choose(self, recording: Recording, frames: np.ndarray) -> list[list[Body]]:
        """The people, each as the bodies that make it up."""
        if self.selection == "energy":
            return most_energetic(recording, frames)
        found = denoise(bodies(recording, frames, close_gaps=self.official), recording, self.rules)
        return actors(found) if self.selection == "actors" else [[body] for body in found]

    def protocols(self, names: Collection[str]) -> Mapping[str, Mapping[str, Sequence[str]]]:
        return ntu_protocols(names, large=self.large)


def ntu_protocols(names: Collection[str], *, large: bool) -> dict[str, dict[str, list[str]]]:
    """The published splits of NTU RGB+D.

    Args:
        names: clip names of the form S001C001P001R001A001.
        large: NTU RGB+D 120: 53 training subjects, even setups. Otherwise NTU RGB+D 60: 20 subjects, cameras 2 and 3.
    """
    parts = {name: [int(part[1:]) for part in match.groups()] for name in sorted(names) if (match := NAME.search(name))}
    subjects = SUBJECTS_120 if large else SUBJECTS_60
    other = "xset" if large else "xview"
    train = {
        "xsub": {name for name, part in parts.items() if part[2] in subjects},
        other: {name for name, part in parts.items() if (part[0] % 2 == 0 if large else part[1] in TRAIN_CAMERAS)},
    }
    return {
        protocol: {"train": [name for name in parts if name in kept], "test": [n for n in parts if n not in kept]}
        for protocol, kept in train.items()
    }


def _named(path: Path) -> re.Match[str] | None:
    return NAME.fullmatch(path.stem)


def _rules(text: str | Sequence[str] | None) -> tuple[str, ...]:
    """The rules of `DENOISE` that ``length,spread`` or a list names; none for ``none``."""
    words = text.replace(",", " ").split() if isinstance(text, str) else list(text or ())
    words = [] if words == ["none"] else words
    for word in words:
        if word not in DENOISE:
            raise unknown("rule of 'denoise'", word, (*DENOISE, "none"), "ntu")
    return tuple(name for name in DENOISE if name in words)


def _listed(path: str) -> frozenset[str]:
    """The names of clips in a text file, whatever else stands in it."""
    try:
        found = frozenset(match[0] for match in NAME.finditer(Path(str(path)).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list of clips ({error}).") from None
    if not found:
        raise UserError(f"{path}: names no clip of the form S001C001P001R001A001.")
    return found
