"""M-Mixer: a recurrent unit for each modality that is told, while it reads, what the other modalities have seen.

Letters: N clips, M modalities, T steps, V joints, D width, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skelgraph.batch import Batch, ClipSpec, Output, as_batch
from skelgraph.errors import UserError, unknown
from skelgraph.models.base import MODELS, Exports, Model, load_exact
from skelgraph.models.extractors import SKELETON, Choice, Extractor, Steps, build_extractor
from skelgraph.nn.cfem import CFEM, MeanContent, Tokens, sine_code
from skelgraph.nn.early_fusion import RECURRENT, ConcatRecurrent, TokenTransformer
from skelgraph.nn.mcu import MCU

CONTENTS = ("cfem", "mean", "none")
MIXES = ("add", "concat", "film")
KEYS = ("frame", "joint")
UNITS = ("mcu", *RECURRENT, "transformer")
FUSED = "fused"


@dataclass(frozen=True)
class Features:
    """What the fusing part reads.

    Attributes:
        steps: of each modality (N, T, D); joints: (N, T, V, D) where CFEM reads joints, else None; valid: (N, T) bool;
        present (N, M) bool, which modalities a clip has.
    """

    steps: list[Tensor]
    joints: list[Tensor | None]
    valid: list[Tensor]
    present: Tensor


@dataclass(frozen=True)
class Explanation:
    """What a clip's answer rests on.

    Attributes:
        attention: of each CFEM layer (N, heads, M Q, S); empty without CFEM.
        tokens: what the S columns are of; None without CFEM.
        gates: reset and keep gate (N, T, D) of each modality.
    """

    attention: list[Tensor]
    tokens: Tokens | None
    gates: Mapping[str, tuple[Tensor, Tensor]]


@MODELS.register("mmixer")
class MMixer(Model):
    """Modality Mixer: extractor, linear map and `MCU` for each modality, coupled by the content that `CFEM` gives.

    ``f_m = Linear_m(E_m(x_m)); g_m = CFEM({f_j, j != m}); h_m = MCU_m(f_m, g_m); logits = b + sum_m V_m h_m``. The sum
    runs over the modalities that a clip has, times M over their number. A modality is absent where the batch lacks it
    or none of its steps is valid; its content then has exactly no influence.

    Args:
        spec: the input; its ``modalities`` beside the skeleton.
        modalities: which to use, ``[skeleton, depth]``, or with their extractors, ``{skeleton: {name: graph, model:
            ctrgcn}, depth: frame2d}``; None takes the skeleton and all of the input's. See `EXTRACTORS`.
        dim: D.
        content: what a unit is told: ``cfem``, the ``mean`` of the first version, or ``none``, which is late fusion.
        mix: how it is told, see `Mix`.
        queries, layers, heads, own_keys: see `CFEM`.
        cfem_keys: CFEM reads a token a ``frame``, or one for every ``joint`` where an extractor has them.
        gate_norm: see `MCU`.
        mixer_time: the unit, too, receives the code of time.
        unit: ``mcu``; or, for comparison and without content, a ``gru`` or ``lstm`` over the concatenated features, or
            a ``transformer`` of ``layers`` layers over all steps.
        hidden: state of that ``gru`` or ``lstm``; None is D.
        modality_dropout: chance of each modality of a clip to be left out in training; never all.
        dropout: in CFEM and before the classifier.
        aux: weight of a classifier of its own for each modality; 0 has none. With it, `Output.streams` has these and
            the ``fused`` logits.
        backend: of CFEM, see `propagate`.

    Shapes:
        joints (N, persons, T, V, C) and `Batch.modalities`; features (N, M D), or (N, hidden) or (N, D) of another
        unit; logits (N, K).

    Raises:
        UserError: unknown modality, extractor or option; modalities of another shape; a clip without any modality.

    Source: Lee et al., WACV 2023 (arXiv 2208.11314) and arXiv 2311.12344. A reconstruction, see docs/mmixer.md.
    """

    def __init__(
        self,
        spec: ClipSpec,
        *,
        modalities: Sequence[str] | Mapping[str, Choice | None] | None = None,
        dim: int = 256,
        content: str = "cfem",
        mix: str = "add",
        queries: int = 1,
        layers: int = 1,
        heads: int = 8,
        own_keys: bool = False,
        cfem_keys: str = "frame",
        gate_norm: bool = False,
        mixer_time: bool = False,
        unit: str = "mcu",
        hidden: int | None = None,
        modality_dropout: float = 0.1,
        dropout: float = 0.1,
        aux: float = 0.0,
        backend: str | None = None,
    ) -> None:
        super().__init__(spec)
        options = (("content", content, CONTENTS), ("mix", mix, MIXES), ("cfem_keys", cfem_keys, KEYS),
                   ("unit", unit, UNITS))  # fmt: skip
        for kind, value, allowed in options:
            if value not in allowed:
                raise unknown(kind, value, allowed)
        if not 0 <= modality_dropout < 1:
            raise UserError(f"modality_dropout must be from 0 to below 1, got {modality_dropout}.")
        if aux and unit != "mcu":
            raise UserError(f"aux needs a state for each modality; the unit '{unit}' has one for all. Set aux: 0.")
        plan = _plan(modalities, spec)
        self.names = tuple(plan)
        self.by_joint, self.mixer_time, self.modality_dropout = cfem_keys == "joint", mixer_time, modality_dropout
        self.aux_weight = aux
        self.extractors = nn.ModuleDict({name: build_extractor(spec, name, choice) for name, choice in plan.items()})
        self.projections = nn.ModuleDict({name: nn.Linear(x.out_dim, dim) for name, x in self._extractors().items()})
        count = len(plan)
        self.content: nn.Module | None = None
        self.units: nn.ModuleDict | None = None
        self.joined: nn.Module | None = None
        if unit == "mcu":
            # One modality alone has nobody to hear of.
            content = content if count > 1 else "none"
            if content == "cfem":
                self.content = CFEM(count, dim, queries=queries, layers=layers, heads=heads, dropout=dropout,
                                    own_keys=own_keys, backend=backend)  # fmt: skip
            elif content == "mean":
                self.content = MeanContent(count, dim)
            mix = mix if self.content is not None else "none"
            self.units = nn.ModuleDict({name: MCU(dim, mix=mix, gate_norm=gate_norm) for name in plan})
            self.feature_dim = count * dim
        else:
            self.joined = (
                TokenTransformer(count, dim, heads=heads, layers=layers, dropout=dropout)
                if unit == "transformer"
                else ConcatRecurrent(count, dim, hidden or dim, unit)
            )
            self.feature_dim = self.joined.out_dim
        self.dropout = nn.Dropout(dropout)
        self.aux: nn.ModuleDict | None = None
        if spec.classes:
            self.reset_classifier(spec.classes)

    def _extractors(self) -> dict[str, Extractor]:
        return dict(self.extractors.items())  # type: ignore[arg-type]

    # -- what the fusing part reads ----------------------------------------------------------------------------------

    def features(self, batch: Batch) -> Features:
        """Features of every modality at width D, zero where they are not valid."""
        self._check(batch)
        found = {name: extractor(batch) for name, extractor in self._extractors().items()}
        present = torch.stack([item.valid.any(1) for item in found.values()], dim=1)
        _refuse_empty(batch, present)
        if self.training and self.modality_dropout:
            present = drop_modalities(present, self.modality_dropout)
        kept = {name: self._kept(name, item, present[:, m]) for m, (name, item) in enumerate(found.items())}
        return Features(
            [item.values for item in kept.values()],
            [item.joints for item in kept.values()],
            [item.valid for item in kept.values()],
            present,
        )

    def _kept(self, name: str, item: Steps, present: Tensor) -> Steps:
        """Projected, and zero where a step or the whole modality is not there."""
        project, valid = self.projections[name], item.valid & present.unsqueeze(1)

        def masked(x: Tensor) -> Tensor:
            # Before the projection as well: zero times NaN is NaN in the gradient of its weights.
            here = (valid.unsqueeze(-1), item.valid.unsqueeze(-1))
            after, before = (mask.unsqueeze(-1) if x.dim() == 4 else mask for mask in here)
            return torch.where(after, project(torch.where(before, x, 0.0)), 0.0)

        joints = masked(item.joints) if self.by_joint and item.joints is not None else None
        return Steps(masked(item.values), valid, joints)

    def _check(self, batch: Batch) -> None:
        for name in batch.modalities:
            if name not in self.spec.modalities:
                raise unknown("modality", name, self.spec.modalities, "this batch")

    # -- fusing ------------------------------------------------------------------------------------------------------

    def contents(self, found: Features) -> Tensor:
        """What each modality is told of the others, ``(N, M, D)``."""
        if self.content is None:
            return torch.zeros_like(found.steps[0][:, :1]).expand(-1, len(self.names), -1)
        content: Tensor = self.content(self._keys(found), found.valid)
        return content

    def _keys(self, found: Features) -> list[Tensor]:
        return [x if j is None else j for x, j in zip(found.steps, found.joints, strict=True)]

    def _units(self, found: Features) -> list[tuple[MCU, Tensor, Tensor, Tensor]]:
        """Unit, features, content and valid steps of each modality."""
        assert self.units is not None
        told, units = self.contents(found).unbind(1), self.units.values()
        timed = [x + sine_code(x.shape[1], x.shape[2], x) for x in found.steps] if self.mixer_time else found.steps
        return list(zip(units, timed, told, found.valid, strict=True))  # type: ignore[arg-type]

    def states(self, found: Features) -> list[Tensor]:
        """States ``(N, T, D)`` of every modality."""
        return [unit(f, g, valid) for unit, f, g, valid in self._units(found)]

    def _joined(self, found: Features) -> Tensor:
        """One vector a clip before dropout; absent modalities are zero and the others make up for them."""
        if self.joined is not None:
            out: Tensor = self.joined(found.steps, found.valid)
            return out
        last = torch.stack([states[:, -1] for states in self.states(found)], dim=1)
        here = found.present.unsqueeze(-1)
        scale = len(self.names) / here.sum(1, keepdim=True).clamp(min=1)
        return (torch.where(here, last, 0.0) * scale.to(last.dtype)).flatten(1)

    def forward_features(self, batch: Batch) -> Tensor:
        out: Tensor = self.dropout(self._joined(self.features(batch)))
        return out

    # -- answers -----------------------------------------------------------------------------------------------------

    def forward(self, clips: Batch | Tensor) -> Output:
        found = self.features(as_batch(clips))
        features = self.dropout(self._joined(found))
        if not self.spec.classes:
            return Output(logits=features.new_zeros(len(features), 0), features=features)
        logits = self.head(features)
        if self.aux is None:
            return Output(logits=logits, features=features)
        scale = found.present.sum(1, keepdim=True).clamp(min=1) / len(self.names)
        states = (features * scale.to(features.dtype)).chunk(len(self.names), dim=1)
        streams = {FUSED: logits}
        for m, (name, head) in enumerate(self.aux.items()):
            answer = _scaled_gradient(head(states[m]), self.aux_weight)
            streams[name] = torch.where(found.present[:, m : m + 1], answer, answer.detach())
        return Output(logits=logits, features=features, streams=streams)

    def reset_classifier(self, classes: tuple[str, ...]) -> None:
        super().reset_classifier(classes)
        dim = self.feature_dim // len(self.names)
        heads = {name: nn.Linear(dim, len(classes)) for name in self.names}
        self.aux = nn.ModuleDict(heads) if classes and self.aux_weight else None

    def consume(self, exports: Exports) -> None:
        """Start from another M-Mixer of the same modalities; classifiers stay as they are."""
        if "backbone" not in exports:
            raise UserError(f"MMixer needs an exported 'backbone'; got {sorted(exports)}.")
        heads = ("head.", "aux.")
        load_exact(self, {k: v for k, v in exports["backbone"].items() if not k.startswith(heads)}, ignore=heads)

    def explain(self, clips: Batch | Tensor) -> Explanation:
        """Attention and gates of a batch.

        Raises:
            UserError: a unit that has no gates.
        """
        if self.units is None:
            raise UserError("only the unit 'mcu' can be explained.")
        found = self.features(as_batch(clips))
        attention, tokens = (
            self.content.attention(self._keys(found), found.valid) if isinstance(self.content, CFEM) else ([], None)
        )
        gates = [unit.gates(f, g, unit(f, g, valid)) for unit, f, g, valid in self._units(found)]
        return Explanation(attention, tokens, dict(zip(self.names, gates, strict=True)))


def _plan(modalities: Sequence[str] | Mapping[str, Choice | None] | None, spec: ClipSpec) -> dict[str, Choice | None]:
    """The extractor of each modality; None is the usual one."""
    if modalities is None:
        return dict.fromkeys((SKELETON, *spec.modalities))
    if isinstance(modalities, str):
        raise UserError(f"modalities: write a list, [{modalities}].")
    if not modalities:
        raise UserError("modalities: name at least one.")
    return dict(modalities) if isinstance(modalities, Mapping) else dict.fromkeys(modalities)


def drop_modalities(present: Tensor, chance: float) -> Tensor:
    """Leave out each modality of ``present (N, M)`` by ``chance``, but the luckiest that a clip has always stays."""
    luck = torch.where(present, torch.rand(present.shape, device=present.device), -1.0)
    return present & ((luck >= chance) | (luck == luck.amax(1, keepdim=True)))


def _refuse_empty(batch: Batch, present: Tensor) -> None:
    """Refuse a clip that has nothing. Only on the CPU: elsewhere the question would make the host wait in every step.

    There such a clip gets the classifier's bias; the loader is what keeps it out.
    """
    if torch.compiler.is_compiling() or present.device.type != "cpu":
        return
    empty = batch.index[~present.any(1)].tolist()
    if empty:
        listing = ", ".join(map(str, empty[:6])) + (" ..." if len(empty) > 6 else "")
        raise UserError(f"no modality of this model is there in clip {listing} of the store; leave such clips out.")


def _scaled_gradient(x: Tensor, weight: float) -> Tensor:
    """``x``, whose gradient counts ``weight`` times: a loss that adds it up unweighted then gives the weighted one."""
    return weight * x + ((1 - weight) * x).detach()
