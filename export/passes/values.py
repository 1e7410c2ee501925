"""What several passes do to a graph's values: make constants, read them, cast."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

FLOAT, BFLOAT16 = ir.DataType.FLOAT, ir.DataType.BFLOAT16
# Ops that move values and compute nothing: the same in every type.
LAYOUT = frozenset(
    {
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Identity",
        "Pad",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)


def constant(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    """A new initializer; of ml_dtypes' types too."""
    tensor = ir.tensor(array, name=name)
    value = ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    graph.register_initializer(value)
    return value


def describe(value: ir.Value, name: str, shape: ir.Shape | None, dtype: ir.DataType) -> None:
    """Name and type a value. Its type is its own: copies of a graph share type objects."""
    value.name, value.shape, value.type = name, shape, ir.TensorType(dtype)


def inline(value: ir.Value) -> NDArray[Any] | None:
    """The array of a constant whose bytes are in the graph; None of parameters and all others."""
    tensor = value.const_value
    if not value.is_initializer() or tensor is None or isinstance(tensor, ir.ExternalTensor):
        return None
    return tensor.numpy()


def cast(value: ir.Value, dtype: ir.DataType, name: str) -> ir.Node:
    """A Cast of `value`, not yet in the graph."""
    node = ir.node("Cast", [value], {"to": int(dtype)})
    describe(node.outputs[0], name, value.shape, dtype)
    return node


def products_of(weight: ir.Value, through: Collection[str]) -> tuple[list[ir.Node], list[ir.Node]]:
    """MatMul nodes that a weight reaches by nodes of the types in `through`, and other nodes."""
    found, others, values = [], [], [weight]
    while values:
        for node, _ in values.pop().uses():
            if node.op_type == "MatMul":
                found.append(node)
            elif node.op_type in through:
                values.extend(node.outputs)
            else:
                others.append(node)
    return found, others
