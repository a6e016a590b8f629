"""A skeleton nobody has seen before is one YAML file and no code: an octopus.

python examples/custom_topology.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import nn

import skelgraph as sg
from skelgraph.data.synthetic import write_demo

ARMS, SEGMENTS = 8, 3


def octopus() -> str:
    """The text of the file; written by a loop only because eight arms are long to type."""
    joints, bones = ["head"], []
    for arm in range(1, ARMS + 1):
        names = [f"arm{arm}_{segment}" for segment in range(1, SEGMENTS + 1)]
        joints += names
        bones += [f"  {child}: {parent}" for child, parent in zip(names, ["head", *names], strict=False)]
    web = ", ".join(f"[arm{arm}_1, arm{arm % ARMS + 1}_1]" for arm in range(1, ARMS + 1))
    lines = ["name: octopus", "title: an octopus", f"joints: [{', '.join(joints)}]", "bones:", *bones]
    return "\n".join([*lines, f"links: [{web}]", "root: head", "center: [head]", ""])


def main(folder: Path) -> None:
    torch.manual_seed(0)
    (folder / "octopus.yaml").write_text(octopus())
    topology = sg.Topology.load(folder / "octopus.yaml")
    print(topology, "| hops from tip to tip:", topology.hops[SEGMENTS, 2 * SEGMENTS])
    print(sg.TemporalGraph(topology, frames=12))

    store = sg.data.Store.open(write_demo(folder / "demo", topology, clips=64, classes=4, dims=3))
    graphs = store.to_pyg_dataset(frames=12)
    x = torch.cat([graphs.graph.from_nodes(data)[..., :3] for data in graphs])
    x = x - x.mean((2, 3), keepdim=True)
    label = torch.tensor(store.labels)
    model = sg.models.create("spacetime_gnn", topology=topology, num_classes=4, frames=12, layers=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for step in range(16):
        loss = nn.functional.cross_entropy(model(x).logits, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 5 == 0:
            print(f"step {step}: loss {loss.item():.3f} (demo data)")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary))
