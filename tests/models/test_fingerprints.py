"""Answers of the supervised networks with weights from a formula, written down when the golden arrays agreed.

The golden arrays stay outside the repository; these figures keep what they proved (tests/golden/test_psumnet_golden.py,
test_brl_golden.py): those networks in small, and PYSKL's other two, which tests/test_weights_pyskl.py writes out.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from skelgraph import models
from skelgraph.models.base import Model
from skelgraph.nn import propagation

# Per network the logits of two clips in eval mode, then in training mode; rounded to ten digits.
FINGERPRINTS: dict[str, list[list[float]]] = {
    "stgcnpp": [
        [0.3632521983, 0.3804115054, -0.03750055219],
        [0.3647433037, 0.3793670368, -0.03743343606],
        [0.9339528159, 0.03138795052, -0.08750000608],
        [0.8346575291, 0.03082813672, 0.01263045552],
    ],
    "ctrgcn": [
        [1.280786489, 0.1593506443, -0.6252386275],
        [10.85284982, -5.044272748, -2.434121739],
        [0.4728466022, 0.4036634279, -0.1817840278],
        [1.045475022, 0.07480596252, -0.2637966637],
    ],
    "psumnet_body": [
        [1076.594051, -346.1510014, -559.2851121],
        [863.0777183, -791.5364043, 318.6926716],
        [0.5696193414, 0.1064145691, 0.1649027776],
        [1.035743398, 0.2323756952, -0.4891401284],
    ],
    "psumnet_hands": [
        [0.8391012142, -0.3720311707, 0.6092044016],
        [0.8466595362, -0.3494612721, 0.5679745056],
        [0.508315562, 0.3399194407, -0.1221546257],
        [0.7616914741, 0.08896632837, -0.001138678558],
    ],
    "psumnet_legs": [
        [0.7395311424, -0.5369065632, 0.9547487279],
        [0.7035702501, -0.466319133, 0.8854016647],
        [0.7724031317, -0.1635093595, 0.3648130226],
        [0.544434849, 0.3759514571, -0.2120293473],
    ],
    "stgcn": [
        [0.5023581762, -0.03263036642, 0.4396022624],
        [0.502395147, -0.03267230184, 0.4396278542],
        [0.7058760839, 0.1032100056, 0.0334268584],
        [0.7846531291, 0.02936909639, 0.06481156821],
    ],
    "pyskl_ctrgcn": [
        [2.385951796, -0.7006651603, -0.4473637953],
        [3.086711893, -1.102246246, -0.5490132145],
        [1.325322095, 0.008308286779, -0.4444372029],
        [0.6978109964, 0.3782757602, -0.3688730754],
    ],
}


def build(name: str) -> Model:
    """The networks of the golden cases, eight channels wide where those are 64."""
    common = {"num_classes": 3, "persons": 2, "width": 8}
    if name == "stgcnpp":
        return models.create("stgcnpp", topology="ntu25_pyskl", **common)
    if name == "ctrgcn":
        return models.create("ctrgcn", topology="kinect20", **common)
    if name == "pyskl_ctrgcn":
        time = {"name": "multi_scale", "kernel": 5, "dilations": (1, 2), "relu": True}
        return models.create("ctrgcn", topology="coco17_pyskl", temporal=time, **common)
    if name == "stgcn":
        space = {"name": "static", "graph": "distance_published", "learn": "mask"}
        return models.create("stgcn", topology="coco17_pyskl", spatial=space, **common)
    part = name.removeprefix("psumnet_")
    depth = {"body": 10, "hands": 6, "legs": 4}[part]
    return models.create("psumnet_stream", topology="ntu25_published", part=part, depth=depth, **common)


def wave(count: int, pace: float) -> Tensor:
    return torch.sin(torch.arange(1, count + 1, dtype=torch.float64) * pace)


def formula(model: Model) -> Model:
    """Every tensor from sines of a pace of its own, of the size that keeps activations within bounds."""
    with torch.no_grad():
        for k, (name, value) in enumerate(sorted(model.state_dict().items())):
            if not value.is_floating_point():
                continue
            shape = wave(value.numel(), 0.7 + 0.01 * k).view(value.shape)
            centred = name.endswith(("norm.weight", "running_var"))
            size = 1.5 / value[0].numel() ** 0.5 if value.dim() > 1 else 0.3
            value.copy_(1 + 0.3 * shape if centred else size * shape)
    return model


def answers(name: str) -> Tensor:
    """Logits of two clips of two persons in eval mode, then in training mode."""
    model = formula(build(name).double())
    joints, channels = len(model.spec.topology.joints), model.spec.channels
    clips = wave(2 * 2 * 9 * joints * channels, 0.37).view(2, 2, 9, joints, channels)
    with torch.no_grad():
        return torch.cat([model.eval()(clips).logits, model.train()(clips).logits])


@pytest.mark.parametrize("backend", propagation.BACKENDS)
@pytest.mark.parametrize("name", FINGERPRINTS)
def test_fingerprint(name: str, backend: str) -> None:
    with propagation.backend(backend):
        found = answers(name)
    torch.testing.assert_close(found, torch.tensor(FINGERPRINTS[name], dtype=torch.float64), atol=1e-8, rtol=1e-8)
