"""The HaLP golden case: encoder, k-means, positives, one whole training step, the step of three streams."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skelgraph.batch import Batch, ClipSpec
from skelgraph.methods.contrastive import WHOLE, Branch, contrast_logits, distillation, info_nce
from skelgraph.methods.hallucinate import Draws, Positives, hallucinate
from skelgraph.methods.halp import HaLP
from skelgraph.methods.sphere import angle, sphere_kmeans, unit
from skelgraph.models import Model, create
from skelgraph.models.recurrent import Recurrent, released_name
from skelgraph.topology import Topology
from skelgraph.weights import load_released

SHARED = Path(os.environ.get("SKELGRAPH_SHARED", Path(__file__).parents[3] / "shared"))
CASE = SHARED / "golden" / "halp" / "case_a.npz"
pytestmark = pytest.mark.skipif(not CASE.exists(), reason=f"no golden data at {CASE}; set SKELGRAPH_SHARED")

INPUTS = {"joint": "joint", "motion": "joint_motion", "bone": "bone"}


class Case:
    """The arrays as tensors."""

    def __init__(self) -> None:
        with np.load(CASE) as data:
            self.arrays = {key: data[key] for key in data}
        self.meta: dict[str, Any] = json.loads(self.arrays["meta"].tobytes())

    def __getitem__(self, key: str) -> Tensor:
        return torch.from_numpy(np.asarray(self.arrays[key]))

    def clips(self, key: str) -> Batch:
        return Batch.of(self[key].permute(0, 4, 2, 3, 1).contiguous())

    def under(self, prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): self[key] for key in self.arrays if key.startswith(prefix)}


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


def same(ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(ours.detach(), theirs, atol=tolerance, rtol=0)


def spec(frames: int = 32) -> ClipSpec:
    return ClipSpec(Topology.load("ntu25"), channels=3, persons=2, frames=frames)


def load(encoder: nn.Module, projection: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Released tensors of one encoder into network and projection, every one of them used."""
    own = {name: value for key, value in state.items() if (name := released_name(key)) is not None}
    head = {key.removeprefix("fc."): value for key, value in state.items() if released_name(key) is None}
    encoder.load_state_dict(own)
    projection.load_state_dict(head)


def projected(case: Case, encoder: Recurrent) -> nn.Sequential:
    width, dim = encoder.feature_dim, case.meta["dim"]
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, dim))


def build(case: Case, name: str = "joint") -> tuple[Recurrent, nn.Sequential]:
    encoder = Recurrent(spec(), hidden=case.meta["hidden"], layers=case.meta["layers"], inputs=[INPUTS[name]])
    head = projected(case, encoder)
    load(encoder, head, case.under("sd.encoder_q."))
    return encoder.eval(), head.eval()


def joints(case: Case, key: str) -> Tensor:
    return case[key].permute(0, 4, 2, 3, 1).contiguous()


@pytest.mark.parametrize("name", INPUTS)
def test_encoder_by_the_importer(case: Case, name: str) -> None:
    """As a user loads a released file: joints in, embeddings out, not normalised."""
    network = load_released("halp", case.under("sd."), topology="ntu25", inputs=[INPUTS[name]])
    same(network(joints(case, "enc.x")), case[f"enc.z_{name}"], 2e-5)
    same(network.encoder(joints(case, "enc.x")).features, case[f"enc.h_{name}"], 2e-5)


@pytest.mark.parametrize("name", INPUTS)
def test_streams_of_one_file_by_the_importer(case: Case, name: str) -> None:
    ending = "" if name == "joint" else f"_{name}"
    network = load_released("halp", case.under("mm.sd."), inputs=[INPUTS[name]])
    query = unit(network.train()(joints(case, "mm.xq")))
    same(query @ case[f"mm.sd.queue{ending}"] / case.meta["T"], case[f"mm.logits{ending}"][:, 1:], 1e-4)


@pytest.mark.parametrize("name", INPUTS)
def test_encoder(case: Case, name: str) -> None:
    encoder, head = build(case, name)
    clips = case.clips("enc.x")
    same(encoder.flattened(clips), case[f"enc.seq_{name}"], 1e-6)
    h = encoder.forward_features(clips)
    same(h, case[f"enc.h_{name}"], 2e-5)
    same(head(h), case[f"enc.z_{name}"], 2e-5)
    if name == "joint":
        same(encoder.all_frames(clips)[0], case["enc.hidden_all_joint"], 2e-5)


