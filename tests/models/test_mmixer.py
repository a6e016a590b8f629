"""M-Mixer as a whole: missing modalities, what couples them, its sizes and settings, and that it solves XOR."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelgraph.batch import Batch, ClipSpec, Modality, ModalitySpec
from skelgraph.errors import UserError
from skelgraph.methods import METHODS
from skelgraph.models import create
from skelgraph.models.extractors import EXTRACTORS, FrameExtractor, Steps, build_extractor
from skelgraph.models.mmixer import MMixer, drop_modalities
from skelgraph.topology import Topology

N, T = 3, 8
COCO = Topology.load("coco17")
SPEC = ClipSpec(COCO, 2, 2, T, ("a", "b", "c"), {
    "inertial": ModalitySpec("sequence", 6, (5,)),
    "depth": ModalitySpec("frames", 4, (1, 9, 8)),
})  # fmt: skip
NAMES = ("skeleton", "inertial", "depth")
SMALL: dict[str, Any] = {
    "modalities": {"skeleton": {"name": "graph", "model": {"name": "stgcnpp", "width": 8, "depth": 4}},
                   "inertial": "identity", "depth": {"name": "frame2d", "width": 2}},
    "dim": 8, "heads": 4,
}  # fmt: skip
FLAT: dict[str, Any] = {**SMALL, "modalities": {"skeleton": "identity", "inertial": "identity"}}


def build(spec: ClipSpec = SPEC, **settings: Any) -> MMixer:
    """A small network with nothing left at zero or one."""
    torch.manual_seed(0)
    model = create("mmixer", spec, **{**SMALL, **settings})
    assert isinstance(model, MMixer)
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def clips(count: int = N, seed: int = 1) -> Batch:
    torch.manual_seed(seed)
    batch = Batch.of(torch.randn(count, 2, T, 17, 2))
    given = {name: Modality(torch.randn(count, item.steps, *item.shape), torch.ones(count, item.steps) > 0)
             for name, item in SPEC.modalities.items()}  # fmt: skip
    return batch.with_(modalities=given, label=torch.arange(count) % 3)


def without(batch: Batch, name: str, rows: Any = slice(None), fill: float | None = None) -> Batch:
    """A batch some of whose clips lack a modality; ``fill`` is what then stands in its place."""
    if name == "skeleton":
        valid, x = batch.valid.clone(), batch.keypoints.clone()
        valid[rows] = False
        score = batch.score.clone()
        if fill is not None:
            x[rows], score[rows] = fill, fill
        return batch.with_(valid=valid, keypoints=x, score=score)
    valid, x = batch.modalities[name].valid.clone(), batch.modalities[name].values.clone()
    valid[rows] = False
    if fill is not None:
        x[rows] = fill * (torch.randn_like(x[rows]) if abs(fill) < float("inf") else 1)
    return batch.with_(modalities={**batch.modalities, name: Modality(x, valid)})


def close(one: Tensor, other: Tensor, atol: float = 1e-6) -> None:
    torch.testing.assert_close(one, other, atol=atol, rtol=0)


# -- missing modalities ----------------------------------------------------------------------------------------------

VARIANTS: list[dict[str, Any]] = [
    {}, {"content": "mean"}, {"cfem_keys": "joint", "own_keys": True}, {"gate_norm": True, "mix": "film"},
    {"unit": "gru"}, {"unit": "transformer"},
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_what_is_not_there_has_no_influence_whatever_it_holds(settings: dict[str, Any], name: str) -> None:
    model, full = build(**settings), clips()
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
        model = build(**settings, modality_dropout=0.0, dropout=0.0).train()
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
    model, batch = build(), clips()
    bare = batch.with_(modalities={"depth": batch.modalities["depth"]})
    assert torch.equal(model(bare).logits, model(without(batch, "inertial")).logits)
    alone = model(batch.keypoints).logits
    assert torch.equal(alone, model(without(without(batch, "inertial"), "depth")).logits)


@pytest.mark.parametrize("alone", NAMES)
def test_alone_a_modality_works_on_its_null_vector(alone: str) -> None:
    model, batch = build(), clips()
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
        build()(batch)


@pytest.mark.parametrize("settings", [{}, {"content": "mean"}, {"unit": "transformer"}], ids=str)
def test_padding_has_no_influence(settings: dict[str, Any]) -> None:
    model, batch = build(**{**FLAT, **settings}), clips()
    short = Batch.of(batch.keypoints[:, :, :5]).with_(
        modalities={"inertial": Modality(*(x[:, :4] for x in vars(batch.modalities["inertial"]).values()))}
    )
    padded = batch.with_(valid=batch.valid.clone(), keypoints=batch.keypoints.clone())
    padded.valid[:, :, 5:], padded.keypoints[:, :, 5:] = False, 1e3
    values, valid = padded.modalities["inertial"].values.clone(), padded.modalities["inertial"].valid.clone()
    values[:, 4:], valid[:, 4:] = float("nan"), False
    close(model(padded.with_(modalities={"inertial": Modality(values, valid)})).logits, model(short).logits)


def test_a_missing_segment_is_told_by_its_mask() -> None:
    model, batch = build(), clips()
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
    model, batch = build(**FLAT, modality_dropout=0.9, dropout=0.0), clips(16)
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
    assert interaction(build(**FLAT, content="none")) <= 1e-6
    for settings in ({}, {"content": "mean"}, {"mix": "concat"}, {"mix": "film"}, {"unit": "gru"}):
        assert interaction(build(**FLAT, **settings)) > 1e-3


def test_a_content_of_weight_zero_is_none() -> None:
    told, untold = build(), build(content="none")
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
    model, turned = build(), build(modalities={NAMES[i]: plan[NAMES[i]] for i in order})
    state = model.state_dict()
    for key in ("content.queries", "content.codes", "content.null"):
        state[key] = state[key][order]
    state["head.weight"] = state["head.weight"].unflatten(1, (3, -1))[:, order].flatten(1)
    turned.load_state_dict(state)
    close(turned(clips()).logits, model(clips()).logits, 1e-5)


def test_the_head_is_a_sum_over_modalities() -> None:
    model, batch = build(), without(clips(), "depth", [1])
    found = model.features(batch)
    last = [states[:, -1] for states in model.states(found)]
    blocks = model.head.weight.chunk(3, 1)
    terms = torch.stack([h @ block.T for h, block in zip(last, blocks, strict=True)])
    logits = model(batch).logits - model.head.bias
    close(logits[[0, 2]], terms.sum(0)[[0, 2]], 1e-5)
    close(logits[1], 1.5 * terms[:2, 1].sum(0), 1e-5)


def test_explanations() -> None:
    model, batch = build(cfem_keys="joint", queries=2), without(clips(), "depth", [1])
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
    assert build(content="none").explain(batch).tokens is None
    with pytest.raises(UserError, match="only the unit 'mcu'"):
        build(unit="gru").explain(batch)


def test_joints_as_keys_are_read() -> None:
    frame, joint = build(), build(cfem_keys="joint")
    joint.load_state_dict(frame.state_dict())
    assert (frame(clips()).logits - joint(clips()).logits).abs().max() > 1e-6
    close(frame.features(clips()).steps[0], joint.features(clips()).joints[0].mean(2))  # type: ignore[union-attr]


@pytest.mark.parametrize("backend", ["pyg", "dgl"])
def test_edge_lists_give_the_same(backend: str) -> None:
    batch = without(clips(), "inertial", [0])
    for settings in ({}, {"cfem_keys": "joint", "queries": 3, "layers": 2}):
        close(build(**settings, backend=backend)(batch).logits, build(**settings)(batch).logits, 1e-5)


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
    model, batch = build(), without(clips(), "depth", [1])
    torch.compiler.reset()
    with torch.no_grad(), torch._dynamo.config.patch(allow_rnn=True):
        compiled = torch.compile(model, backend="eager", fullgraph=True)(batch)
        close(compiled.logits, model(batch).logits, 1e-5)
    other = build(replace(SPEC, classes=("x", "y")), aux=0.3)
    head = other.head.weight.clone()
    other.consume({"backbone": model.state_dict()})
    close(other(batch).features, model(batch).features)
    assert torch.equal(other.head.weight, head)
    with pytest.raises(UserError, match="needs an exported 'backbone'"):
        other.consume({"encoder": {}})
    assert model(batch).logits.shape == (N, 3)
    assert build(replace(SPEC, classes=()))(batch).logits.shape == (N, 0)


def test_the_same_seed_gives_the_same_network() -> None:
    for one, other in zip(build().parameters(), build().parameters(), strict=True):
        assert torch.equal(one, other)


WIDTHS: list[tuple[dict[str, Any], int]] = [
    ({}, 24), ({"content": "mean"}, 24), ({"modalities": ["inertial"]}, 8), ({"unit": "gru", "hidden": 20}, 20),
    ({"unit": "lstm"}, 8), ({"unit": "transformer", "layers": 2}, 8),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "width"), WIDTHS, ids=str)
def test_every_unit_learns(settings: dict[str, Any], width: int) -> None:
    model, batch = build(**settings, modality_dropout=0.0), clips()
    assert model.feature_dim == width
    assert model(batch).features.shape == (N, width)
    model.train()
    METHODS.create("supervised", model, label_smoothing=0.1).step(batch, 0.0)["loss"].backward()
    still = {k for k, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert {k for k in still if k != "content.null"} == set()


def test_one_modality_alone_has_no_content() -> None:
    assert build(modalities=["inertial"]).content is None


def test_time_in_the_unit() -> None:
    plain, timed = build(), build(mixer_time=True)
    assert plain.state_dict().keys() == timed.state_dict().keys()
    assert (plain(clips()).logits - timed(clips()).logits).abs().max() > 1e-3


# -- a classifier for each modality ----------------------------------------------------------------------------------


def test_streams_are_classifiers_of_single_modalities() -> None:
    model, batch = build(aux=0.5), without(clips(), "depth", [1])
    output = model(batch)
    assert list(output.streams) == ["fused", *NAMES]
    assert torch.equal(output.streams["fused"], output.logits)
    last = [states[:, -1] for states in model.states(model.features(batch))]
    for m, name in enumerate(NAMES):
        head = model.aux[name]  # type: ignore[index]
        close(output.streams[name], head(last[m] * (m != 2 or torch.tensor([[1.0], [0.0], [1.0]]))), 1e-5)
    model.reset_classifier(("x", "y"))
    assert {tuple(x.shape) for x in model(batch).streams.values()} == {(N, 2)}
    assert not build()(batch).streams


def test_the_loss_of_the_streams_counts_as_much_as_asked() -> None:
    batch = clips()
    model = build(aux=0.3, modality_dropout=0.0, dropout=0.0)
    METHODS.create("supervised", model).step(batch, 0.0)["loss"].backward()
    got = {k: p.grad for k, p in model.named_parameters() if k.startswith(("units", "content", "head", "aux"))}
    same = build(aux=0.3, modality_dropout=0.0, dropout=0.0)
    last = [states[:, -1] for states in same.states(same.features(batch))]
    losses = [F.cross_entropy(same.head(torch.cat(last, 1)), batch.label)]
    losses += [0.3 * F.cross_entropy(h(x), batch.label) for h, x in zip(same.aux.values(), last, strict=True)]  # type: ignore[union-attr]
    sum(losses).backward()  # type: ignore[union-attr]
    for key, parameter in same.named_parameters():
        if key in got and parameter.grad is not None:
            close(got[key], parameter.grad)  # type: ignore[arg-type]


# -- extractors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "windows", "width", "steps"), [
    ({"name": "ctrgcn", "width": 8, "depth": 4}, 0, 32, 2),
    ({"name": "gru", "hidden": 8, "layers": 1}, 0, 16, T),
    ({"name": "skeletonmae", "dim": 8, "hidden": 8}, T, 8, T),
    ({"name": "multi_stream", "base": {"name": "stgcnpp", "width": 8, "depth": 4}, "streams": ["joint", "bone"]}, 3,
     64, 3),
])  # fmt: skip
def test_any_skeleton_network_is_an_extractor(model: dict[str, Any], windows: int, width: int, steps: int) -> None:
    torch.manual_seed(0)
    extractor = build_extractor(SPEC, "skeleton", {"name": "graph", "model": model, "windows": windows}).eval()
    batch = without(clips(), "skeleton", [1], float("nan"))
    found = extractor(batch)
    assert found.values.shape == (N, steps, width)
    assert found.valid.all(1).tolist() == [True, False, True]
    assert found.values.isfinite().all()
    assert (found.values[1] == 0).all()
    assert found.values.std(1).max() > 1e-4  # steps differ
    whole = build(modalities={"skeleton": {"name": "graph", "model": model, "windows": windows}, "inertial": None})
    assert whole(batch).logits.isfinite().all()


def test_steps_of_a_skeleton_are_means_over_who_is_there() -> None:
    extractor = build_extractor(SPEC, "skeleton", SMALL["modalities"]["skeleton"]).eval()
    batch = clips()
    batch.valid[0, 1] = False
    batch.valid[1, :, :4] = False
    first = {name: getattr(batch, name)[:1, :1] for name in ("keypoints", "score", "valid")}
    found, one = extractor(batch), extractor(batch[:1].with_(**first))
    assert found.valid.tolist() == [[True, True], [False, True], [True, True]]
    close(found.values[0], one.values[0], 1e-5)
    close(found.joints.mean(2), found.values)


def test_windows_are_cut_from_the_whole_clip() -> None:
    settings = {"name": "graph", "model": {"name": "skeletonmae", "dim": 4, "hidden": 4, "layers": 1}, "windows": 3}
    extractor = build_extractor(SPEC, "skeleton", settings).eval()
    batch = clips()
    found = extractor(batch).values
    for number, begin in enumerate((0, 2, 5)):
        window = batch.keypoints[:, :, begin : begin + 3]
        close(found[:, number], extractor.network.forward_features(Batch.of(window)))


def test_identity_and_its_norm() -> None:
    batch = clips(40)
    flat = build_extractor(SPEC, "skeleton", "identity")(batch)
    close(flat.values[0, 3], batch.keypoints[0, :, 3].flatten())
    extractor = build_extractor(SPEC, "inertial", {"name": "identity", "norm": True}).train()
    values = 50 + 9 * batch.modalities["inertial"].values
    values[0] = float("nan")
    batch = without(
        batch.with_(modalities={"inertial": Modality(values, values[..., 0] == values[..., 0])}), "inertial", 1
    )
    found = extractor(batch)
    kept = found.values[2:].flatten(0, 1)
    close(kept.mean(0), torch.zeros(5), 1e-5)
    close(kept.std(0, unbiased=False), torch.ones(5), 1e-4)
    assert (found.values[:2] == 0).all()


def test_frames_of_bytes_are_fractions() -> None:
    extractor = build_extractor(SPEC, "depth", {"name": "frame2d", "width": 2}).eval()
    frames = torch.randint(256, (N, 4, 1, 9, 8), dtype=torch.uint8)
    valid = torch.ones(N, 4, dtype=torch.bool)
    as_bytes, as_floats = (extractor(clips().with_(modalities={"depth": Modality(x, valid)}))
                           for x in (frames, frames.float() / 255))  # fmt: skip
    close(as_bytes.values, as_floats.values)
    assert as_bytes.values.shape == (N, 4, 16)
    assert extractor.layers[-3].weight.shape == (16, 16, 3, 3)


def test_a_plugin_brings_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mean(FrameExtractor):
        def __init__(self, spec: ClipSpec, modality: str, *, times: int = 1) -> None:
            super().__init__(spec, modality, times)

        def encode(self, frames: Tensor) -> Tensor:
            return frames.mean((1, 2, 3), keepdim=True)[..., 0, 0].expand(-1, self.out_dim)

    monkeypatch.setitem(EXTRACTORS._factories, "mean", Mean)
    model = build(modalities={"skeleton": "identity", "depth": {"name": "mean", "times": 3}})
    steps = model.extractors["depth"](clips())
    assert isinstance(steps, Steps)
    close(steps.values[..., 0], clips().modalities["depth"].values.mean((2, 3, 4)))
    assert model(clips()).logits.isfinite().all()


def test_usual_extractors() -> None:
    model = create("mmixer", SPEC, dim=8)
    kinds = {name: type(x).__name__ for name, x in model.extractors.items()}  # type: ignore[union-attr,operator]
    assert kinds == {"skeleton": "Graph", "inertial": "Identity", "depth": "Frame2D"}
    assert tuple(build(modalities=["depth", "inertial"]).names) == ("depth", "inertial")


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
    model, batch = build(**FLAT), clips()
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


# -- XOR -------------------------------------------------------------------------------------------------------------

XOR = ClipSpec(COCO, 2, 1, 6, ("same", "different"), {"rgb": ModalitySpec("sequence", 6, (8,))})
ENOUGH, CHANCE = 0.95, 0.05


def xor_clips(count: int, generator: torch.Generator) -> Batch:
    """Noise with a bump at a random frame of one channel in each modality; the label is whether their signs differ."""
    bits = torch.randint(2, (2, count), generator=generator)

    def signal(bit: Tensor, channels: int) -> Tensor:
        x = 0.3 * torch.randn(count, 6, channels, generator=generator)
        x[torch.arange(count), torch.randint(6, (count,), generator=generator), 0] += 3.0 * (2 * bit - 1)
        return x

    joints = signal(bits[0], 34).view(count, 1, 6, 17, 2)
    rgb = Modality(signal(bits[1], 8), torch.ones(count, 6, dtype=torch.bool))
    return Batch.of(joints).with_(label=bits[0] ^ bits[1], modalities={"rgb": rgb})


def trained_on_xor(names: list[str], **settings: Any) -> MMixer:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    model = MMixer(XOR, modalities=dict.fromkeys(names, "identity"), dim=32, heads=4, modality_dropout=0.0, **settings)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(400):
        batch = xor_clips(128, generator)
        optimizer.zero_grad()
        F.cross_entropy(model(batch).logits, batch.label).backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: MMixer, batch: Batch) -> float:
    return float((model(batch).logits.argmax(1) == batch.label).float().mean())


@pytest.fixture(scope="module")
def xor_test() -> Batch:
    return xor_clips(2000, torch.Generator().manual_seed(2))


def test_xor_is_solved_together_and_by_none_alone(xor_test: Batch) -> None:
    model = trained_on_xor(["skeleton", "rgb"])
    assert accuracy(model, xor_test) > ENOUGH
    rgb = xor_test.modalities["rgb"]
    others = {"rgb": Modality(rgb.values.roll(1, 0), rgb.valid)}
    controls = {
        "the other shuffled": xor_test.with_(modalities=others),
        "skeleton missing": xor_test.with_(valid=torch.zeros_like(xor_test.valid)),
        "rgb missing": xor_test.with_(modalities={}),
    }
    figures = {name: accuracy(model, batch) for name, batch in controls.items()}
    assert all(abs(value - 0.5) <= CHANCE for value in figures.values()), figures


@pytest.mark.parametrize("names", [["skeleton"], ["rgb"], ["skeleton", "rgb"]], ids="+".join)
def test_xor_is_not_solved_alone_or_with_the_road_between_them_cut(names: list[str], xor_test: Batch) -> None:
    assert abs(accuracy(trained_on_xor(names, content="none"), xor_test) - 0.5) <= CHANCE
