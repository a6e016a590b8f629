"""The recurrent encoder: sizes, time, first weights, layout of its input."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from skelgraph.batch import Batch, ClipSpec
from skelgraph.errors import UserError
from skelgraph.methods.contrastive import Embedder, Moco, make_projection
from skelgraph.models.recurrent import Recurrent, released_name
from skelgraph.topology import Topology

NTU = Topology.load("ntu25")


def spec(classes: int = 0, persons: int = 2, frames: int = 12) -> ClipSpec:
    return ClipSpec(NTU, 3, persons, frames, tuple(map(str, range(classes))))


def network(**settings: object) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(spec(), **{"hidden": 8, **settings}).eval()  # type: ignore[arg-type]


def clips(frames: int = 12) -> Batch:
    return Batch.of(torch.randn(4, 2, frames, 25, 3, generator=torch.Generator().manual_seed(1)))


def size(*parts: nn.Module) -> int:
    return sum(p.numel() for part in parts for p in part.parameters())


def test_sizes_of_the_published_networks() -> None:
    with torch.device("meta"):
        encoder = Recurrent(spec())
        assert size(encoder.layers) == 44_998_656
        assert size(encoder.norm) == 300
        assert encoder.feature_dim == 2048
        mlp, linear = make_projection("mlp", 2048, 128), make_projection("linear", 2048, 128)
        assert size(mlp) == 4_458_624
        assert size(Embedder(encoder, mlp)) == 49_457_580
        assert size(Embedder(encoder, linear)) == 45_261_228
        for classes, number in ((60, 45_121_896), (120, 45_244_836), (51, 45_103_455)):
            assert size(Recurrent(spec(classes))) == number


def test_sizes_of_whole_pre_training_models() -> None:
    """Six encoders of 49 457 580 and two of them, at a hidden width of 64 in place of 1024."""
    encoder = Recurrent(spec(), hidden=64)
    method = Moco(encoder, queue=16)
    one = size(encoder, method.branches["whole"].projection)
    assert size(method) == 2 * one
    assert sum(p.numel() for p in method.parameters() if p.requires_grad) == one


def test_the_first_frames_know_nothing_of_the_later_ones() -> None:
    model = network()
    whole, end = model.all_frames(clips())
    for frames in (1, 5, 12):
        part = Batch.of(clips().keypoints[:, :, :frames])
        torch.testing.assert_close(model.forward_features(part), whole[:, frames - 1], atol=1e-6, rtol=0)
    assert torch.equal(end, whole[:, -1])


def stepwise(model: Recurrent, frames: Tensor) -> Tensor:
    """One frame at a time, the state of both units of all layers handed on: how the network is published."""
    width, hidden = frames.shape[-1], model.feature_dim // 2
    gru = nn.GRU(width, hidden, len(model.layers), batch_first=True, bidirectional=True, dtype=frames.dtype)
    names = {name: released_name(f"encoder.gru.{name}") for name, _ in gru.named_parameters()}
    own = model.state_dict()
    gru.load_state_dict({name: own[str(key)] for name, key in names.items()})
    state = None
    for t in range(frames.shape[1]):
        out, state = gru(frames[:, t : t + 1], state)
    return out[:, 0]


def test_one_frame_at_a_time_gives_the_same() -> None:
    model = network().double()
    frames = model.norm(model.flattened(clips()).double().flatten(0, 1)).view(4, 12, -1)
    features = model.forward_features(clips().map(lambda x: x.double() if x.is_floating_point() else x))
    torch.testing.assert_close(features, stepwise(model, frames))


def test_bidirectional_is_torchs() -> None:
    model = network(recurrence="bidirectional", layers=2)
    frames = model.norm(model.flattened(clips()).flatten(0, 1)).view(4, 12, -1)
    gru = nn.GRU(150, 8, 2, batch_first=True, bidirectional=True)
    own = model.state_dict()
    gru.load_state_dict({name: own[str(released_name(f"encoder.gru.{name}"))] for name, _ in gru.named_parameters()})
    out, state = gru(frames)
    mine, end = model.all_frames(clips())
    torch.testing.assert_close(mine, out)
    torch.testing.assert_close(end, torch.cat([state[-2], state[-1]], 1))
    causal = network(layers=2)
    causal.load_state_dict(model.state_dict())
    assert (causal.forward_features(clips()) - end).abs().max() > 0.05


def test_a_frame_is_joints_then_coordinates_then_persons() -> None:
    joints = torch.arange(2 * 25 * 3.0).view(1, 2, 1, 25, 3)
    frame = network().flattened(Batch.of(joints))[0, 0]
    for v, c, m in ((0, 0, 0), (0, 0, 1), (7, 2, 1), (24, 1, 0)):
        assert frame[6 * v + 2 * c + m] == joints[0, m, 0, v, c]


def test_inputs_of_the_three_streams() -> None:
    batch, moved = clips(), Batch.of(clips().keypoints + torch.tensor([3.0, -2.0, 5.0]))
    for name in ("bone", "joint_motion"):
        frames, shifted = (network(inputs=[name]).flattened(item) for item in (batch, moved))
        torch.testing.assert_close(frames, shifted, atol=1e-5, rtol=0)
    motion = network(inputs=["joint_motion"]).flattened(batch)
    joint = network().flattened(batch)
    torch.testing.assert_close(motion.sum(1), joint[:, -1] - joint[:, 0], atol=1e-5, rtol=0)
    assert (motion[:, -1] == 0).all()
    root = NTU.joints.index("spine_shoulder")
    assert (network(inputs=["bone"]).flattened(batch)[..., 6 * root : 6 * root + 6] == 0).all()
    assert network(inputs=["joint", "bone"]).flattened(batch).shape == (4, 12, 300)


def test_first_weights() -> None:
    model = network(hidden=256, layers=2)
    for name, weight in model.layers.named_parameters():
        if weight.dim() == 2:
            rows, columns = weight.shape
            bound = (6 / (rows + columns)) ** 0.5
            assert 0.98 * bound < weight.abs().max() <= bound, name
        else:
            assert weight.abs().max() <= 256**-0.5
    head = make_projection("mlp", 256, 32)
    assert isinstance(head, nn.Sequential)
    last, first = head[2].weight, head[0].weight  # type: ignore[union-attr]
    assert 0.95 * (6 / 288) ** 0.5 < last.abs().max() <= (6 / 288) ** 0.5
    assert first.abs().max() <= 256**-0.5


def test_names_of_released_tensors() -> None:
    model = network()
    released = ["input_norm.weight", "input_norm.bias", "input_norm.running_mean", "input_norm.running_var"]
    released += ["input_norm.num_batches_tracked"]
    for layer in range(3):
        for tensor in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            released += [f"encoder.gru.{tensor}_l{layer}", f"encoder.gru.{tensor}_l{layer}_reverse"]
    assert {released_name(key) for key in released} == model.state_dict().keys()
    assert released_name("fc.0.weight") is None


def test_wrong_use() -> None:
    with pytest.raises(UserError, match="built for 2 persons, 25 joints and 3 channels and got 1, 25 and 3"):
        network()(torch.zeros(2, 1, 5, 25, 3))
    with pytest.raises(UserError, match="unknown recurrence 'backward'"):
        network(recurrence="backward")