def test_training_mode(case: Case) -> None:
    encoder, head = build(case)
    z = head(encoder.train().forward_features(case.clips("enc.x")))
    same(z, case["enc.train_z_joint"], 2e-5)
    assert encoder.norm.running_mean is not None
    assert encoder.norm.running_var is not None
    same(encoder.norm.running_mean, case["enc.train_running_mean"], 2e-5)
    same(encoder.norm.running_var, case["enc.train_running_var"], 2e-5)


def test_a_truly_bidirectional_network_is_another(case: Case) -> None:
    encoder = Recurrent(spec(), hidden=64, recurrence="bidirectional")
    encoder.load_state_dict(build(case)[0].state_dict())
    out, _ = encoder.eval().all_frames(case.clips("enc.x"))
    assert 0.3 < (out[:, -1] - case["enc.h_joint"]).abs().max() < 1.0


def test_kmeans(case: Case) -> None:
    points, start = case["km.features"], case["km.init"]
    spare = torch.zeros(100, len(start), dtype=torch.long)
    found = sphere_kmeans(points, start, spare, 100)
    same(found.centres, case["km.centroids"], 1e-4)
    assert torch.equal(found.labels, case["km.labels"])
    same(angle(points, found.centres[found.labels]).square().sum(), case["km.inertia"], 1e-4)


def test_newest_keys(case: Case) -> None:
    method = halp(case)
    assert torch.equal(method.branches[WHOLE].queue.newest(case.meta["qels"]), case["km.features"])


def positives(case: Case, group: str, published: bool) -> Positives:
    anchors = "pgx" if group == "pgx" else "pg"
    back = torch.zeros(case[f"{group}.t"].shape) if group == "pgmax" else case[f"{group}.u"]
    draws = Draws(case[f"{group}.local_idx"], back)
    number, margin = (2 if group == "pgx" else 20), (0.01 if group == "pgmax" else 0.0)
    return hallucinate(case[f"{anchors}.anchor"], case[f"{anchors}.prototypes"], draws,
                       number=number, margin=margin, published=published)  # fmt: skip


@pytest.mark.parametrize("group", ["pg", "pgmax", "pgx"])
def test_published_positives(case: Case, group: str) -> None:
    made = positives(case, group, published=True)
    assert torch.equal(made.nearest, case[f"{group}.nearest"])
    assert torch.equal(made.target, case[f"{group}.target"])
    same(made.limit, case[f"{group}.t_max"], 1e-4)
    same(made.t, case[f"{group}.t"], 1e-4)
    same(made.points, case[f"{group}.unit"], 1e-4)
    assert torch.equal(made.kept, case[f"{group}.mask"])


@pytest.mark.parametrize("group", ["pg", "pgmax", "pgx"])
def test_corrected_positives_differ_where_the_published_ones_are_wrong(case: Case, group: str) -> None:
    made, right = positives(case, group, published=False), case[f"{group}.branch_ok"]
    same(made.limit[right], case[f"{group}.t_max"][right], 1e-4)
    # A margin beyond the limit ends at the anchor; the published code goes on behind it.
    ahead = right & (case[f"{group}.t"] >= 0)
    same(made.points[ahead], case[f"{group}.unit"][ahead], 1e-4)
    assert torch.equal(made.kept[ahead], case[f"{group}.mask"][ahead])
    wrong = ~right
    assert int(wrong.sum()) == (5 if group == "pgx" else 0)
    apart = (made.limit - case[f"{group}.t_max"]).abs()
    same(apart[wrong], torch.pi / case[f"{group}.omega"][wrong], 1e-4)
    assert ((made.points - case[f"{group}.unit"]).abs().amax(-1)[wrong] > 0.1).all()
    assert (made.limit[wrong] > 0).all()
    assert (case[f"{group}.t_max"][wrong] < 0).all()


class Scripted(HaLP):
    """HaLP whose chance is given."""

    script: Mapping[str, Draws]

    def chance(self, stream: str, keys: Tensor) -> Draws:
        return self.script[stream]


