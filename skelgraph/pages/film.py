"""A scene as a picture: a moving gif, or a png with a film strip and the values of all joints over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from skelgraph.errors import UserError
from skelgraph.pages import skeletons
from skelgraph.pages.scene import REACH, Layer, Scene

SHOWN = 8
MOST_FRAMES = 120
PITCH = 0.12
SIDES = ("#4a5058", "#2a5db0", "#c05717")
FOR, AGAINST, SOFT = "#c05717", "#2a5db0", "#9aa0a8"


def write(scene: Scene, path: Path, title: str) -> None:
    """Write a gif or png, by the ending of ``path``; joints coloured by the scene's first layer.

    Raises:
        UserError: matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise UserError("pictures need matplotlib: pip install 'skelgraph[viz]'.") from None
    if path.suffix.lower() == ".gif":
        _gif(scene, path, title, Figure, FigureCanvasAgg)
    else:
        _strip(scene, path, title, Figure, FigureCanvasAgg)


def _gif(scene: Scene, path: Path, title: str, figure_of: Any, canvas_of: Any) -> None:
    from PIL import Image

    every = max(1, -(-scene.frames // MOST_FRAMES))
    figure = figure_of(figsize=(4, 4.3), dpi=90)
    canvas, pictures = canvas_of(figure), []
    axes = figure.add_axes((0, 0, 1, 0.93))
    figure.text(0.5, 0.955, title, ha="center", fontsize=9)
    for frame in range(0, scene.frames, every):
        axes.clear()
        _body(axes, scene, frame, 3.0)
        canvas.draw()
        pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).quantize(64))
    wait = max(20, round(1000 * scene.seconds * every))
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=wait, loop=0)


def _strip(scene: Scene, path: Path, title: str, figure_of: Any, canvas_of: Any) -> None:
    """Eight moments, below them the first pictures of another sensor, and the first layer as a map."""
    rows = [2.0, *(1.4 for _ in scene.pictures), *(2.6 for _ in scene.layers[:1])]
    figure = figure_of(figsize=(12, sum(rows) + 0.5), dpi=110, layout="constrained")
    canvas_of(figure)
    grid = figure.add_gridspec(len(rows), SHOWN, height_ratios=rows)
    moments = [int((i + 0.5) * scene.frames / SHOWN) for i in range(SHOWN)]
    for column, frame in enumerate(moments):
        axes = figure.add_subplot(grid[0, column])
        _body(axes, scene, frame, 2.0)
        when = f"{frame * scene.seconds:.2f} s" if scene.known else f"frame {frame + 1}"
        axes.set_title(when, fontsize=8, color="#62686f")
        for row, item in enumerate(scene.pictures, 1):
            _picture(figure.add_subplot(grid[row, column]), item, frame)
    if scene.layers:
        _map(figure, figure.add_subplot(grid[-1, :]), scene, scene.layers[0])
    figure.suptitle(title, fontsize=10)
    figure.savefig(path)


def _body(axes: Any, scene: Scene, frame: int, thick: float) -> None:
    """One frame from the front and a little from above."""
    from matplotlib.collections import LineCollection

    points, seen = scene.points[frame], scene.seen[frame]
    pitch = 0.0 if scene.flat else PITCH
    places = np.stack([points[..., 0], np.cos(pitch) * points[..., 1] - np.sin(pitch) * points[..., 2]], -1)
    layer = scene.layers[0] if scene.layers else None
    edges = skeletons.sides(scene.topology)
    for person, here in zip(places, seen, strict=True):
        drawn = [edge for edge in edges if here[edge[0]] and here[edge[1]]]
        colours = [SOFT if layer else SIDES[side] for _, _, side in drawn]
        lines = [person[[a, b]] for a, b, _ in drawn]
        axes.add_collection(LineCollection(lines, colors=colours, linewidths=thick, capstyle="round"))
    if layer is not None:
        values = layer.values[frame][seen] / (np.abs(layer.values).max() or 1.0)
        size = thick**2 * (2 + 14 * np.abs(values))
        colour = np.where(values < 0, AGAINST, FOR)
        axes.scatter(
            *places[seen].T, s=size, c=colour, alpha=np.sqrt(np.abs(values)).clip(0.08, 1), linewidths=0, zorder=3
        )
    axes.set(xlim=(-1.1 * REACH, 1.1 * REACH), ylim=(-1.1 * REACH, 1.1 * REACH), aspect="equal")
    axes.axis("off")


def _picture(axes: Any, item: Any, frame: int) -> None:
    image = item.frames[frame]
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    if item.points:
        x, y, weight = np.asarray(item.points[frame]).reshape(-1, 3).T
        height, width = image.shape[:2]
        axes.scatter(x * width - 0.5, y * height - 0.5, s=4 + 40 * weight, c=FOR, edgecolors="k", linewidths=0.4)
    axes.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
    axes.axis("off")


def _map(figure: Any, axes: Any, scene: Scene, layer: Layer) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    values = layer.values.reshape(scene.frames, -1).T
    top = float(np.abs(values).max()) or 1.0
    ramp = LinearSegmentedColormap.from_list("values", [AGAINST, "white", FOR] if layer.signed else ["white", FOR])
    shown = axes.imshow(
        values, aspect="auto", cmap=ramp, vmin=-top if layer.signed else 0, vmax=top, interpolation="none"
    )
    joints = [joint.replace("_", " ") for joint in scene.topology.joints] * (len(values) // len(scene.topology.joints))
    if len(joints) <= 60:
        axes.set_yticks(range(len(joints)), joints, fontsize=min(7.0, 180 / len(joints)))
    axes.set_xlabel("frame", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    figure.colorbar(shown, ax=axes, pad=0.01).set_label(layer.name, fontsize=7)
