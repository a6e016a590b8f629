"""Coordinates, units, axes and frame rates that do not look like what the store says."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from skelgraph.data.checks.base import CLIP_CHECKS, STORE_CHECKS, Finding, Severity
from skelgraph.data.checks.clip_facts import ClipFacts
from skelgraph.data.checks.survey import Survey

AXES = "xyz"


@STORE_CHECKS.register("scale")
def scale(survey: Survey, *, factor: float = 1.6, factor_2d: float = 6.0, whole: float = 0.8) -> Iterator[Finding]:
    """A body is much larger or smaller than in the other clips."""
    usable = np.isfinite(survey.sizes) & (survey.whole >= whole)
    if usable.sum() < 3:
        return
    middle = float(np.median(survey.sizes[usable]))
    most = factor if survey.store.meta.dims == 3 else factor_2d
    ratio = survey.sizes / middle
    for row in np.flatnonzero(usable & ((ratio > most) | (ratio < 1 / most))).tolist():
        message = f"the body is {ratio[row]:.2g} times as large as in the median clip"
        advice = "Look at its unit, or whether joints are far off; `scale` in a recipe makes bodies equal."
        yield Finding("scale", Severity.WARNING, message, advice, survey.store.names[row],
                      weight=float(max(ratio[row], 1 / ratio[row])))  # fmt: skip


@STORE_CHECKS.register("units")
def units(survey: Survey, *, least: float = 0.1, most: float = 10.0) -> Iterator[Finding]:
    """The unit does not go with the numbers."""
    meta, known = survey.store.meta, survey.sizes[np.isfinite(survey.sizes)]
    size = float(np.median(known)) if len(known) else float("nan")
    if not meta.units:
        yield Finding("units", Severity.NOTE, "the unit of the coordinates is not known", "Say it on import.")
    if survey.metres is not None and len(known) and not least <= size * survey.metres <= most:
        message = f"unit {meta.units}, but from end to end a body measures {size * survey.metres:.3g} m"
        yield Finding("units", Severity.WARNING, message, "Import it with the right unit.")
    extent = float(np.nan_to_num(np.abs([survey.low, survey.high])).max(initial=0.0))
    if meta.units == "pixels" and 0 < extent <= 2:
        message = f"unit pixels, but no coordinate is beyond {extent:.2g}: they look normalised"
        advice = "Multiply by the size of the image on import; x and y normalised by width and height distort bodies."
        yield Finding("units", Severity.WARNING, message, advice)
    if meta.units.startswith("normal") and extent > 20:
        message = f"unit {meta.units}, but coordinates reach {extent:.3g}: they look like pixels"
        yield Finding("units", Severity.WARNING, message, "Import it with the right unit.")


@STORE_CHECKS.register("flat")
def flat(survey: Survey, *, share: float = 0.001) -> Iterator[Finding]:
    """A coordinate is the same everywhere, as where 2-D joints are stored as 3-D."""
    if survey.empty.all():
        return
    spread = np.nanmax(survey.high, axis=0) - np.nanmin(survey.low, axis=0)
    for axis in np.flatnonzero(spread <= share * spread.max()).tolist():
        message = f"coordinate {AXES[axis]} is the same in all clips"
        yield Finding("flat", Severity.WARNING, message, "Import the data with two coordinates.")


@STORE_CHECKS.register("up_axis")
def up_axis(survey: Survey, *, share: float = 0.6) -> Iterator[Finding]:
    """Bodies stand along another axis than the one that is said to point up."""
    known = survey.up[np.isfinite(survey.up).all(-1)]
    if not len(known):
        return
    strongest = np.abs(known).argmax(1)
    ways = 2 * strongest + (np.take_along_axis(known, strongest[:, None], 1)[:, 0] < 0)
    counts = np.bincount(ways, minlength=2 * known.shape[1])
    best = int(counts.argmax())
    found, told = ("-" if best % 2 else "+") + AXES[best // 2], survey.store.meta.up
    part = counts[best] / len(known)
    if told is None:
        message = f"the axis that points up is not known; bodies stand along {found} in {100 * part:.0f} % of the clips"
        yield Finding("up_axis", Severity.NOTE, message, "Say it on import; drawings and `align` need it.")
    elif found != told and part >= share:
        message = f"up is said to be {told}, but bodies stand along {found} in {100 * part:.0f} % of the clips"
        yield Finding("up_axis", Severity.WARNING, message, "Import it with the right axis.")


@STORE_CHECKS.register("sides")
def sides(survey: Survey, *, share: float = 0.7, clips: int = 10) -> Iterator[Finding]:
    """Left is on the right of whoever looks forward: names interchanged, or axes left-handed; 3-D only."""
    decided = survey.turn[survey.turn != 0]
    wrong = float((decided < 0).mean()) if len(decided) >= clips else 0.0
    if wrong >= share:
        message = (
            f"in {100 * wrong:.0f} % of {len(decided)} clips the left side is on the right of the way the feet point"
        )
        advice = "Turn the sign of one axis on import, or mend the order of the joints; mirroring and transfer suffer."
        yield Finding("sides", Severity.WARNING, message, advice)


@STORE_CHECKS.register("frame_rate")
def frame_rate(
    survey: Survey, *, slow: float = 0.03, fast: float = 1.4, metres: float = 2.0, low: float = 5.0,
    high: float = 240.0,
) -> Iterator[Finding]:  # fmt: skip
    """The frame rate is unknown, odd, or makes people too quick or too slow."""
    rates = survey.store.fps
    unknown = int((~survey.timed).sum())
    if unknown:
        message = f"{unknown} of {len(rates)} clips do not know their frame rate; speeds here rest on a guess"
        yield Finding("frame_rate", Severity.NOTE, message, "Give it on import, or --fps here.", weight=unknown)
    odd = np.flatnonzero((rates < low) | (rates > high))
    if len(odd):
        message = f"{len(odd)} clips have an unusual frame rate, such as {rates[odd[0]]:g}"
        yield Finding("frame_rate", Severity.WARNING, message, "Look at the source.", survey.store.names[int(odd[0])])
    if "torso" not in survey.skeleton.topology.parts:
        return
    speed = survey.speed
    if survey.metres is not None:
        speed = speed * survey.sizes * survey.metres / metres
    known = speed[np.isfinite(speed)]
    typical = float(np.median(known)) if len(known) else float("nan")
    if typical > fast or typical < slow:
        word = (
            "fast: the true rate may be lower, or frames are left out" if typical > fast else "slow: it may be higher"
        )
        way = f"{typical:.2g} body sizes" if survey.metres is None else f"{typical * metres:.2g} m"
        message = f"joints in fast motion make {way} a second in the median clip, which is {word}"
        yield Finding("frame_rate", Severity.WARNING, message, "Look at the source; where speeds matter, mend fps.")


@CLIP_CHECKS.register("repeated_frames")
def repeated_frames(clip: ClipFacts, *, share: float = 0.25, single: float = 0.4) -> Iterator[Finding]:
    """Many single frames repeat the one before in all joints, as after resampling from a lower rate."""
    both = np.isfinite(clip.steps)
    moving = both.any((0, 2))
    repeats = moving & ~(both & ~clip.same).any((0, 2))
    around = np.pad(repeats, 1)
    lone = repeats & ~around[:-2] & ~around[2:]
    if repeats.sum() > share * max(1, moving.sum()) and lone.sum() >= single * repeats.sum():
        first = int(np.flatnonzero(repeats)[0]) + 1
        message = f"{int(repeats.sum())} of {clip.clip.frames} frames repeat the one before"
        advice = "The recording has a lower rate than it seems: drop the repeats, or live with jerky speeds."
        yield Finding("repeated_frames", Severity.WARNING, message, advice, clip.name, frame=first,
                      weight=float(repeats.mean()))  # fmt: skip


@CLIP_CHECKS.register("timestamps")
def timestamps(clip: ClipFacts, *, gap: float = 3.0) -> Iterator[Finding]:
    """Times that run backwards, or a gap between two frames."""
    if clip.clip.timestamps is None or clip.clip.frames < 2:
        return
    between = np.diff(np.asarray(clip.clip.timestamps, dtype=np.float64))
    worst = int(np.argmin(between))
    if between[worst] <= 0:
        message = f"the time of frame {worst + 1} is not later than that of frame {worst}"
        yield Finding("timestamps", Severity.ERROR, message, "Sort the frames by time.", clip.name, frame=worst + 1)
        return
    worst = int(np.argmax(between))
    if between[worst] > gap * np.median(between):
        message = f"{between[worst]:.2f} s between frames {worst} and {worst + 1}, usually {np.median(between):.3f} s"
        advice = "Frames are left out: cut the clip there, or resample it by time."
        yield Finding("timestamps", Severity.WARNING, message, advice, clip.name, frame=worst + 1,
                      weight=float(between[worst] / np.median(between)))  # fmt: skip


@CLIP_CHECKS.register("outside_image")
def outside_image(clip: ClipFacts, *, share: float = 0.1) -> Iterator[Finding]:
    """Many joints lie outside the image."""
    if clip.clip.image_size is None or clip.empty:
        return
    height, width = clip.clip.image_size
    places = clip.points[clip.seen]
    out = float(((places[:, :2] < 0) | (places[:, :2] > (width, height))).any(1).mean())
    if out > share:
        message = f"{100 * out:.0f} % of its joints lie outside the image of {width} x {height} pixels"
        advice = (
            "Look at the size of the image, and whether x and y are in this order; guesses can be given the score 0."
        )
        yield Finding("outside_image", Severity.WARNING, message, advice, clip.name, weight=out)
