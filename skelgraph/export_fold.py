"""What need not be computed for every clip: norms that become part of the weights before them, and the joints' graph.

onnxruntime folds a batch norm into a convolution right before it, but not through the reshaping to rows that stands
between ours, nor does it see that a matrix need not be copied for every frame to be multiplied with each.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper

Weights = dict[str, np.ndarray]


def fold(proto: ModelProto) -> ModelProto:
    """The same graph with fewer and cheaper nodes; changes ``proto``.

    * ``BatchNormalization`` of rows behind a linear map or convolution goes into its weights;
    * a matrix that is expanded over clips and frames for ``MatMul`` is taken as it is, which multiplies with all of
      them anyway.
    """
    graph = _Graph(proto)
    for node in list(proto.graph.node):
        if node.op_type == "BatchNormalization":
            graph.fold_norm(node)
        elif node.op_type == "MatMul":
            graph.unexpand(node)
    graph.clean()
    return proto


class _Graph:
    """Nodes by what they make, and constants by name."""

    def __init__(self, proto: ModelProto) -> None:
        self.graph = proto.graph
        self.maker = {name: node for node in proto.graph.node for name in node.output}
        self.constants = {item.name: item for item in proto.graph.initializer}
        self.uses = Counter(name for node in proto.graph.node for name in node.input)
        self.made = 0

    def fold_norm(self, norm: NodeProto) -> None:
        """Put a norm into the product before it, where nothing but that norm sees the product."""
        path = [norm]
        while (before := self._only(path[-1].input[0])) is not None and self._keeps_channels(before):
            path.append(before)
        add = before if before is not None and before.op_type == "Add" else None
        product = before if add is None else next((made for name in add.input if (made := self._only(name))), None)
        if product is None or not self._weighted(product, add) or not all(self._is_constant(x) for x in norm.input[1:]):
            return
        gamma, beta, mean, variance = (self._value(name) for name in norm.input[1:5])
        epsilon = next((item.f for item in norm.attribute if item.name == "epsilon"), 1e-5)
        scale = gamma / np.sqrt(variance.astype(np.float64) + epsilon)
        self._scale(product, add, scale, beta - mean * scale)
        self._replace(norm.output[0], norm.input[0])
        self.graph.node.remove(norm)

    def _only(self, name: str) -> NodeProto | None:
        """The node that makes ``name``, if only one node reads it."""
        return self.maker.get(name) if self.uses[name] == 1 else None

    def _keeps_channels(self, node: NodeProto) -> bool:
        """Whether what is last, or second in a convolution's result, becomes what is last."""
        if node.op_type == "Transpose":
            return list(node.attribute[0].ints) == [0, 2, 3, 1]
        return node.op_type == "Reshape"

    def _is_constant(self, name: str) -> bool:
        return name in self.constants

    def _value(self, name: str) -> np.ndarray:
        return np.asarray(numpy_helper.to_array(self.constants[name]), np.float64)

    def _weighted(self, product: NodeProto, add: NodeProto | None) -> bool:
        """Whether weights and bias of a linear map or convolution are constants, the channels last or first."""
        if product.op_type not in ("MatMul", "Conv", "Gemm"):
            return False
        if product.op_type != "MatMul":
            return add is None and len(product.input) == 3 and all(map(self._is_constant, product.input[1:]))
        return add is not None and self._is_constant(product.input[1]) and any(map(self._is_constant, add.input))

    def _scale(self, product: NodeProto, add: NodeProto | None, scale: np.ndarray, shift: np.ndarray) -> None:
        """Weights times ``scale`` and bias times ``scale`` plus ``shift``, by channel."""
        weight = self._value(product.input[1])
        flipped = any(item.name == "transB" and item.i for item in product.attribute)
        first = product.op_type == "Conv" or flipped
        shape = (-1, *[1] * (weight.ndim - 1)) if first else (-1,)
        product.input[1] = self._constant(weight * scale.reshape(shape))
        holder, place = (product, 2) if add is None else (add, int(self._is_constant(add.input[1])))
        holder.input[place] = self._constant(self._value(holder.input[place]) * scale + shift)

    def _constant(self, value: np.ndarray) -> str:
        self.made += 1
        item = numpy_helper.from_array(value.astype(np.float32), f"folded_{self.made}")
        self.graph.initializer.append(item)
        self.constants[item.name] = self.graph.initializer[-1]
        return item.name

    def unexpand(self, product: NodeProto) -> None:
        """Take a constant matrix as it is where it is only repeated for ``MatMul``."""
        made = self.maker.get(product.input[0])
        if made is None or made.op_type != "Expand" or not self._is_constant(made.input[0]):
            return
        if len(self.constants[made.input[0]].dims) == 2:
            product.input[0] = made.input[0]

    def _replace(self, old: str, new: str) -> None:
        for node in self.graph.node:
            for place, name in enumerate(node.input):
                if name == old:
                    node.input[place] = new

    def clean(self) -> None:
        """Leave out what nobody reads, and where in the source each node comes from."""
        wanted = {item.name for item in self.graph.output}
        kept = []
        for node in reversed(self.graph.node):
            if wanted & set(node.output):
                wanted |= set(node.input)
                del node.metadata_props[:]
                node.doc_string = ""
                kept.append(node)
        constants = [item for item in self.graph.initializer if item.name in wanted]
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(reversed(kept))
        self.graph.initializer.extend(constants)
        del self.graph.value_info[:], self.graph.metadata_props[:]
