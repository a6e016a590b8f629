"""What is fused: the tests and streams that a user names, read from their run folders and matched clip by clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from skelgraph.engine import scores
from skelgraph.engine.run_folder import Run, StageFolder
from skelgraph.engine.scores import Scores
from skelgraph.errors import UserError, unknown


@dataclass(frozen=True)
class Source:
    """One summand.

    Attributes:
        name: as the user named it; of a stream, where the streams of one test are fused, the stream's.
        run, stage: the test it comes from.
        classes: names.
        test: its scores of the test clips.
        validation: of the validation clips of its training; None where none were kept.
    """

    name: str
    run: Run
    stage: StageFolder
    classes: tuple[str, ...]
    test: Scores
    validation: Scores | None


def sources(names: Sequence[str | Path], own: Run | None = None) -> list[Source]:
    """The summands: one for each name, or for each stream where a single test is named.

    Args:
        names: a run folder, ``RUN:STAGE`` or ``RUN:STAGE:STREAM``; also ``STAGE`` and ``STAGE:STREAM`` of ``own``.
        own: the run whose stages may be named without folder.

    Raises:
        UserError: no such run, stage or stream, a test that is not finished or kept no scores, fewer than two summands.
    """
    texts = [str(name) for name in names]
    found = [_located(text, own) for text in texts]
    meant = [(run.path.resolve(), stage.name, stream) for run, stage, stream in found]
    for place, text in enumerate(texts):
        if meant[place] in meant[:place]:
            raise UserError(f"{text}: is named twice.")
    if len(found) == 1:
        run, stage, stream = found[0]
        streams = () if stream else _streams(stage)
        if len(streams) < 2:
            raise UserError(f"{texts[0]}: has no streams to fuse; name two runs or more.")
        return [_source(name, run, stage, name) for name in streams]
    return [_source(text, *place) for text, place in zip(texts, found, strict=True)]


def _located(text: str, own: Run | None) -> tuple[Run, StageFolder, str]:
    """Run, stage and stream (or nothing) meant by a name."""
    first, _, rest = text.partition(":")
    if own is not None and first in own.recipe["stages"]:
        return own, own.stage(first), rest
    words = text.split(":")
    ends = [end for end in range(len(words), 0, -1) if (Path(":".join(words[:end])) / "run.json").is_file()]
    if not ends:
        raise UserError(f"{first}: not a run folder (it has no run.json).")
    run = Run(":".join(words[: ends[0]]))
    stage, _, stream = ":".join(words[ends[0] :]).partition(":")
    known = run.recipe["stages"]
    if stage and stage not in known:
        raise unknown("stage", stage, known, str(run.path))
    tests = [name for name, entry in known.items() if "evaluate" in entry and "fuse" not in entry]
    if not stage and len(tests) != 1:
        raise UserError(f"{run.path}: has {len(tests)} tests ({', '.join(tests)}); name one as RUN:STAGE.")
    return run, run.stage(stage or tests[0]), stream


def _tested(stage: StageFolder) -> Scores:
    if stage.result() is None:
        raise UserError(f"{stage.path}: is not finished.")
    found = scores.read(stage)
    if found is None:
        raise UserError(f"{stage.path}: has kept no scores of clips; name a stage that tests.")
    return found


def _streams(stage: StageFolder) -> tuple[str, ...]:
    return tuple(_tested(stage).streams)


def _source(name: str, run: Run, stage: StageFolder, stream: str) -> Source:
    test, validation = _tested(stage), scores.read(stage, "validation")
    if stream:
        if stream not in test.streams:
            raise unknown("stream", stream, test.streams, str(stage.path))
        test, validation = test.of_stream(stream), None if validation is None else validation.of_stream(stream)
    return Source(name, run, stage, tuple((stage.result() or {})["classes"]), test, validation)


def aligned(
    parts: Mapping[str, Scores], classes: Sequence[str], *, common: bool = False, advice: str = ""
) -> tuple[list[Scores], int]:
    """The same clips in the same order, that of the first part, and how many clips were left out for it.

    Args:
        parts: scores by the name of their source.
        classes: names, for messages.
        common: take the clips that all parts have, where they differ.
        advice: what to do where they differ.

    Raises:
        UserError: the parts hold different clips, no common one, or give a clip different labels.
    """
    (first, reference), *others = parts.items()
    clips = {name: set(part.names) for name, part in parts.items()}
    for name, part in others:
        if not common and clips[name] != clips[first]:
            missing = [clip for clip in reference.names if clip not in clips[name]]
            surplus = [clip for clip in part.names if clip not in clips[first]]
            lists = [f"{len(only)} only in {run} ({_first(only)})"
                     for run, only in ((first, missing), (name, surplus)) if only]  # fmt: skip
            raise UserError(f"{first} and {name} hold scores of different clips: {', '.join(lists)}. {advice}")
    shared = set.intersection(*clips.values())
    names = [clip for clip in reference.names if clip in shared]
    if not names:
        raise UserError(f"{', '.join(parts)}: have no clip in common.")
    same = [part.take(names) for part in parts.values()]
    for (name, _), part in zip(others, same[1:], strict=True):
        for place in torch.nonzero(part.label != same[0].label)[:1, 0].tolist():
            one, other = classes[int(same[0].label[place])], classes[int(part.label[place])]
            raise UserError(f"clip {names[place]} is '{one}' in {first} and '{other}' in {name}: not the same labels.")
    return same, len(set.union(*clips.values())) - len(names)


def _first(clips: Sequence[str], most: int = 3) -> str:
    return ", ".join(clips[:most]) + (" ..." if len(clips) > most else "")
