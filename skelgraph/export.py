"""A trained network as an ONNX file that answers without torch.

    from skelgraph.export import export_onnx

    print(export_onnx("runs/stgcnpp_nwucla/seed0").text())

The graph begins where resampling ends: the transforms of the run's test, streams and parts lie in it. What comes before
(joints by name, persons, frames, views) is written beside it, for `skelgraph.prediction.onnx`.

Letters: N clips, M persons, T frames, V joints, C coordinates, K classes, S steps of a further modality.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from skelgraph import __version__
from skelgraph.batch import Batch, Modality
from skelgraph.engine import weight_card
from skelgraph.engine.run_folder import replacing
from skelgraph.errors import UserError
from skelgraph.export_fold import fold
from skelgraph.models import Model
from skelgraph.nn import propagation
from skelgraph.nn.gru import GRU
from skelgraph.nn.pointwise import Pointwise
from skelgraph.prediction.onnx import FORMAT, KEY, open_session
from skelgraph.predictor import Predictor
from skelgraph.transforms import Pipeline

if TYPE_CHECKING:
    import onnx
    from onnxruntime import InferenceSession

TOLERANCE = 1e-4
JOINTS = ("keypoints", "score")
Feed = dict[str, Any]
Parity = tuple[tuple[int, int, float], ...]


class ClipGraph(nn.Module):
    """Transforms and network as a function of plain tensors.

    Args:
        pipeline: transforms of the test.
        model: with a classifier.

    Shapes:
        keypoints (N, M, T, V, C), score (N, M, T, V) with 0 = missing, image_size (N, 2) height and width with NaN =
        unknown, modalities {name: values (N, S, ...), valid (N, S) bool}; out: logits (N, K).
    """

    def __init__(self, pipeline: Pipeline, model: Model) -> None:
        super().__init__()
        self.pipeline, self.model = pipeline, model

    def forward(
        self, keypoints: Tensor, score: Tensor, image_size: Tensor | None = None,
        modalities: dict[str, dict[str, Tensor]] | None = None,
    ) -> Tensor:  # fmt: skip
        clips = keypoints.shape[0]
        unknown = keypoints.new_full((clips, 2), float("nan"))
        kinds = self.model.spec.modalities
        batch = Batch(
            keypoints=keypoints, score=score, valid=(score > 0).any(-1),
            label=torch.full((clips,), -1), index=torch.arange(clips),
            image_size=unknown if image_size is None else image_size, fps=unknown[:, 0],
            modalities={name: Modality(**item, kind=kinds[name].kind, mirror=kinds[name].mirror)
                        for name, item in (modalities or {}).items()},
        )  # fmt: skip
        logits: Tensor = self.model(self.pipeline(batch, training=False)).logits
        return logits


@dataclass(frozen=True)
class Exported:
    """What `export_onnx` has written.

    Attributes:
        path, bytes: of the file.
        about: what is written beside the graph.
        parity: (clips, frames, largest difference to torch as a share of the largest logit).
        notes: what a user should know.
    """

    path: Path
    bytes: int
    about: Mapping[str, Any]
    parity: Parity
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Several lines for people."""
        clips, frames = (self.about[key] for key in ("clips", "frames"))
        lines = [
            f"{self.path} ({self.bytes / 1e6:.2f} MB, {len(self.about['classes'])} classes"
            + (", DEMO DATA)" if self.about["demo"] else ")"),
            f"  clips   {'any number' if clips is None else f'always {clips}'}",
            f"  frames  {'any number' if frames is None else f'always {frames}'}, trained on "
            f"{self.about['input']['frames']}",
            *(f"  parity  {n} x {t} frames: {error:.1e} of the largest logit" for n, t, error in self.parity),
            *(f"  {note}" for note in self.notes),
        ]
        return "\n".join(lines)


