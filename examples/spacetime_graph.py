"""The explicit graph of a clip: its edges, PyTorch Geometric, NetworkX, and a small network on all of it.

python examples/spacetime_graph.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import networkx
import torch
from torch import nn
from torch_geometric.loader import DataLoader
from torch_geometric.nn import RGCNConv, global_mean_pool

import skelgraph as sg
from skelgraph.data.synthetic import write_demo


class Net(nn.Module):
    """Two relational convolutions: one weight for bones, one for time, one for persons."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.first, self.second = RGCNConv(channels, 32, 3), RGCNConv(32, 32, 3)
        self.head = nn.Linear(32, classes)

    def forward(self, data):
        x = self.first(self.norm(data.x), data.edge_index, data.edge_type).relu()
        x = self.second(x, data.edge_index, data.edge_type).relu()
        return self.head(global_mean_pool(x, data.batch))


def main(folder: Path) -> None:
    torch.manual_seed(0)
    store = sg.data.Store.open(write_demo(folder / "demo", "coco17", clips=48, classes=4))
    clips = store.to_pyg_dataset(frames=16, persons=1)
    graph = clips.graph
    for name in graph.edge_names:
        print(f"{name:>9}: {graph.edges(name).shape[1]} edges", graph.edges(name)[:, :3].T.tolist(), "...")
    print("PyG:     ", clips[0])
    drawn = graph.to_networkx()
    print("NetworkX:", drawn, "| longest way between two nodes:", networkx.diameter(drawn), "edges")

    model = Net(channels=3, classes=len(store.classes))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(8):
        for batch in DataLoader(clips, batch_size=16, shuffle=True):
            loss = nn.functional.cross_entropy(model(batch), batch.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f} (demo data)")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary))
