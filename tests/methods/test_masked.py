"""The cosine error, the masks, what the loss counts and moves, collapse, and that it learns (spec section 8)."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from skelgraph.batch import Batch, ClipSpec
from skelgraph.errors import UserError
from skelgraph.methods.masked import Masked, sce_loss
from skelgraph.methods.masks import part_table, random_joints, random_parts
from skelgraph.methods.reduce import global_mean
from skelgraph.models.skeletonmae import SkeletonMAE
from skelgraph.topology import Topology

COCO = Topology.load("coco17")
ALL_BUT_HEAD = ["torso", "left_arm", "right_arm", "left_leg", "right_leg"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Products this small only lose time to a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def method(dim: int = 16, persons: int = 1, model: dict[str, Any] | None = None, **settings: Any) -> Masked:
    torch.manual_seed(0)
    mae = SkeletonMAE(ClipSpec(COCO, 2, persons, 6), dim=dim, hidden=dim, **(model or {}))
    return Masked(mae, **{"frames_per_clip": None, **settings})


def toy_motion(clips: int = 4, frames: int = 6, seed: int = 0, size: float = 0.4) -> Batch:
    """Smooth motion: a rest pose and, for each joint, a common swing of its own direction and phase."""
    generator = torch.Generator().manual_seed(seed)
    still = torch.Generator().manual_seed(99)
    rest, swing = torch.randn(17, 2, generator=still), torch.randn(17, 2, generator=still)
    phase = 6.3 * torch.rand(clips, 1, generator=generator) + 0.5 * torch.arange(frames)
    offset = torch.arange(17) * 0.3
    angle = phase[..., None] + offset
    return Batch.of((rest + size * swing * angle.sin().unsqueeze(-1)).unsqueeze(1))


def train(learner: Masked, batch: Batch, steps: int, rate: float = 3e-3) -> list[dict[str, float]]:
    optimizer = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], rate)
    history = []
    for _ in range(steps):
        optimizer.zero_grad()
        figures = learner.step(batch, 0.0)
        figures["loss"].backward()
        optimizer.step()
        history.append({name: float(value.detach()) for name, value in figures.items()})
    return history


def test_cosine_error() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 5, 7, dtype=torch.float64)
    for beta in (1, 2, 3):
        assert sce_loss(x, x, beta=beta).item() == pytest.approx(0.0, abs=1e-12)
        assert sce_loss(x, -x, beta=beta).item() == pytest.approx(2.0**beta)
        assert sce_loss(x, 3.7 * y, beta=beta).item() == pytest.approx(sce_loss(x, y, beta=beta).item())
    assert sce_loss(torch.eye(2), torch.eye(2).flip(0)).item() == pytest.approx(1.0)
    near = x + 0.1 * y
    assert sce_loss(x, near, beta=1) > sce_loss(x, near, beta=2)


def test_zero_target_gives_loss_one_and_no_gradient() -> None:
    y = torch.randn(3, 4, requires_grad=True)
    loss = sce_loss(torch.zeros(3, 4), y)
    loss.backward()
    assert loss.item() == 1.0
    assert y.grad is not None
    assert not y.grad.any()


@pytest.mark.parametrize("beta", [1, 2, 3])
def test_literal_equation_differs_by_a_constant(beta: int) -> None:
    x, y = torch.randn(2, 6, 17, 5, dtype=torch.float64)
    where = torch.zeros(17, dtype=torch.bool)
    where[[8, 10, 14, 16]] = True
    literal = sce_loss(x, y, where, beta, literal=True)
    assert literal.item() == pytest.approx(4 ** (1 - beta) * sce_loss(x, y, where, beta).item())


def test_loss_stays_in_float32_under_autocast() -> None:
    x = torch.randn(4, 8, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert sce_loss(x, x).dtype == torch.float32


def test_random_masks_hide_some_and_leave_some() -> None:
    table = part_table(COCO, ["head", "torso", "left_arm", "right_arm", "left_leg", "right_leg"])
    torch.manual_seed(0)
    masks = random_parts(table, 400, 1, 5)
    touched = (masks.unsqueeze(1) & table).any(-1)
    whole = (masks.unsqueeze(1) | ~table).all(-1)
    assert torch.equal(touched, whole)  # a part is hidden whole or not at all
    assert set(whole.sum(-1).tolist()) == {1, 2, 3, 4, 5}
    for ratio, number in ((0.3, 5), (0.5, 9), (0.7, 12), (0.9, 15)):
        assert set(random_joints(17, 50, ratio, torch.device("cpu")).sum(-1).tolist()) == {number}
    assert random_joints(17, 50, 0.3, torch.device("cpu")).any(0).all()


def test_masks_of_the_method() -> None:
    cpu = torch.device("cpu")
    assert method().mask(3, cpu).flatten().nonzero().flatten().tolist() == [8, 10, 14, 16]
    assert method(mask_parts="left_arm").mask(3, cpu).flatten().nonzero().flatten().tolist() == [7, 9]
    assert method(mask_parts="random").mask(3, cpu).shape == (3, 1, 1, 17)
    assert method(mask_joints_ratio=0.5).mask(3, cpu).sum().item() == 27


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"mask_parts": ["rigth_arm"]}, "Did you mean 'right_arm'"), ({"mask_parts": []}, "hides 0"),
        ({"mask_parts": ["head", *ALL_BUT_HEAD]}, "leave some"), ({"mask_parts": "random", "parts_max": 6}, "1 to 5"),
        ({"mask_parts": "random", "random_from": ["torso", "upper"]}, "left_shoulder"),
        ({"mask_joints_ratio": 0.01}, "hides 0"), ({"target": "detached"}, "Did you mean 'detach'"),
    ],
)  # fmt: skip
def test_masks_that_make_no_sense_are_refused(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word):
        method(**settings)


def test_missing_joints_and_absent_persons_do_not_count() -> None:
    learner = method(persons=2).eval()
    batch = Batch.of(torch.randn(3, 2, 6, 17, 2))
    valid, score = batch.valid.clone(), batch.score.clone()
    valid[0, 1], valid[2, :, 3:] = False, False
    score[1, :, :, 10] = 0.0
    batch = batch.with_(valid=valid, score=score)
    x = learner.mae.embed_joints(batch)
    mask = learner.mask(3, x.device)[0, 0, 0]
    error = (1 - torch.cosine_similarity(x, learner.mae.reconstruct(x, mask), dim=-1)) ** 2
    rows = [
        error[n, m, t, v] for n in range(3) for m in range(2) for t in range(6) for v in (8, 10, 14, 16)
        if valid[n, m, t] and score[n, m, t, v] > 0
    ]  # fmt: skip
    assert learner.step(batch, 0.0)["loss"].item() == pytest.approx(torch.stack(rows).mean().item(), rel=1e-5)
    nobody = batch.with_(valid=torch.zeros_like(valid))
    assert learner.step(nobody, 0.0)["loss"].item() == 0.0


def test_random_masks_weigh_every_hidden_joint_alike() -> None:
    learner = method(mask_parts="random").eval()
    batch = toy_motion(5)
    torch.manual_seed(3)
    loss = learner.step(batch, 0.0)["loss"]
    torch.manual_seed(3)
    mask = learner.mask(5, torch.device("cpu"))
    x = learner.mae.embed_joints(batch)
    error = (1 - torch.cosine_similarity(x, learner.mae.reconstruct(x, mask), dim=-1)) ** 2
    assert loss.item() == pytest.approx(error[mask.expand(error.shape)].mean().item(), rel=1e-5)


def test_frames_per_clip_takes_frames_of_the_same_clip_together() -> None:
    learner = method(frames_per_clip=3, persons=2)
    keypoints = torch.arange(4 * 6).view(4, 1, 6, 1, 1).expand(4, 2, 6, 17, 2).float()
    few = learner.some_frames(Batch.of(keypoints + 1).with_(score=keypoints[..., 0]))
    assert few.keypoints.shape == (4, 2, 3, 17, 2)
    assert torch.equal(few.keypoints[..., 0] - 1, few.score)
    assert torch.equal(few.keypoints[:, 0], few.keypoints[:, 1])
    frames = few.score[:, 0, :, 0]
    assert torch.equal(frames // 6, torch.arange(4.0)[:, None].expand(4, 3))
    assert all(len(set(row)) == 3 for row in frames.tolist())


def gradients(target: str) -> dict[str, Tensor | None]:
    learner = method(target=target)
    learner.step(toy_motion(), 0.0)["loss"].backward()
    return {name: p.grad for name, p in learner.mae.named_parameters()}


def test_target_gets_gradient_only_if_asked() -> None:
    detached, through, frozen = (gradients(target) for target in ("detach", "through", "frozen"))
    assert detached["embed.weight"] is not None and through["embed.weight"] is not None  # noqa: PT018
    assert not torch.allclose(detached["embed.weight"], through["embed.weight"])
    assert torch.allclose(detached["decoder.lin2.weight"], through["decoder.lin2.weight"])  # type: ignore[arg-type]
    assert frozen["embed.weight"] is None
    for grads in (detached, through, frozen):
        token = grads["mask_token"]
        assert token is not None
        assert token.abs().sum() > 0


def test_frozen_embedding_does_not_move_and_the_rest_does() -> None:
    learner = method(target="frozen")
    embed, token = learner.mae.embed.weight.clone(), learner.mae.mask_token.clone()
    train(learner, toy_motion(), 2)
    assert torch.equal(learner.mae.embed.weight, embed)
    assert not torch.equal(learner.mae.mask_token, token)


def test_unmasked_joints_carry_no_loss() -> None:
    learner = method().eval()
    batch = toy_motion()
    x = learner.mae.embed_joints(batch).detach()
    mask = learner.mask(4, x.device)[0, 0, 0]
    y = learner.mae.reconstruct(x, mask).detach().requires_grad_()
    sce_loss(x, y, mask).backward()
    assert y.grad is not None
    moved = y.grad.abs().sum(-1) > 0
    assert torch.equal(moved, mask.expand(moved.shape))


@pytest.mark.parametrize(("steps", "mean", "least"), [
    (400, 0.98, 0.95),
    pytest.param(1500, 0.99, 0.98, marks=pytest.mark.slow),
])  # fmt: skip
def test_it_learns_toy_motion(steps: int, mean: float, least: float) -> None:
    learner, batch = method(dim=64), toy_motion()
    train(learner, batch, steps)
    learner.eval()
    x = learner.mae.embed_joints(batch)
    y = learner.mae.reconstruct(x, learner.mask(4, x.device))
    cosine = torch.cosine_similarity(x, y, dim=-1).mean((0, 1, 2))[[8, 10, 14, 16]]
    assert cosine.mean() > mean
    assert cosine.min() > least


def held_out_margins(remask: str, steps: int) -> Tensor:
    """Mean cosine above the best constant of each joint, on clips not trained on."""
    learner = method(model={"remask": remask})
    train(learner, toy_motion(8, size=0.8), steps, 1e-2)
    learner.eval()
    with torch.no_grad():
        x = learner.mae.embed_joints(toy_motion(64, seed=7, size=0.8))
        y = learner.mae.reconstruct(x, learner.mask(64, x.device))
    best = torch.nn.functional.normalize(x, dim=-1).flatten(0, 2).mean(0).norm(dim=-1)
    return torch.cosine_similarity(x, y, dim=-1).mean((0, 1, 2)) - best


def test_it_beats_the_best_constant_except_where_remask_blinds() -> None:
    open_eyes, blinded = held_out_margins("none", 300), held_out_margins("zero", 300)
    assert open_eyes[[8, 10]].min() > 0.01
    assert open_eyes[[14, 16]].min() > 0.01
    assert blinded[[10, 16]].max() <= 1e-6


@pytest.mark.parametrize(("steps", "factor"), [(500, 0.9), pytest.param(3000, 0.5, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:the targets of the masked loss")
def test_a_target_that_learns_collapses_and_a_detached_one_does_not(steps: int, factor: float) -> None:
    spreads = {}
    for target in ("through", "detach"):
        history = train(method(dim=16, mask_parts=ALL_BUT_HEAD, target=target), toy_motion(16), steps, 1e-3)
        spreads[target] = history[-1]["spread"] / history[0]["spread"]
    assert spreads["through"] < factor
    assert spreads["detach"] > 0.95


def test_the_exact_collapse_has_loss_zero_and_is_warned_of_once() -> None:
    learner = method()
    mae = learner.mae
    learner.step(toy_motion(), 0.0)  # the warning is about a fall, so it needs a beginning
    torch.nn.init.zeros_(mae.embed.weight)
    torch.nn.init.zeros_(mae.decoder.lin2.weight)
    mae.decoder.lin2.bias.data.copy_(mae.embed.bias)
    with pytest.warns(UserWarning, match="collapsed"):
        figures = learner.step(toy_motion(), 0.0)
    assert figures["loss"].item() == pytest.approx(0.0, abs=1e-10)
    assert figures["spread"].item() == pytest.approx(0.0, abs=1e-5)
    assert figures["margin"].item() == pytest.approx(0.0, abs=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner.step(toy_motion(), 0.0)


def test_edges_can_be_reconstructed_too() -> None:
    learner = method(dim=16, model={"joint_pe": True}, edges=1.0)
    history = train(learner, toy_motion(), 200, 1e-2)
    assert history[-1]["edge_loss"] < 0.7 * history[0]["edge_loss"]
    assert method().edge_decoder is None


def test_exports_and_the_classifier_that_is_not_there() -> None:
    spec = ClipSpec(COCO, 2, 1, 6, ("a", "b"))
    learner = Masked(SkeletonMAE(spec, dim=8, hidden=8))
    parts = learner.exports()
    assert set(parts) == {"backbone", "embed", "encoder"}
    assert not any(key.startswith("head") for key in parts["backbone"].state_dict())
    probe = SkeletonMAE(spec, dim=8, hidden=8)
    probe.consume({name: part.state_dict() for name, part in parts.items()})
    assert torch.equal(probe.encoder[0].lin1.weight, learner.mae.encoder[0].lin1.weight)
    assert "joint_pe" in method(model={"joint_pe": True}).exports()


def test_only_skeletonmae_can_be_trained() -> None:
    from skelgraph.models.strl import STRL

    with pytest.raises(UserError, match="skeletonmae"):
        Masked(STRL(ClipSpec(COCO, 2, 1, 6), dim=8, hidden=8))


def test_global_mean_alone() -> None:
    total = torch.tensor(6.0, requires_grad=True)
    assert global_mean(total, 3).item() == 2.0
    nothing = global_mean(total, torch.tensor(0.0))
    nothing.backward()
    assert nothing.item() == 0.0
    assert total.grad is not None
    assert torch.isfinite(total.grad)


TWO_PROCESSES = """
import sys, torch, torch.distributed as dist
from skelgraph.methods.reduce import global_mean
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
weight = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
data = torch.tensor([[1.0], [2.0, 3.0, 4.0]][rank], dtype=torch.float64)
global_mean((weight * data).sum(), len(data)).backward()
dist.all_reduce(weight.grad)
assert abs(weight.grad.item() / 2 - 2.5) < 1e-12, weight.grad
with torch.no_grad():
    assert global_mean(data.sum(), len(data)) == data.mean()
"""


def test_two_processes_with_unequal_counts_equal_one(tmp_path: Any) -> None:
    command = [sys.executable, "-c", TWO_PROCESSES]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [subprocess.Popen([*command, str(rank), str(tmp_path / "meet")], env=environment) for rank in (0, 1)]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
