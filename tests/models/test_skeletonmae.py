"""SkeletonMAE: sizes, masking, symmetry, locality and what a graph layer with one token cannot do (spec section 8)."""

from __future__ import annotations

import itertools
from dataclasses import replace

import networkx as nx
import pytest
import torch
from torch import Tensor

from skelgraph.batch import Batch, ClipSpec
from skelgraph.errors import UserError
from skelgraph.models.skeletonmae import SkeletonMAE
from skelgraph.topology import Topology

COCO = Topology.load("coco17")
PARTS = ("head", "torso", "left_arm", "right_arm", "left_leg", "right_leg")
HEAD_SWAP = {1: 2, 2: 1, 3: 4, 4: 3}
BODY_SWAP = {a + s: a + 1 - s for a in (5, 7, 9, 11, 13, 15) for s in (0, 1)}


def spec(frames: int = 4, persons: int = 1, channels: int = 2, topology: Topology = COCO) -> ClipSpec:
    return ClipSpec(topology, channels, persons, frames)


def model(seed: int = 0, topology: Topology = COCO, **settings: object) -> SkeletonMAE:
    """A small model in float64 with generic weights and statistics, in eval mode."""
    torch.manual_seed(seed)
    mae = SkeletonMAE(spec(topology=topology), **{"dim": 8, "hidden": 6, **settings}).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for name, value in [*mae.named_parameters(), *mae.named_buffers()]:
            if "running_var" in name:
                value.uniform_(0.5, 2.0)
            elif value.is_floating_point() and any(w in name for w in ("mean", "token", ".bn", ".lin", "_pe")):
                value.normal_()
    return mae.eval()


def mask_of(*names: str) -> Tensor:
    hidden = torch.zeros(17, dtype=torch.bool)
    for name in names:
        hidden[torch.as_tensor(COCO.part_index(name))] = True
    return hidden


def points(clips: int = 2, seed: int = 1, channels: int = 2) -> Batch:
    torch.manual_seed(seed)
    return Batch.of(torch.randn(clips, 1, 4, 17, channels, dtype=torch.float64))


def permutation(*swaps: dict[int, int]) -> list[int]:
    order = list(range(17))
    for swap in swaps:
        order = [swap.get(joint, joint) for joint in order]
    return order


def test_sizes_of_the_published_model() -> None:
    mae = SkeletonMAE(spec())
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    assert count(mae.embed) == 192
    assert mae.mask_token.numel() == 64
    assert count(mae.encoder) == 25_734
    assert count(mae.enc2dec) == 4_096
    assert count(mae.decoder) == 8_449
    assert count(mae) == 38_535


def test_graph_facts() -> None:
    tree = replace(COCO, links=())
    for topology, diameter, largest in ((COCO, 6, 3.9440), (tree, 8, 3.4212)):
        looped = torch.as_tensor(topology.adjacency("self_loops")).double()
        assert int(topology.hops.max()) == diameter
        assert torch.linalg.eigvalsh(looped).max().item() == pytest.approx(largest, abs=1e-4)
        assert torch.linalg.matrix_rank(looped) == 16
    members = sorted(joint for part in PARTS for joint in COCO.part_index(part))
    assert members == list(range(17))


@pytest.mark.parametrize("conv", ["gin", "gcn", "gat"])
@pytest.mark.parametrize("channels", [2, 3])
def test_shapes_and_gradients_of_every_conv(conv: str, channels: int) -> None:
    mae = SkeletonMAE(spec(channels=channels, persons=2), dim=8, hidden=12, conv=conv, joint_pe=True, remask="token")
    x = mae.embed_joints(Batch.of(torch.randn(3, 2, 4, 17, channels)))
    y = mae.reconstruct(x, mask_of("torso", "head"))
    assert y.shape == x.shape == (3, 2, 4, 17, 8)
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in mae.named_parameters() if "head" not in n)


def test_masked_joints_are_the_token_and_hidden_from_every_activation() -> None:
    mae, batch, mask = model(), points(), mask_of("right_arm", "right_leg")
    seen: list[Tensor] = []
    mae.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x = mae.embed_joints(batch)
    first = mae.reconstruct(x, mask)
    assert (seen[0][..., mask, :] == mae.mask_token).all()
    assert torch.equal(seen[0][..., ~mask, :], x[..., ~mask, :])
    moved = batch.with_(keypoints=batch.keypoints + 5.0 * mask[:, None])
    assert torch.equal(mae.reconstruct(mae.embed_joints(moved), mask), first)
    assert not torch.equal(mae.embed_joints(moved), x)


@pytest.mark.parametrize("remask", ["zero", "token"])
def test_remask_blinds_joints_whose_neighbours_are_all_hidden(remask: str) -> None:
    mae = model(remask=remask)
    blind = {"head": {1, 2, 3, 4}, "torso": set(), "left_arm": {9}, "right_arm": {10}, "left_leg": {15}}
    for part, expected in blind.items():
        mask = mask_of(part)
        h = mae.encode(mae.embed_joints(points()), mask)
        r = mae.decoder_input(h, mask)
        hidden = mae.decoder_token if mae.decoder_token is not None else torch.zeros(6, dtype=torch.float64)
        assert (r[..., mask, :] == hidden).all()
        rows = [mae.reconstruct(mae.embed_joints(points(seed=seed)), mask).reshape(-1, 17, 8) for seed in (1, 2)]
        spread = torch.cat(rows).std(0).sum(-1)
        constant = set((spread < 1e-12).nonzero().flatten().tolist())
        assert constant == expected, part
    y = mae.reconstruct(mae.embed_joints(points()), mask_of("right_arm", "right_leg"))
    torch.testing.assert_close(y[..., 10, :], y[..., 16, :])


