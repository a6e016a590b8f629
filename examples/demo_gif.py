"""Draw three demo actions as moving figures: `python examples/demo_gif.py FOLDER` writes a GIF and a film strip."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from skelgraph.data.synthetic import Demo
from skelgraph.topology import Topology

TAKES = {"wave": 0, "kick": 0, "jumping_jack": 1}  # of the many performances, one that is seen well
CORNERS = ("left_shoulder", "right_shoulder", "right_hip", "left_hip")
WIDTH, HEIGHT, SCALE, SHARP = 220, 250, 300, 3  # pixels, pixels a metre before the picture is made SHARP times smaller
COLOURS = {"left": (38, 132, 160), "right": (222, 110, 58), "trunk": (70, 82, 100)}
SKULL = np.array((30, 37))
THICK = {"knee": 0.11, "ankle": 0.085, "elbow": 0.072, "wrist": 0.058, "toe": 0.055, "heel": 0.06, "trunk": 0.09}


def limb(draw: ImageDraw.ImageDraw, ends: np.ndarray, colour: str, width: float) -> None:
    """A line with round ends, metres wide."""
    draw.line([tuple(end) for end in ends], fill=COLOURS[colour], width=round(width * SCALE))
    for end in ends:
        draw.circle(tuple(end), width * SCALE / 2, fill=COLOURS[colour])


def figure(joints: np.ndarray, topology: Topology, floor: float) -> np.ndarray:
    """One picture of joints (V, 3) in metres of a camera (x to the left, y up, z away); far limbs are drawn first."""
    image = Image.new("RGB", (WIDTH * SHARP, HEIGHT * SHARP), "white")
    draw = ImageDraw.Draw(image)
    flat = np.array((WIDTH / 2, HEIGHT - 22)) * SHARP - (joints[:, :2] - (0, floor)) * SCALE
    depth = dict(zip(topology.joints, joints[:, 2], strict=True))
    x, y = WIDTH * SHARP / 2, (HEIGHT - 22) * SHARP
    draw.ellipse((x - 84, y - 25, x + 84, y + 25), fill=(232, 234, 238))
    head = flat[topology.indices(["left_ear", "right_ear"])].mean(0)
    pieces = [(depth["neck"], ends, "trunk", "trunk") for ends in pairwise(CORNERS)]
    for child, parent in topology.bones:
        words = child.split("_")
        if words[-1] in THICK:
            pieces.append(((depth[child] + depth[parent]) / 2, (child, parent), words[0], words[-1]))
    for _, ends, colour, kind in sorted(pieces, reverse=True):
        limb(draw, flat[topology.indices(ends)], colour, THICK[kind])
        if kind == "trunk":
            draw.polygon([tuple(corner) for corner in flat[topology.indices(CORNERS)]], fill=COLOURS["trunk"])
            limb(draw, np.stack([flat[topology.index("neck")], head]), "trunk", 0.075)
            draw.ellipse((*(head - SKULL), *(head + SKULL)), fill=(88, 100, 118))
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


topology = Topology.load("openpose25")
demo = Demo(topology, frames=(72, 72), dims=3, noise=0.0, seed=4)
rows = []
for action, take in TAKES.items():
    pose = demo.clip(demo.names.index(action) + demo.classes * take).keypoints[0]
    pose = pose - [pose[..., 0].mean(), 0, 0]
    rows.append([figure(frame, topology, float(pose[..., 1].min())) for frame in pose[::2]])
film = [Image.fromarray(np.concatenate(step, axis=1)).quantize(32, dither=0) for step in zip(*rows, strict=True)]
print(f"{len(film)} pictures of {', '.join(TAKES)}")
for folder in map(Path, sys.argv[1:2]):
    film[0].save(folder / "demo_actions.gif", save_all=True, append_images=film[1:], duration=67, loop=0)
    strip = np.concatenate([np.concatenate(row[2:34:4], axis=1) for row in rows])
    Image.fromarray(strip).quantize(64).save(folder / "demo_actions.png", optimize=True)
