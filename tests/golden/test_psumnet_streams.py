"""The seven modality tensors of PSUMNet's golden case: part selection, then joint, bone and the motion of both."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from skelgraph.nn.streams import Streams
from skelgraph.topology import Topology

SHARED = Path(os.environ.get("SKELGRAPH_SHARED", Path(__file__).parents[3] / "shared"))
CASE = SHARED / "golden" / "psumnet" / "modality.npz"
pytestmark = pytest.mark.skipif(not CASE.exists(), reason=f"no golden data at {CASE}; set SKELGRAPH_SHARED")
INPUTS = ["joint", "bone", "joint_motion", "bone_motion"]


@pytest.mark.parametrize(
    ("topology", "raw", "expected", "part"),
    [
        ("ntu25_published", "ntu_raw", "ntu_body", "body"),
        ("ntu25_published", "ntu_raw", "ntu_hand", "hands"),
        ("ntu25_published", "ntu_raw", "ntu_leg", "legs"),
        ("ntux67_published", "ntux_raw", "ntux_body", "body"),
        ("ntux67_published", "ntux_raw", "ntux_hand", "hands"),
        ("ntux67_published", "ntux_raw", "ntux_leg", "legs"),
        ("hand22_published", "shrec_raw", "shrec_hand", "hands"),
    ],
)
def test_modalities(topology: str, raw: str, expected: str, part: str) -> None:
    with np.load(CASE) as data:
        clip, target = data[raw], data[expected]
    joints = Topology.load(topology)
    frames = torch.zeros(1, clip.shape[3], target.shape[1], len(joints), 3)
    frames[0, :, : clip.shape[1]] = torch.from_numpy(clip[:, :, : len(joints)]).permute(3, 1, 2, 0)
    streams = Streams(joints, INPUTS, part=part)
    out = streams(frames)[0].permute(3, 1, 2, 0)
    assert streams.out_channels == 12
    torch.testing.assert_close(out, torch.from_numpy(target), atol=1e-6, rtol=0)
