"""The one primitive of every graph layer: a weighted neighbourhood sum, with three interchangeable backends.

``out[v] = sum_k sum_u w_k[v, u] x_k[u]``. The backends ``dense`` (a small matrix product; the default), ``pyg``
(PyTorch Geometric message passing on one static graph) and ``dgl`` (the same edges through ``dgl.ops``) give the same
values and gradients. Choose one by argument, for the process by `set_backend`, or for a while by `backend`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import Tensor

from skelgraph.errors import unknown
from skelgraph.topology import Topology

BACKENDS = ("dense", "pyg", "dgl")
# Every block enters itself here: name -> factory of (module, example input) on a topology; the parity test of the
# backends then covers it without being told.
BLOCKS: dict[str, Callable[[Topology], tuple[torch.nn.Module, Tensor]]] = {}
_default = "dense"


def set_backend(name: str) -> None:
    """Make ``name`` the backend of every layer that was not given its own.

    Raises:
        UserError: unknown name.
    """
    global _default
    _default = resolve(name)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Use another default backend within a ``with`` block."""
    before = _default
    set_backend(name)
    try:
        yield
    finally:
        set_backend(before)


def resolve(name: str | None) -> str:
    """``name`` if it is a backend, the default for None.

    Raises:
        UserError: unknown name.
    """
    if name is None:
        return _default
    if name not in BACKENDS:
        raise unknown("backend", name, BACKENDS)
    return name


def propagate(
    x: Tensor,
    weight: Tensor,
    topology: Topology | None = None,
    backend: str | None = None,
    *,
    per_relation: bool = False,
    all_pairs: bool = False,
) -> Tensor:
    """Weighted neighbourhood sum ``out[v] = sum_k sum_u w_k[v, u] x_k[u]``.

    Args:
        x: node features.
        weight: ``w``; where it has four or five axes, the first is the leading axis N of ``x``.
        topology: its edges and self-loops are edges of the sparse backends even where the weight is zero, so that a
            zero weight still gets its gradient. The dense backend needs none.
        backend: ``dense``, ``pyg`` or ``dgl``; None takes the default.
        per_relation: ``x`` has an axis K before the joints, one set of features for each relation.
        all_pairs: every pair of joints is an edge of the sparse backends, for a graph that is learnt without
            constraint: there a zero may become anything.

    Shapes:
        x (..., V, C), or (..., K, V, C) with ``per_relation``; weight (V, V), (K, V, V), (N, K, V, V) or
        (N, K, V, V, C); out (..., V, C).

    Raises:
        UserError: unknown backend, or DGL is asked for and missing.
    """
    if not per_relation and weight.dim() > 2:
        weight = weight.sum(0) if weight.dim() == 3 else weight.sum(1, keepdim=True)
    if per_relation and weight.dim() == 2:
        weight = weight.unsqueeze(0)
    chosen = resolve(backend)
    if chosen == "dense":
        return _dense(x, weight, per_relation)
    present = torch.ones_like(_pattern(weight)) if all_pairs else _pattern(weight)
    return _sparse(x, weight, edges_of(present, topology), per_relation, _sparse_backend(chosen))


def _dense(x: Tensor, weight: Tensor, per_relation: bool) -> Tensor:
    if weight.dim() < 4:
        return _dense_shared(x, weight, per_relation)
    if not per_relation:
        weight = weight.squeeze(1)
        return torch.einsum("nvuc,n...uc->n...vc" if weight.dim() == 4 else "nvu,n...uc->n...vc", weight, x)
    return torch.einsum("nkvuc,n...kuc->n...vc" if weight.dim() == 5 else "nkvu,n...kuc->n...vc", weight, x)


def _dense_shared(x: Tensor, weight: Tensor, per_relation: bool) -> Tensor:
    """One batched product with the relations folded into the summed axis: weight (V, K V), x (B, K V, C).

    `torch.bmm` on an expanded weight is the quickest of six forms measured (forward and backward, 1 and 2 threads):
    einsum and a broadcast matmul copy x, and with a learnable weight matmul takes twice as long.
    """
    joints, channels = x.shape[-2:]
    lead = x.shape[:-3] if per_relation else x.shape[:-2]
    if per_relation:
        beside = x.transpose(-3, -2)
        if beside.is_contiguous():  # relations lie beside each joint, as a linear map leaves them: nothing is copied
            x, weight = beside, weight.permute(1, 2, 0).reshape(joints, -1)
        else:
            weight = weight.transpose(0, 1).reshape(joints, -1)
    flat = x.reshape(-1, weight.shape[1], channels)
    out = torch.bmm(weight.to(x.dtype).expand(flat.shape[0], -1, -1), flat)
    return out.view(*lead, joints, channels)


def _sparse_backend(name: str) -> ModuleType:
    # Imported when asked for: both pull in their whole library, and DGL is an extra.
    if name == "pyg":
        from skelgraph.nn import propagation_pyg

        return propagation_pyg
    from skelgraph.nn import propagation_dgl

    return propagation_dgl


def edges_of(pattern: Tensor, topology: Topology | None) -> Tensor:
    """``edge_index (2, E)``, sources u first, of the non-zeros of ``pattern (V, V)`` and the topology's own edges."""
    present = pattern.detach() != 0
    if topology is not None:
        present = present | (torch.as_tensor(topology.adjacency("self_loops"), device=pattern.device) != 0)
    target, source = present.nonzero(as_tuple=True)
    return torch.stack([source, target])


def _pattern(weight: Tensor) -> Tensor:
    """Pairs of joints ``(V, V)`` that any relation, clip or channel connects."""
    axes = {2: (), 3: (0,), 4: (0, 1), 5: (0, 1, 4)}[weight.dim()]
    present = weight.detach() != 0
    return present.any(dim=axes) if axes else present


def _sparse(x: Tensor, weight: Tensor, edge_index: Tensor, per_relation: bool, library: ModuleType) -> Tensor:
    source, target = edge_index
    relations = {2: 1, 3: weight.shape[0]}.get(weight.dim(), weight.shape[1])
    out: Tensor | None = None
    for k in range(relations if per_relation else 1):
        nodes = x.select(-3, k) if per_relation else x
        if weight.dim() <= 3:
            value = (weight[k] if weight.dim() == 3 else weight)[target, source].unsqueeze(-1)
        else:
            value = weight[:, k][:, target, source]
            value = value if weight.dim() == 5 else value.unsqueeze(-1)
            value = value.reshape(len(value), *[1] * (nodes.dim() - 3), *value.shape[1:])
        part = library.weighted_sum(nodes, value.to(nodes.dtype), edge_index)
        out = part if out is None else out + part
    assert out is not None
    return out


def edge_softmax(scores: Tensor, mask: Tensor, backend: str | None = None) -> Tensor:
    """Attention weights: softmax of ``scores`` over the neighbours u of each joint v; zero where there is no edge.

    Args:
        scores: ``scores[..., v, u]``.
        mask: true where u may send to v; every row must have one such u.
        backend: as in `propagate`.

    Shapes:
        scores (..., V, V); mask (V, V) bool; out (..., V, V).
    """
    chosen = resolve(backend)
    if chosen == "dense":
        return scores.masked_fill(~mask, float("-inf")).softmax(-1)
    edge_index = edges_of(mask, None)
    source, target = edge_index
    weights = _sparse_backend(chosen).softmax(scores[..., target, source], edge_index, scores.shape[-1])
    out = scores.new_zeros(scores.shape)
    out[..., target, source] = weights
    return out
