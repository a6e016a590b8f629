"""A moving skeleton that can be turned: joints in space, values that colour them, curves and pictures beside them.

Letters: F frames, M persons, V joints, P points.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelgraph.data.clip import Clip
from skelgraph.pages import skeletons
from skelgraph.topology import Topology

REACH = 1000
HIDDEN = 99999
MOST_NUMBERS = 500_000
PICTURE_SIDE = 64
USUAL_RATE = 15.0
# Rows (to the right, up, towards the viewer) for every axis that may point up; all keep right hands right.
TURNS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "+x": ((0, -1, 0), (1, 0, 0), (0, 0, 1)), "-x": ((0, 1, 0), (-1, 0, 0), (0, 0, 1)),
    "+y": ((1, 0, 0), (0, 1, 0), (0, 0, 1)), "-y": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "+z": ((1, 0, 0), (0, 0, 1), (0, -1, 0)), "-z": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One way to colour the joints.

    Attributes:
        name: what the values are, with their unit.
        values: (F, M, V); below 0 only where ``signed``.
        signed: both signs mean something.
    """

    name: str
    values: NDArray[np.floating[Any]]
    signed: bool = False


@dataclass(frozen=True)
class Track:
    """A curve below the skeleton.

    Attributes:
        name: what it is, with its unit.
        values: (F,), from 0.
    """

    name: str
    values: NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Pictures:
    """Frames of another sensor beside the skeleton, and points over them.

    Attributes:
        name: of the modality.
        frames: (F, h, w) or (F, h, w, 3) uint8.
        points: of each frame (P, 3): x and y as shares of the width and height, and a weight from 0 to 1.
    """

    name: str
    frames: NDArray[np.uint8]
    points: Sequence[NDArray[np.floating[Any]]] = ()


@dataclass(frozen=True)
class Scene:
    """A clip as it is drawn, first seen from the front.

    Attributes:
        points: (F, M, V, 3) to the right, up, towards the viewer, within `REACH`; what is not seen is of no meaning.
        seen: (F, M, V) bool.
        seconds: between two frames. known: whether that is the clip's own rate.
        topology: of the joints.
        flat: the joints have two coordinates, so there is nothing to turn.
        layers, tracks, pictures: what is shown beside the motion.
    """

    points: NDArray[np.float64]
    seen: NDArray[np.bool_]
    seconds: float
    known: bool
    topology: Topology
    flat: bool
    layers: Sequence[Layer] = ()
    tracks: Sequence[Track] = ()
    pictures: Sequence[Pictures] = field(default_factory=tuple)

    @property
    def frames(self) -> int:
        """F."""
        return len(self.points)


def of_clip(clip: Clip, topology: Topology, up: str | None, **shown: Any) -> Scene:
    """Every person of a clip, upright, facing the viewer as far as the topology says where the shoulders are.

    Args:
        clip: any; a joint with score 0 is hidden.
        topology: of its joints; its ``axes`` give up where nothing else says it, and across.
        up: the axis that points up; None: the one that the topology's ``up`` lies along, else y.
        shown: ``layers``, ``tracks`` and ``pictures`` of the `Scene`.

    Raises:
        ValueError: what is shown beside the clip has another number of frames.
    """
    seen = (clip.score > 0) & np.isfinite(clip.keypoints).all(-1)
    flat = clip.keypoints.shape[-1] == 2
    raw = np.where(seen[..., None], clip.keypoints, 0).astype(np.float64)
    raw = np.concatenate([raw, np.zeros((*raw.shape[:-1], 3 - raw.shape[-1]))], axis=-1)
    turn = np.array(TURNS[up or _up(raw, seen, topology, flat)], dtype=np.float64)
    if flat:
        turn[2] = (0, 0, 1)
    points = raw @ turn.T
    if not flat:
        points = points @ _facing(points, seen, topology).T
    points, seen = _fitted(points, seen).transpose(1, 0, 2, 3), seen.transpose(1, 0, 2)
    for item in (*shown.get("layers", ()), *shown.get("tracks", ())):
        if len(item.values) != len(points):
            raise ValueError(f"{item.name}: {len(item.values)} frames beside a clip of {len(points)}.")
    return Scene(points, seen, 1 / (clip.fps or USUAL_RATE), bool(clip.fps), topology, flat, **shown)


def _mean_axis(points: NDArray[np.float64], seen: NDArray[np.bool_], topology: Topology, axis: str) -> Any:
    """Mean vector (3,) of a named axis over all persons and frames that show both ends; None where there is none."""
    if axis not in topology.axes:
        return None
    start, end = (topology.index(joint) for joint in topology.axes[axis])
    both = seen[..., start] & seen[..., end]
    return (points[..., end, :] - points[..., start, :])[both].mean(0) if both.any() else None


def _up(points: NDArray[np.float64], seen: NDArray[np.bool_], topology: Topology, flat: bool) -> str:
    mean = _mean_axis(points, seen, topology, "up")
    if mean is None or not np.abs(mean).max() > 0:
        return "-y" if flat else "+y"
    axis = int(np.abs(mean[: 2 if flat else 3]).argmax())
    return f"{'+' if mean[axis] > 0 else '-'}{'xyz'[axis]}"


