"""A clip as a moving page, and which joints speak for a network's answer; checked against joints taken at random.

python examples/view_clip.py                    # trains a small run on demo data; all in a temporary folder
python examples/view_clip.py runs/mine clip_7   # yours, and one of its clips; leaves why.html and why.png here

A page plays, scrubs and turns. Needs the extra: pip install 'skelgraph[viz]'.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import skelgraph as sg
from skelgraph import viewer

RECIPE = """
name: seen
topology: coco17
data: {store: demo, protocol: demo, frames: 16, sampling: {name: resize}, transforms: {image: {}, center: {}}}
stages:
  train: {method: supervised, model: {name: stgcnpp, width: 8}, steps: 60, batch: 16, optimizer: {name: adam, lr: 5e-3}}
  test: {evaluate: [top1]}
"""


def demo_run(folder: Path) -> Path:
    """A network that has learnt four demo actions."""
    from skelgraph.data.synthetic import write_demo

    store = write_demo(folder / "demo", clips=96, classes=4, frames=(20, 40))
    (folder / "seen.yaml").write_text(RECIPE, encoding="utf-8")
    with contextlib.redirect_stderr(open(os.devnull, "w")):
        return sg.run(folder / "seen.yaml", [f"data.store={store}"], out=folder / "run").path


def explain(run: Path, clip: str | None, folder: Path) -> None:
    """The run's answer, and what spoke for it."""
    why = viewer.of_run(str(run), clip, "saliency", delete=True)
    for line in why.lines:
        print(line)
    for name in ("why.html", "why.png"):
        print(viewer.write(why, folder / name))


def main() -> None:
    if len(sys.argv) > 1:
        explain(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None, Path())
        return
    with tempfile.TemporaryDirectory() as name:
        print(viewer.write(viewer.of_poses("demo", "wave"), Path(name, "clip.html")))
        explain(demo_run(Path(name)), None, Path(name))


if __name__ == "__main__":
    main()
