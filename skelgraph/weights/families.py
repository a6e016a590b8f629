"""The layouts that can be read, and those that are recognised but cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from skelgraph.models.graph_stack import GraphStack
from skelgraph.nn.channelwise import NARROW
from skelgraph.weights import recurrent
from skelgraph.weights.layout import Layout, Rule, linear, norm, parameter

Look = Callable[[str], Tensor | None]
Joints = Mapping[int | tuple[int, int], tuple[str, str | None]]


# -- graph convolutions ------------------------------------------------------------------------------------------------


def _channelwise(ours: str, conv: Any, theirs: str) -> list[Rule]:
    """CTR-GC and SAMG: a map for each subset."""
    return _relations(ours, conv, theirs, graph="PA", query="conv1", key="conv2")


def _channelwise_turned(ours: str, conv: Any, theirs: str) -> list[Rule]:
    """PYSKL's CTR-GC: its map W acts as ``y_v = sum_u W[u, v] x_u``, so ours is the transpose of it.

    ``W[v, u] = alpha relate(tanh(q_u - s_v)) + A[u, v]`` and tanh is odd: q and s change places, ``relate`` its sign.
    """
    return _relations(ours, conv, theirs, graph="A", query="conv2", key="conv1", turned=True)


def _relations(
    ours: str, conv: Any, theirs: str, *, graph: str, query: str, key: str, turned: bool = False
) -> list[Rule]:
    subsets = [f"{theirs}convs.{k}." for k in range(conv.subsets)]
    rules = [
        parameter(f"{ours}adjacency", conv.adjacency, f"{theirs}{graph}", transposed=turned),
        parameter(f"{ours}alpha", conv.alpha, f"{theirs}alpha"),
    ]
    for name, layer, source in (("query", conv.query, query), ("key", conv.key, key), ("value", conv.value, "conv3")):
        rules += linear(f"{ours}{name}", layer, [f"{prefix}{source}" for prefix in subsets])
    for k, layer in enumerate(conv.relate):
        rules += linear(f"{ours}relate.{k}", layer, [f"{subsets[k]}conv4"], negated=turned)
    return rules


def _static(ours: str, conv: Any, theirs: str) -> list[Rule]:
    """PYSKL's fixed or free graph: it acts as ``y_w = sum_v x_v A[v, w]``, ours is the transpose."""
    graph = (
        parameter(f"{ours}adjacency", conv.adjacency, f"{theirs}A", transposed=True)
        if conv.learn == "free"
        else parameter(f"{ours}learnt", conv.learnt, f"{theirs}PA", transposed=True)
    )
    return [graph, *linear(f"{ours}value", conv.value, [f"{theirs}conv"])]


def _published_graphs(model: GraphStack) -> dict[str, Tensor | None]:
    graphs = {}
    for i, layer in enumerate(model.layers):
        conv: Any = layer.unit.conv  # type: ignore[union-attr]
        graphs[f"{STGCN.prefix(i)}gcn.A"] = conv.adjacency.transpose(-2, -1)
    return graphs


# -- temporal blocks ---------------------------------------------------------------------------------------------------


def _branches(ours: str, time: Any, theirs: str) -> list[Rule]:
    """CTR-GCN's temporal block: a batch norm behind every branch."""
    rules, last = _before_the_norm(ours, time, theirs)
    convolutions = [f"{theirs}branches.{j}.3.bn" for j in range(last - 1)]
    rules += linear(f"{ours}point", time.point, [f"{theirs}branches.{last}.0"])
    behind = [*convolutions, f"{theirs}branches.{last - 1}.4", f"{theirs}branches.{last}.1"]
    return rules + norm(f"{ours}norm", time.norm, behind, [*time.widths, time.point.out_features])


def _mixed_branches(ours: str, time: Any, theirs: str) -> list[Rule]:
    """ST-GCN++'s temporal block: a batch norm and a 1x1 convolution behind all branches."""
    rules, last = _before_the_norm(ours, time, theirs)
    rules += linear(f"{ours}point", time.point, [f"{theirs}branches.{last}"])
    rules += norm(f"{ours}norm", time.norm, [f"{theirs}transform.0"])
    rules += linear(f"{ours}mix", time.mix, [f"{theirs}transform.2"])
    return rules + norm(f"{ours}mix_norm", time.mix_norm, [f"{theirs}bn"])


def _before_the_norm(ours: str, time: Any, theirs: str) -> tuple[list[Rule], int]:
    """Rules of the 1x1 convolutions and of those over time, and the number of the last branch."""
    branches = [f"{theirs}branches.{j}." for j in range(len(time.widths))]
    rules = linear(f"{ours}reduce", time.reduce, [f"{branch}0" for branch in branches], time.widths)
    rules += norm(f"{ours}reduce_norm", time.reduce_norm, [f"{branch}1" for branch in branches], time.widths)
    for j, layer in enumerate(time.times):
        rules += linear(f"{ours}times.{j}.conv", layer.conv, [f"{branches[j]}3.conv"])
    return rules, len(branches)


def _plain(ours: str, time: Any, theirs: str) -> list[Rule]:
    rules = linear(f"{ours}time.conv", time.time.conv, [f"{theirs}conv"])
    return rules + norm(f"{ours}norm", time.norm, [f"{theirs}bn"])


# -- settings that the tensors decide ----------------------------------------------------------------------------------


