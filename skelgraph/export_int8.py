"""An exported network in eight bits: its linear maps, with the range of what goes in measured anew for every clip.

Weights are signed with one scale for each matrix. Ranges that are fixed beforehand on training clips were tried, too
(static quantisation of linear maps and convolutions): they cost accuracy and, at the widths of skeleton networks, time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from skelgraph.data.store import Store
from skelgraph.errors import UserError
from skelgraph.prediction.onnx import OnnxPredictor, open_session
from skelgraph.predictor import Predictor

# Fewer inputs than this are coordinates, whose first digits a network lives by.
NARROW = 16
TESTED = 512


def quantised(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A graph of `skelgraph.export` in eight bits.

    Products with matrices of joints, linear maps of fewer than 16 channels, convolutions and recurrent units stay as
    they are.

    Args:
        proto: the graph in float32; is left as it is.
        name: of the run, for errors.

    Raises:
        UserError: nothing in it that eight bits would make smaller.
    """
    shape = {item.name: tuple(item.dims) for item in proto.graph.initializer}
    products = [node for node in proto.graph.node if node.op_type == "MatMul"]
    kept = [node.name for node in products if not _wide(shape.get(node.input[1], ()))]
    if len(kept) == len(products):
        raise UserError(f"{name}: int8 changes linear maps of {NARROW} channels and more, this network has none.")
    with TemporaryDirectory() as folder:
        plain, small = Path(folder) / "plain.onnx", Path(folder) / "small.onnx"
        onnx.save(proto, plain)
        quantize_dynamic(
            plain, small, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"], nodes_to_exclude=kept,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )  # fmt: skip
        return onnx.load(small)


def _wide(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and shape[0] >= NARROW


def cost(predictor: Predictor, exact: bytes, small: bytes, about: Mapping[str, Any]) -> tuple[str, ...]:
    """In words, what eight bits cost on up to 512 test clips of the run.

    Args:
        predictor: the run, which knows its store.
        exact, small: the file in float32 and in eight bits.
        about: what is written into both.
    """
    try:
        store = Store.open(predictor.data.store)
        rows = store.protocol(predictor.data.protocol)[predictor.data.test_part]
    except (UserError, KeyError):
        return ("int8    not compared with fp32: the test clips of the run are not here",)
    rows = rows[store.labels[rows] >= 0] if store.classes == predictor.classes else rows[:0]
    if not len(rows) or about["modalities"]:
        return ("int8    not compared with fp32: no test clips of joints alone and of the run's classes",)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), TESTED)).astype(int))]
    files = [OnnxPredictor(open_session(content, predictor.name), about, predictor.name) for content in (exact, small)]
    adapter = files[0].adapter(store, None)
    one, two = (item.predict_clips((store[int(row)] for row in rows), adapter) for item in files)
    label = [store.classes[place] for place in store.labels[rows]]
    right = [100 * float(np.mean(np.array(item.labels) == label)) for item in (one, two)]
    same = 100 * float(np.mean(np.array(one.labels) == np.array(two.labels)))
    gap = float(np.abs(one.probabilities - two.probabilities).max())
    return (
        f"int8    same label as fp32 for {same:.1f} % of {len(rows)} test clips, probabilities within {gap:.3f}",
        f"int8    top1 {right[1]:.2f} %, fp32 {right[0]:.2f} % on these",
    )
