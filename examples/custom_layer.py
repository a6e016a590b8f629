"""A graph layer of your own, by name in a model of your own: python examples/custom_layer.py

In a recipe: ``plugins: [custom_layer.py]``, then ``model: {name: small_net, width: 32}`` as any other model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from skelgraph.batch import Batch, ClipSpec
from skelgraph.models.base import MODELS, Model
from skelgraph.nn.pyg_conv import CONVS, PyGConv
from skelgraph.topology import Topology


@CONVS.register("bone_conv")
class BoneConv(MessagePassing):
    """Looks at differences along bones: ``out_i = W x_i + mean_j U (x_j - x_i)``."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(aggr="mean")
        self.own, self.along = nn.Linear(in_channels, out_channels), nn.Linear(in_channels, out_channels)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.own(x) + self.propagate(edge_index, x=x)

    def message(self, x_i: Tensor, x_j: Tensor) -> Tensor:
        return self.along(x_j - x_i)


@MODELS.register("small_net")
class SmallNet(Model):
    """One `BoneConv` in every frame, then mean and spread over time."""

    def __init__(self, spec: ClipSpec, *, width: int = 32) -> None:
        super().__init__(spec)
        self.feature_dim = 2 * width
        self.conv = PyGConv("bone_conv", spec.channels, width, spec.topology)
        self.reset_classifier(spec.classes)

    def forward_features(self, batch: Batch) -> Tensor:
        x = self.conv(batch.keypoints).relu().mean((1, 3))
        return torch.cat([x.mean(1), x.std(1)], -1)


if __name__ == "__main__":
    torch.manual_seed(0)
    model = MODELS.create("small_net", ClipSpec(Topology.load("coco17"), 2, 1, 16, ("still", "moving")), width=16)
    label = torch.arange(64) % 2
    x = torch.randn(64, 1, 1, 17, 2) + 0.3 * label.view(-1, 1, 1, 1, 1) * torch.randn(64, 1, 16, 17, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(25):
        loss = nn.functional.cross_entropy(model(x).logits, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step}: loss {loss.item():.3f}")
