"""PYSKL's ST-GCN and CTR-GCN: what we make of their weights equals the networks written out."""

from __future__ import annotations

import pytest
import torch
from published import Shapes, random_state, scattered
from torch import Tensor
from torch.nn import functional as F

from skelgraph import models
from skelgraph.errors import UserError
from skelgraph.models.graph_stack import GraphStack
from skelgraph.weights import load_released
from skelgraph.weights.families import PYSKL_CTRGCN, STGCN
from skelgraph.weights.layout import Layout


def noisy(layout: Layout, model: GraphStack) -> dict[str, Tensor]:
    """A published state dict of that network, in float64, every tensor random."""
    published = scattered(layout, model, model.state_dict())
    fixed = layout.fixed(model)
    shapes: Shapes = {key: tuple(value.shape) for key, value in published.items() if key not in fixed}
    noise = random_state(shapes) | {key: published[key] for key in published if key in fixed}
    return {key: value.double() if value.is_floating_point() else value for key, value in noise.items()}


class WrittenOut:
    """PYSKL's ST-GCN and CTR-GCN by their formulas, in eval mode, on (N, C, T, V)."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def conv(self, key: str, x: Tensor, **settings: object) -> Tensor:
        return F.conv2d(x, self.state[f"{key}.weight"], self.state[f"{key}.bias"], **settings)  # type: ignore[arg-type]

    def norm(self, key: str, x: Tensor) -> Tensor:
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(self.state[f"{key}.{name}"] for name in names))

    def static(self, key: str, x: Tensor) -> Tensor:
        graph = self.state[f"{key}.A"] * self.state[f"{key}.PA"]
        values = self.conv(f"{key}.conv", x).unflatten(1, (3, -1))
        return F.relu(self.norm(f"{key}.bn", sum(values[:, k] @ graph[k] for k in range(3))))  # type: ignore[arg-type]

    def refined(self, key: str, x: Tensor) -> Tensor:
        out = torch.zeros(())
        for k in range(3):
            first, second, value, widen = (f"{key}.convs.{k}.conv{n}" for n in (1, 2, 3, 4))
            query, other = self.conv(first, x).mean(2), self.conv(second, x).mean(2)
            relation = torch.tanh(query.unsqueeze(3) - other.unsqueeze(2))
            graph = self.conv(widen, relation) * self.state[f"{key}.alpha"] + self.state[f"{key}.A"][k]
            out = out + self.conv(value, x) @ graph
        down = self.norm(f"{key}.down.1", self.conv(f"{key}.down.0", x)) if f"{key}.down.0.bias" in self.state else x
        return F.relu(self.norm(f"{key}.bn", out) + down)

    def plain(self, key: str, x: Tensor, stride: int) -> Tensor:
        return self.norm(f"{key}.bn", self.conv(f"{key}.conv", x, stride=(stride, 1), padding=(4, 0)))

    def branches(self, key: str, x: Tensor, stride: int) -> Tensor:
        def reduced(j: int) -> Tensor:
            return F.relu(self.norm(f"{key}.branches.{j}.1", self.conv(f"{key}.branches.{j}.0", x)))

        step, parts = {"stride": (stride, 1)}, []
        for j in (0, 1):
            over = f"{key}.branches.{j}.3."
            time = self.conv(f"{over}conv", reduced(j), padding=(2 + 2 * j, 0), dilation=(1 + j, 1), **step)
            parts.append(self.norm(f"{over}bn", time))
        parts.append(self.norm(f"{key}.branches.2.4", F.max_pool2d(reduced(2), (3, 1), (stride, 1), (1, 0))))
        parts.append(self.norm(f"{key}.branches.3.1", self.conv(f"{key}.branches.3.0", x, **step)))
        return F.relu(torch.cat(parts, 1))

    def layer(self, key: str, unit: str, x: Tensor, first: bool) -> Tensor:
        stride = 2 if f"{key}residual.conv.bias" in self.state else 1
        if unit == "gcn1":
            out = self.branches(f"{key}tcn1", self.refined(f"{key}gcn1", x), stride)
        else:
            out = self.plain(f"{key}tcn", self.static(f"{key}gcn", x), stride)
        residual = x
        if stride == 2:
            residual = self.norm(f"{key}residual.bn", self.conv(f"{key}residual.conv", x, stride=(2, 1)))
        return F.relu(out if first else out + residual)

    def __call__(self, x: Tensor, block: str, unit: str, per_person: bool) -> Tensor:
        n, m, t, v, c = x.shape
        h = x.permute(0, 1, 3, 4, 2).reshape((n, m * v * c, t) if per_person else (n * m, v * c, t))
        h = self.norm("backbone.data_bn", h).view(n * m, v, c, t).permute(0, 2, 3, 1)
        for i in range(3):
            h = self.layer(block.format(i), unit, h, i == 0)
        pooled = h.mean((2, 3)).view(n, m, -1).mean(1)
        return F.linear(pooled, self.state["cls_head.fc_cls.weight"], self.state["cls_head.fc_cls.bias"])


LAYERS = [[8, 1], [8, 1], [16, 2]]


@pytest.mark.parametrize(
    ("layout", "block", "unit", "settings"),
    [
        (PYSKL_CTRGCN, "backbone.net.{}.", "gcn1",
         {"temporal": {"name": "multi_scale", "kernel": 5, "dilations": (1, 2), "relu": True}}),
        (STGCN, "backbone.gcn.{}.", "gcn",
         {"spatial": {"name": "static", "graph": "distance_published", "learn": "mask"}}),
    ],
    ids=["ctrgcn", "stgcn"],
)  # fmt: skip
def test_pyskl_networks_written_out(layout: Layout, block: str, unit: str, settings: dict[str, object]) -> None:
    template = models.create(layout.model, topology="coco17_pyskl", persons=2, num_classes=5, layers=LAYERS, **settings)
    assert isinstance(template, GraphStack)
    state = noisy(layout, template)
    clips = torch.randn(2, 2, 9, 17, 3, dtype=torch.float64)
    expected = WrittenOut(state)(clips, block, unit, layout.per_person)
    published = state | ({"backbone.A": torch.zeros(3, 17, 17)} if layout is PYSKL_CTRGCN else {})
    model = load_released(layout.family, published).double()
    with torch.no_grad():
        torch.testing.assert_close(model(clips).logits, expected, atol=1e-5, rtol=1e-5)
    if layout is STGCN:
        with pytest.raises(UserError, match=r"gcn\.0\.gcn\.A\) is not that of topology 'coco17'"):
            load_released("stgcn", published, topology="coco17")