def fill(method: HaLP, stream: str, queue: Tensor, pointer: Tensor, prototypes: Tensor) -> None:
    """The state of one stream, warm and with fresh prototypes."""
    branch = method.branches[stream]
    assert isinstance(branch, Branch)
    branch.queue.keys.copy_(queue.T)
    branch.queue.seen.set(2 * len(branch.queue) + int(pointer))
    method.of(stream).centres.copy_(prototypes)
    method.of(stream).age.set(0)


def halp(case: Case) -> Scripted:
    meta = case.meta
    encoder = Recurrent(spec(), hidden=meta["hidden"], layers=meta["layers"])
    method = Scripted(
        encoder, queue=meta["K"], momentum=meta["m"], temperature=meta["T"], dim=meta["dim"], prototypes=meta["P"],
        newest=meta["qels"], positives=meta["npos"], candidates=meta["ignore"], skip=meta["skip"],
        hardness=float(meta["lam"]), weight=meta["mu"],
    )  # fmt: skip
    branch = method.branches[WHOLE]
    load(encoder, branch.projection, case.under("sd.encoder_q."))
    load(branch.key.encoder, branch.key.projection, case.under("sd.encoder_k."))
    fill(method, WHOLE, case["sd.queue"], case["sd.queue_ptr"], case["sd.prototypes"])
    method.script = {WHOLE: Draws(case["step.local_idx"], case["step.u"])}
    return method.train()


def tensors(method: HaLP, of: str) -> dict[str, Tensor]:
    """Parameters, buffers and gradients of query (``q``) or key (``k``) encoder by released names."""
    branch = method.branches[WHOLE]
    assert isinstance(branch, Branch)
    encoder: Model = method.model if of == "q" else branch.key.encoder
    head = branch.projection if of == "q" else branch.key.projection
    named = {f"fc.{key}": value for key, value in [*head.named_parameters(), *head.named_buffers()]}
    own = dict([*encoder.named_parameters(), *encoder.named_buffers()])
    for layer in range(3):
        for tensor in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            for ending in ("", "_reverse"):
                key = f"encoder.gru.{tensor}_l{layer}{ending}"
                named[key] = own[str(released_name(key))]
    for key in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        named[f"input_norm.{key}"] = own[f"norm.{key}"]
    return named


def test_the_parts_of_a_step(case: Case) -> None:
    method = halp(case)
    branch = method.branches[WHOLE]
    queries = method.queries(case.clips("step.xq"))[WHOLE]
    branch.follow(method.model, case.meta["m"])
    keys = method.keys(case.clips("step.xk"))[WHOLE]
    same(queries, case["step.q"], 1e-4)
    same(keys, case["step.k"], 1e-4)
    logits = contrast_logits(queries, keys, branch.queue.keys, method.temperature)
    same(logits, case["step.logits"], 1e-4)
    same(info_nce(logits), case["step.loss_ce"], 1e-4)
    made = method.hallucinated(WHOLE, keys)
    same(keys @ method.of(WHOLE).centres.T, case["step.sims"], 1e-4)
    assert case["step.branch_ok"].all()
    assert torch.equal(made.nearest, case["step.nearest"])
    assert torch.equal(made.target, case["step.target"])
    same(made.limit, case["step.t_max"], 1e-4)
    same(made.t, case["step.t"], 1e-4)
    same(made.points, case["step.positives"], 1e-4)
    same(torch.einsum("nd,nsd->ns", queries, made.points), case["step.pos_dot"], 1e-4)
    assert torch.equal(made.kept, case["step.mask"])
    assert int(made.kept.sum()) == int(case["step.num_good"])


