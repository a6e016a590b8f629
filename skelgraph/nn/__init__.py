"""Message-passing and temporal blocks, one idea a file; all graph layers rest on `propagate`."""

from __future__ import annotations

from skelgraph.nn.gat import GATLayer
from skelgraph.nn.gcn import GCNLayer
from skelgraph.nn.gin import GINLayer
from skelgraph.nn.norm import PReLU, RowNorm, over_rows
from skelgraph.nn.propagation import BACKENDS, BLOCKS, backend, edge_softmax, propagate, set_backend
from skelgraph.nn.pyg_conv import CONVS, PyGConv
from skelgraph.nn.temporal import MultiScaleTemporal

__all__ = [
    "BACKENDS",
    "BLOCKS",
    "CONVS",
    "GATLayer",
    "GCNLayer",
    "GINLayer",
    "MultiScaleTemporal",
    "PReLU",
    "PyGConv",
    "RowNorm",
    "backend",
    "edge_softmax",
    "over_rows",
    "propagate",
    "set_backend",
]
