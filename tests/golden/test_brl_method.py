"""BRL's sampling, mixing and losses from its golden arrays: as published behind the switch, and as the paper says."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from skelgraph.batch import Output
from skelgraph.methods import class_weights
from skelgraph.methods.balanced import Deferred, top1
from skelgraph.methods.balanced_losses import LOSSES
from skelgraph.methods.mixing import MIXING, Credit, official_pairs, rebalanced_share
from skelgraph.methods.optim import Length
from skelgraph.methods.resampling import RESAMPLING, repeated_draws
from skelgraph.topology import Topology

SHARED = Path(os.environ.get("SKELGRAPH_SHARED", Path(__file__).parents[3] / "shared"))
CASE = SHARED / "golden" / "brl" / "case_a.npz"
pytestmark = pytest.mark.skipif(not CASE.exists(), reason=f"no golden data at {CASE}; set SKELGRAPH_SHARED")
NTU = Topology.load("ntu25_pyskl")
ORDER = [*range(1, 12), *range(20, 25), 0, *range(12, 20)]
RUNS = ["lam_zero", "lam_one", "lam_alpha", "many_chosen", "all_chosen", "short_batch"]
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def case() -> Arrays:
    with np.load(CASE) as data:
        return {key: data[key] for key in data if key.startswith(("mix/", "loss/", "sampler/"))}


# ---- sampler --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("official", [True, False])
def test_sampler(case: Arrays, official: bool) -> None:
    """The lists are sorted by class and by size, so the tail by size and that by number are one."""
    labels = case["sampler/labels"].astype(np.int64)
    repeat, seed = case["sampler/times_seed"].tolist()
    counts = np.bincount(labels)
    drawn = RESAMPLING.create("tail", repeat=repeat, official=official)(labels, counts, seed, 0)
    assert drawn[:512].tolist() == case["sampler/index_head"].tolist()
    assert len(drawn) == case["sampler/len_after_iter"]
    assert np.bincount(labels[drawn]).tolist() == case["sampler/drawn_per_class"].tolist()
    plain = repeated_draws(labels, np.full(60, float(repeat)), seed, 0)
    assert len(plain) == case["sampler/len_before_iter"]
    multiplied = repeated_draws(labels, repeat * case["sampler/class_mult"], seed, 0)
    assert (multiplied == drawn).all()


# ---- mixing ---------------------------------------------------------------------------------------------------------


def mix(case: Arrays, run: str) -> tuple[dict[str, torch.Tensor], dict[str, float], list[tuple[int, int]]]:
    part = {key.rsplit("/", 1)[1]: value for key, value in case.items() if key.startswith(f"mix/{run}/")}
    pairs = [(int(i), int(j)) for i, j in part.pop("pairs")]
    return {k: torch.from_numpy(v) for k, v in part.items() if k != "cfg"}, json.loads(str(part["cfg"])), pairs


@pytest.mark.parametrize("run", RUNS)
def test_mixing_as_published(case: Arrays, run: str) -> None:
    arrays, config, pairs = mix(case, run)
    mixing = MIXING.create("partial", NTU, ratio=config["ratio"], kappa=config["im_k"], official=True)
    assert mixing.share == config["alpha"]
    label = arrays["label"].long()
    partners = iter(pairs)

    def pick(left: list[int]) -> int:
        own, partner = next(partners)
        assert partner in left
        assert own not in left
        return partner

    assert official_pairs(arrays["chosen"].tolist(), len(label), pick) == pairs
    mixture = mixing.official_mixture(label, arrays["counts"], pairs)
    out = mixture.apply(arrays["kp_in"], torch.arange(25))
    assert torch.equal(out, arrays["kp_out_official"])
    assert torch.equal(mixture.credit.own, arrays["label_a"])
    assert torch.equal(mixture.credit.other, arrays["label_b"])
    torch.testing.assert_close(mixture.credit.share, arrays["lam"].float().expand(len(label)))


@pytest.mark.parametrize("run", RUNS)
def test_mixing_as_described(case: Arrays, run: str) -> None:
    """The same partners with the joint order kept, and for each clip a share of its own."""
    arrays, config, pairs = mix(case, run)
    mixing = MIXING.create("partial", NTU, ratio=config["ratio"], kappa=config["im_k"])
    label, counts, partner = arrays["label"].long(), arrays["counts"], torch.arange(len(arrays["label"]))
    for own, other in pairs:
        partner[own] = other
    mixture = mixing.mixture(label, counts, partner)
    ordered = mixture.apply(arrays["kp_in"], torch.arange(25))
    assert torch.equal(ordered, arrays["kp_out_ordered"])
    mixed = [own for own, _ in pairs]
    assert torch.equal(ordered[mixed][..., ORDER, :], arrays["kp_out_official"][mixed])
    for own, other in pairs:
        n, m = int(counts[label[own]]), int(counts[label[other]])
        expected = 0.0 if n > 3 * m else 1.0 if m > 3 * n else 0.64
        assert float(mixture.credit.share[own]) == pytest.approx(expected)
    if pairs:
        assert float(mixture.credit.share[pairs[-1][0]]) == pytest.approx(float(arrays["lam"]))
    assert all(mixture.credit.share[i] == 1 for i in range(len(label)) if i not in mixed)


def test_constant_share(case: Arrays) -> None:
    """Published without rebalancing (`base`): the share whatever the sizes."""
    counts = torch.from_numpy(case["loss/counts"]).long()
    share = rebalanced_share(counts, counts.flip(0), 0.64, float("inf"))
    torch.testing.assert_close(share, torch.full((60,), 0.64))


# ---- losses ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def logits(case: Arrays) -> torch.Tensor:
    return torch.from_numpy(case["loss/logits"])


@pytest.fixture(scope="module")
def counts(case: Arrays) -> torch.Tensor:
    return torch.from_numpy(case["loss/counts"]).long()


def labels(case: Arrays) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(case["loss/label_a"]).long(), torch.from_numpy(case["loss/label_b"]).long()


def test_beta(case: Arrays, counts: torch.Tensor) -> None:
    np.testing.assert_allclose(class_weights.action_aware_beta(counts).numpy(), case["loss/beta"], rtol=0, atol=1e-12)


def test_action_aware_by_epoch(case: Arrays, logits: torch.Tensor, counts: torch.Tensor) -> None:
    """With the switch the weights of every published epoch; without it those of epochs 19, 21, 23 in all five."""
    a, b = labels(case)
    published, ours = (LOSSES.create("action_aware", counts, official=official) for official in (True, False))
    length = Length(24 * 7, 7)
    for row, epoch in enumerate(case["loss/aa_epochs"].tolist()):
        turn = Deferred(19 / 24).turn(float(epoch), epoch * 7, length)
        assert turn == Deferred(19).turn(float(epoch), 0, None)
        weight = torch.from_numpy(case["loss/aa_weight_official"][row])
        torch.testing.assert_close(published.class_weight(turn), weight, rtol=1e-6, atol=0)
        for label, key in ((a, "a"), (b, "b")):
            expected = case[f"loss/aa_value_{key}_official"][row]
            assert float(published(logits, label, turn)) == pytest.approx(expected, abs=1e-5)
        right = torch.from_numpy(case["loss/aa_weight_official"][3 if epoch >= 19 else 0])
        torch.testing.assert_close(ours.class_weight(turn), right, rtol=1e-6, atol=0)


def test_mixed_loss_and_gradient(case: Arrays, logits: torch.Tensor, counts: torch.Tensor) -> None:
    a, b = labels(case)
    z, share = logits.clone().requires_grad_(), torch.full((32,), 0.64)
    loss = LOSSES.create("action_aware", counts)(z, a, 0, other=b, share=share)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(case["loss/aa_mixed_value"]), abs=1e-5)
    assert float(loss.detach()) == pytest.approx(float(case["loss/head_loss_epoch19"]), abs=1e-5)
    torch.testing.assert_close(z.grad, torch.from_numpy(case["loss/aa_mixed_grad"]), rtol=1e-5, atol=1e-7)
    figure = top1(Output(logits=logits, features=logits), a, Credit(a, b, share))
    assert float(figure) == pytest.approx(float(case["loss/head_top1"]), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "settings", "turn", "value", "atol"),
    [
        ("cross_entropy", {}, None, "ce", 1e-5),
        ("focal", {}, 1, "focal_epoch20", 1e-5),
        ("focal", {}, None, "focal_deferred_epoch20", 1e-5),
        ("class_balanced", {}, 1, "cb_epoch20", 1e-5),
        ("balanced_softmax", {}, 1, "balsoftmax_epoch20", 1e-5),
        ("inverse_frequency", {}, 1, "weighted_fresh_epoch20", 1e-5),
        ("inverse_frequency", {}, None, "weighted_after_stage1_epoch20", 1e-5),
        ("ldam", {}, None, "ldam_epoch0", 1e-4),
        ("ldam", {}, 1, "ldam_epoch20", 1e-4),
    ],
)
def test_baselines(
    case: Arrays, logits: torch.Tensor, counts: torch.Tensor, name: str, settings: dict[str, float], turn: int | None,
    value: str, atol: float,
) -> None:  # fmt: skip
    loss = LOSSES.create(name, counts, **settings)(logits, labels(case)[0], turn)
    assert float(loss) == pytest.approx(float(case[f"loss/{value}"]), abs=atol)


def test_weights_and_margins_of_the_baselines(case: Arrays, counts: torch.Tensor) -> None:
    tables = {
        "cb_weight": class_weights.effective_number_weights(counts, 0.999),
        "ldam_weight_epoch20": class_weights.effective_number_weights(counts, 0.999999),
        "ldam_margin": class_weights.ldam_margins(counts),
        "weighted_fresh_weight": class_weights.inverse_frequency_weights(counts),
    }
    for key, table in tables.items():
        np.testing.assert_allclose(table.float().numpy(), case[f"loss/{key}"], rtol=2e-6, err_msg=key)
