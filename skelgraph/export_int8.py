"""An exported network in eight bits: convolutions and linear maps, with ranges measured on training clips.

Weights are signed with a scale for each channel, activations unsigned with one range for each tensor, in the form that
quantises before and dequantises behind each operator (QDQ). Transforms, norms and sums stay in float32, since
coordinates in pixels and lengths of bones do not share a range.

Letters: N clips.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from skelgraph.data.store import Store
from skelgraph.errors import UserError
from skelgraph.prediction.onnx import KEY, OnnxPredictor, open_session
from skelgraph.predictor import Predictor

OPERATORS = ["Conv", "MatMul", "Gemm"]
CLIPS, TESTED = 128, 512


class _Clips(CalibrationDataReader):
    """Clips one by one, as the graph takes them."""

    def __init__(self, feeds: Iterator[dict[str, np.ndarray]]) -> None:
        self.feeds = feeds

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


def quantised(
    predictor: Predictor, content: bytes, about: Mapping[str, Any], data: str | os.PathLike[str] | None = None
) -> tuple[bytes, dict[str, Any], tuple[str, ...]]:
    """The graph ``content`` in eight bits, what is written beside it, and what it costs in accuracy.

    Args:
        predictor: the run.
        content: the graph in float32, as ONNX.
        about: what is written beside it.
        data: store with the protocol of the run; by default the run's own.

    Raises:
        UserError: a network that reads more than joints, no such store, or one without training clips.
    """
    if about["modalities"]:
        raise UserError(
            f"{predictor.name}: --int8 takes its ranges from joints alone; this run reads more. Export fp32."
        )
    store, train, test = _parts(predictor, data)
    about = {**about, "precision": "int8", "calibrated_on": len(train)}
    floats = OnnxPredictor(open_session(content, predictor.name), about, predictor.name)
    with TemporaryDirectory() as folder:
        plain, ready, small = (str(Path(folder) / name) for name in ("plain.onnx", "ready.onnx", "small.onnx"))
        Path(plain).write_bytes(content)
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        quantize_static(
            ready, small, _Clips(_feeds(floats, store, train)), quant_format=QuantFormat.QDQ, per_channel=True,
            op_types_to_quantize=OPERATORS, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        result = _labelled(Path(small).read_bytes(), about)
    eight = OnnxPredictor(open_session(result, predictor.name), about, predictor.name)
    return result, about, _cost(floats, eight, store, test, len(train))


def _parts(predictor: Predictor, data: str | os.PathLike[str] | None) -> tuple[Store, np.ndarray, np.ndarray]:
    """The store, training clips that are spread over it, and test clips with labels the run knows."""
    where = predictor.data.store if data is None else Path(data)
    try:
        store = Store.open(where)
        parts = store.protocol(predictor.data.protocol)
    except (UserError, KeyError) as error:
        raise UserError(
            f"{predictor.name}: --int8 needs training clips to set its ranges ({str(error).rstrip('.')}); say which "
            "store has them with --data STORE."
        ) from None
    train, test = parts["train"], parts.get(predictor.data.test_part, parts["train"][:0])
    if store.classes != predictor.classes:
        test = test[:0]
    test = test[store.labels[test] >= 0]
    return store, _spread(train, CLIPS), _spread(test, TESTED)


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]


def _feeds(floats: OnnxPredictor, store: Store, rows: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    adapter = floats.adapter(store, None)
    for row in rows:
        yield floats.given(adapter.arrays([adapter.clip(store[int(row)])]))


def _labelled(content: bytes, about: Mapping[str, Any]) -> bytes:
    import onnx

    proto = onnx.load_from_string(content)
    onnx.helper.set_model_props(proto, {KEY: json.dumps(about)})
    text: bytes = proto.SerializeToString()
    return text


def _cost(
    floats: OnnxPredictor, eight: OnnxPredictor, store: Store, rows: np.ndarray, calibrated: int
) -> tuple[str, ...]:
    """In words: how often both agree, and how often each is right."""
    basis = f"int8    ranges from {calibrated} training clips"
    if not len(rows):
        return (basis,)
    adapter = floats.adapter(store, None)
    one, two = (item.predict_clips((store[int(row)] for row in rows), adapter) for item in (floats, eight))
    label = np.array([store.classes[place] for place in store.labels[rows]])
    right = [100 * float(np.mean(np.array(item.labels) == label)) for item in (one, two)]
    same = 100 * float(np.mean(np.array(one.labels) == np.array(two.labels)))
    gap = float(np.abs(one.probabilities - two.probabilities).max())
    return (
        basis,
        f"int8    same label as fp32 for {same:.1f} % of {len(rows)} test clips, probabilities within {gap:.3f}",
        f"int8    top1 {right[1]:.2f} %, fp32 {right[0]:.2f} % on these",
    )
