"""Message-passing and temporal blocks, one idea a file; all graph layers rest on `propagate`."""

from __future__ import annotations

from skelgraph.nn.adaptive import AdaptiveGraphConv
from skelgraph.nn.block import GraphBlock, GraphUnit, Shortcut
from skelgraph.nn.cfem import CFEM
from skelgraph.nn.channelwise import ChannelwiseGraphConv
from skelgraph.nn.deformable import DeformableAttention, TokenSearch
from skelgraph.nn.deformable_block import DeformableBlock
from skelgraph.nn.gat import GATLayer
from skelgraph.nn.gcn import GCNLayer
from skelgraph.nn.gin import GINLayer
from skelgraph.nn.gru import GRU
from skelgraph.nn.lattice import LatticeTokens, LightStem
from skelgraph.nn.mcu import MCU
from skelgraph.nn.norm import PReLU, RowNorm, over_rows
from skelgraph.nn.pointwise import Pointwise
from skelgraph.nn.pose_tokens import PoseTokens
from skelgraph.nn.propagation import BACKENDS, BLOCKS, backend, edge_softmax, propagate, set_backend
from skelgraph.nn.pyg_conv import CONVS, PyGConv
from skelgraph.nn.spatial import SPATIAL, StaticGraphConv
from skelgraph.nn.streams import Streams
from skelgraph.nn.stride_attention import StrideAttention
from skelgraph.nn.temporal import TEMPORAL, MultiScaleTemporal, PlainTemporal

__all__ = [
    "BACKENDS",
    "BLOCKS",
    "CFEM",
    "CONVS",
    "GRU",
    "MCU",
    "SPATIAL",
    "TEMPORAL",
    "AdaptiveGraphConv",
    "ChannelwiseGraphConv",
    "DeformableAttention",
    "DeformableBlock",
    "GATLayer",
    "GCNLayer",
    "GINLayer",
    "GraphBlock",
    "GraphUnit",
    "LatticeTokens",
    "LightStem",
    "MultiScaleTemporal",
    "PReLU",
    "PlainTemporal",
    "Pointwise",
    "PoseTokens",
    "PyGConv",
    "RowNorm",
    "Shortcut",
    "StaticGraphConv",
    "Streams",
    "StrideAttention",
    "TokenSearch",
    "backend",
    "edge_softmax",
    "over_rows",
    "propagate",
    "set_backend",
]
