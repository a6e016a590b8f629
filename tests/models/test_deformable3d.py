"""The 3D deformable transformer: who has influence, who has none, and that it relates the modalities."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from skelgraph.batch import Batch, ClipSpec, Modality, ModalitySpec
from skelgraph.errors import UserError
from skelgraph.models import create
from skelgraph.models.deformable3d import Deformable3D
from skelgraph.models.heatmap import HeatmapVolume
from skelgraph.topology import Topology

COCO = Topology.load("coco17")
FRAMES = {"rgb": ModalitySpec("frames", 6, (3, 16, 16))}
FEATURES = {"rgb": ModalitySpec("features", 6, (5, 4, 4))}
SPEC = ClipSpec(COCO, 3, 2, 6, ("a", "b", "c"), FEATURES)
STEM = {"widths": [8, 8], "strides": [1, 2]}


def build(spec: ClipSpec = SPEC, **settings: Any) -> Deformable3D:
    torch.manual_seed(0)
    quiet = {"preset": "tiny", "dropout": 0.0, "drop_path": 0.0, "modality_dropout": 0.0, "stem": STEM}
    model: Deformable3D = create("deformable3d", spec, **(quiet | settings))
    with torch.no_grad():  # the offsets start at zero; here they are to matter
        for name, parameter in model.named_parameters():
            if name.endswith("search.head.weight"):
                parameter.normal_(0, 0.5)
    return model


def clips(spec: ClipSpec = SPEC, count: int = 3, seed: int = 1) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    joints = torch.randn(count, spec.persons, spec.frames, spec.joints, spec.channels, generator=draw)
    modalities = {
        name: Modality(torch.randn(count, item.steps, *item.shape, generator=draw), torch.ones(count, item.steps) > 0)
        for name, item in spec.modalities.items()
    }
    return Batch.of(joints).with_(modalities=modalities)


def without_pose(batch: Batch, rows: slice = slice(None)) -> Batch:
    valid = batch.valid.clone()
    valid[rows] = False
    return batch.with_(valid=valid)


def without(batch: Batch, name: str, rows: slice = slice(None)) -> Batch:
    valid = batch.modalities[name].valid.clone()
    valid[rows] = False
    return with_modality(batch, name, batch.modalities[name].values, valid)


def with_modality(batch: Batch, name: str, values: Tensor, valid: Tensor) -> Batch:
    return batch.with_(modalities={**batch.modalities, name: Modality(values, valid)})


# -- the bits of both modalities -----------------------------------------------------------------------------------

SIX = Topology.from_dict({
    "name": "six", "title": "six joints in a row", "joints": list("abcdef"), "root": "a",
    "bones": {"b": "a", "c": "b", "d": "c", "e": "d", "f": "e"},
})  # fmt: skip
XOR = ClipSpec(SIX, 3, 1, 4, ("same", "other"), {"rgb": ModalitySpec("features", 4, (8, 4, 4))})


def xor_clips(count: int, seed: int) -> tuple[Batch, Tensor]:
    """A patch of 2x2 cells with sign a at a random place, a joint with sign b, in every frame; the label is a xor b.

    All four cases come equally often.
    """
    draw = torch.Generator().manual_seed(seed)
    case = torch.arange(count) % 4
    a, b = case // 2, case % 2
    rgb, joints = torch.zeros(count, 4, 8, 4, 4), torch.zeros(count, 1, 4, 6, 3)
    corner, joint = torch.randint(3, (count, 2), generator=draw), torch.randint(6, (count,), generator=draw)
    for clip in range(count):
        h, w = corner[clip].tolist()
        rgb[clip, :, :, h : h + 2, w : w + 2] = 2.0 * a[clip] - 1
        joints[clip, 0, :, joint[clip]] = 2.0 * b[clip] - 1
    there = torch.ones(count, 4) > 0
    batch = Batch.of(joints).with_(
        valid=torch.ones(count, 1, 4) > 0,
        score=torch.ones(count, 1, 4, 6),
        modalities={"rgb": Modality(rgb, there)},
    )
    return batch, a ^ b


def xor_train(steps: int, **settings: Any) -> Deformable3D:
    model = build(XOR, key_stride=(1, 2, 2), joint_stride=3, temporal_strides=[2], **settings).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    for step in range(steps):
        batch, label = xor_clips(64, 100 + step)
        loss = F.cross_entropy(model(batch).logits, label)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 10 == 9 and loss.item() < 0.02:
            break
    return model.eval()


def accuracy(model: Deformable3D, batch: Batch, label: Tensor) -> float:
    with torch.no_grad():
        return (model(batch).logits.argmax(1) == label).float().mean().item()


def test_both_modalities_together_answer_what_neither_can() -> None:
    model, (batch, label) = xor_train(200), xor_clips(400, 1)
    assert accuracy(model, batch, label) > 0.95
    other = torch.randperm(400, generator=torch.Generator().manual_seed(2))
    rgb = batch.modalities["rgb"]
    shuffled = with_modality(batch, "rgb", rgb.values[other], rgb.valid)
    for control in (
        shuffled,
        batch.with_(keypoints=batch.keypoints[other]),
        without(batch, "rgb"),
        without_pose(batch),
    ):
        assert 0.45 <= accuracy(model, control, label) <= 0.55


@pytest.mark.parametrize("settings", [{"cross_modal": False}, {"lattices": []}, {"pose": False}])
def test_without_the_road_between_them_it_is_a_guess(settings: dict[str, Any]) -> None:
    model, (batch, label) = xor_train(60, **settings), xor_clips(400, 1)
    assert 0.45 <= accuracy(model, batch, label) <= 0.55


@pytest.mark.parametrize("cut", [False, True])
def test_logits_of_the_cut_model_are_a_sum_over_the_modalities(cut: bool) -> None:
    model = build(cross_modal=not cut).eval()
    one, other = clips(seed=1), clips(seed=2)
    with torch.no_grad():
        mixed = [model(pose.with_(modalities=rgb.modalities)).logits for pose in (one, other) for rgb in (one, other)]
    interaction = (mixed[0] + mixed[3] - mixed[1] - mixed[2]).abs().max()
    assert interaction < 2e-6 if cut else interaction > 1e-4


# -- who has influence ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [1e3, float("nan")])
@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, modalities=FRAMES)], ids=["features", "frames"])
def test_what_is_not_there_has_no_influence(spec: ClipSpec, content: float) -> None:
    """Clip 0 lacks the frames, clip 1 the pose, clip 2 one person, a joint, one frame of each."""
    batch = clips(spec)
    there, valid, score = batch.modalities["rgb"].valid.clone(), batch.valid.clone(), batch.score.clone()
    there[0], valid[1], valid[2, 1], score[2, 0, :, 4] = False, False, False, 0
    there[2, 5], valid[2, :, 5], score[2, 0, 2] = False, False, 0
    results = []
    for fill in (0.0, content):
        values = torch.where(there[..., None, None, None], batch.modalities["rgb"].values, fill).requires_grad_()
        seen = (valid.unsqueeze(-1) & (score > 0)).unsqueeze(-1)
        joints = torch.where(seen, batch.keypoints, fill).requires_grad_()
        model = build(spec).train()
        logits = model(with_modality(batch, "rgb", values, there).with_(
            keypoints=joints, valid=valid, score=score)).logits  # fmt: skip
        logits.square().sum().backward()
        assert values.grad is not None
        assert joints.grad is not None
        assert not values.grad[~there].any()
        assert not torch.where(seen, 0.0, joints.grad).any()
        assert values.grad[1].any()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        results.append((logits.detach(), gradients))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_a_clip_without_a_modality_leaves_the_others_alone() -> None:
    model, batch = build().eval(), clips()
    with torch.no_grad():
        whole = model(batch).logits
        for partly in (without_pose(batch, slice(1)), without(batch, "rgb", slice(1))):
            logits = model(partly).logits
            torch.testing.assert_close(logits[1:], whole[1:], atol=1e-6, rtol=0)
            assert not torch.allclose(logits[0], whole[0], atol=1e-4)
        absent = model(without(batch, "rgb")).logits
        torch.testing.assert_close(model(batch.with_(modalities={})).logits, absent)


def test_a_clip_with_nothing_at_all_is_refused() -> None:
    batch = without_pose(without(clips(), "rgb"), slice(1, 2))
    with pytest.raises(UserError, match="clip 1 of the batch has no modality"):
        build()(batch)


@pytest.mark.parametrize("modalities", [FRAMES, FEATURES], ids=["frames", "features"])
def test_padding_in_time_changes_nothing(modalities: dict[str, ModalitySpec]) -> None:
    longer = {name: replace(item, steps=11) for name, item in modalities.items()}
    spec = replace(SPEC, frames=11, modalities=longer)
    model, batch = build(spec).eval(), clips(replace(SPEC, modalities=modalities))
    rgb = batch.modalities["rgb"]
    padded = batch.with_(
        keypoints=F.pad(batch.keypoints, (0, 0, 0, 0, 0, 5), value=7.0),
        score=F.pad(batch.score, (0, 0, 0, 5), value=1.0),
        valid=F.pad(batch.valid, (0, 5)),
        modalities={"rgb": Modality(F.pad(rgb.values, (0,) * 7 + (5,), value=7.0), F.pad(rgb.valid, (0, 5)))},
    )
    with torch.no_grad():
        torch.testing.assert_close(model(padded).logits, model(batch).logits, atol=1e-5, rtol=0)


def test_modality_dropout_hides_one_and_never_the_only_one() -> None:
    model, batch = build(modality_dropout=0.9).train(), clips(count=64)
    batch = without(batch, "rgb", slice(16))
    present = [batch.modalities["rgb"].valid.any(1), batch.valid.flatten(1).any(1)]
    kept = model._kept(present) & torch.stack(present, 1)
    assert kept.any(1).all()
    assert kept[:16, 1].all()
    assert 0.7 < (kept[16:].sum(1) == 1).float().mean() < 1
    assert 0.2 < kept[16:, 0].float().mean() < 0.8
    assert model.eval()._kept(present).all()


# -- one network, several ways to compute it -----------------------------------------------------------------------

CHOICES: list[dict[str, Any]] = [
    {}, {"joint_groups": "window"}, {"joint_groups": "parts"}, {"joint_groups": "hops", "hops": 2},
    {"joint_stride": 1, "top_k": 3}, {"cross_modal": False}, {"pose_tokens": "joint_map"},
    {"position_bias": True},
]  # fmt: skip


@pytest.mark.parametrize("settings", CHOICES, ids=str)
def test_edge_by_edge_equals_dense(settings: dict[str, Any]) -> None:
    batch = without(without_pose(clips(), slice(1)), "rgb", slice(1, 2))
    answers = []
    for backend in ("dense", "pyg"):
        model = build(backend=backend, **settings)
        logits = model(batch).logits
        logits.square().sum().backward()
        answers.append((logits.detach(), model.modal.grad, model.time.grad))
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_gathering_equals_grid_sample() -> None:
    with torch.no_grad():
        one, other = (build(sampling=name).eval()(clips()).logits for name in ("grid", "gather"))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_it_compiles_whole_and_is_restored_from_its_state() -> None:
    model, batch = build().eval(), clips()
    other = create("deformable3d", SPEC, preset="tiny").eval()
    other.load_state_dict(model.state_dict())
    torch.compiler.reset()
    with torch.no_grad():
        answer = model(batch).logits
        compiled = torch.compile(model, backend="eager", fullgraph=True)(batch).logits
        torch.testing.assert_close(compiled, answer, atol=1e-4, rtol=0)
        assert torch.equal(other(batch).logits, answer)


def test_offsets_and_positions_stay_in_float32_under_autocast() -> None:
    model, batch = build().eval(), clips()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        logits = model(batch).logits
        records = model.explain(batch)
    assert records[0]["d3a.rgb.points"].dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(logits.float(), model(batch).logits, atol=0.1, rtol=0)


@pytest.mark.parametrize("settings", [{}, {"lattices": []}, {"pose_layers": 2, "layers": 3}, {"cross_modal": False}])
def test_parameters_are_as_many_as_the_formula_says(settings: dict[str, Any]) -> None:
    model = build(**settings)
    c, v, t, m, k = 32, 17, 6, 2, 3
    blocks, lattices, pose = settings.get("layers", 2), int("lattices" not in settings), settings.get("pose_layers", 1)
    attention = 4 * c * c + 3 * c + 2 * 2 * c + 8 * c * c + 5 * c
    offsets = (c // 4) * 4**3 + (c // 4) + 2 * (c // 4) + 3 * (c // 4) + 3
    lattice = 5 * c + c + 4 * 4 * c + c * ("cross_modal" not in settings)  # map, place code, missing frame
    tokens = 10 * c + c + v * c + m * c + pose * (2 * c + c * c + c)
    modal = lattices + 1
    head = 2 * (modal * c if "cross_modal" not in settings else c) + modal * c * k + k
    expected = blocks * ((lattices + 2) * attention + lattices * offsets) + lattices * lattice + tokens
    assert sum(p.numel() for p in model.parameters()) == expected + (t + modal) * c + head


# -- explanations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"joint_groups": "parts"}, {"cross_modal": False}], ids=str)
def test_explanations_sum_to_one(settings: dict[str, Any]) -> None:
    model, batch = build(**settings).eval(), without_pose(clips(), slice(1))
    records = model.explain(batch)
    assert len(records) == 2
    for record in records:
        assert record["d3a.rgb.points"].shape == (3, 4, 3, 2, 2, 3)
        assert record["jsa.joint"].shape == (3, 4, 6, 34)
        rows = {
            "d3a": record["d3a.rgb.attn_modal"].sum(-1),
            "jsa": record["jsa.joint"].sum(-1) + record["jsa.rest"],
            "tsa": record["tsa.frame"].sum(-1) + record["tsa.rest"],
        }
        for row in rows.values():
            torch.testing.assert_close(row, torch.ones_like(row), atol=1e-6, rtol=0)
        assert not record["jsa.joint"][0].any()
        assert record["jsa.joint"][1].any()
        assert not any(value.requires_grad for value in record.values())


# -- inputs --------------------------------------------------------------------------------------------------------


def test_frames_of_integers_are_read_as_parts_of_255() -> None:
    spec = replace(SPEC, modalities=FRAMES)
    model, batch = build(spec).eval(), clips(spec)
    there = batch.modalities["rgb"].valid
    frames = torch.randint(256, (3, 6, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = model(with_modality(batch, "rgb", frames, there)).logits
        assert torch.equal(whole, model(with_modality(batch, "rgb", frames / 255, there)).logits)


def test_two_lattices_have_a_token_each() -> None:
    both = {**FEATURES, "depth": ModalitySpec("frames", 8, (1, 16, 16))}
    spec = replace(SPEC, modalities=both)
    model, batch = build(spec).eval(), clips(spec)
    assert model.feature_dim == 3 * 32
    with torch.no_grad():
        assert not torch.allclose(model(without(batch, "depth")).logits, model(batch).logits, atol=1e-4)


def test_sources_of_other_lengths_meet_at_the_nearest_index() -> None:
    model = build().eval()
    batch = clips()
    twice = clips(replace(SPEC, frames=12))
    at = torch.arange(6) * 2 + 1
    picked = twice.with_(keypoints=twice.keypoints[:, :, at], score=twice.score[:, :, at], valid=twice.valid[:, :, at])
    with torch.no_grad():
        long = model(twice.with_(modalities=batch.modalities)).logits
        assert torch.equal(long, model(picked.with_(modalities=batch.modalities)).logits)


def test_joint_maps_see_what_is_under_the_joint() -> None:
    where = ModalitySpec("positions", 6, (2, 17, 2))
    spec = replace(SPEC, modalities={**FEATURES, "pixels": where})
    model, batch = build(spec, pose_tokens="joint_map", joint_map_positions="pixels").eval(), clips(spec)
    pixels = batch.modalities["pixels"]
    moved = with_modality(batch, "pixels", -pixels.values, pixels.valid)
    with torch.no_grad():
        assert not torch.allclose(model(moved).logits, model(batch).logits, atol=1e-5)


def test_heat_maps_stand_in_for_frames() -> None:
    spec = replace(SPEC, modalities={})
    model = build(spec, lattices=["heatmap"], heatmap={"size": 16})
    batch = clips(spec)
    model(batch).logits.square().sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if name.startswith("stems"))


def test_a_heat_map_has_its_peak_where_the_joint_is() -> None:
    joints = torch.zeros(1, 2, 1, 3, 2)
    joints[0, 0, 0] = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.5]])
    joints[0, 1, 0] = float("nan")
    batch = Batch.of(joints).with_(valid=torch.tensor([[[True], [False]]]), score=torch.ones(1, 2, 1, 3))
    volume = HeatmapVolume(size=8, margin=1.0)(batch)
    assert volume.shape == (1, 1, 3, 8, 8)
    assert volume.isfinite().all()
    peaks = volume[0, 0].flatten(1).argmax(1)
    assert peaks.tolist() == [0, 63, 5 * 8 + 3]
    larger = HeatmapVolume(size=8, margin=1.0)(batch.with_(keypoints=joints * 3 + 5))
    torch.testing.assert_close(larger, volume, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "huge"}, "unknown preset"),
        ({"lattices": ["infrared"]}, "unknown lattice 'infrared'"),
        ({"lattices": "rgb"}, "write a list"),
        ({"lattices": [], "pose": False}, "neither lattice nor pose"),
        ({"lattices": [], "pose_tokens": "joint_map"}, "needs a lattice"),
        ({"pose_tokens": "joint_map", "cross_modal": False}, "cross_modal: false forbids"),
        ({"temporal_strides": [0]}, "temporal_strides"),
        ({"joint_stride": 0}, "joint_stride"),
        ({"joint_groups": "limbs"}, "unknown joint grouping"),
        ({"offset_kernel": [3, 3, 3]}, "does not go with the stride"),
        ({"offset_groups": 5}, "do not divide the width"),
        ({"heads": 2, "position_bias": True}, "do not divide 2 heads"),
        ({"pose_tokens": "grid"}, "unknown pose_tokens"),
        ({"heads": 5}, "do not divide the width"),
        ({"sampling": "nearest"}, "unknown sampling"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(**settings)


def test_clips_of_another_shape_are_refused() -> None:
    with pytest.raises(UserError, match="built for M, V, C"):
        build()(clips(replace(SPEC, persons=1)))
    with pytest.raises(UserError, match="built for 6 frames and got 7"):
        build()(clips(replace(SPEC, modalities={"rgb": replace(FEATURES["rgb"], steps=7)})))
    with pytest.raises(UserError, match="built for frames of"):
        build()(clips(replace(SPEC, modalities={"rgb": replace(FEATURES["rgb"], shape=(5, 4, 5))})))
