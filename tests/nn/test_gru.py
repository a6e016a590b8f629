"""Our backward pass of the gated recurrent unit, against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from skelgraph.nn.gru import GRU, _GRUFunction


def both(dtype: torch.dtype) -> tuple[GRU, nn.GRU]:
    torch.manual_seed(0)
    mine, theirs = GRU(5, 7).to(dtype), nn.GRU(5, 7).to(dtype)
    theirs.load_state_dict(mine.state_dict())
    return mine, theirs


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_values_and_gradients_are_torchs(dtype: torch.dtype, tolerance: float) -> None:
    results: list[dict[str, Tensor]] = []
    for unit in both(dtype):
        torch.manual_seed(1)
        x = torch.randn(6, 3, 5, dtype=dtype, requires_grad=True)
        out, last = unit(x)
        loss = (out * torch.randn_like(out)).sum() + (last * torch.randn_like(last)).sum()
        loss.backward()
        assert x.grad is not None
        grads = {name: p.grad for name, p in unit.named_parameters() if p.grad is not None}
        results.append({"out": out.detach(), "last": last.detach(), "x": x.grad, **grads})
    assert len(results[0]) == 7
    for key, value in results[0].items():
        torch.testing.assert_close(value, results[1][key], atol=tolerance, rtol=tolerance, msg=key)


def test_gradients_by_differences() -> None:
    unit, _ = both(torch.float64)
    x = torch.randn(4, 2, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(_GRUFunction.apply, (x, *unit.parameters()))


def test_training_takes_our_way_and_testing_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    unit, x = both(torch.float32)[0], torch.randn(4, 2, 5)
    calls = []
    monkeypatch.setattr(nn.GRU, "forward", lambda self, *args: calls.append(1) or (x, x))
    unit(x)
    assert not calls
    with torch.no_grad():
        unit(x)
    unit.requires_grad_(False)(x)
    assert len(calls) == 2
