"""Every registered model as ONNX: equal logits at three shapes, behind the transforms of a recipe."""

from __future__ import annotations

import pytest
import torch
from test_every_model import NAMES, scramble, settings_for, spec_for

from skelgraph.export import ClipGraph, check_parity, to_onnx
from skelgraph.models import create
from skelgraph.prediction.onnx import open_session
from skelgraph.transforms import Pipeline

pytest.importorskip("onnxscript", reason="pip install 'skelgraph[onnx]'")
pytest.importorskip("onnxruntime", reason="pip install 'skelgraph[onnx]'")

# Built for one length of clip, which docs/export.md lists.
FIXED = {"deformable3d", "mmixer", "spacetime_gnn", "strl"}
# Of some families one (ST-GCN++ is exported in tests/prediction); all others take minutes together.
QUICK = {"gru", "heatmap_cnn", "skeletonmae"}
STEPS = {"persons": {}, "center": {"per": "first"}, "align": {}, "scale": {}, "jitter": {}}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_a_model_answers_the_same_without_torch(name: str) -> None:
    spec = spec_for(name, "ntu25", 16, 2)
    torch.manual_seed(0)
    settings = settings_for(name, spec.topology) | ({"backend": "pyg"} if name == "skeletonmae" else {})
    model, pipeline = create(name, spec, **settings), Pipeline(spec.topology, STEPS)
    scramble(model)
    proto, about = to_onnx(pipeline, model.eval())
    assert about == {"clips": None, "frames": 16 if name in FIXED else None}
    content = proto.SerializeToString()
    parity = check_parity(ClipGraph(pipeline, model), content, about, name)
    assert len({(clips, frames) for clips, frames, _ in parity}) == 3
    names = [item.name for item in open_session(content, name).get_inputs()]
    assert names[:2] == ["keypoints", "score"]
    assert set(names[2:]) == {f"{key}.{part}" for key in spec.modalities for part in ("values", "valid")}
