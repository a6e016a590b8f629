"""3D deformable transformer: frames and poses meet in cross-modal tokens. A reconstruction: no code was published.

Letters: N clips, M persons, T frames, V joints, J = M V, H W cells of a lattice, C width, K modal tokens, h heads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skelgraph.batch import Batch, ClipSpec, ModalitySpec, as_batch
from skelgraph.errors import UserError, unknown
from skelgraph.models.base import MODELS, Model
from skelgraph.models.heatmap import HeatmapVolume
from skelgraph.nn.deformable_block import DeformableBlock, Tokens
from skelgraph.nn.lattice import FeatureStem, LatticeTokens, LightStem, under_joints
from skelgraph.nn.pose_tokens import PoseTokens
from skelgraph.nn.stride_attention import Groups, GroupTable, joint_groups

PRESETS = {
    "tiny": {"width": 32, "heads": 4, "layers": 2},
    "small": {"width": 128, "heads": 4, "layers": 2},
    "base": {"width": 256, "heads": 8, "layers": 4},
}
POSE_TOKENS = ("graph", "joint_map")
HEATMAP = "heatmap"


@MODELS.register("deformable3d")
class Deformable3D(Model):
    """Frames, poses and cross-modal tokens in one transformer, whose last modal tokens are classified.

    Each modality has a modal token; all of them visit every modality in every block, which is the only road between
    them besides the frame tokens. Without a lattice the deformable attention is left out and the poses stand alone.
    A missing modality of a clip (or frame, person, joint) is masked before anything is computed from it.

    Args:
        spec: the input. A modality of shape (channels, h, w) is a lattice: frames, or ready features where its kind is
            ``features``.
        preset: ``tiny``, ``small`` or ``base``, for ``width`` (C), ``heads`` and ``layers`` (blocks) not given.
        lattices: names of modalities, or ``heatmap`` for one rendered from the poses; None takes all that are
            lattices, an empty list the poses alone.
        pose: off leaves the skeleton out.
        pose_tokens: ``graph``, or ``joint_map``, which adds what an early map of the first lattice shows at the joint.
        pose_layers: graph convolutions of the pose tokens.
        joint_map_positions: modality of shape (M, V, 2) that says where the joints lie in the picture, -1 and 1 at
            its edges; None takes the first two coordinates of the joints.
        joint_map_sigma: of the Gaussian around a joint, in the same units.
        stem: settings of `LightStem`. heatmap: settings of `HeatmapVolume`.
        frames: T of all tokens, by nearest index; None takes that of the first lattice, else of the skeleton.
        key_stride, offset_range, offset_kernel, offset_groups, offsets, sampling: see `TokenSearch`.
        top_k, position_bias: see `DeformableAttention`.
        joint_groups, joint_stride, joint_order, hops: see `skelgraph.nn.stride_attention.joint_groups`; a stride of
            None is the whole root of the number of joints: 5 for 25, 4 for 17 and 20, 3 for 13.
        temporal_strides: of the blocks in turn.
        cross_modal: off is the control that cannot relate the modalities: its logits are a sum over them.
        ratio: of the feed-forward parts. dropout: before the classifier. drop_path: see `TokenAttention`.
        modality_dropout: probability of hiding one of a training clip's modalities, never its only one.
        backend: ``dense``, or the edges of every step one by one.

    Shapes:
        features (N, K C).

    Raises:
        UserError: unknown or contradictory settings, clips of other shapes, a clip with no modality at all (found on
            the CPU; a device is not asked).

    Source: reconstruction of Kim, Ahn and Ko, ICCV 2023 (arXiv 2212.05638).
    """

    def __init__(
        self, spec: ClipSpec, *,
        preset: str = "small", width: int | None = None, heads: int | None = None, layers: int | None = None,
        lattices: Sequence[str] | None = None, pose: bool = True, pose_tokens: str = "graph", pose_layers: int = 1,
        joint_map_positions: str | None = None, joint_map_sigma: float = 0.1, stem: Mapping[str, Any] | None = None,
        heatmap: Mapping[str, Any] | None = None, frames: int | None = None, key_stride: Sequence[int] = (2, 2, 2),
        offset_range: Sequence[float] | None = None, offset_kernel: Sequence[int] | None = None,
        offset_groups: int = 4, offsets: bool = True, sampling: str = "grid", top_k: int = 0,
        position_bias: bool = False, joint_groups: str = "interleaved", joint_stride: int | None = None,
        joint_order: str = "walk", hops: int = 1,
        temporal_strides: Sequence[int] = (2, 4), cross_modal: bool = True, ratio: int = 4, dropout: float = 0.1,
        drop_path: float = 0.1, modality_dropout: float = 0.1, backend: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(spec)
        size = _size(preset, {"width": width, "heads": heads, "layers": layers})
        self.width, self.cross_modal, self.modality_dropout = size["width"], cross_modal, modality_dropout
        self.shapes = _lattice_shapes(spec, lattices, {"size": 56, **(heatmap or {})})
        if not self.shapes and not pose:
            raise UserError("deformable3d: neither lattice nor pose is left to look at.")
        if not temporal_strides or min(temporal_strides) < 1:
            raise UserError("temporal_strides: write a list of figures from 1 on, for example [2, 4].")
        self._add_lattices(stem or {}, heatmap or {})
        self.positions, self.sigma = joint_map_positions, joint_map_sigma
        self.pose: PoseTokens | None = None
        self.maps = pose and self._with_maps(pose_tokens)
        if pose:
            self.pose = self._pose_tokens(pose_layers, backend)
        self._add_codes(frames, len(self.shapes) + pose)
        self.table = GroupTable(_joint_groups(spec, pose, joint_groups, joint_stride, hops, joint_order))
        search = {"stride": key_stride, "reach": offset_range, "kernel": offset_kernel, "groups": offset_groups,
                  "offsets": offsets, "sampling": sampling}  # fmt: skip
        common: dict[str, Any] = {
            "cross_modal": cross_modal, "has_pose": pose, "ratio": ratio, "drop_path": drop_path, "backend": backend,
            "deformable": {"search": search, "top_k": top_k, "position_bias": position_bias},
        }  # fmt: skip
        strides = [temporal_strides[number % len(temporal_strides)] for number in range(size["layers"])]
        self.blocks = nn.ModuleList([
            DeformableBlock(list(self.shapes), self.width, size["heads"], temporal_stride=stride, **common)
            for stride in strides
        ])  # fmt: skip
        self.dropout = nn.Dropout(dropout)
        self.reset_classifier(spec.classes)

    def _add_lattices(self, stem: Mapping[str, Any], heatmap: Mapping[str, Any]) -> None:
        drawn = HEATMAP in self.shapes and HEATMAP not in self.spec.modalities
        self.heatmap = HeatmapVolume(**heatmap) if drawn else None
        self.stems = nn.ModuleDict({
            name: LatticeTokens(item.shape, self.width, _stem(item, stem)) for name, item in self.shapes.items()
        })  # fmt: skip

    def _add_codes(self, frames: int | None, modalities: int) -> None:
        """Codes of time, modal tokens, stand-ins for missing frames, and the last norm."""
        self.steps = frames
        limit = frames or next((item.steps for item in self.shapes.values()), self.spec.frames)
        self.time = nn.Parameter(torch.randn(limit, self.width) * 0.02)
        self.modal = nn.Parameter(torch.randn(modalities, self.width) * 0.02)
        met = bool(self.shapes) and self.cross_modal
        self.null = nn.Parameter(torch.randn(len(self.shapes), self.width) * 0.02) if met else None
        self.feature_dim = modalities * self.width
        # One norm over all tokens would relate them, which the control must not.
        self.norm = nn.LayerNorm(self.feature_dim if self.cross_modal else self.width)

    def _with_maps(self, kind: str) -> bool:
        """Whether the pose tokens look at the first lattice."""
        if kind not in POSE_TOKENS:
            raise unknown("pose_tokens", kind, POSE_TOKENS)
        if kind == "joint_map" and not self.shapes:
            raise UserError("pose_tokens: joint_map needs a lattice; choose graph, or add one.")
        if kind == "joint_map" and not self.cross_modal:
            raise UserError("pose_tokens: joint_map relates the modalities, which cross_modal: false forbids.")
        return kind == "joint_map"

    def _pose_tokens(self, layers: int, backend: str | None) -> PoseTokens:
        first = next(iter(self.stems.values()), None)
        extra = first.stem.early_channels if self.maps and isinstance(first, LatticeTokens) else 0
        spec = self.spec
        return PoseTokens(
            spec.topology, spec.channels, spec.persons, self.width, layers=layers, extra=extra, backend=backend
        )

    def forward_features(self, batch: Batch) -> Tensor:
        return self._features(batch, None)

    def explain(self, clips: Batch | Tensor) -> list[dict[str, Tensor]]:
        """What attended to what in each block, detached.

        Shapes:
            ``d3a.NAME.points`` (N, G, T', H', W', 3) in cells, ``.reference`` (N, T', H', W', 3), ``.attn_modal``
            (N, h, K, keys + K); ``jsa.joint`` (N, h, T, J) and ``jsa.rest`` (N, h, T) of the first frame token, or of
            the poses' modal token where there is none; ``tsa.frame`` (N, h, T), ``tsa.joint`` (N, h, T, J) and
            ``tsa.rest`` (N, h) of the last modal token. Joints, or frames, and rest sum to 1.
        """
        records: list[dict[str, Tensor]] = []
        self._features(as_batch(clips), records)
        return records

    def _features(self, batch: Batch, records: list[dict[str, Tensor]] | None) -> Tensor:
        tokens = self._embed(self._aligned(batch))
        groups = self.table()
        for block in self.blocks:
            record: dict[str, Tensor] | None = None if records is None else {}
            block(tokens, self.null, groups, record)
            if records is not None and record is not None:
                records.append(record)
        modal = tokens.modal
        normed = self.norm(modal.flatten(1)) if self.cross_modal else self.norm(modal).flatten(1)
        return self.dropout(normed)

    def _aligned(self, batch: Batch) -> Batch:
        """Every modality at the same T frames, each at its nearest index."""
        joints = batch.keypoints.shape
        expected = (self.spec.persons, self.spec.joints, self.spec.channels)
        if (joints[1], *joints[3:]) != expected:
            raise UserError(
                f"this network was built for M, V, C = {expected} and got {(joints[1], *joints[3:])}; set data.persons "
                "and the topology as it was trained."
            )
        given = [batch.modalities[name].values.shape[1] for name in self.shapes if name in batch.modalities]
        frames = self.steps or next(iter(given), joints[2])
        if frames > len(self.time):
            raise UserError(f"this network was built for {len(self.time)} frames and got {frames}; set frames.")

        def pick(x: Tensor, axis: int) -> Tensor:
            steps = x.shape[axis]
            at = [int((i + 0.5) * steps / frames) for i in range(frames)]
            return x if steps == frames else x.index_select(axis, torch.tensor(at, device=x.device))

        wanted = {*self.shapes, *([self.positions] if self.positions else [])} & batch.modalities.keys()
        return batch.with_(
            keypoints=pick(batch.keypoints, 2), score=pick(batch.score, 2), valid=pick(batch.valid, 2),
            modalities={name: type(batch.modalities[name])(pick(batch.modalities[name].values, 1),
                                                           pick(batch.modalities[name].valid, 1)) for name in wanted},
        )  # fmt: skip

    def _embed(self, batch: Batch) -> Tokens:
        n, _, frames = batch.valid.shape
        seen = batch.valid.unsqueeze(-1) & (batch.score > 0)
        pictures, there = [], []
        for name, item in self.shapes.items():
            frame, here = self._lattice(name, item, batch)
            pictures.append(frame)
            there.append(here)
        kept = self._kept([here.any(1) for here in there] + ([seen.flatten(1).any(1)] if self.pose is not None else []))
        there = [here & kept[:, number, None] for number, here in enumerate(there)]
        time = self.time[:frames]
        cells, early = [], []
        for embed, frame, here in zip(self.stems.values(), pictures, there, strict=True):
            made, low = embed(frame, here)
            cells.append(torch.where(here[:, :, None, None, None], made + time[:, None, None], 0.0))
            early.append(low)
        pose, valid = time.new_zeros(n, frames, 0, self.width), seen.new_zeros(n, frames, 0)
        if self.pose is not None:
            seen = seen & kept[:, -1, None, None, None]
            extra = self._under(batch, seen, early[0], there[0]) if self.maps else None
            made = self.pose(batch.keypoints, batch.score, seen, extra)
            made = torch.where(seen.unsqueeze(-1), made + time[:, None], 0.0)
            pose, valid = made.transpose(1, 2).flatten(2, 3), seen.transpose(1, 2).flatten(2)
        return Tokens(cells, there, pose, valid, self.modal.expand(n, -1, -1))

    def _lattice(self, name: str, item: ModalitySpec, batch: Batch) -> tuple[Tensor, Tensor]:
        """Frames of one lattice and which are there; none where the batch does not carry it."""
        if self.heatmap is not None and name == HEATMAP:
            return self.heatmap(batch), batch.valid.any(1)
        if name in batch.modalities:
            return batch.modalities[name].values, batch.modalities[name].valid
        n, _, frames = batch.valid.shape
        return batch.keypoints.new_zeros(n, frames, *item.shape), batch.valid.new_zeros(n, frames)

    def _under(self, batch: Batch, seen: Tensor, early: Tensor, there: Tensor) -> Tensor:
        """Joint-map tokens."""
        shown = seen & there[:, None, :, None]
        if self.positions is None:
            return under_joints(early, batch.keypoints[..., :2], shown, self.sigma)
        if self.positions not in batch.modalities:
            raise UserError(f"joint_map_positions: the clips have no modality '{self.positions}'.")
        where = batch.modalities[self.positions]
        return under_joints(early, where.values.transpose(1, 2), shown & where.valid[:, None, :, None], self.sigma)

    def _kept(self, present: list[Tensor]) -> Tensor:
        """Modalities ``(N, K)`` of each clip that are looked at: all, but one in training now and then."""
        here = torch.stack(present, dim=1)
        if here.device.type == "cpu" and not torch.compiler.is_compiling() and not bool(here.any(1).all()):
            number = int((~here.any(1)).nonzero()[0])
            raise UserError(f"clip {number} of the batch has no modality at all; leave it out.")
        if not self.training or self.modality_dropout == 0 or here.shape[1] == 1:
            return torch.ones_like(here)
        struck = torch.rand(here.shape, device=here.device).masked_fill(~here, -1.0).argmax(1, keepdim=True)
        hide = (torch.rand(len(here), 1, device=here.device) < self.modality_dropout) & (here.sum(1, keepdim=True) > 1)
        return ~(hide & torch.zeros_like(here).scatter(1, struck, True))


def _size(preset: str, given: Mapping[str, int | None]) -> dict[str, int]:
    """Width, heads and blocks."""
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    return PRESETS[preset] | {key: value for key, value in given.items() if value is not None}


def _lattice_shapes(spec: ClipSpec, names: Sequence[str] | None, heatmap: Mapping[str, Any]) -> dict[str, ModalitySpec]:
    """The lattices to build, by name."""
    known = {name: item for name, item in spec.modalities.items() if len(item.shape) == 3}
    if isinstance(names, str):
        raise UserError(f"lattices: write a list, [{names}].")
    if names is None:
        return known
    size = int(heatmap["size"])
    known.setdefault(HEATMAP, ModalitySpec("frames", spec.frames, (spec.joints, size, size)))
    for name in names:
        if name not in known:
            raise unknown("lattice", name, known)
    return {name: known[name] for name in names}


def _stem(item: ModalitySpec, settings: Mapping[str, Any]) -> LightStem | FeatureStem:
    channels = item.shape[0]
    return FeatureStem(channels) if item.kind == "features" else LightStem(channels, **settings)


def _joint_groups(spec: ClipSpec, pose: bool, kind: str, stride: int | None, hops: int, order: str) -> Groups:
    if not pose:
        none = torch.zeros(1, 0, dtype=torch.long)
        return Groups(none, none.bool(), none.t(), none.t().float())
    step = math.isqrt(spec.joints) if stride is None else stride
    return joint_groups(spec.topology, spec.persons, kind=kind, stride=step, hops=hops, order=order)
