"""What of the toolkit is live on this machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from importlib import import_module, metadata

Finding = tuple[str, bool, str]

EXTRAS = {
    "scipy": ("mat", "MATLAB files (Penn Action, UTD-MHAD)"),
    "matplotlib": ("viz", "drawing topologies"),
    "plotly": ("viz", "interactive figures"),
    "tensorboard": ("track", "TensorBoard logs"),
    "optuna": ("sweep", "search for settings"),
    "av": ("video", "videos as a modality"),
}


def findings() -> list[Finding]:
    """Rows of (name, live, explanation)."""
    return [
        ("python", True, platform.python_version()),
        _versions(),
        _devices(),
        _attempt("backend dense", _dense),
        _attempt("backend pyg", _pyg),
        _attempt("backend dgl", _dgl),
        _scatter(),
        *(_extra(package, *about) for package, about in EXTRAS.items()),
    ]


def _attempt(name: str, probe: Callable[[], str]) -> Finding:
    """A live probe: the work is done, not only the import."""
    try:
        return (name, True, probe())
    except Exception as error:
        return (name, False, str(error).splitlines()[0] if str(error) else type(error).__name__)


def _versions() -> Finding:
    import torch

    return ("torch", True, f"{torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} cores")


def _devices() -> Finding:
    import torch

    if torch.cuda.is_available():
        return ("gpu", True, ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())))
    return ("gpu", False, "none; everything runs on the CPU")


def _propagated(backend: str) -> float:
    import torch

    from skelgraph.nn import propagate
    from skelgraph.topology import Topology

    topology = Topology.load("coco17")
    weight = torch.as_tensor(topology.adjacency("plain"))
    return float(propagate(torch.ones(1, len(topology.joints), 1), weight, topology, backend=backend).sum())


def _dense() -> str:
    _propagated("dense")
    return "default"


def _pyg() -> str:
    _propagated("pyg")
    return f"torch-geometric {metadata.version('torch-geometric')}"


def _dgl() -> str:
    _propagated("dgl")
    return f"dgl {metadata.version('dgl')}"


def _scatter() -> Finding:
    try:
        import_module("torch_scatter")
    except (ImportError, OSError):
        return ("torch-scatter", False, "not installed; never required (pip install 'skelgraph[scatter]')")
    return ("torch-scatter", True, f"{metadata.version('torch-scatter')}, used by PyG")


def _extra(package: str, extra: str, use: str) -> Finding:
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        return (package, False, f"{use}: pip install 'skelgraph[{extra}]'")
    return (package, True, f"{version}: {use}")
