"""M-Mixer as a whole: missing modalities, what couples them, its sizes, settings and page."""

from __future__ import annotations

import re
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from modality_clips import FLAT, NAMES, SMALL, SPEC, N, clips, close, mixer, without
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.batch import Batch, Modality, ModalitySpec
from skelgraph.errors import UserError
from skelgraph.methods import METHODS
from skelgraph.models import MODELS, create
from skelgraph.models.extractors import EXTRACTORS
from skelgraph.models.mmixer import MMixer, drop_modalities

PAGE = Path(__file__).parents[2] / "docs/mmixer.md"


# -- missing modalities ----------------------------------------------------------------------------------------------

VARIANTS: list[dict[str, Any]] = [
    {}, {"content": "mean"}, {"cfem_keys": "joint", "own_keys": True}, {"gate_norm": True, "mix": "film"},
    {"unit": "gru"}, {"unit": "transformer"},
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_what_is_not_there_has_no_influence_whatever_it_holds(settings: dict[str, Any], name: str) -> None:
    model, full = mixer(**settings), clips()
    zero = without(full, name, [1], 0.0)
    want, complete = model(zero).logits, model(full).logits
    assert want.isfinite().all()
    assert torch.equal(want[[0, 2]], complete[[0, 2]])
    assert (want[1] - complete[1]).abs().max() > 1e-4
    for fill in (1e3, float("nan"), float("inf")):
        assert torch.equal(model(without(full, name, [1], fill)).logits, want)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_and_no_gradient(settings: dict[str, Any], name: str) -> None:
    gradients = []
    for fill in (0.0, float("nan")):
        model = mixer(**settings, modality_dropout=0.0, dropout=0.0).train()
        batch = without(clips(), name, [1], fill)
        values = batch.keypoints if name == "skeleton" else batch.modalities[name].values
        values.requires_grad_()
        F.cross_entropy(model(batch).logits, batch.label).backward()
        assert values.grad is not None
        assert (values.grad[1] == 0).all()
        assert values.grad[[0, 2]].any()
        gradients.append([torch.zeros(1) if p.grad is None else p.grad for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_a_name_that_the_batch_lacks_is_a_missing_modality() -> None:
    model, batch = mixer(), clips()
    bare = batch.with_(modalities={"depth": batch.modalities["depth"]})
    assert torch.equal(model(bare).logits, model(without(batch, "inertial")).logits)
    alone = model(batch.keypoints).logits
    assert torch.equal(alone, model(without(without(batch, "inertial"), "depth")).logits)


@pytest.mark.parametrize("alone", NAMES)
def test_alone_a_modality_works_on_its_null_vector(alone: str) -> None:
    model, batch = mixer(), clips()
    for name in NAMES:
        batch = without(batch, name, fill=float("nan")) if name != alone else batch
    found = model.features(batch)
    place = NAMES.index(alone)
    assert torch.equal(model.contents(found)[:, place], model.content.null[place].expand(N, -1))  # type: ignore
    assert model(batch).logits.isfinite().all()


def test_a_clip_without_anything_is_named() -> None:
    batch = clips().with_(index=torch.tensor([11, 47, 5]))
    for name in NAMES:
        batch = without(batch, name, [1, 2])
    with pytest.raises(UserError, match="no modality of this model is there in clip 47, 5 of the store"):
        mixer()(batch)


@pytest.mark.parametrize("settings", [{}, {"content": "mean"}, {"unit": "transformer"}], ids=str)
def test_padding_has_no_influence(settings: dict[str, Any]) -> None:
    model, batch = mixer(**{**FLAT, **settings}), clips()
    short = Batch.of(batch.keypoints[:, :, :5]).with_(
        modalities={"inertial": batch.modalities["inertial"].map(lambda x: x[:, :4])}
    )
    padded = batch.with_(valid=batch.valid.clone(), keypoints=batch.keypoints.clone())
    padded.valid[:, :, 5:], padded.keypoints[:, :, 5:] = False, 1e3
    values, valid = padded.modalities["inertial"].values.clone(), padded.modalities["inertial"].valid.clone()
    values[:, 4:], valid[:, 4:] = float("nan"), False
    close(model(padded.with_(modalities={"inertial": Modality(values, valid)})).logits, model(short).logits)


def test_a_missing_segment_is_told_by_its_mask() -> None:
    model, batch = mixer(), clips()
    values, valid = batch.modalities["inertial"].values.clone(), batch.modalities["inertial"].valid.clone()
    valid[0, 2:4] = False
    holes = [model(batch.with_(modalities={**batch.modalities, "inertial": Modality(x, valid)})).logits
             for x in (values, torch.where(valid.unsqueeze(-1), values, float("nan")))]  # fmt: skip
    assert torch.equal(holes[0], holes[1])
    assert (holes[0] - model(batch).logits).abs().amax(1).gt(1e-4).tolist() == [True, False, False]


def test_modality_dropout_leaves_one_at_least() -> None:
    torch.manual_seed(0)
    present = torch.tensor([[True, True, True], [True, False, True], [False, True, False]]).repeat(4000, 1)
    kept = drop_modalities(present, 0.4)
    assert kept.any(1).all()
    assert not (kept & ~present).any()
    shares = kept.view(-1, 3, 3).float().mean(0)
    # All three are dropped at once in 0.064 of the cases; then one of them stays.
    close(shares[0], torch.full((3,), 0.6 + 0.064 / 3), 0.03)
    close(shares[1, [0, 2]], torch.full((2,), 0.6 + 0.16 / 2), 0.03)
    assert shares[2, 1] == 1
    assert torch.equal(drop_modalities(present, 0.0), present)


def test_modality_dropout_is_for_training() -> None:
    model, batch = mixer(**FLAT, modality_dropout=0.9, dropout=0.0), clips(16)
    batch = batch.with_(modalities={"inertial": batch.modalities["inertial"]})
    assert torch.equal(model(batch).logits, model(batch).logits)
    model.train()
    assert not torch.equal(model(batch).logits, model(batch).logits)
    torch.manual_seed(3)
    first = model(batch).logits
    torch.manual_seed(3)
    assert torch.equal(model(batch).logits, first)


# -- what couples modalities -----------------------------------------------------------------------------------------


@torch.no_grad()
def interaction(model: MMixer) -> float:
    """``y(s, r) + y(s', r') - y(s, r') - y(s', r)`` of two skeletons and two inertial signals."""
    one, two = clips(seed=1)[:1], clips(seed=2)[:1]

    def answer(s: Batch, r: Batch) -> Tensor:
        return model(s.with_(modalities={"inertial": r.modalities["inertial"]})).logits

    return float((answer(one, one) + answer(two, two) - answer(one, two) - answer(two, one)).abs().max())


def test_the_content_is_the_only_road_between_modalities() -> None:
    assert interaction(mixer(**FLAT, content="none")) <= 1e-6
    for settings in ({}, {"content": "mean"}, {"mix": "concat"}, {"mix": "film"}, {"unit": "gru"}):
        assert interaction(mixer(**FLAT, **settings)) > 1e-3


def test_a_content_of_weight_zero_is_none() -> None:
    told, untold = mixer(), mixer(content="none")
    for unit in told.units.values():  # type: ignore[union-attr]
        nn.init.zeros_(unit.mix.content.weight)  # type: ignore[union-attr,arg-type]
    state = {k: v for k, v in told.state_dict().items() if k in untold.state_dict()}
    untold.load_state_dict(state)
    close(told(clips()).logits, untold(clips()).logits)
    nn.init.normal_(told.content.queries)  # type: ignore[union-attr,arg-type]
    close(told(clips()).logits, untold(clips()).logits)


def test_the_order_of_modalities_does_not_matter() -> None:
    order = [2, 0, 1]
    plan = SMALL["modalities"]
    model, turned = mixer(), mixer(modalities={NAMES[i]: plan[NAMES[i]] for i in order})
    state = model.state_dict()
    for key in ("content.queries", "content.codes", "content.null"):
        state[key] = state[key][order]
    state["head.weight"] = state["head.weight"].unflatten(1, (3, -1))[:, order].flatten(1)
    turned.load_state_dict(state)
    close(turned(clips()).logits, model(clips()).logits, 1e-5)


def test_the_head_is_a_sum_over_modalities() -> None:
    model, batch = mixer(), without(clips(), "depth", [1])
    found = model.features(batch)
    last = [states[:, -1] for states in model.states(found)]
    blocks = model.head.weight.chunk(3, 1)
    terms = torch.stack([h @ block.T for h, block in zip(last, blocks, strict=True)])
    logits = model(batch).logits - model.head.bias
    close(logits[[0, 2]], terms.sum(0)[[0, 2]], 1e-5)
    close(logits[1], 1.5 * terms[:2, 1].sum(0), 1e-5)


def test_explanations() -> None:
    model, batch = mixer(cfem_keys="joint", queries=2), without(clips(), "depth", [1])
    shown = model.explain(batch)
    tokens, weights = shown.tokens, shown.attention[0]
    assert tokens is not None
    assert tokens.joint.max() == 16
    assert weights.shape == (N, 4, 6, 2 * 17 + 6 + 4)  # two steps are left of eight frames
    close(weights.sum(-1), torch.ones(N, 4, 6))
    assert (weights[1][..., tokens.modality == 2] == 0).all()
    for m, name in enumerate(NAMES):
        reset, keep = shown.gates[name]
        steps = int((tokens.modality == m).sum()) // (17 if m == 0 else 1)
        assert reset.shape == keep.shape == (N, steps, 8)
        assert (keep > 0).all()
        assert (keep < 1).all()
    assert mixer(content="none").explain(batch).tokens is None
    with pytest.raises(UserError, match="only the unit 'mcu'"):
        mixer(unit="gru").explain(batch)


def test_joints_as_keys_are_read() -> None:
    frame, joint = mixer(), mixer(cfem_keys="joint")
    joint.load_state_dict(frame.state_dict())
    assert (frame(clips()).logits - joint(clips()).logits).abs().max() > 1e-6
    close(frame.features(clips()).steps[0], joint.features(clips()).joints[0].mean(2))  # type: ignore[union-attr]


@pytest.mark.parametrize("backend", ["pyg", "dgl"])
def test_edge_lists_give_the_same(backend: str) -> None:
    batch = without(clips(), "inertial", [0])
    for settings in ({}, {"cfem_keys": "joint", "queries": 3, "layers": 2}):
        close(mixer(**settings, backend=backend)(batch).logits, mixer(**settings)(batch).logits, 1e-5)


# -- sizes and contract ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dim", "total"), [(512, 10.34), (256, 2.81)])
def test_sizes_of_the_specification(dim: int, total: float) -> None:
    three = {name: ModalitySpec("sequence", 16, (512,)) for name in ("rgb", "depth", "infrared")}
    with torch.device("meta"):
        spec = replace(SPEC, classes=tuple(map(str, range(60))), modalities=three)
        model = MMixer(spec, modalities=list(three), dim=dim)
    size = sum(p.numel() for p in model.parameters())
    formula = 3 * (8 * dim**2 + 9 * dim) + 12 * dim**2 + 15 * dim + 3 * 3 * dim + 3 * 513 * dim + 3 * dim * 60 + 60
    assert size == formula
    assert round(size / 1e6, 2) == total


def test_it_compiles_whole_and_starts_from_another() -> None:
    model, batch = mixer(), without(clips(), "depth", [1])
    torch.compiler.reset()
    with torch.no_grad(), torch._dynamo.config.patch(allow_rnn=True):
        compiled = torch.compile(model, backend="eager", fullgraph=True)(batch)
        close(compiled.logits, model(batch).logits, 1e-5)
    other = mixer(replace(SPEC, classes=("x", "y")), aux=0.3)
    head = other.head.weight.clone()
    other.consume({"backbone": model.state_dict()})
    close(other(batch).features, model(batch).features)
    assert torch.equal(other.head.weight, head)
    with pytest.raises(UserError, match="needs an exported 'backbone'"):
        other.consume({"encoder": {}})
    assert model(batch).logits.shape == (N, 3)
    assert mixer(replace(SPEC, classes=()))(batch).logits.shape == (N, 0)


def test_the_same_seed_gives_the_same_network() -> None:
    for one, other in zip(mixer().parameters(), mixer().parameters(), strict=True):
        assert torch.equal(one, other)


WIDTHS: list[tuple[dict[str, Any], int]] = [
    ({}, 24), ({"content": "mean"}, 24), ({"modalities": ["inertial"]}, 8), ({"unit": "gru", "hidden": 20}, 20),
    ({"unit": "lstm"}, 8), ({"unit": "transformer", "layers": 2}, 8),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "width"), WIDTHS, ids=str)
def test_every_unit_learns(settings: dict[str, Any], width: int) -> None:
    model, batch = mixer(**settings, modality_dropout=0.0), clips()
    assert model.feature_dim == width
    assert model(batch).features.shape == (N, width)
    model.train()
    METHODS.create("supervised", model, label_smoothing=0.1).step(batch, 0.0)["loss"].backward()
    still = {k for k, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert {k for k in still if k != "content.null"} == set()


def test_one_modality_alone_has_no_content() -> None:
    assert mixer(modalities=["inertial"]).content is None


def test_time_in_the_unit() -> None:
    plain, timed = mixer(), mixer(mixer_time=True)
    assert plain.state_dict().keys() == timed.state_dict().keys()
    assert (plain(clips()).logits - timed(clips()).logits).abs().max() > 1e-3


# -- a classifier for each modality ----------------------------------------------------------------------------------


def test_streams_are_classifiers_of_single_modalities() -> None:
    model, batch = mixer(aux=0.5), without(clips(), "depth", [1])
    output = model(batch)
    assert list(output.streams) == ["fused", *NAMES]
    assert torch.equal(output.streams["fused"], output.logits)
    last = [states[:, -1] for states in model.states(model.features(batch))]
    for m, name in enumerate(NAMES):
        head = model.aux[name]  # type: ignore[index]
        close(output.streams[name], head(last[m] * (m != 2 or torch.tensor([[1.0], [0.0], [1.0]]))), 1e-5)
    output.streams["depth"][1].sum().backward()  # it is not there, and teaches its classifier nothing
    assert not model.aux["depth"].bias.grad.any()  # type: ignore[index,union-attr]
    model.reset_classifier(("x", "y"))
    assert {tuple(x.shape) for x in model(batch).streams.values()} == {(N, 2)}
    assert not mixer()(batch).streams


def test_the_loss_of_the_streams_counts_as_much_as_asked() -> None:
    batch = clips()
    model = mixer(aux=0.3, modality_dropout=0.0, dropout=0.0)
    METHODS.create("supervised", model).step(batch, 0.0)["loss"].backward()
    got = {k: p.grad for k, p in model.named_parameters() if k.startswith(("units", "content", "head", "aux"))}
    same = mixer(aux=0.3, modality_dropout=0.0, dropout=0.0)
    last = [states[:, -1] for states in same.states(same.features(batch))]
    losses = [F.cross_entropy(same.head(torch.cat(last, 1)), batch.label)]
    losses += [0.3 * F.cross_entropy(h(x), batch.label) for h, x in zip(same.aux.values(), last, strict=True)]  # type: ignore[union-attr]
    sum(losses).backward()  # type: ignore[union-attr]
    for key, parameter in same.named_parameters():
        if key in got and parameter.grad is not None:
            close(got[key], parameter.grad)  # type: ignore[arg-type]


# -- its page --------------------------------------------------------------------------------------------------------


def test_every_setting_and_extractor_stands_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = text.split("## Settings")[1].split("\n\n")[2]
    rows = {name: row.split("|")[3].strip() for row in table.splitlines()[2:]
            for name in re.findall(r"`(\w+)`", row.split("|")[1])}  # fmt: skip
    settings = {name: item.default for name, item in MODELS.settings("mmixer").items()}
    assert rows.keys() == settings.keys()
    for name, default in settings.items():
        assert rows[name] == f"`{default}`", name
    for name in EXTRACTORS.names():
        assert f"| `{name}` |" in text
        for key in EXTRACTORS.settings(name):
            assert f"`{key}`" in text
    assert signature(MMixer).parameters.keys() == {"spec", *settings}


def test_code_of_the_page_runs() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    found: dict[str, Any] = {}
    exec(code, found)
    assert found["output"].logits.shape == (2, 27)
    assert found["shown"].gates.keys() == {"skeleton", "inertial", "depth"}


# -- mistakes --------------------------------------------------------------------------------------------------------

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"modalities": ["skeleton", "dept"]}, "unknown modality 'dept'. Did you mean 'depth'"),
    ({"modalities": "skeleton"}, r"modalities: write a list, \[skeleton\]"),
    ({"modalities": []}, "modalities: name at least one"),
    ({"modalities": {"inertial": "identiti"}}, "modalities: 'inertial': unknown extractor 'identiti'"),
    ({"modalities": {"inertial": {"norm": True}}}, "modalities: 'inertial': write {name: ...}"),
    ({"modalities": {"inertial": "frame2d"}}, r"modality 'inertial' has steps of \(5,\); a network of frames"),
    ({"modalities": {"inertial": "graph"}}, "the extractor 'graph' is for 'skeleton'"),
    ({"modalities": {"skeleton": {"name": "graph", "model": "strl"}}}, "STRL gives one vector a clip; set windows"),
    ({"modalities": {"skeleton": {"name": "graph", "windows": 9}}}, "windows must be from 0 to 8, got 9"),
    ({"modalities": {"skeleton": {"name": "graph", "model": {"width": 4}}}}, "name the network"),
    ({"content": "cfme"}, "unknown content 'cfme'. Did you mean 'cfem'"),
    ({"mix": "none"}, "unknown mix 'none'"),
    ({"unit": "rnn"}, "unknown unit 'rnn'"),
    ({"cfem_keys": "joints"}, "unknown cfem_keys 'joints'. Did you mean 'joint'"),
    ({"modality_dropout": 1.0}, "modality_dropout must be from 0 to below 1"),
    ({"unit": "gru", "aux": 0.1}, "aux needs a state for each modality"),
    ({"heads": 3}, "no multiple of 3 heads"),
]


@pytest.mark.parametrize(("settings", "words"), MISTAKES, ids=lambda value: str(value)[:50])
def test_mistakes_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        create("mmixer", SPEC, **{**SMALL, **settings})


def test_a_batch_of_another_make_is_named() -> None:
    model, batch = mixer(**FLAT), clips()
    item = batch.modalities["inertial"]
    wrong = {
        r"modality 'inertial': expected values \(3, 'steps', 5\).*got \(3, 6, 4\)": Modality(
            item.values[..., :4], item.valid
        ),
        r"got \(2, 6, 5\)": Modality(item.values[:2], item.valid[:2]),
        r"got \(3, 6, 5\) and \(3, 5\)": Modality(item.values, item.valid[:, :5]),
    }  # fmt: skip
    for words, given in wrong.items():
        with pytest.raises(UserError, match=words):
            model(batch.with_(modalities={"inertial": given}))
    with pytest.raises(UserError, match=r"unknown modality 'inertia'. Did you mean 'inertial'"):
        model(batch.with_(modalities={"inertia": item}))
    with pytest.raises(UserError, match="expected 68 values a frame, got 34"):
        model(batch.with_(keypoints=batch.keypoints[..., :1]))