def _facing(points: NDArray[np.float64], seen: NDArray[np.bool_], topology: Topology) -> NDArray[np.float64]:
    """The turn about the upright that lays the topology's ``across`` along the picture."""
    across = _mean_axis(points, seen, topology, "across")
    length = 0.0 if across is None else float(np.hypot(across[0], across[2]))
    if across is None or length < 1e-9:
        return np.eye(3)
    cosine, sine = across[0] / length, across[2] / length
    return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])


def _fitted(points: NDArray[np.float64], seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Around the middle, so large that nothing leaves the picture however it is turned; lone outliers may."""
    visible = points[seen]
    if not len(visible):
        return points
    low, high = np.quantile(visible, [0.005, 0.995], axis=0)
    centred = points - (low + high) / 2
    half = (high - low) / 2
    largest = max(float(np.hypot(half[0], half[2])), float(half[1]), 1e-9)
    return np.asarray(centred * (REACH / largest)).clip(-3 * REACH, 3 * REACH)


# ---- as text -------------------------------------------------------------------------------------------------------


def thinned(scene: Scene) -> NDArray[np.int64]:
    """Frames that a page keeps: all, or of a long clip every k-th."""
    numbers = scene.points[0].size + sum(layer.values[0].size for layer in scene.layers)
    every = max(1, -(-scene.frames * numbers // MOST_NUMBERS))
    return np.arange(0, scene.frames, every)


def block(scene: Scene, label: str) -> str:
    """The scene as HTML; the page must be rendered with ``extra=("scene",)``.

    Args:
        scene: what to show.
        label: what is seen, for readers that do not see it.
    """
    kept = thinned(scene)
    every = int(kept[1] - kept[0]) if len(kept) > 1 else 1
    thin = f'<p class="note">A long clip: every {every}th frame is kept here.</p>' if every > 1 else ""
    plain = json.dumps(_data(scene, kept, every), separators=(",", ":")).replace("<", "\\u003c")
    turn = "" if scene.flat else '<button type="button" class="front">Front</button>'
    speeds = "".join(f'<option value="{v}"{" selected" if v == 1 else ""}>{v:g}×</option>' for v in (0.25, 0.5, 1, 2))
    layers = "".join(f'<option value="{i}">{escape(layer.name)}</option>' for i, layer in enumerate(scene.layers))
    choice = (
        f'<label class="colour">Joints coloured by <select class="layer">{layers}'
        '<option value="-1">left and right</option></select></label>'
    ) if scene.layers else ""  # fmt: skip
    hint = "" if scene.flat else " Drag to turn."
    return (
        f'<div class="scene">{choice}<div class="stage"><canvas class="body" role="img" aria-label="{escape(label)}">'
        f'</canvas><div class="pictures"></div></div><div class="controls"><button type="button" class="run">Play'
        f'</button><input type="range" class="seek" min="0" max="{len(kept) - 1}" value="0" aria-label="Frame">'
        f'<output class="clock"></output>{turn}<select class="speed" aria-label="Speed">{speeds}</select></div>'
        f'<p class="note legend"></p><div class="beside"></div>'
        f'<p class="note">A joint that was not seen is not drawn.{hint}</p>{thin}'
        f'<script type="application/json" class="motion">{plain}</script></div>'
    )


def _data(scene: Scene, kept: NDArray[np.int64], every: int) -> dict[str, Any]:
    """What the script reads."""
    whole = np.where(scene.seen[..., None], scene.points.round(), HIDDEN).astype(np.int64)[kept]
    joints = len(scene.topology.joints)
    return {
        "edges": skeletons.sides(scene.topology),
        "joints": list(scene.topology.joints),
        "persons": whole.shape[1],
        "flat": scene.flat,
        "ms": 1000 * scene.seconds * every,
        "known": scene.known,
        "every": every,
        "total": scene.frames,
        "frames": (whole[..., :2] if scene.flat else whole).reshape(len(kept), -1).tolist(),
        "layers": [_layer(layer, kept, joints) for layer in scene.layers],
        "tracks": [{"name": t.name, **_scaled(t.values[kept], 1000)} for t in scene.tracks],
        "pictures": [_pictures(item, kept) for item in scene.pictures],
    }


def _scaled(values: NDArray[Any], steps: int) -> dict[str, Any]:
    """Whole numbers and what the largest of them stands for."""
    top = float(np.abs(values).max()) if values.size else 0.0
    scaled = np.nan_to_num(values / (top or 1.0) * steps).round().astype(np.int64)
    return {"top": float(f"{top:.3g}"), "values": scaled.reshape(len(values), -1).tolist()}


def _layer(layer: Layer, kept: NDArray[np.int64], joints: int) -> dict[str, Any]:
    assert layer.values.shape[-1] == joints
    return {"name": layer.name, "signed": layer.signed, **_scaled(layer.values[kept], 100)}


def _pictures(item: Pictures, kept: NDArray[np.int64]) -> dict[str, Any]:
    """Bytes of small pictures, and points in thousandths."""
    step = max(1, -(-max(item.frames.shape[1:3]) // PICTURE_SIDE))
    small = np.ascontiguousarray(item.frames[kept][:, ::step, ::step])
    points = (
        [(np.asarray(item.points[i]) * 1000).round().astype(int).ravel().tolist() for i in kept] if item.points else []
    )
    return {
        "name": item.name, "height": small.shape[1], "width": small.shape[2], "channels": small[0, 0, 0].size,
        "bytes": base64.b64encode(small.tobytes()).decode(), "points": points,
    }  # fmt: skip
