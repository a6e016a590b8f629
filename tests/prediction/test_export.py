"""A run as an ONNX file: the same answers, without torch, and clear words where it cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_predict import command

from skelgraph.data import Store
from skelgraph.engine.run_folder import Run, digest
from skelgraph.errors import UserError
from skelgraph.prediction.onnx import KEY, OnnxPredictor
from skelgraph.predictor import Predictor

onnx = pytest.importorskip("onnx", reason="pip install 'skelgraph[onnx]'")
pytest.importorskip("onnxscript", reason="pip install 'skelgraph[onnx]'")
pytest.importorskip("onnxruntime", reason="pip install 'skelgraph[onnx]'")

# As an installation without torch and what belongs to it: whoever imports one of these fails.
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torch_geometric", "lightning", "torchmetrics", "omegaconf", "onnx"}:
            raise ImportError(f"{name} is not here")

sys.meta_path.insert(0, Blocked())
from skelgraph.cli.main import main
main()
"""


@pytest.fixture(scope="session")
def exported(demo_run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo run as a file, and what was said of it."""
    from skelgraph.export import export_onnx

    path = tmp_path_factory.mktemp("onnx") / "demo.onnx"
    return path, export_onnx(demo_run.path, path).text()


def without_torch(*words: object, stdin: str = "") -> tuple[int, str, str]:
    """``skelgraph WORDS`` in a process that cannot import torch."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *map(str, words)], input=stdin, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_the_file_answers_as_the_run_does(demo_run: Run, demo_clips: Path, exported: tuple[Path, str]) -> None:
    path, said = exported
    assert "DEMO DATA" in said
    assert said.count("of the largest logit") == 3
    run, file, store = Predictor.load(demo_run), OnnxPredictor.load(path, threads=1), Store.open(demo_clips)
    wanted, found = run.predict(store), file.predict(store)
    np.testing.assert_allclose(found.probabilities, wanted.probabilities, atol=1e-5, rtol=0)
    assert (found.labels, found.notes, found.classes) == (wanted.labels, wanted.notes, store.classes)
    assert json.dumps(file.spec.to_dict()) == json.dumps(run.spec.to_dict())
    assert file.about["demo"] is True
    assert file.about["weights"]["sha256"] == digest(demo_run.stage("train").path / "exports.safetensors")


def test_files_and_streams_are_answered_without_torch(exported: tuple[Path, str], tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(1, 400, (12, 17, 2))
    np.save(tmp_path / "clip.npy", points)
    status, out, err = without_torch("predict", exported[0], tmp_path / "clip.npy", "--image-size", "640x480")
    assert (status, err) == (0, "")
    label = OnnxPredictor.load(exported[0]).predict(points, image_size=(480, 640)).labels[0]
    assert out.split("  ")[1] == label
    lines = "\n".join(json.dumps(frame) for frame in points.tolist())
    status, out, err = without_torch(
        "predict", exported[0], "-", "--window", 12, "--image-size", "640x480", stdin=lines
    )
    assert (status, err, len(out.splitlines())) == (0, "", 12)
    assert json.loads(out.splitlines()[-1])["label"] == label
    status, _, err = without_torch("predict", "runs/none", tmp_path / "clip.npy")
    assert status != 0


def test_eight_bits_say_what_they_cost(
    demo_run: Run, demo_clips: Path, exported: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from skelgraph import export, export_int8

    proto, sizes = onnx.load(exported[0]), {"clips": None, "frames": None}
    monkeypatch.setattr(export, "to_onnx", lambda *_: (proto, sizes))
    said = export.export_onnx(demo_run.path, tmp_path / "small.onnx", int8=True).text()
    assert "same label as fp32 for" in said
    small, store = OnnxPredictor.load(tmp_path / "small.onnx"), Store.open(demo_clips)
    assert small.about["precision"] == "int8"
    assert "MatMulInteger" in {node.op_type for node in onnx.load(tmp_path / "small.onnx").graph.node}
    wanted, found = Predictor.load(demo_run).predict(store), small.predict(store)
    np.testing.assert_allclose(found.probabilities, wanted.probabilities, atol=0.02)
    assert not np.array_equal(found.probabilities, wanted.probabilities)
    moved = Predictor.load(demo_run)
    moved.data = moved.data.model_copy(update={"store": str(tmp_path / "gone")})
    content = exported[0].read_bytes()
    assert "not compared" in export_int8.cost(moved, content, content, small.about)[0]


def test_an_export_that_ends_early_leaves_nothing(
    demo_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skelgraph import export

    def proto(*_: object) -> tuple[object, dict[str, None]]:
        return onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [])), {"clips": None, "frames": None}

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "to_onnx", proto)
    monkeypatch.setattr(export, "check_parity", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export.export_onnx(demo_run.path, tmp_path / "x.onnx")
    monkeypatch.setattr(export, "check_parity", lambda *_: ())
    monkeypatch.setattr(export.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export.export_onnx(demo_run.path, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_a_network_that_answers_otherwise_is_not_written(exported: tuple[Path, str], demo_run: Run) -> None:
    from skelgraph.export import ClipGraph, check_parity

    run = Predictor.load(demo_run)
    run.model.head.weight.data += 1e-2
    with pytest.raises(UserError, match="answers otherwise"):
        check_parity(ClipGraph(run.pipeline, run.model).eval(), exported[0].read_bytes(),
                     {"clips": None, "frames": None}, "run")  # fmt: skip


def test_mistakes_are_said_in_plain_lines(
    exported: tuple[Path, str], demo_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "text.onnx").write_text("no network", encoding="utf-8")
    proto = onnx.load(exported[0])
    about = json.loads(proto.metadata_props[0].value)
    onnx.helper.set_model_props(proto, {KEY: json.dumps({**about, "format": 99})})
    onnx.save(proto, tmp_path / "later.onnx")
    onnx.helper.set_model_props(proto, {KEY: json.dumps({**about, "modalities": {"depth": ["frames", 4]}})})
    onnx.save(proto, tmp_path / "more.onnx")
    onnx.helper.set_model_props(proto, {})
    onnx.save(proto, tmp_path / "foreign.onnx")
    (tmp_path / "half").mkdir()
    for name in ("run.json", "recipe.json"):
        (tmp_path / "half" / name).write_text((demo_run.path / name).read_text(encoding="utf-8"), encoding="utf-8")
    cases = {
        ("predict", "none.onnx", "x.npy"): "no such file",
        ("predict", "text.onnx", "x.npy"): "no ONNX file that onnxruntime can run",
        ("predict", "later.onnx", "x.npy"): "in another form (format 99",
        ("predict", "more.onnx", "x.npy"): "reads depth beside the joints",
        ("predict", "foreign.onnx", "x.npy"): "not of skelgraph",
        ("export", "nowhere"): "no such run folder",
        ("export", "half"): "half-written",
        ("export", demo_run.path, "x.pt"): "the file is called NAME.onnx",
        ("export", demo_run.path, "no/x.onnx"): "a folder that exists",
    }
    monkeypatch.chdir(tmp_path)
    for words, message in cases.items():
        status, _, err = command(monkeypatch, capsys, *words)
        assert (status, message in err, "Traceback" in err) == (2, True, False), err


def test_a_missing_extra_is_named(demo_run: Run, exported: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    from skelgraph import export

    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(UserError, match=r"export needs onnxscript: pip install 'skelgraph\[onnx\]'"):
        export.export_onnx(demo_run.path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"need onnxruntime: pip install 'skelgraph\[onnx\]'"):
        OnnxPredictor.load(exported[0])