def test_a_whole_step(case: Case) -> None:
    method, meta = halp(case), case.meta
    optimizer = torch.optim.SGD(
        [p for p in method.parameters() if p.requires_grad], meta["lr"], meta["mom"], weight_decay=meta["wd"]
    )
    figures = method.step((case.clips("step.xq"), case.clips("step.xk")), 0.0)
    same(figures["loss_nce"], case["step.loss_ce"], 1e-4)
    same(method.weight * figures["loss_halp"], case["step.loss_halp_weighted"], 1e-4)
    same(figures["loss"], case["step.loss"], 1e-4)
    same(figures["kept"], case["step.mask"].float().mean(), 1e-6)
    figures["loss"].backward()
    mine = tensors(method, "q")
    full, norms = case.under("step.grad.encoder_q."), case.under("step.gradnorm.encoder_q.")
    assert len(full) == 19
    assert len(norms) == len(list(method.model.parameters())) + 4
    for key, expected in full.items():
        same(mine[key].grad, expected, 2e-3 * float(expected.abs().max()))
    for key, expected in norms.items():
        same(mine[key].grad.norm(), expected, 2e-3 * float(expected))
    optimizer.step()
    method.after_step()
    queue = method.branches[WHOLE].queue
    same(queue.keys.T, case["step.after.queue"], 1e-4)
    assert queue.pointer == int(case["step.after.queue_ptr"])
    compared = 0
    for of in ("q", "k"):
        state = tensors(method, of)
        for key, expected in case.under(f"step.after.encoder_{of}.").items():
            same(state[key], expected, 1e-4 * max(1.0, float(expected.abs().max())))
            compared += 1
    assert compared == 9


def three_streams(case: Case) -> Scripted:
    meta, mm = case.meta, case.meta["mm"]
    base = {"name": "gru", "hidden": meta["mm_hidden"]}
    model = create("multi_stream", spec(16), base=base, streams=list(INPUTS.values()))
    method = Scripted(
        model, queue=meta["mm_K"], dim=meta["mm_dim"], prototypes=meta["mm_P"], newest=mm["qels"],
        positives=mm["npos"], candidates=mm["ignore"], skip=mm["skip"], weight=meta["mu"], distill=mm["cmd_weight"],
        topk=meta["mm_topk"], teacher=mm["teacher_T"], student=mm["student_T"],
    )  # fmt: skip
    script = {}
    for (name, stream), short in zip(INPUTS.items(), "jmb", strict=True):
        ending = "" if name == "joint" else f"_{name}"
        network, branch = method.networks[stream], method.branches[stream]
        load(network, branch.projection, case.under(f"mm.sd.encoder_q{ending}."))
        load(branch.key.encoder, branch.key.projection, case.under(f"mm.sd.encoder_k{ending}."))
        state = [case[f"mm.sd.{key}"] for key in (f"queue{ending}", f"queue_ptr{ending}", f"prototypes_{short}")]
        fill(method, stream, *state)
        script[stream] = Draws(case[f"mm.local_idx_{short}"], case[f"mm.u_{short}"])
    method.script = script
    return method.train()


def test_three_streams(case: Case) -> None:
    method = three_streams(case)
    queries = method.queries(case.clips("mm.xq"))
    for _, network, branch in method.streams():
        branch.follow(network, method.momentum)
    keys = method.keys(case.clips("mm.xk"))
    queues = {name: branch.queue.keys for name, _, branch in method.streams()}
    nce = torch.zeros(())
    for (name, stream), short in zip(INPUTS.items(), "jmb", strict=True):
        logits = contrast_logits(queries[stream], keys[stream], queues[stream], method.temperature)
        same(logits, case["mm.logits" + ("" if name == "joint" else f"_{name}")], 1e-4)
        nce = nce + info_nce(logits)
        same(keys[stream] @ method.of(stream).centres.T, case[f"mm.sims_{short}"], 1e-4)
        made = method.hallucinated(stream, keys[stream])
        right = case[f"mm.branch_ok_{short}"]
        same(made.points[right], case[f"mm.positives_{short}"][right], 1e-4)
        assert torch.equal(made.kept[right], case[f"mm.mask_{short}"][right])
    distilled = distillation(queries, keys, queues, method.topk, method.teacher, method.student)
    same(distilled, case["mm.loss_cmd"], 1e-4)
    figures = three_streams(case).step((case.clips("mm.xq"), case.clips("mm.xk")), 0.0)
    same(figures["loss_distill"], case["mm.loss_cmd"], 1e-4)
    same(method.weight * figures["loss_halp"], case["mm.loss_halp_weighted"], 1e-4)
    same(figures["loss"], nce + case["mm.loss_cmd"] + case["mm.loss_halp_weighted"], 3e-4)