def _relation_width(look: Look) -> dict[str, Any]:
    """The least width of the relation maps, where the first layer's is not the usual one."""
    found = look("gcn1.convs.0.conv1.weight")
    if found is None or found.dim() < 2:
        return {}
    width, inputs = found.shape[:2]
    usual = 8 if inputs <= NARROW else max(1, inputs // 8)
    return {} if width == usual else {"spatial": {"name": "channelwise", "relation_min": width}}


def _pyskl_ctrgcn(look: Look) -> dict[str, Any]:
    time = {"name": "multi_scale", "kernel": 5, "dilations": [1, 2], "relu": True}
    return {**_relation_width(look), "temporal": time}


def _mask(look: Look) -> dict[str, Any]:
    return {"spatial": {"name": "static", "graph": "distance_published", "learn": "mask"}}


# -- the layouts -------------------------------------------------------------------------------------------------------

_PYSKL_JOINTS: Joints = {
    25: ("ntu25_pyskl", None),
    20: ("kinect20", None),
    17: ("coco17_pyskl", None),
    18: ("openpose18_pyskl", None),
}
PSUMNET = Layout(
    family="psumnet",
    title="PSUMNet",
    model="psumnet_stream",
    mark=r"layers\.\d+\.gcn1\.convs\.",
    block="layers.{i}.",
    unit="gcn1",
    time="tcn1",
    graph="PA",
    first="convs.0.conv3",
    input_norm="data_bn",
    head="fc",
    convolution=_channelwise,
    temporal=_branches,
    settings=_relation_width,
    topologies={
        25: ("ntu25_published", "body"),
        (13, 6): ("ntu25_published", "hands"),
        9: ("ntu25_published", "legs"),
        37: ("ntux67_published", "body"),
        48: ("ntux67_published", "hands"),
        (13, 4): ("ntux67_published", "legs"),
        22: ("hand22_published", "hands"),
    },
    inputs=("joint", "bone", "joint_motion", "bone_motion"),
)
CTRGCN = replace(
    PSUMNET, family="ctrgcn", title="CTR-GCN", model="ctrgcn", mark=r"l\d+\.gcn1\.convs\.", block="l{n}.",
    topologies={25: ("ntu25", None), 20: ("kinect20", None)}, inputs=("joint",),
)  # fmt: skip
PYSKL_CTRGCN = replace(
    CTRGCN,
    title="CTR-GCN of PYSKL",
    mark=r"backbone\.net\.\d+\.gcn1\.convs\.",
    block="backbone.net.{i}.",
    graph="A",
    input_norm="backbone.data_bn",
    head="cls_head.fc_cls",
    convolution=_channelwise_turned,
    settings=_pyskl_ctrgcn,
    topologies=_PYSKL_JOINTS,
    fixed=lambda model: {"backbone.A": None},
)
STGCNPP = Layout(
    family="stgcnpp",
    title="ST-GCN++ of PYSKL",
    model="stgcnpp",
    mark=r"backbone\.gcn\.\d+\.tcn\.transform\.",
    block="backbone.gcn.{i}.",
    unit="gcn",
    time="tcn",
    graph="A",
    first="conv",
    input_norm="backbone.data_bn",
    head="cls_head.fc_cls",
    convolution=_static,
    temporal=_mixed_branches,
    settings=lambda look: {},
    topologies=_PYSKL_JOINTS,
    per_person=False,
)
STGCN = replace(
    STGCNPP,
    family="stgcn",
    title="ST-GCN of PYSKL",
    model="stgcn",
    mark=r"backbone\.gcn\.\d+\.tcn\.conv\.",
    graph="PA",
    temporal=_plain,
    settings=_mask,
    fixed=_published_graphs,
)

# A file is held against these before LAYOUTS, since some of them have keys that a layout's mark fits too.
UNREAD: Mapping[str, tuple[str, str]] = {
    "AAGCN of PYSKL": (r"backbone\.gcn\.\d+\.gcn\.conv_a\.", "its attention after every graph convolution"),
    "DG-STGCN of PYSKL": (r"backbone\.gcn\.\d+\.gcn\.pre\.", "its grouped dynamic graphs"),
    "MS-G3D of PYSKL": (r"backbone\.gcn3d1\.", "its graphs over several frames"),
    "2s-AGCN": (r"l\d+\.gcn1\.conv_a\.", "a layout that has not been checked"),
    "the first ST-GCN": (r"st_gcn_networks\.", "a layout that has not been checked"),
}
LAYOUTS = (PSUMNET, CTRGCN, PYSKL_CTRGCN, STGCNPP, STGCN)
FAMILIES = (*dict.fromkeys(layout.family for layout in LAYOUTS), recurrent.FAMILY)
# Of the code that the weights came with, by title; the weights themselves say nothing.
LICENCES = {
    PSUMNET.title: "CC BY-NC 4.0 (that of PSUMNet's code: not for commercial use)",
    CTRGCN.title: "CC BY-NC 4.0 (that of CTR-GCN's code: not for commercial use)",
    STGCNPP.title: "Apache 2.0 (that of PYSKL's code), or MIT (that of BRL's) where BRL's authors made them",
    **dict.fromkeys((PYSKL_CTRGCN.title, STGCN.title), "Apache 2.0 (that of PYSKL's code)"),
}