def export_onnx(
    run: str | os.PathLike[str], out: str | os.PathLike[str] | None = None, *, int8: bool = False, trust: bool = False
) -> Exported:
    """Write the classifier of a finished run as one ONNX file, and hold it against the run.

    Args:
        run: folder, ``folder:stage`` or ``folder:stage:stream``, as `Predictor.load` takes it.
        out: the file; by default STAGE.onnx (STAGE.STREAM.onnx, STAGE.int8.onnx) in the run folder.
        int8: linear maps in eight bits, see `skelgraph.export_int8`; what that costs is among the notes.
        trust: run the plugins of the run.

    Raises:
        UserError: no such run, a half-written one, onnx missing, a network that cannot be exported or whose export
            answers otherwise, a place that cannot be written.
    """
    _needed()
    predictor = Predictor.load(run, trust=trust, device="cpu", modalities=True)
    path = _target(predictor, out, int8)
    proto, sizes = to_onnx(predictor.pipeline, predictor.model)
    about = {**_about(predictor), **sizes}
    content = _labelled(proto, about)
    parity = check_parity(ClipGraph(predictor.pipeline, predictor.model).eval(), content, sizes, predictor.name)
    notes: tuple[str, ...] = ()
    if int8:
        from skelgraph.export_int8 import cost, quantised

        about = {**about, "precision": "int8"}
        with _quietly():
            small = quantised(proto, predictor.name)
        exact, content = content, _labelled(small, about)
        notes = cost(predictor, exact, content, about)
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}).") from None
    return Exported(path, len(content), about, parity, notes)


def _needed() -> None:
    """Refuse at once what would fail after minutes."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(name) is None:
            raise UserError(f"export needs {name}: pip install 'skelgraph[onnx]'.")


def _target(predictor: Predictor, out: str | os.PathLike[str] | None, int8: bool) -> Path:
    assert predictor.folder is not None
    own = [predictor.folder.name, *filter(None, [predictor.stream_name])]
    run = Path(predictor.name.removesuffix(":" + ":".join(own)))
    path = run / ".".join([*own, *(["int8"] if int8 else []), "onnx"]) if out is None else Path(out)
    if path.suffix != ".onnx" or not path.parent.is_dir():
        raise UserError(f"{path}: the file is called NAME.onnx and lies in a folder that exists.")
    return path


def _about(predictor: Predictor) -> dict[str, Any]:
    """What a reader of the file must know beside the graph, as plain data; terms travel with the weights."""
    spec = predictor.model.spec
    assert predictor.folder is not None
    card = weight_card.read(predictor.folder.path)
    return {
        "format": FORMAT, "version": __version__, "run": predictor.name, "demo": card["demo"],
        "weights": {key: card[key] for key in ("sha256", "licence", "data")}, "classes": list(spec.classes),
        "input": predictor.spec.to_dict(), "transforms": predictor.data.transforms, "precision": "fp32",
        "modalities": {name: [item.kind, item.steps, *item.shape] for name, item in spec.modalities.items()},
    }  # fmt: skip


def _labelled(proto: onnx.ModelProto, about: Mapping[str, Any]) -> bytes:
    """The file, with ``about`` in it."""
    import onnx.helper

    proto.producer_name, proto.producer_version = "skelgraph", __version__
    onnx.helper.set_model_props(proto, {KEY: json.dumps(about)})
    content: bytes = proto.SerializeToString()
    return content


# -- the graph -------------------------------------------------------------------------------------------------------


def to_onnx(pipeline: Pipeline, model: Model, clips: int = 3) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A network behind its transforms as an ONNX graph; ``clips`` and ``frames`` that it fixes, None = any number.

    Inputs are ``keypoints``, ``score``, ``image_size`` where a transform reads it, and for every further modality
    ``NAME.values`` and ``NAME.valid``; the output is ``logits``. Names and shapes as in `ClipGraph`. The network is
    traced with as many ``clips``.

    Raises:
        UserError: torch cannot export the network.
    """
    graph = ClipGraph(pipeline, model).eval()
    feed = example(graph, clips, model.spec.frames)
    any_size = torch.export.Dim.AUTO
    free: Feed = {"keypoints": {0: any_size, 2: any_size}, "score": {0: any_size, 2: any_size}}
    if "image_size" in feed:
        free["image_size"] = {0: any_size}
    if "modalities" in feed:
        free["modalities"] = {name: {key: {0: any_size} for key in item} for name, item in feed["modalities"].items()}
    with torch.no_grad(), _quietly(), _for_onnx(model):
        try:
            program = torch.export.export(graph, (), feed, dynamic_shapes=free, strict=False)
            found = torch.onnx.export(
                program, dynamo=True, optimize=True, input_names=list(flat(feed)), output_names=["logits"],
                verbose=False,
                custom_translation_table={torch.ops.aten.sort.stable: _stable_sort},
            )  # fmt: skip
        except Exception as error:  # torch raises what its passes and ours come across
            raise UserError(
                f"{type(model).__name__}: torch cannot export this network ({type(error).__name__}: "
                f"{str(error).strip().splitlines()[0][:160]}); docs/export.md lists what can be exported."
            ) from error
    assert found is not None
    proto = fold(found.model_proto)
    sizes = {"clips": _fixed(program, 0), "frames": _fixed(program, 2)}
    if sizes["clips"] not in (None, 1):
        # A network that counts clips by len() cannot take any number; one by one it can.
        return to_onnx(pipeline, model, clips=1)
    if sizes["frames"] is None and not _agrees(proto, graph, 2 * model.spec.frames + 1):
        sizes["frames"] = model.spec.frames
    for item in proto.graph.input:
        for axis, size in ((0, sizes["clips"]), (2, sizes["frames"])):
            if item.name in JOINTS and size is not None:
                item.type.tensor_type.shape.dim[axis].dim_value = size
    return proto, sizes


