"""An exported network as a predictor: onnxruntime and numpy, no torch.

    from skelgraph.prediction.onnx import OnnxPredictor

    result = OnnxPredictor.load("train.onnx").predict(keypoints)

Letters: N clips, M persons, T frames, V joints, C coordinates, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skelgraph.errors import UserError
from skelgraph.prediction.base import ClipPredictor
from skelgraph.prediction.inputs import ClipArrays, InputSpec

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

KEY = "skelgraph"
FORMAT = 1


class OnnxPredictor(ClipPredictor):
    """A network out of an ONNX file, with the sampling and views of the test of its run; make one by `load`.

    Args:
        session: of onnxruntime.
        about: what `skelgraph.export` wrote into the file.
        name: of the file, for people.

    Attributes:
        session, about, name: as given.
    """

    def __init__(self, session: InferenceSession, about: Mapping[str, Any], name: str) -> None:
        super().__init__(InputSpec.from_dict(about["input"], name), about["classes"])
        self.session, self.about, self.name = session, dict(about), name
        self._inputs = [item.name for item in session.get_inputs()]

    @classmethod
    def load(cls, path: str | Path, *, threads: int | None = None) -> OnnxPredictor:
        """A file that ``skelgraph export`` has written.

        Args:
            path: of the file.
            threads: of the processor for one answer; by default as onnxruntime chooses.

        Raises:
            UserError: no such file, not ONNX, not exported by skelgraph or by a later one, onnxruntime missing, or a
                network that reads more than joints.
        """
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file; 'skelgraph export RUN' makes one.")
        session = open_session(path, str(path), threads)
        about = read_about(session.get_modelmeta().custom_metadata_map, str(path))
        if about["modalities"]:
            raise UserError(
                f"{path}: reads {', '.join(about['modalities'])} beside the joints, which predict does not; run it by "
                "onnxruntime, docs/export.md names its inputs."
            )
        return cls(session, about, str(path))

    def scores(self, arrays: ClipArrays) -> np.ndarray:
        """Probabilities (N, K), the mean over the views of each clip."""
        given = self.given(arrays)
        if self.about["clips"] is None:
            logits = self._run(given)
        else:
            rows = ({name: value[[row]] for name, value in given.items()} for row in range(len(arrays.fps)))
            logits = np.concatenate([self._run(one) for one in rows])
        exponential = np.exp(logits - logits.max(1, keepdims=True))
        probabilities = exponential / exponential.sum(1, keepdims=True)
        mean: np.ndarray = probabilities.reshape(-1, self.spec.views, len(self.classes)).mean(1)
        return mean

    def given(self, arrays: ClipArrays) -> dict[str, np.ndarray]:
        """Inputs of the graph by name."""
        return {name: getattr(arrays, name) for name in self._inputs}

    def _run(self, given: Mapping[str, np.ndarray]) -> np.ndarray:
        logits: np.ndarray = self.session.run(["logits"], dict(given))[0]
        return logits


def open_session(model: str | Path | bytes, name: str, threads: int | None = None) -> InferenceSession:
    """A session on the processor.

    Args:
        model: file or content.
        name: for errors.
        threads: as in `OnnxPredictor.load`.

    Raises:
        UserError: onnxruntime missing, or no ONNX file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f"{name}: ONNX files need onnxruntime: pip install 'skelgraph[onnx]'.") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = options.inter_op_num_threads = threads
    try:
        given = model if isinstance(model, bytes) else str(model)
        return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no common base
        raise UserError(f"{name}: no ONNX file that onnxruntime can run ({str(error)[:160]}).") from None


def read_about(metadata: Mapping[str, str], name: str) -> dict[str, Any]:
    """What skelgraph wrote into a file.

    Raises:
        UserError: nothing, or something that a later version wrote.
    """
    if KEY not in metadata:
        raise UserError(
            f"{name}: an ONNX file, but not of skelgraph: it does not say which joints and classes it has. Export the "
            "run again: skelgraph export RUN."
        )
    try:
        about: dict[str, Any] = json.loads(metadata[KEY])
        known = about["format"]
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{name}: what skelgraph wrote into it is damaged; export the run again.") from None
    if known != FORMAT:
        raise UserError(
            f"{name}: written by skelgraph {about.get('version')} in another form (format {known}, this one reads "
            f"{FORMAT}); export the run again, or install that version."
        )
    return about
