"""3D token search and deformable attention: the numeric invariants of the reconstruction's specification."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from skelgraph.errors import UserError
from skelgraph.nn import deformable
from skelgraph.nn.deformable import (
    DeformableAttention,
    PositionBias,
    TokenSearch,
    corners,
    reference_points,
    sample_edges,
    sample_gather,
    sample_grid,
)
from skelgraph.nn.lattice import FrameNorm, LightStem, TimeConv
from skelgraph.nn.token_attention import attend, attention_weights

SIZES = [(4, 5, 6), (16, 14, 14), (1, 5, 6), (4, 1, 1), (1, 1, 1)]


def draw(*shape: int, seed: int = 0, **options: Any) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **options)


def anywhere(size: tuple[int, ...], count: int = 50, **options: Any) -> Tensor:
    """Positions within the lattice ``(2, count, 3)``, the far edges among them."""
    part = torch.rand(2, count, 3, generator=torch.Generator().manual_seed(3), **options)
    part[:, 0] = 1.0
    return part * (torch.tensor(size, **options) - 1)


def all_there(values: Tensor) -> Tensor:
    return torch.ones(values.shape[:2]) > 0


def search(width: int = 8, scale: float = 0.0, **settings: Any) -> TokenSearch:
    torch.manual_seed(0)
    module = TokenSearch(width, **({"groups": 2} | settings))
    if scale:
        torch.nn.init.normal_(module.head.weight, std=scale)
        torch.nn.init.normal_(module.head.bias, std=scale)
    return module


# -- sampling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_at_whole_positions_sampling_is_indexing(size: tuple[int, int, int]) -> None:
    values = draw(2, *size, 3)
    axes = [torch.arange(n, dtype=torch.float32) for n in size]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 2).expand(2, -1, -1)
    assert torch.equal(sample_gather(values, points), values.flatten(1, 3))
    assert (sample_grid(values, points) - values.flatten(1, 3)).abs().max() <= 2e-6


@pytest.mark.parametrize("size", SIZES)
def test_grid_sample_and_edges_equal_gathering(size: tuple[int, int, int]) -> None:
    results = []
    for sample in (sample_gather, sample_grid, lambda v, p: sample_edges(v, p, "pyg")):
        values, points = draw(2, *size, 3).requires_grad_(), anywhere(size).requires_grad_()
        out = sample(values, points)
        (out * draw(*out.shape, seed=5)).sum().backward()
        results.append((out.detach(), values.grad, points.grad))
    for other in results[1:]:
        torch.testing.assert_close(other[0], results[0][0], atol=4e-6, rtol=0)
        torch.testing.assert_close(other[1], results[0][1], atol=1e-5, rtol=0)
    moved = torch.tensor(size) > 1  # along an axis of one cell there is no way to go
    torch.testing.assert_close(results[2][2], results[0][2])
    inside = (anywhere(size) < torch.tensor(size) - 1.01) & moved
    torch.testing.assert_close(results[1][2][inside], results[0][2][inside], atol=3e-5, rtol=0)


@pytest.mark.parametrize("sample", [sample_gather, sample_grid])
def test_an_affine_field_is_reproduced(sample: Any) -> None:
    size = (5, 6, 7)
    field = [torch.arange(n, dtype=torch.float32) for n in size]
    t, h, w = torch.meshgrid(*field, indexing="ij")
    values = (0.3 + 0.5 * t - 0.2 * h + 0.4 * w)[None, ..., None].expand(2, -1, -1, -1, 1)
    points = anywhere(size)
    expected = 0.3 + points @ torch.tensor([0.5, -0.2, 0.4])
    assert (sample(values, points)[..., 0] - expected).abs().max() <= 1e-5


def test_the_sampling_matrix_is_sparse_and_stochastic() -> None:
    size = (4, 5, 6)
    cells, weights = corners(anywhere(size), size)
    assert cells.shape == weights.shape == (2, 50, 8)
    assert (weights >= 0).all()
    assert (weights.sum(-1) - 1).abs().max() <= 1e-6
    assert 0 <= cells.min() <= cells.max() < 4 * 5 * 6


@pytest.mark.parametrize("sample", [sample_gather, sample_grid])
def test_sampling_is_differentiable_in_the_positions(sample: Any) -> None:
    size = (3, 4, 5)
    values = draw(2, *size, 2, dtype=torch.float64).requires_grad_()
    points = torch.floor(anywhere(size, 6, dtype=torch.float64) * 0.8) + 0.3  # off the planes of the lattice
    points.requires_grad_()
    assert torch.autograd.gradcheck(sample, (values, points))
    if sample is sample_gather:
        assert torch.autograd.gradgradcheck(sample, (values, points))


# -- the search ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2)])
def test_without_offsets_the_tokens_are_the_means_of_their_cells(stride: tuple[int, int, int]) -> None:
    values = draw(2, 4, 6, 8, 8)
    found = search(stride=stride)(values, values, all_there(values))
    pooled = F.avg_pool3d(values.permute(0, 4, 1, 2, 3), stride).flatten(2).transpose(1, 2)
    torch.testing.assert_close(found.tokens, pooled, atol=1e-6, rtol=0)


def test_stride_four_takes_the_central_cells() -> None:
    values = draw(1, 4, 8, 4, 8)
    found = search(stride=(4, 4, 4))(values, values, all_there(values))
    central = torch.stack([values[0, 1:3, 1:3, 1:3].mean((0, 1, 2)), values[0, 1:3, 5:7, 1:3].mean((0, 1, 2))])
    torch.testing.assert_close(found.tokens[0], central, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(7, 7, 7), (5, 1, 6), (16, 7, 7)])
@pytest.mark.parametrize("reach", [None, (0.0, 1.0, 3.0)])
def test_points_stay_within_reach_and_within_the_map(size: tuple[int, ...], reach: Any) -> None:
    values = draw(2, *size, 8)
    wild = search(scale=100.0, reach=reach)(values, values, all_there(values))
    assert wild.points.shape == (2, 2, *(-(-n // 2) for n in size), 3)
    limit = torch.tensor([2.0, 2.0, 2.0] if reach is None else reach)
    assert ((wild.points - wild.reference[:, None]).abs() <= limit + 1e-6).all()
    assert (wild.points >= 0).all()
    assert (wild.points <= torch.tensor(size) - 1).all()
    assert wild.valid.all()
    assert ((wild.points - wild.reference[:, None]).abs().amax((0, 1, 2, 3, 4)) > 0.9 * limit.clamp(max=0.1)).any()
    calm = search(reach=reach)(values, values, all_there(values))
    assert torch.equal(calm.points, calm.reference[:, None].expand_as(calm.points))
    for group in range(2):
        own = values[..., group * 4 : group * 4 + 4].flatten(1, 3)
        tokens = wild.tokens[..., group * 4 : group * 4 + 4]
        assert (tokens <= own.amax(1, keepdim=True) + 1e-5).all()
        assert (tokens >= own.amin(1, keepdim=True) - 1e-5).all()


def test_the_head_learns_from_its_zero_start() -> None:
    module, values = search(), draw(2, 4, 4, 4, 8)
    found = module(draw(2, 4, 4, 4, 8, seed=1), values, all_there(values))
    found.tokens.square().sum().backward()
    assert module.head.weight.grad is not None
    assert module.head.weight.grad.abs().max() > 1e-3


def test_a_short_clip_is_searched_to_its_own_end() -> None:
    module, values = search(scale=3.0), draw(1, 8, 4, 4, 8)
    short = F.pad(values[:, :5], (0, 0, 0, 0, 0, 0, 0, 3))
    there = torch.arange(8)[None] < 5
    padded = module(short, short, there)
    alone = module(values[:, :5], values[:, :5], there[:, :5])
    keys = alone.tokens.shape[1]
    assert padded.valid[0].tolist() == [True] * keys + [False] * (padded.valid.shape[1] - keys)
    torch.testing.assert_close(padded.tokens[:, :keys], alone.tokens, atol=1e-6, rtol=0)
    assert (padded.points[..., 0] <= 4).all()
    assert torch.equal(reference_points((5, 4, 4), (2, 2, 2), torch.tensor([5])), alone.reference)


def test_content_shifted_by_the_stride_moves_the_tokens_by_one_key() -> None:
    module, values = search(scale=0.3, reach=(1, 1, 1)), torch.zeros(1, 12, 12, 12, 8)
    values[:, 4:7, 4:7, 4:7] = draw(3, 3, 3, 8)
    moved = values.roll((2, 2, 2), (1, 2, 3))
    one, other = (module(x, x, all_there(x)).tokens.view(6, 6, 6, 8) for x in (values, moved))
    torch.testing.assert_close(other[2:5, 2:5, 2:5], one[1:4, 1:4, 1:4], atol=1e-5, rtol=0)
    assert one[1:4, 1:4, 1:4].abs().max() > 0.1


# -- the stem ------------------------------------------------------------------------------------------------------


def test_three_frames_side_by_side_are_a_3d_convolution() -> None:
    torch.manual_seed(0)
    module, frames = TimeConv(4, 6, 5, 2), draw(2, 7, 4, 9, 8)
    weight = module.conv.weight.unflatten(1, (4, 3))
    expected = F.conv3d(frames.transpose(1, 2), weight, stride=(1, 2, 2), padding=(1, 2, 2)).transpose(1, 2)
    there = torch.ones(2, 7) > 0
    torch.testing.assert_close(module(frames.flatten(0, 1), there).unflatten(0, (2, 7)), expected, atol=1e-5, rtol=0)
    assert LightStem(3)(draw(1, 2, 3, 112, 112), there[:1, :2])[0].shape == (1, 2, 128, 7, 7)


def test_frame_norm_sees_neither_other_clips_nor_a_single_channel() -> None:
    torch.manual_seed(0)
    frames, there = draw(2, 5, 3, 16, 16), torch.ones(2, 5) > 0
    own, batch = (LightStem(3, (8, 16), (1, 2), norm=norm).train() for norm in ("frame", "batch"))
    for stem, alike in ((own, True), (batch, False)):
        alone, together = stem(frames[:1], there[:1])[0], stem(frames, there)[0][:1]
        assert torch.allclose(alone, together, atol=1e-5) == alike
    assert [FrameNorm(channels).num_groups for channels in (6, 8, 16, 24, 64, 128)] == [1, 1, 2, 1, 8, 8]
    with pytest.raises(UserError, match=r"unknown norm of the stem 'grup'.*batch, frame"):
        LightStem(3, norm="grup")


# -- attention -----------------------------------------------------------------------------------------------------


def test_at_stride_one_it_is_plain_attention() -> None:
    torch.manual_seed(0)
    module = DeformableAttention(16, 4, search={"stride": (1, 1, 1)})
    cells, modal = draw(2, 3, 4, 5, 16), draw(2, 2, 16, seed=1)
    out, out_modal = module(cells, modal, all_there(cells))
    tokens = torch.cat([cells.flatten(1, 3), modal], 1)
    plain = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        plain.in_proj_weight.copy_(torch.cat([module.query.weight, module.key.weight, module.value.weight]))
        plain.in_proj_bias.copy_(torch.cat([module.query.bias, torch.zeros(16), module.value.bias]))
        plain.out_proj.load_state_dict(module.out.state_dict())
    normed = module.norm(tokens)
    tokens = tokens + plain(normed, normed, normed, need_weights=False)[0]
    tokens = tokens + module.feed(module.feed_norm(tokens))
    torch.testing.assert_close(torch.cat([out.flatten(1, 3), out_modal], 1), tokens, atol=1e-6, rtol=0)


def test_edges_equal_dense_attention_and_rows_sum_to_one() -> None:
    query, key, value = draw(3, 2, 5, 4), draw(3, 2, 7, 4, seed=1), draw(3, 2, 7, 4, seed=2)
    mask = draw(3, 5, 7, seed=3) > 0
    mask[..., 0] = True
    weights = attention_weights(query, key, mask)
    assert (weights.sum(-1) - 1).abs().max() <= 1e-6
    assert not weights.masked_select(~mask.unsqueeze(1)).any()
    for backend in ("dense", "pyg"):
        torch.testing.assert_close(attend(query, key, value, mask, backend), weights @ value, atol=1e-5, rtol=0)


def test_top_k_keeps_the_tokens_the_modal_tokens_score_highest() -> None:
    torch.manual_seed(0)
    module = DeformableAttention(16, 4, top_k=3)
    cells, modal = draw(2, 4, 4, 4, 16), draw(2, 2, 16, seed=1)
    there = torch.tensor([[True] * 4, [True, True, False, False]])
    record: dict[str, Tensor] = {}
    module(cells, modal, there, record)
    used = (record["attn_modal"][..., :8] > 0).all((1, 2))
    assert used.sum(1).tolist() == [3, 3]
    assert not used[1, 4:].any()


def test_the_position_bias_knows_only_where_one_lies_from_the_other() -> None:
    torch.manual_seed(0)
    module, size = PositionBias(4, 2), (3, 4, 5)
    points = reference_points(size, (1, 1, 1), torch.tensor([3])).unsqueeze(1).expand(-1, 2, -1, -1, -1, -1)
    bias = module(points, size)
    assert bias.shape == (1, 4, 60, 60)
    assert torch.equal(bias[:, :, 0, 0], bias[:, :, 59, 59])
    assert torch.equal(bias[:, :, 0, 27], bias[:, :, 32, 59])  # one frame, one row and two columns on
    assert not torch.allclose(bias[:, :, 0, 27], bias[:, :, 27, 0], atol=1e-3)


@pytest.mark.parametrize(("side", "ratio"), [(7, 3.0), (14, 5.3)])
def test_it_costs_a_fraction_of_full_attention(side: int, ratio: float) -> None:
    """Products of the attention with its four projections, C = 256, counted by PyTorch on tensors without content.

    At 16x7x7 that is the specification's 0.35 against 1.05 GFLOP. For 16x14x14 it says 1.35 against 11.7 (8.7 times),
    which its own 392 keys do not give: N = 3136 cells, 8 C^2 N + 4 N (N' + 2) C = 2.2 GFLOP.
    """
    flops = []
    for stride in ((1, 1, 1), (2, 2, 2)):
        with FakeTensorMode(), sdpa_kernel(SDPBackend.MATH):
            module = DeformableAttention(256, 8, search={"stride": stride, "offsets": stride != (1, 1, 1)})
            module.feed = torch.nn.Identity()
            with FlopCounterMode(display=False) as counter:
                module(torch.empty(1, 16, side, side, 256), torch.empty(1, 2, 256), torch.ones(1, 16) > 0)
        flops.append(counter.get_total_flops())
    cells_count = 16 * side * side
    full = 8 * (cells_count + 2) * 256**2 + 4 * (cells_count + 2) ** 2 * 256
    assert flops[0] == pytest.approx(full, rel=0.01)
    assert flops[0] / flops[1] == pytest.approx(ratio, abs=0.1)


def test_unknown_sampling_is_named() -> None:
    with pytest.raises(deformable.UserError, match="unknown sampling 'nearest'"):
        TokenSearch(8, sampling="nearest")