def test_blind_joints_see_again_without_remask() -> None:
    y = model().reconstruct(model().embed_joints(points()), mask_of("right_arm"))
    assert y[..., 10, :].flatten(0, 2).std(0).min() > 1e-6


def test_the_graph_has_four_automorphisms_and_the_network_follows_them() -> None:
    adjacency = torch.as_tensor(COCO.adjacency("plain"))
    choices = list(itertools.product((False, True), repeat=2))
    orders = [permutation(*([HEAD_SWAP] if a else []), *([BODY_SWAP] if b else [])) for a, b in choices]
    assert orders[3] == COCO.mirror_permutation.tolist()
    graph = nx.from_numpy_array(COCO.adjacency("plain"))
    assert len(list(nx.isomorphism.GraphMatcher(graph, graph).isomorphisms_iter())) == len(orders)
    mae, x, mask = model(), model().embed_joints(points()), mask_of("right_arm", "head")
    y = mae.reconstruct(x, mask)
    for order in orders:
        assert torch.equal(adjacency[order][:, order], adjacency)
        torch.testing.assert_close(
            mae.reconstruct(x[..., order, :], mask[order]), y[..., order, :], atol=1e-12, rtol=1e-12
        )
    wrong = permutation({9: 15, 15: 9})
    assert (mae.reconstruct(x[..., wrong, :], mask[wrong]) - y[..., wrong, :]).abs().max() > 1e-3


def test_one_token_cannot_tell_left_from_right_but_joint_pe_can() -> None:
    body, head = mask_of(*PARTS[1:]), mask_of("head")
    pairs = {body: [(a, a + 1) for a in (5, 7, 9, 11, 13, 15)], head: [(1, 2), (3, 4)]}
    for joint_pe in (False, True):
        mae = model(joint_pe=joint_pe)
        x = mae.embed_joints(points())
        for mask, couples in pairs.items():
            y = mae.reconstruct(x, mask)
            gap = max(float((y[..., a, :] - y[..., b, :]).detach().abs().max()) for a, b in couples)
            assert (gap > 1e-4) if joint_pe else (gap < 1e-12)


@pytest.mark.parametrize("layers", [1, 3])
def test_a_joint_reaches_one_hop_a_layer_and_one_by_the_decoder(layers: int) -> None:
    mae = model(layers=layers)
    x = mae.embed_joints(points(1))[0, 0, 0]
    nothing = torch.zeros(17, dtype=torch.bool)
    jacobian = torch.autograd.functional.jacobian(lambda z: mae.reconstruct(z, nothing), x)
    reached = jacobian.abs().sum((1, 3)) > 0
    assert torch.equal(reached, torch.as_tensor(COCO.hops) <= layers + 1)


def test_graphs_are_independent_in_eval_mode_only() -> None:
    mae, batch, mask = model(), points(3), mask_of("torso")
    whole = mae.reconstruct(mae.embed_joints(batch), mask)
    alone = mae.reconstruct(mae.embed_joints(batch[1:2]), mask)
    torch.testing.assert_close(whole[1:2], alone, atol=1e-12, rtol=0)
    mae.train()
    whole = mae.reconstruct(mae.embed_joints(batch), mask)
    assert (whole[1:2] - mae.reconstruct(mae.embed_joints(batch[1:2]), mask)).abs().max() > 1e-3


def test_without_bias_scale_is_invisible_to_a_cosine() -> None:
    mae, p = model(), points().keypoints
    for bias in (True, False):
        if not bias:
            torch.nn.init.zeros_(mae.embed.bias)
        cosine = torch.cosine_similarity(mae.embed(p), mae.embed(3 * p), dim=-1)
        assert bool((cosine > 1 - 1e-9).all()) != bias


def test_features_leave_absent_frames_out() -> None:
    mae, batch = model(), points()
    valid = batch.valid.clone()
    valid[:, :, 2:] = False
    noise = batch.keypoints.clone()
    noise[:, :, 2:] += 9.0
    first = mae.forward_features(batch.with_(valid=valid))
    torch.testing.assert_close(mae.forward_features(batch.with_(valid=valid, keypoints=noise)), first)
    expected = mae.encode(mae.embed_joints(batch))[:, 0, :2].mean((1, 2))
    torch.testing.assert_close(first, expected)
    assert first.shape == (2, mae.feature_dim)


def test_wrong_settings_are_named() -> None:
    for settings, word in (
        ({"conv": "gni"}, "gin"), ({"norm": "layer"}, "batch"), ({"remask": "nul"}, "remask"), ({"eps": [0.1]}, "eps")
    ):  # fmt: skip
        with pytest.raises(UserError, match=word):
            SkeletonMAE(spec(), **settings)


def test_compiles_whole() -> None:
    mae, x = model().float(), torch.randn(2, 1, 4, 17, 2)
    compiled = torch.compile(mae, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x).features, mae(x).features)