def _fixed(program: torch.export.ExportedProgram, axis: int) -> int | None:
    """The size that tracing has fixed along an axis of the joints; None = any."""
    shapes = [
        node.meta["val"].shape for node in program.graph.nodes if node.target in JOINTS and node.op == "placeholder"
    ]
    sizes = [shape[axis] if isinstance(shape[axis], int) else shape[axis].node.maybe_as_int() for shape in shapes]
    return next((size for size in sizes if size is not None), None)


def _agrees(proto: onnx.ModelProto, graph: ClipGraph, frames: int) -> bool:
    """Whether clips of this length get the right answer: a loop over frames may be unrolled without a word."""
    try:
        return (
            _difference(open_session(proto.SerializeToString(), "export"), graph, example(graph, 2, frames)) < TOLERANCE
        )
    except Exception:  # of the network, or of onnxruntime, whose own have no common base
        return False


@contextmanager
def _for_onnx(model: Model) -> Iterator[None]:
    """Layers in the form that suits onnxruntime, not torch.

    Recurrent units are ONNX's own operator; traced, they would be unrolled and fix the number of frames. Linear maps
    are matrix products, in the layout that all other layers have, and not convolutions between two transpositions.
    Sums over neighbours are products with a matrix, whatever backend the run was trained with.
    """
    forms: dict[type[nn.Module], Any] = {GRU: _onnx_gru, Pointwise: nn.Linear.forward}
    changed = [item for item in model.modules() if type(item) in forms]
    backends = {item: item.backend for item in model.modules() if isinstance(getattr(item, "backend", None), str)}
    for item in changed:
        item.forward = partial(forms[type(item)], item)
    for item in backends:
        setattr(item, "backend", "dense")  # noqa: B010  (no declared attribute of a Module)
    try:
        with propagation.backend("dense"):
            yield
    finally:
        for item in changed:
            del item.forward
        for item, name in backends.items():
            setattr(item, "backend", name)  # noqa: B010


def _onnx_gru(unit: GRU, x: Tensor) -> tuple[Tensor, Tensor]:
    """What ``unit`` says of x (T, N, C), by ONNX's GRU, whose gates come in the order update, reset, new."""

    weights = dict(unit.named_parameters())

    def reordered(name: str) -> Tensor:
        reset, update, new = weights[f"{name}_l0"].chunk(3)
        return torch.cat([update, reset, new]).unsqueeze(0)

    bias = torch.cat([reordered("bias_ih"), reordered("bias_hh")], dim=1)
    frames, clips = x.shape[:2]
    out, last = torch.onnx.ops.symbolic_multi_out(
        "GRU", (x, reordered("weight_ih"), reordered("weight_hh"), bias),
        {"hidden_size": unit.hidden_size, "linear_before_reset": 1}, dtypes=(x.dtype, x.dtype),
        shapes=((frames, 1, clips, unit.hidden_size), (1, clips, unit.hidden_size)), version=18,
    )  # fmt: skip
    return out.squeeze(1), last


