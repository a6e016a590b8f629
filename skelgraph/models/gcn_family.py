"""The supervised graph convolution family: each network is a choice of blocks for `GraphStack`.

Every choice is a default that a recipe may change: ``{name: ctrgcn, width: 32, inputs: [bone]}``.
"""

from __future__ import annotations

from functools import partial

from skelgraph.models.base import MODELS
from skelgraph.models.graph_stack import GraphStack

UNIFIED = ("joint", "bone", "joint_motion", "bone_motion")
_CTR_TIME = {"name": "multi_scale", "kernel": 5, "dilations": (1, 2)}

# Yan et al., AAAI 2018: joints partitioned by their distance to the centre, a learnt weight for every edge.
stgcn = partial(
    GraphStack,
    spatial={"name": "static", "graph": "distance", "learn": "mask"},
    temporal={"name": "plain", "kernel": 9},
    unit_residual=False,
)
# Shi et al., CVPR 2019 (one stream of it): fixed, learnt and clip-wise graph added.
agcn = partial(
    GraphStack,
    spatial={"name": "adaptive"},
    temporal={"name": "plain", "kernel": 9},
    input_norm="person",
    init="fan_out",
    head_std=None,
)
# Duan et al., ACM MM 2022 (PYSKL): a free graph and six temporal branches.
stgcnpp = partial(
    GraphStack,
    spatial={"name": "static", "graph": "spatial_rows", "learn": "free"},
    temporal={"name": "multi_scale", "kernel": 3, "dilations": (1, 2, 3, 4), "mix": True},
)
# Chen et al., ICCV 2021: a graph for every clip and channel.
ctrgcn = partial(
    GraphStack,
    spatial={"name": "channelwise"},
    temporal=_CTR_TIME,
    input_norm="person",
    init="fan_out",
    head_std=None,
)
# Trivedi and Sarvadevabhatla, ECCV Workshops 2022: CTR-GCN's blocks on one part and all modalities at once.
psumnet_stream = partial(
    GraphStack,
    spatial={"name": "channelwise"},
    temporal=_CTR_TIME,
    inputs=UNIFIED,
    part="body",
    input_norm="person",
    init="fan_out",
    head_std=None,
)

for _name, _network in {
    "stgcn": stgcn,
    "agcn": agcn,
    "stgcnpp": stgcnpp,
    "ctrgcn": ctrgcn,
    "psumnet_stream": psumnet_stream,
}.items():
    MODELS.register(_name)(_network)
