"""Blocks of M-Mixer: the recurrent unit, the content of the other modalities, and what they are held against."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from skelgraph.errors import UserError
from skelgraph.nn.cfem import CFEM, MeanContent, Tokens, sine_code
from skelgraph.nn.early_fusion import ConcatRecurrent, TokenTransformer
from skelgraph.nn.mcu import MCU, Mix

N, D, STEPS = 3, 16, (5, 4, 6)
EVERY = ("add", "concat", "film", "none")


def close(one: Tensor, other: Tensor, atol: float = 1e-6) -> None:
    torch.testing.assert_close(one, other, atol=atol, rtol=0)


def scrambled(module: nn.Module, size: float = 0.1) -> nn.Module:
    """Biases, norms and null vectors away from their zeros and ones."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += size * torch.randn_like(parameter)
    return module.eval()


def unit(**settings: object) -> MCU:
    torch.manual_seed(0)
    return scrambled(MCU(D, **settings))  # type: ignore[arg-type,return-value]


def read(steps: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(N, steps, D), torch.randn(N, D), torch.ones(N, steps, dtype=torch.bool)


def cfem(**settings: object) -> CFEM:
    torch.manual_seed(0)
    return scrambled(CFEM(3, D, **{"heads": 4, **settings}))  # type: ignore[arg-type,return-value]


def modalities(joints: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Features of three modalities of other lengths, the first by joint where asked; some steps are not valid."""
    torch.manual_seed(2)
    features = [torch.randn(N, steps, D) for steps in STEPS]
    if joints:
        features[0] = torch.randn(N, STEPS[0], joints, D)
    valid = [torch.ones(N, steps, dtype=torch.bool) for steps in STEPS]
    valid[1][0, 2:] = False
    valid[2][1] = False
    return features, valid


# -- the recurrent unit ----------------------------------------------------------------------------------------------


def test_the_recurrence_is_torchs_gru_of_the_mix() -> None:
    mcu, (f, g, valid) = unit(), read()
    theirs = nn.GRU(D, D, batch_first=True)
    theirs.load_state_dict(mcu.gru.state_dict())
    close(mcu(f, g, valid), theirs(mcu.mix(f, g))[0])


@pytest.mark.parametrize("mix", EVERY)
@pytest.mark.parametrize("gate_norm", [False, True])
def test_all_steps_at_once_equal_one_at_a_time(mix: str, gate_norm: bool) -> None:
    mcu, (f, g, valid) = unit(mix=mix, gate_norm=gate_norm), read()
    states, h = mcu(f, g, valid), torch.zeros(N, D)
    reset, keep = mcu.gates(f, g, states)
    for t in range(f.shape[1]):
        u = mcu.mix(f[:, t : t + 1], g)[:, 0]
        before, h = h, mcu.step(mcu.given(u), h)
        close(states[:, t], h)
        carried = mcu.carried(before).chunk(3, 1)
        new = torch.tanh(mcu.given(u).chunk(3, 1)[2] + reset[:, t] * carried[2])
        close((1 - keep[:, t]) * new + keep[:, t] * before, h)


def test_mixes_by_their_formulas() -> None:
    f, g, _ = read()
    for kind in EVERY:
        mix = Mix(D, kind)
        scrambled(mix)
        a, b = mix.feature.weight, mix.feature.bias
        if kind == "concat":
            inner = f @ a[:, :D].T + (g @ a[:, D:].T)[:, None] + b
        else:
            inner = f @ a.T if b is None else f @ a.T + b
        if mix.scale is not None:
            inner = (1 + g @ mix.scale.weight.T)[:, None] * inner
        if mix.content is not None:
            inner = inner + (g @ mix.content.weight.T)[:, None]
        close(mix(f, g), torch.tanh(nn.functional.layer_norm(inner, (D,), mix.norm.weight, mix.norm.bias)))
        assert torch.equal(mix(f, g), mix(f, g + 1)) == (kind == "none")
    with pytest.raises(UserError, match="unknown mix 'ad'"):
        Mix(D, "ad")


def test_concat_is_add_in_one_matrix() -> None:
    one, two, (f, g, _) = Mix(D, "add"), Mix(D, "concat"), read()
    assert one.content is not None
    with torch.no_grad():
        two.feature.weight.copy_(torch.cat([one.feature.weight, one.content.weight], 1))
    close(one(f, g), two(f, g))


def test_a_closed_keep_gate_keeps_and_an_open_one_forgets() -> None:
    mcu, (f, g, valid) = unit(), read()
    h = torch.rand(N, D) * 2 - 1
    with torch.no_grad():
        mcu.gru.bias_ih_l0[D : 2 * D] = 50
    close(mcu.step(mcu.given(mcu.mix(f, g))[:, 0], h), h)
    with torch.no_grad():
        mcu.gru.bias_ih_l0[D : 2 * D] = -50
        mcu.gru.weight_hh_l0[2 * D :] = 0
        mcu.gru.bias_hh_l0[2 * D :] = 0
    other = f.clone()
    other[:, :3] += 1
    before, after = mcu(f, g, valid), mcu(other, g, valid)
    close(before[:, 3:], after[:, 3:])
    assert (before[:, :3] - after[:, :3]).abs().max() > 0.01


def test_states_stay_within_one() -> None:
    mcu, (f, g, valid) = scrambled(unit(), 3.0), read(40)
    states = mcu(100 * f, 100 * g, valid)
    assert 0.9 < states.abs().max() <= 1


@pytest.mark.parametrize("gate_norm", [False, True])
def test_a_step_that_is_not_valid_leaves_the_state_as_it_is(gate_norm: bool) -> None:
    mcu, (f, g, valid) = unit(gate_norm=gate_norm), read()
    valid[0, 4:] = False
    valid[1, [0, 3]] = False
    valid[2] = False
    states = mcu(f, g, valid)
    close(states[0, 3], mcu(f[:1, :4], g[:1], valid[:1, :4])[0, 3])
    assert torch.equal(states[0, 4], states[0, 3])
    kept = mcu(f[1:2, [1, 2, 4, 5]], g[1:2], torch.ones(1, 4, dtype=torch.bool))
    close(states[1, [1, 2, 4, 5]], kept[0])
    assert torch.equal(states[1, 3], states[1, 2])
    assert (states[1, 0] == 0).all()
    assert (states[2] == 0).all()
    garbage = torch.where(valid.unsqueeze(-1), f, 1e3)
    assert torch.equal(mcu(garbage, g, valid), states)


def test_time_is_used() -> None:
    mcu, (f, g, valid) = unit(), read()
    assert (mcu(f, g, valid)[:, -1] - mcu(f.flip(1), g, valid)[:, -1]).abs().max() > 0.05
    features, there = modalities()
    mean = MeanContent(3, D)
    close(mean(features, there), mean([x.flip(1) for x in features], [x.flip(1) for x in there]))


def test_first_weights_of_the_unit() -> None:
    mcu = MCU(D)
    for place in range(3):
        recurrent = mcu.gru.weight_hh_l0[place * D : (place + 1) * D]
        close(recurrent @ recurrent.T, torch.eye(D), 1e-5)
        assert mcu.gru.weight_ih_l0[place * D : (place + 1) * D].abs().max() <= (6 / (2 * D)) ** 0.5
    assert mcu.gru.bias_ih_l0.view(3, D).mean(1).tolist() == [0, 1, 0]
    normed = MCU(D, gate_norm=True)
    assert normed.norm_input is not None
    assert normed.norm_input.bias.view(3, D).mean(1).tolist() == [0, 1, 0]


def test_gradients_of_the_unit_by_differences() -> None:
    mcu = MCU(3).double()
    f, g = torch.randn(2, 3, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    valid = torch.tensor([[True, True, True], [True, False, True]])
    inputs = (f.requires_grad_(), g.requires_grad_())
    assert torch.autograd.gradcheck(lambda *x: mcu(*x, valid), inputs)
    h = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f, g, h: mcu.step(mcu.given(mcu.mix(f, g))[:, 0], h), (*inputs, h))


def test_under_autocast_the_state_stays_in_float32() -> None:
    mcu, (f, g, valid) = unit(), read()
    with torch.autocast("cpu", torch.bfloat16):
        states = mcu(f, g, valid)
    assert states.dtype == torch.float32
    close(states, mcu(f, g, valid), 0.05)


# -- the content of the others ---------------------------------------------------------------------------------------


def test_a_modality_hears_nothing_of_itself() -> None:
    module, (features, valid) = cfem(queries=2, layers=2), modalities()
    before = module(features, valid)
    for m in range(3):
        other = list(features)
        other[m] = other[m] + torch.randn_like(other[m])
        after = module(other, valid)
        for j in range(3):
            heard = (after[:, j] - before[:, j]).abs().amax(1)
            read_by = valid[m].any(1) if j != m else torch.zeros(N, dtype=torch.bool)
            assert (heard[~read_by] == 0).all()
            assert (heard[read_by] > 1e-4).all()


def test_own_keys_let_it_hear_itself() -> None:
    module, (features, valid) = cfem(own_keys=True), modalities()
    other = [features[0] + 1.5 * torch.randn_like(features[0]), *features[1:]]
    assert ((module(other, valid) - module(features, valid))[:, 0].abs().amax(1) > 1e-4).all()


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 0, 1)])
def test_the_order_of_modalities_does_not_matter(order: Sequence[int]) -> None:
    module, (features, valid) = cfem(queries=2), modalities()
    turned = cfem(queries=2)
    turned.load_state_dict(
        {k: v[list(order)] if k in ("queries", "codes", "null") else v for k, v in module.state_dict().items()}
    )
    out = turned([features[i] for i in order], [valid[i] for i in order])
    close(out, module(features, valid)[:, list(order)])


def test_alone_a_modality_is_told_its_null_vector() -> None:
    module, (features, valid) = cfem(), modalities()
    for m in range(3):
        alone = [x if j == m else torch.zeros_like(x) for j, x in enumerate(valid)]
        rows = valid[m].any(1)
        content = module(features, alone)
        assert torch.equal(content[rows, m], module.null[m].expand(int(rows.sum()), -1))
        module.zero_grad()
        content[:, m].sum().backward()
        gradients = {k: p.grad for k, p in module.named_parameters() if p.grad is not None}
        assert all(x.isfinite().all() for x in gradients.values())
        assert gradients["null"][m].all()
        if rows.all():
            assert not gradients["queries"].any()


@pytest.mark.parametrize("layers", [1, 2])
def test_weights_of_the_attention(layers: int) -> None:
    module, (features, valid) = cfem(queries=2, layers=layers), modalities()
    found, tokens = module.attention(features, valid)
    assert [x.shape for x in found] == [(N, 4, 6, sum(STEPS))] * layers
    assert tokens.modality.tolist() == [m for m, steps in enumerate(STEPS) for _ in range(steps)]
    assert tokens.step.tolist() == [t for steps in STEPS for t in range(steps)]
    own = torch.arange(3).repeat_interleave(2)[:, None] == tokens.modality
    for weights in found:
        close(weights.sum(-1), torch.ones(N, 4, 6))
        assert (weights[..., own] == 0).all()
        assert (weights.transpose(1, 3)[~tokens.valid] == 0).all()
    # What the weights say is what the fused kernel does.
    layer = module.layers[0]
    structure, mask, _ = module.masks(tokens)
    q = module.queries.flatten(0, 1).expand(N, -1, -1)
    values = layer.value(layer.norm_token(tokens.values)).unflatten(-1, (4, -1)).transpose(1, 2)
    q = q + layer.out((found[0] @ values).transpose(1, 2).flatten(2))
    q = q + layer.narrow(nn.functional.gelu(layer.widen(layer.norm_forward(q))))
    close(layer(module.queries.flatten(0, 1).expand(N, -1, -1), tokens.values, structure, mask), q)


def test_without_anybody_to_read_all_weights_are_zero() -> None:
    module, (features, valid) = cfem(), modalities()
    alone = [valid[0], torch.zeros_like(valid[1]), torch.zeros_like(valid[2])]
    weights = module.attention(features, alone)[0][0]
    assert (weights[:, :, 0] == 0).all()
    close(weights[:, :, 1:].sum(-1), torch.ones(N, 4, 2))


@pytest.mark.parametrize("backend", ["pyg", "dgl"])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_the_edge_list_gives_the_same(backend: str, dtype: torch.dtype, atol: float) -> None:
    features, valid = modalities(joints=3)
    valid[0][2] = valid[1][2] = False  # the third modality alone
    results = []
    for choice in ("dense", backend):
        module = cfem(queries=2, layers=2, backend=choice).to(dtype)
        inputs = [x.to(dtype).requires_grad_() for x in features]
        out = module(inputs, valid)
        (out * torch.linspace(-1, 1, out.numel(), dtype=dtype).view_as(out)).sum().backward()
        results.append([out, *(x.grad for x in inputs), *(p.grad for p in module.parameters())])
    for one, other in zip(*results, strict=True):
        assert one is not None
        close(one, other, atol * 10)
    close(results[0][0], results[1][0], atol)


def test_tokens_of_joints() -> None:
    features, valid = modalities(joints=3)
    codes = torch.randn(3, D)
    tokens = Tokens.of(features, valid, codes)
    assert tokens.values.shape == (N, 15 + 4 + 6, D)
    assert tokens.joint.tolist() == [0, 1, 2] * 5 + [-1] * 10
    close(tokens.values[:, 7], features[0][:, 2, 1] + sine_code(5, D, codes)[2] + codes[0])
    close(tokens.values[:, 16], features[1][:, 1] + sine_code(5, D, codes)[1] + codes[1])


def test_code_of_time() -> None:
    code = sine_code(50, 7, torch.zeros(1, dtype=torch.float64))
    for t, i in ((0, 0), (3, 2), (49, 4)):
        angle = torch.tensor(t / 10000 ** (i / 7), dtype=torch.float64)
        close(code[t, i], angle.sin(), 1e-12)
        close(code[t, i + 1], angle.cos(), 1e-12)
    assert code.shape == (50, 7)


def test_mean_content_by_its_formula() -> None:
    features, valid = modalities()
    module = MeanContent(3, D)
    means = [torch.stack([x[i, there[i]].sum(0) / max(int(there[i].sum()), 1) for i in range(N)])
             for x, there in zip(features, valid, strict=True)]  # fmt: skip
    assert (means[2][1] == 0).all()
    out = module(features, valid)
    close(out[:, 1], module.linears[1](torch.cat([means[0], means[2]], 1)))
    other = [features[0], features[1] + 1, features[2]]
    assert torch.equal(module(other, valid)[:, 1], out[:, 1])


def test_sizes() -> None:
    def size(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    for d, q, layers in ((16, 1, 1), (32, 4, 2)):
        assert size(MCU(d)) == size(MCU(d, mix="concat")) == 8 * d * d + 9 * d
        assert size(CFEM(3, d, queries=q, layers=layers)) == layers * (12 * d * d + 15 * d) + 3 * (q + 2) * d


def test_wrong_heads_are_named() -> None:
    with pytest.raises(UserError, match="the width 16 is no multiple of 3 heads"):
        CFEM(3, 16, heads=3)


# -- what they are held against --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gru", "lstm", "transformer"])
def test_early_fusion_leaves_out_what_is_not_valid(kind: str) -> None:
    torch.manual_seed(0)
    module = (TokenTransformer(3, D, heads=4) if kind == "transformer" else ConcatRecurrent(3, D, 8, kind)).eval()
    features, valid = modalities()
    out = module(features, valid)
    assert out.shape == (N, D if kind == "transformer" else 8)
    garbage = [torch.where(there.unsqueeze(-1), x, 1e3) for x, there in zip(features, valid, strict=True)]
    assert torch.equal(module(garbage, valid), out)
    changed = module([features[0], features[1] + 1.5 * torch.randn_like(features[1]), features[2]], valid)
    assert ((changed - out).abs().amax(1) > 1e-4).all()
    nothing = module(features, [torch.zeros_like(x) for x in valid])
    assert nothing.isfinite().all()


def test_early_fusion_lays_steps_side_by_side() -> None:
    torch.manual_seed(0)
    module = ConcatRecurrent(2, 2, 4, "gru")
    f, short = torch.randn(1, 4, 2), torch.randn(1, 2, 2)
    valid = [torch.tensor([[True, True, True, False]]), torch.tensor([[True, False]])]
    lacks = torch.cat([short[:, [0, 0]], torch.zeros(1, 1, 2)], 1)
    close(module([f, short], valid), module.unit(torch.cat([f[:, :3], lacks], -1))[1][0])
    with pytest.raises(UserError, match="unknown recurrent unit 'rnn'"):
        ConcatRecurrent(2, 2, 4, "rnn")
