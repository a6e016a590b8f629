"""The streams of BRL's golden case: joint, bone, skip, their motion, and the ancestors one to four steps up."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from skelgraph.nn.streams import Streams
from skelgraph.topology import Topology

SHARED = Path(os.environ.get("SKELGRAPH_SHARED", Path(__file__).parents[3] / "shared"))
CASE = SHARED / "golden" / "brl" / "case_a.npz"
pytestmark = pytest.mark.skipif(not CASE.exists(), reason=f"no golden data at {CASE}; set SKELGRAPH_SHARED")


@pytest.mark.parametrize("topology", ["ntu25", "ntu25_pyskl"])
@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("j", "joint"),
        ("b", "bone"),
        ("k", "skip"),
        ("jm", "joint_motion"),
        ("bm", "bone_motion"),
        ("km", "skip_motion"),
    ],
)
def test_streams(topology: str, key: str, name: str) -> None:
    with np.load(CASE) as data:
        joints, expected = (torch.from_numpy(data[f"modal/{which}"]) for which in ("kp", key))
    out = Streams(Topology.load(topology), [name])(joints[None])[0]
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("topology", ["ntu25", "ntu25_pyskl"])
@pytest.mark.parametrize(("key", "hops"), [("b", 1), ("k", 2), ("l", 3), ("n", 4)])
def test_ancestors(topology: str, key: str, hops: int) -> None:
    with np.load(CASE) as data:
        pairs = data[f"modal/pairs_{key}"]
    assert Topology.load(topology).ancestor(hops)[pairs[:, 0]].tolist() == pairs[:, 1].tolist()