def _stable_sort(self: Any, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
    """``aten.sort.stable``, which the exporter does not know: of equal values TopK takes the first one first, too."""
    from onnxscript import opset18 as op

    size = op.Gather(op.Shape(self), op.Constant(value_ints=[dim]), axis=0)
    # onnxruntime sorts few types of integers.
    values, order = op.TopK(op.Cast(self, to=7), size, axis=dim, largest=int(descending), sorted=1)
    return op.CastLike(values, self), order


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what the exporter says of its own progress."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def example(graph: ClipGraph, clips: int, frames: int, seed: int = 0) -> Feed:
    """Made-up input: bodies that move, with hidden joints; of several clips and persons one is absent at times."""
    spec, draw = graph.model.spec, np.random.default_rng(seed)
    shape = (clips, spec.persons, frames, spec.joints)
    body = draw.normal(0, 1, (clips, spec.persons, 1, spec.joints, spec.channels)) * 100 + 400
    points = body + draw.normal(0, 5, (*shape, spec.channels)).cumsum(2)
    score = draw.uniform(0.2, 1, shape) * (draw.uniform(size=shape) > 0.1)
    score[-1, -1, frames // 2 :] *= spec.persons == 1 or clips == 1
    feed: Feed = {
        "keypoints": torch.from_numpy(points * (score > 0)[..., None]).float(), "score": torch.from_numpy(score).float()
    }  # fmt: skip
    if "image" in {type(step).__name__.lower() for step in graph.pipeline.steps}:
        feed["image_size"] = torch.tensor([[480.0, 640.0], [float("nan")] * 2]).repeat(clips, 1)[:clips]
    if spec.modalities:
        feed["modalities"] = {name: _made_up(item, clips, draw) for name, item in spec.modalities.items()}
    return feed


def _made_up(item: Any, clips: int, draw: np.random.Generator) -> dict[str, Tensor]:
    values = torch.from_numpy(draw.normal(0, 1, (clips, item.steps, *item.shape))).float()
    return {"values": values, "valid": torch.from_numpy(draw.uniform(size=(clips, item.steps)) > 0.2)}


# -- parity ----------------------------------------------------------------------------------------------------------


def check_parity(graph: ClipGraph, content: bytes, about: Mapping[str, Any], name: str) -> Parity:
    """Largest difference between torch and onnxruntime at three shapes, as a share of the largest logit.

    Raises:
        UserError: they differ by more than 1e-4.
    """
    session, frames = open_session(content, name), graph.model.spec.frames
    shapes = [(1, frames), (5, frames), (2, 2 * frames + 1)]
    if about["clips"] is not None:
        shapes = [(about["clips"], length) for _, length in shapes]
    if about["frames"] is not None:
        shapes = [(count, frames) for count, _ in shapes]
    found = []
    for seed, (count, length) in enumerate(shapes):
        found.append((count, length, _difference(session, graph, example(graph, count, length, seed))))
    worst = max(error for _, _, error in found)
    if not worst <= TOLERANCE:
        raise UserError(
            f"{name}: the exported network answers otherwise (by {worst:.1e} of the largest logit, {TOLERANCE:.0e} is "
            "allowed), so no file is written; please report the recipe and the version of torch."
        )
    return tuple(found)


def _difference(session: InferenceSession, graph: ClipGraph, feed: Feed) -> float:
    """The largest difference of the two answers as a share of the largest logit."""
    with torch.inference_mode():
        wanted = graph(**feed).numpy()
    return float(np.abs(session.run(["logits"], flat(feed))[0] - wanted).max() / np.abs(wanted).max())


def flat(feed: Feed) -> dict[str, np.ndarray]:
    """Input of `ClipGraph` as the exported graph names it."""
    plain = {key: value.numpy() for key, value in feed.items() if key != "modalities"}
    items = feed.get("modalities", {}).items()
    return plain | {f"{name}.{key}": value.numpy() for name, item in items for key, value in item.items()}
