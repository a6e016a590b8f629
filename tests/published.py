"""Our tensors under their published names, and the published tables of names and shapes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from skelgraph.models.graph_stack import DEPTHS, GraphStack
from skelgraph.weights.layout import Layout

Shapes = dict[str, tuple[int, ...]]


def scattered(layout: Layout, model: GraphStack, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of reading: ``ours`` (a state dict, or gradients by name) by published names."""
    result: dict[str, Tensor] = {}
    for rule in layout.rules(model):
        if rule.ours not in ours:
            continue
        if not rule.rows:
            result |= dict.fromkeys(rule.theirs, ours[rule.ours])
            continue
        value = -ours[rule.ours] if rule.negated else ours[rule.ours]
        value = value.transpose(-2, -1) if rule.transposed else value
        pieces = value.reshape(sum(rule.rows), *rule.rest).split(rule.rows)
        result |= dict(zip(rule.theirs, pieces, strict=True))
    fixed = {key: value for key, value in layout.fixed(model).items() if value is not None}
    return {key: value.clone() for key, value in (result | fixed).items()}


def gradients(layout: Layout, model: GraphStack) -> dict[str, Tensor]:
    """Gradients of all parameters, by published names."""
    return scattered(layout, model, {name: p.grad for name, p in model.named_parameters() if p.grad is not None})


def random_state(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """A published state dict of noise; variances are positive."""
    random = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in shapes.items():
        noise = torch.randn(shape, generator=random)
        state[key] = noise.abs() + 0.5 if key.endswith("running_var") else noise * 0.3
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(7)
    return state


def _linear(key: str, out: int, *rest: int) -> Shapes:
    return {f"{key}.weight": (out, *rest), f"{key}.bias": (out,)}


def _norm(key: str, width: int) -> Shapes:
    names = ("weight", "bias", "running_mean", "running_var")
    return {f"{key}.{name}": (width,) for name in names} | {f"{key}.num_batches_tracked": ()}


def _widths(depth: int, channels: int, width: int) -> list[tuple[int, int, int]]:
    """Channels in, channels out and stride of each layer."""
    plan = [(times * width, stride) for times, stride in DEPTHS[depth]]
    return [(before, out, stride) for (before, _), (out, stride) in zip([(channels, 1), *plan], plan, strict=False)]


def psumnet_shapes(
    depth: int, joints: int, *, persons: int = 2, channels: int = 12, classes: int = 60, width: int = 64,
    block: str = "layers.{i}.",
) -> Shapes:  # fmt: skip
    """Table 7.2 of the PSUMNet specification; with ``block`` "l{n}." that of CTR-GCN."""
    shapes = _norm("data_bn", persons * joints * channels)
    for i, (before, out, stride) in enumerate(_widths(depth, channels, width)):
        prefix = block.format(i=i, n=i + 1)
        relation = 8 if before in (3, 6) else before // 8
        shapes |= {f"{prefix}gcn1.PA": (3, joints, joints), f"{prefix}gcn1.alpha": (1,)}
        for k in range(3):
            conv = f"{prefix}gcn1.convs.{k}.conv"
            shapes |= _linear(f"{conv}1", relation, before, 1, 1) | _linear(f"{conv}2", relation, before, 1, 1)
            shapes |= _linear(f"{conv}3", out, before, 1, 1) | _linear(f"{conv}4", out, relation, 1, 1)
        if before != out:
            shapes |= _linear(f"{prefix}gcn1.down.0", out, before, 1, 1) | _norm(f"{prefix}gcn1.down.1", out)
        shapes |= _norm(f"{prefix}gcn1.bn", out)
        quarter = out // 4
        for j in range(4):
            branch = f"{prefix}tcn1.branches.{j}."
            shapes |= _linear(f"{branch}0", quarter, out, 1, 1) | _norm(f"{branch}1", quarter)
            if j < 2:
                shapes |= _linear(f"{branch}3.conv", quarter, quarter, 5, 1) | _norm(f"{branch}3.bn", quarter)
            if j == 2:
                shapes |= _norm(f"{branch}4", quarter)
        if stride == 2:
            shapes |= _linear(f"{prefix}residual.conv", out, before, 1, 1) | _norm(f"{prefix}residual.bn", out)
    return shapes | _linear("fc", classes, 4 * width)


def stgcnpp_shapes(joints: int, *, channels: int = 3, classes: int = 60, width: int = 64, persons: int = 1) -> Shapes:
    """Section 7 of the BRL specification; ``persons`` above 1 is PYSKL's input norm of every person apart."""
    shapes = _norm("backbone.data_bn", persons * channels * joints)
    for i, (before, out, stride) in enumerate(_widths(10, channels, width)):
        unit, time, rest = (f"backbone.gcn.{i}.{name}" for name in ("gcn.", "tcn.", "residual."))
        shapes |= {f"{unit}A": (3, joints, joints)}
        shapes |= _linear(f"{unit}conv", 3 * out, before, 1, 1) | _norm(f"{unit}bn", out)
        if before != out:
            shapes |= _linear(f"{unit}down.0", out, before, 1, 1) | _norm(f"{unit}down.1", out)
        sixth = out // 6
        for j in range(5):
            wide = out - 5 * sixth if j == 0 else sixth
            shapes |= _linear(f"{time}branches.{j}.0", wide, out, 1, 1) | _norm(f"{time}branches.{j}.1", wide)
            if j < 4:
                shapes |= _linear(f"{time}branches.{j}.3.conv", wide, wide, 3, 1)
        shapes |= _linear(f"{time}branches.5", sixth, out, 1, 1) | _norm(f"{time}transform.0", out)
        shapes |= _linear(f"{time}transform.2", out, out, 1, 1) | _norm(f"{time}bn", out)
        if stride == 2:
            shapes |= _linear(f"{rest}conv", out, before, 1, 1) | _norm(f"{rest}bn", out)
    return shapes | _linear("cls_head.fc_cls", classes, 4 * width)
