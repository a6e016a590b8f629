"""Any graph layer of PyTorch Geometric, or of the user, as a block on a skeleton.

Letters: V joints, C channels, E edges, G graphs (all leading axes together).
"""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from skelgraph.errors import UserError, unknown
from skelgraph.graph import tile_edges
from skelgraph.registry import Registry
from skelgraph.topology import Topology

CONVS: Registry = Registry("graph layer")
"""Layers of the user: ``@CONVS.register("my_conv")`` on a ``torch_geometric.nn.MessagePassing``."""

# Layers known to give the same on one static graph as on a union, and layers known not to. Others are probed.
STATIC = ("EdgeConv", "GCNConv", "GINConv", "GraphConv", "SAGEConv")
UNION = ("GATConv", "GATv2Conv", "TransformerConv")
# Layers whose ``forward`` declares these inputs optional and fails without.
NEED_EDGE_ATTR = ("GINEConv", "GMMConv", "NNConv", "PDNConv")
NEED_EDGE_TYPE = ("FastRGCNConv", "RGATConv", "RGCNConv")
EDGE_KINDS = ("inward", "outward", "link")
KEPT_UNIONS = 8


class PyGConv(nn.Module):
    """A PyTorch Geometric layer applied to every skeleton of a tensor.

    Many layers broadcast over leading axes (``node_dim=-2``): they run on the one static graph, without index traffic
    per sample. Attention layers assume two-dimensional nodes; they run on one disjoint union of all skeletons, whose
    tiled ``edge_index`` is kept for the last few sizes. Which of both is decided once: by the lists `STATIC` and
    `UNION` for a layer of PyG itself, and otherwise (or when the caller passes modules into a listed layer) by trying
    both forms on a copy of the layer with a small random input, in training and in evaluation mode; the static graph
    is taken only where they agree. ``self.static`` tells.

    Arguments that a layer needs and the caller leaves out are filled by name: `build_conv` says which.

    Args:
        layer: a name of `CONVS` or of ``torch_geometric.nn``, or a ``MessagePassing`` class.
        in_channels, out_channels: widths; ``out_channels`` counts all heads of an attention layer together.
        topology: the skeleton, or its name.
        edge_attr: (E, D) features of the edges in the order of ``topology.edge_index``. A layer that needs some and
            is given none gets the kind of each edge, one-hot over `EDGE_KINDS`.
        settings: the layer's own settings, as in PyG.

    Shapes:
        x (..., V, in_channels); out (..., V, out_channels).

    Raises:
        UserError: an unknown layer or setting, heads that do not divide the width, a layer with further inputs.
    """

    edge_index: Tensor

    def __init__(
        self, layer: str | type[nn.Module], in_channels: int, out_channels: int, topology: Topology | str,
        *, edge_attr: Tensor | None = None, **settings: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        topology = Topology.load(topology)
        kind = find_conv(layer)
        self.joints, self.in_channels, self.out_channels = len(topology.joints), in_channels, out_channels
        self.register_buffer("edge_index", torch.from_numpy(topology.edge_index), persistent=False)
        extras = _edge_inputs(kind, topology, edge_attr)
        self.extras = tuple(extras)
        for name, value in extras.items():
            self.register_buffer(name, value, persistent=False)
        edge_dim = extras["edge_attr"].shape[1] if "edge_attr" in extras else None
        relations = len(EDGE_KINDS) if "edge_type" in extras else None
        self.conv = build_conv(kind, in_channels, out_channels, edge_dim=edge_dim, relations=relations, **settings)
        self._unions: OrderedDict[tuple[int, torch.device], Tensor] = OrderedDict()
        own_modules = any(isinstance(value, nn.Module) for value in settings.values())
        listed = kind.__module__.startswith("torch_geometric.") and not own_modules
        if listed and kind.__name__ in STATIC + UNION:
            self.static = kind.__name__ in STATIC
        else:
            self.static = self._probe(kind.__name__)

    def _probe(self, name: str) -> bool:
        """Whether a copy of the layer gives the same on the static graph as on the union."""
        reference = next((p for p in self.conv.parameters() if p.is_floating_point()), self.edge_index)
        dtype = reference.dtype if reference.is_floating_point() else torch.get_default_dtype()
        chance = torch.Generator().manual_seed(0)
        x = torch.randn(3, self.joints, self.in_channels, generator=chance, dtype=dtype)
        for training in (True, False):
            results = []
            for form in (self._on_union, self._on_static):
                trial = copy.deepcopy(self.conv).train(training)
                try:
                    with torch.random.fork_rng(devices=[]), torch.no_grad():
                        torch.manual_seed(0)
                        results.append(form(trial, x))
                except Exception as error:
                    if form == self._on_static:
                        return False
                    raise UserError(f"graph layer '{name}' cannot be applied to a skeleton: {error}") from error
            on_union, on_static = results
            if on_static.shape != on_union.shape or not torch.allclose(on_static, on_union, rtol=1e-4, atol=1e-5):
                return False
        return True

    def forward(self, x: Tensor) -> Tensor:
        graphs = x.reshape(-1, self.joints, x.shape[-1])
        out = (self._on_static if self.static else self._on_union)(self.conv, graphs)
        return out.view(*x.shape[:-1], out.shape[-1])

    def _on_static(self, conv: nn.Module, graphs: Tensor) -> Tensor:
        out: Tensor = conv(graphs, self.edge_index, **{name: getattr(self, name) for name in self.extras})
        return out

    def _on_union(self, conv: nn.Module, graphs: Tensor) -> Tensor:
        count = graphs.shape[0]
        extras = {}
        for name in self.extras:
            value = getattr(self, name)
            extras[name] = value.repeat(count, *[1] * (value.dim() - 1))
        out: Tensor = conv(graphs.flatten(0, 1), self.union(count), **extras)
        return out.view(count, self.joints, -1)

    def union(self, copies: int) -> Tensor:
        """``edge_index`` of ``copies`` skeletons side by side."""
        # A compiled or exported graph computes it instead: a look-up by size would pin the batch size.
        if torch.compiler.is_compiling():
            return tile_edges(self.edge_index, copies, self.joints)
        key = (copies, self.edge_index.device)
        if key not in self._unions:
            self._unions[key] = tile_edges(self.edge_index, copies, self.joints)
            if len(self._unions) > KEPT_UNIONS:
                self._unions.popitem(last=False)
        self._unions.move_to_end(key)
        return self._unions[key]

    def extra_repr(self) -> str:
        return f"joints={self.joints}, on={'static graph' if self.static else 'disjoint union'}"


def edge_kinds(topology: Topology) -> Tensor:
    """(E,) kind of each edge of ``topology.edge_index``, a position in `EDGE_KINDS`: child to parent is inward."""
    parents = topology.parents
    source, target = topology.edge_index
    inward, outward = parents[source] == target, parents[target] == source
    return torch.where(torch.from_numpy(inward), 0, torch.where(torch.from_numpy(outward), 1, 2))


def find_conv(layer: str | type[nn.Module]) -> type[nn.Module]:
    """The class meant by ``layer``: registered in `CONVS`, or a message-passing layer of PyG.

    Raises:
        UserError: nothing of that name; lists the registered and the nearest of PyG.
    """
    if not isinstance(layer, str):
        return layer
    if layer in CONVS:
        return CONVS.get(layer)
    from torch_geometric.nn import MessagePassing, conv

    known = {name: getattr(conv, name) for name in conv.__all__}
    known = {name: kind for name, kind in known.items() if isinstance(kind, type) and issubclass(kind, MessagePassing)}
    if layer not in known or layer == "MessagePassing":
        raise unknown(CONVS.kind, layer, [*CONVS.names(), *(name for name in known if name != "MessagePassing")])
    return known[layer]


def _edge_inputs(kind: type[nn.Module], topology: Topology, edge_attr: Tensor | None) -> dict[str, Tensor]:
    """What the layer's ``forward`` takes beside nodes and edges."""
    required, kinds = needed_inputs(kind), edge_kinds(topology)
    further = [name for name in required if name not in ("edge_attr", "edge_type")]
    if further:
        raise UserError(f"graph layer '{kind.__name__}' needs {', '.join(further)}, which a skeleton does not have.")
    inputs = {}
    if edge_attr is not None:
        if edge_attr.dim() != 2 or len(edge_attr) != len(kinds):
            raise UserError(f"edge_attr has shape {tuple(edge_attr.shape)}, expected ({len(kinds)}, D).")
        if "edge_attr" not in inspect.signature(kind.forward).parameters:
            raise UserError(f"graph layer '{kind.__name__}' takes no edge_attr.")
        inputs["edge_attr"] = edge_attr
    elif "edge_attr" in required:
        inputs["edge_attr"] = nn.functional.one_hot(kinds, len(EDGE_KINDS)).to(torch.get_default_dtype())
    if "edge_type" in required:
        inputs["edge_type"] = kinds
    return inputs


def needed_inputs(kind: type[nn.Module]) -> list[str]:
    """Inputs of the layer's ``forward`` beside nodes and edges that it cannot do without."""
    signature = inspect.signature(kind.forward).parameters.values()
    parameters = [p for p in signature if p.name not in ("self", "edge_index")]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    needed = [p.name for p in parameters[1:] if p.default is p.empty and p.kind in named]
    ancestry = {ancestor.__name__ for ancestor in kind.__mro__}
    declared_optional = {"edge_attr": NEED_EDGE_ATTR, "edge_type": NEED_EDGE_TYPE}
    return needed + [name for name, layers in declared_optional.items() if name not in needed and ancestry & {*layers}]


def build_conv(
    layer: str | type[nn.Module], in_channels: int, out_channels: int,
    *, edge_dim: int | None = None, relations: int | None = None, **settings: Any,
) -> nn.Module:  # fmt: skip
    """Construct a graph layer by name, filling what it needs and ``settings`` leave out.

    ``in_channels``, ``out_channels`` (divided by ``heads`` where these are concatenated), ``channels`` (needs equal
    widths), ``nn`` (an MLP of two layers: GINConv maps nodes, EdgeConv pairs of nodes, NNConv edge features to
    matrices), ``edge_dim`` and ``num_relations``.

    A module among the settings keeps its weights: constructors of PyG (GINConv, EdgeConv) reset what they are given.

    Raises:
        UserError: an unknown layer or setting, or widths the layer cannot have.
    """
    kind = find_conv(layer)
    accepted = inspect.signature(kind.__init__).parameters
    heads = settings.get("heads", 1)
    width, rest = divmod(out_channels, heads) if settings.get("concat", True) else (out_channels, 0)
    if rest:
        raise UserError(f"graph layer '{kind.__name__}': {heads} heads do not divide {out_channels} channels.")
    if "channels" in accepted and in_channels != out_channels:
        raise UserError(f"graph layer '{kind.__name__}' keeps the width: {in_channels} is not {out_channels}.")
    offered = {
        "in_channels": in_channels, "out_channels": width, "channels": in_channels, "edge_dim": edge_dim,
        "dim": edge_dim, "num_relations": relations,
    }  # fmt: skip
    arguments = {name: value for name, value in offered.items() if name in accepted and value is not None} | settings
    if "nn" in accepted and accepted["nn"].default is inspect.Parameter.empty:
        arguments.setdefault("nn", _default_mlp(kind, in_channels, out_channels, edge_dim))
    return _construct(kind, arguments, accepted)


def _default_mlp(kind: type[nn.Module], in_channels: int, out_channels: int, edge_dim: int | None) -> nn.Module:
    from torch_geometric.nn import EdgeConv, NNConv

    if issubclass(kind, NNConv):
        sizes = (edge_dim or in_channels, out_channels, in_channels * out_channels)
    else:
        sizes = (in_channels * 2 if issubclass(kind, EdgeConv) else in_channels, out_channels, out_channels)
    return nn.Sequential(nn.Linear(sizes[0], sizes[1]), nn.ReLU(), nn.Linear(sizes[1], sizes[2]))


def _construct(
    kind: type[nn.Module], arguments: dict[str, Any], accepted: Mapping[str, inspect.Parameter]
) -> nn.Module:
    kept = {name: copy.deepcopy(v.state_dict()) for name, v in arguments.items() if isinstance(v, nn.Module)}
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values())
    if not open_ended:
        for name in arguments:
            if name not in accepted:
                raise unknown(f"setting of graph layer '{kind.__name__}'", name, [n for n in accepted if n != "self"])
    try:
        conv = kind(**arguments)
    except (TypeError, ValueError, AssertionError, ImportError) as error:
        raise UserError(f"graph layer '{kind.__name__}': {error}") from error
    for name, state in kept.items():
        arguments[name].load_state_dict(state)
    return conv
