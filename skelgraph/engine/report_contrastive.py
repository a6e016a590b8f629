"""Sections of the report for contrastive runs: the keys in the queue, hallucinated positives, and what probes found."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from skelgraph.engine.headline import TITLES, unit
from skelgraph.engine.report_figures import scatter, swatch, ticks
from skelgraph.engine.report_parts import figure_block
from skelgraph.engine.run_folder import Run, StageFolder
from skelgraph.errors import UserError
from skelgraph.pages.svg import svg, text

QUEUE, SEEN, CENTRES = ".queue.keys", ".queue.seen.value", ".centres"
KEYS, DRAWN, BINS = 1000, 400, 50
KINDS = ("keys in the queue", "positives, kept", "positives, dropped", "prototypes", "the key they are made from")


# ---- keys ----------------------------------------------------------------------------------------------------------


def sections(folder: StageFolder, entry: Mapping[str, Any]) -> str:
    """Pictures of each stream of a stage with a queue; nothing for other stages.

    Args:
        folder: of the stage.
        entry: what the recipe says of it.
    """
    kept = read_kept(folder.path / "exports.safetensors")
    blocks = []
    for key in (key for key in kept if key.endswith(QUEUE)):
        stream = key.removeprefix("contrastive/").removesuffix(QUEUE)
        keys = newest_first(kept[key].float(), int(kept.get(f"contrastive/{stream}{SEEN}", torch.tensor(0))))
        title = "" if stream == "whole" else stream
        blocks.append(similarities(keys, title))
        centres = kept.get(f"prototypes/{stream}{CENTRES}")
        if centres is not None and bool(centres.any()) and len(keys):
            blocks.append(around_a_key(keys, centres.float(), entry, title))
    return f'<div class="pair">{"".join(blocks)}</div>' if any(blocks) else ""


def read_kept(file: Path) -> dict[str, Tensor]:
    """Queues, their counters and prototypes out of a stage's exports; the networks beside them are not read.

    Raises:
        UserError: the file is damaged.
    """
    if not file.is_file():
        return {}
    try:
        with safe_open(file, "pt") as opened:
            names = list(opened.keys())
            return {key: opened.get_tensor(key) for key in names if key.endswith((QUEUE, SEEN, CENTRES))}
    except SafetensorError as error:
        raise UserError(f"{file}: damaged ({error}).") from None


def newest_first(keys: Tensor, seen: int) -> Tensor:
    """The keys that have come ``(n, D)``, without the random directions that a queue begins with."""
    ordered = keys.roll(-(seen % len(keys)), 0).flip(0)
    return ordered[: min(seen, len(keys))]


def similarities(keys: Tensor, stream: str = "") -> str:
    """How alike the keys are: cosines of all pairs of the newest ones."""
    some = keys[:KEYS]
    if len(some) < 2:
        return ""
    rows, columns = torch.triu_indices(len(some), len(some), 1)
    values = (some @ some.T)[rows, columns].clamp(-1, 1).numpy()
    mean, alike = float(values.mean()), 100 * float((values > 0.9).mean())
    note = (
        f"Cosines of all pairs of the newest {len(some)} keys; mean {mean:.2f}, above 0.9: {alike:.1f} %. Clips of one "
        "class should be alike, most pairs should not; all near 1 means that the embedding has collapsed."
    )
    drawing = histogram(values, f"Histogram of the cosines between {len(some)} keys, mean {mean:.2f}")
    return figure_block(_titled("Similarity in the queue", stream), drawing, note)


def histogram(values: NDArray[np.float32], label: str) -> str:
    """Shares of cosines in bins of equal width from -1 to 1."""
    width, height, left, right, top, bottom = 460, 256, 44, 12, 32, 40
    counts, edges = np.histogram(values, BINS, (-1, 1))
    shares = 100 * counts / max(1, counts.sum())
    ys = ticks(0, float(shares.max()))

    def at(x: float, y: float) -> tuple[float, float]:
        across = left + (width - left - right) * (x + 1) / 2
        return across, height - bottom - (height - top - bottom) * y / ys[-1]

    parts = [text(0, 12, "share of pairs, %", "axis"), text(width - right, height - 5, "cosine", "axis", "end")]
    for y in ys:
        parts.append(f'<path class="grid" d="M{left} {at(0, y)[1]:.1f}H{width - right}"/>')
        parts.append(text(left - 7, at(0, y)[1] + 4, f"{y:g}", "tick", "end"))
    parts += [text(at(x, 0)[0], height - bottom + 17, f"{x:g}", "tick", "middle") for x in (-1, -0.5, 0, 0.5, 1)]
    for low, high, share in zip(edges[:-1].tolist(), edges[1:].tolist(), shares.tolist(), strict=True):
        if share:
            (x, y), (end, floor) = at(low, share), at(high, 0)
            title = f"<title>{low:.2f} to {high:.2f}: {share:.2f} %</title>"
            parts.append(
                f'<path class="h0" d="M{x:.1f} {floor:.1f}V{y:.1f}H{end - 0.6:.1f}V{floor:.1f}z">{title}</path>'
            )
    return svg(width, height, label, "".join(parts), "figure scatter")


# ---- positives -----------------------------------------------------------------------------------------------------


def around_a_key(keys: Tensor, centres: Tensor, entry: Mapping[str, Any], stream: str = "") -> str:
    """Positives made from the newest key, in the plane that touches the sphere there."""
    from skelgraph.methods import METHODS
    from skelgraph.methods.hallucinate import Draws, hallucinate
    from skelgraph.methods.sphere import log_map, unit

    settings = {key: entry.get(key, item.default) for key, item in METHODS.settings("halp").items()}
    keys, centres = unit(keys[:KEYS]), unit(centres)
    anchor, number = keys[:1], min(settings["candidates"], len(centres) - settings["skip"])
    chance = torch.Generator().manual_seed(0)
    draws = Draws(torch.randint(number, (1, DRAWN), generator=chance),
                  torch.rand(1, DRAWN, generator=chance) * settings["hardness"])  # fmt: skip
    made = hallucinate(anchor, centres, draws, number=settings["candidates"], skip=settings["skip"],
                       margin=settings["margin"], published=settings["published"])  # fmt: skip
    points, kept = made.points[0], made.kept[0]
    groups = [keys[1:], points[kept], points[~kept], centres, anchor]
    tangents = [log_map(anchor, group) for group in groups]
    _, _, directions = torch.linalg.svd(torch.cat([tangents[1], tangents[2], tangents[3]]), full_matrices=False)
    axes = directions[:2].T
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    plane = (torch.rad2deg(torch.cat(tangents)) @ axes).numpy().astype(np.float32)
    kinds = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    share = 100 * float(kept.float().mean())
    angles = torch.rad2deg((points @ anchor[0]).clamp(-1, 1).arccos())
    legend = "".join(f"<span>{swatch(kind)}{escape(name)}</span>" for kind, name in enumerate(KINDS))
    note = (
        f'<span class="legend">{legend}</span>{DRAWN} positives of the newest key, {share:.0f} % kept, '
        f"{float(angles.median()):.1f}° from it in the median, at most {float(angles.max()):.1f}°. Ways from the "
        "key are straight lines; of the sphere’s directions the two along which positives and prototypes lie most."
    )
    label = f"{DRAWN} hallucinated positives around one key, {share:.0f} per cent kept"
    drawing = scatter(plane, kinds, KINDS, ("degrees from the key", "degrees"), label)
    return figure_block(_titled("Hallucinated positives", stream), drawing, note)


def _titled(title: str, stream: str) -> str:
    return f"{title} <small>{escape(stream)}</small>" if stream else title


# ---- probes --------------------------------------------------------------------------------------------------------


def probes(run: Run) -> str:
    """One table of all finished tests, where a run judges a pre-training in several ways or without labels."""
    stages = run.recipe["stages"]
    tests = [(folder, folder.result()) for folder in run.stages() if "evaluate" in stages[folder.name]]
    rows = [(folder.name, result) for folder, result in tests if result is not None]
    if not any(_probe(result, stages)[0] in ("kNN", "linear") for _, result in rows):
        return ""
    metrics = list(dict.fromkeys(metric for _, result in rows for metric in result["metrics"] if metric in TITLES))
    heads = "".join(f'<th scope="col" class="n">{escape(TITLES[metric])}</th>' for metric in metrics)
    body = ""
    for name, result in rows:
        kind, source = _probe(result, stages)
        labels = result.get("gallery_clips") or (_trained(run, result) or {}).get("train_clips", "–")
        cells = "".join(f'<td class="n">{_figure(result, metric)}</td>' for metric in metrics)
        body += (
            f'<tr><th scope="row">{escape(name)}</th><td>{kind}</td><td>{escape(source)}</td>'
            f'<td class="n">{labels}</td><td class="n">{result.get("test_clips", "–")}</td>{cells}</tr>'
        )
    return (
        '<section><h2>Probes</h2><div class="scroll"><table class="stages"><thead><tr><th scope="col">Test</th>'
        '<th scope="col">Probe</th><th scope="col">of</th><th scope="col" class="n">Labelled clips</th>'
        f'<th scope="col" class="n">Test clips</th>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
        '<p class="note">kNN: a vote of the nearest labelled training clips. Linear: one layer on frozen features. '
        "Fine-tuning: all weights.</p></section>"
    )


def _probe(result: Mapping[str, Any], stages: Mapping[str, Any]) -> tuple[str, str]:
    """The kind of a test, and whose features it judges."""
    tested = str(result.get("tested"))
    entry = stages.get(tested) or {}
    source = str(entry.get("from") or "no pre-training")
    if result.get("by") == "knn":
        return "kNN", source if entry.get("method") == "linear_probe" else tested
    if entry.get("method") == "linear_probe":
        return "linear", source
    return ("fine-tuning", source) if entry.get("from") else ("training", tested)


def _trained(run: Run, result: Mapping[str, Any]) -> dict[str, Any] | None:
    tested = str(result.get("tested"))
    return run.stage(tested).result() if tested in run.recipe["stages"] else None


def _figure(result: Mapping[str, Any], metric: str) -> str:
    value = result["metrics"].get(metric)
    return "–" if value is None else f"{value:.{1 if unit(metric) == '%' else 3}f}"
