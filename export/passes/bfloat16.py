"""fp32 → bf16, written into the graph: strongly typed engines compute what the file says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import ml_dtypes
import numpy as np
import onnx_ir as ir

from a2edit.export.passes.values import (
    BFLOAT16,
    FLOAT,
    LAYOUT,
    cast,
    constant,
    inline,
)
from a2edit.kernels.reference import narrowed, widened

PRODUCTS = frozenset({"MatMul", "Gemm", "Conv"})
STATISTICS = frozenset({"Pow", "ReduceMean", "Sqrt", "Reciprocal", "InstanceNormalization"})
ELEMENTWISE = frozenset(
    {"Add", "Div", "Erf", "Exp", "Max", "Min", "Mul", "Neg", "Sigmoid", "Sub", "Tanh"}
)
QUANTISERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
# The first whose convolutions take bf16. Since opset 20, which we export, it only adds types.
OPSET = 22
# Inputs that have a type of their own, whatever the first is.
_UNTYPED = {"Resize": (1, 2)}


class BFloat16(ir.passes.InPlacePass):
    """Products and what lies between them become bf16; everything else stays fp32.

    1. What no product comes before or after stays fp32: images and their scaling, timestep and
       guidance sinusoids (SPEC §11.5), the Euler step, what is rounded to pixels. So the edge of
       the graph keeps its types, but for routed weights and their scales, which become bf16.
    2. Between products, statistics of norms stay fp32, as torch's norms compute them, with what
       they are multiplied to. LayerNormalization states its own (stash_type).
    3. So does what takes a constant that bf16 has not, or a row of one, such as RoPE's tables and
       an attention's scale: such an error is no noise, but the same at every token.
    4. So does what only takes fp32 values anyway.
    5. Scales of 8-bit values become bf16, of the network's type; zero points stay.

    Parameters get a Cast at their use. One value is cast once.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        narrow = _narrow_nodes(graph)
        for value in graph.inputs:
            if value.dtype == FLOAT and _is_routed(value):
                value.type = ir.TensorType(BFLOAT16)
        casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        for node in list(graph):
            wanted = BFLOAT16 if node in narrow else FLOAT
            for place, taken in _typed_inputs(node):
                if taken.dtype == wanted or node.op_type == "Cast":
                    continue
                if (taken, wanted) not in casts:
                    casts[taken, wanted] = _converted(graph, node, taken, wanted)
                node.replace_input_with(place, casts[taken, wanted])
            if node.op_type == "Cast" and node.outputs[0].dtype == FLOAT:
                node.attributes["to"] = ir.AttrInt64("to", int(wanted))
            for output in node.outputs:
                if output.dtype == FLOAT:
                    output.type = ir.TensorType(wanted)
        for place, value in enumerate(graph.outputs):
            if value.dtype == BFLOAT16:
                _widen_output(graph, place, value)
        model.opset_imports[""] = OPSET
        return ir.passes.PassResult(model, modified=True)

    def ensures(self, model: ir.Model) -> None:
        graph = model.graph
        edge = [*(value for value in graph.inputs if not _is_routed(value)), *graph.outputs]
        wrong = [value.name for value in edge if value.dtype == BFLOAT16]
        if wrong:
            raise ir.passes.PostconditionError(f"bf16 at the edge of the graph: {wrong}")
        for node in graph:
            if len({value.dtype for _, value in _typed_inputs(node)}) > 1:
                raise ir.passes.PostconditionError(f"{node.op_type} mixes fp32 and bf16: {node}")


def _typed_inputs(node: ir.Node) -> list[tuple[int, ir.Value]]:
    """Inputs that are fp32 or bf16, by place, and must all be the same."""
    own = _UNTYPED.get(node.op_type, ())
    return [
        (place, value)
        for place, value in enumerate(node.inputs)
        if value is not None and value.dtype in {FLOAT, BFLOAT16} and place not in own
    ]


def _is_routed(value: ir.Value) -> bool:
    assert value.name is not None
    return value.name.endswith((".weight", ".scale"))


def _narrow_nodes(graph: ir.Graph) -> set[ir.Node]:
    """The nodes whose floating-point values become bf16."""
    nodes = list(graph)
    after, before = _reached(nodes, forwards=True), _reached(nodes[::-1], forwards=False)
    narrow: set[ir.Node] = set()
    for node in nodes:
        between = node in after and node in before
        if node.op_type in PRODUCTS or (between and not _stays_wide(node, narrow)):
            narrow.add(node)
    for node in reversed(nodes):  # what leads to products alone: weights, and their inputs joined
        users = [user for output in node.outputs for user, _ in output.uses()]
        if node.op_type in LAYOUT | QUANTISERS and users and narrow.issuperset(users):
            narrow.add(node)
    return narrow


def _reached(nodes: Iterable[ir.Node], *, forwards: bool) -> set[ir.Node]:
    """Products, and all nodes that come after one (or before one) in a sorted list."""
    found: set[ir.Node] = set()
    for node in nodes:
        near = node.predecessors() if forwards else node.successors()
        if node.op_type in PRODUCTS or not found.isdisjoint(near):
            found.add(node)
    return found


def _stays_wide(node: ir.Node, narrow: set[ir.Node]) -> bool:
    """Cases 2 to 4, for a node between products whose predecessors are settled."""
    if node.op_type in STATISTICS or node.op_type == "ConvTranspose":  # TensorRT-RTX has no bf16's
        return True
    if node.op_type not in ELEMENTWISE:
        return False
    computed = []
    for value in node.inputs:
        assert value is not None
        if not all(map(_exact, _constants(value))):
            return True
        if (producer := value.producer()) is not None:
            computed.append(producer)
    if any(producer.op_type in STATISTICS for producer in computed):
        return True
    return narrow.isdisjoint(computed)


def _constants(value: ir.Value) -> Iterator[np.ndarray]:
    """The constants that a value is made of by moving and picking alone."""
    array, node = inline(value), value.producer()
    if array is not None:
        yield array
    elif node is not None and node.op_type in LAYOUT | {"Gather"}:
        for taken in node.inputs:
            if taken is not None:
                yield from _constants(taken)


def _exact(array: np.ndarray) -> bool:
    """Whether bf16 has every value; of tables that are not floating-point, that is no question."""
    if array.dtype != np.float32:
        return True
    return bool(np.array_equal(widened(narrowed(array, "bfloat16")), array))


def _converted(graph: ir.Graph, before: ir.Node, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """`value` as `dtype`: another constant, or a Cast in front of its first user."""
    name = f"{value.name}.{dtype.name.lower()}"
    array = inline(value)
    if array is not None and dtype == BFLOAT16:
        return constant(graph, name, array.astype(ml_dtypes.bfloat16))
    node = cast(value, dtype, name)
    graph.insert_before(before, node)
    return node.outputs[0]


def _widen_output(graph: ir.Graph, place: int, value: ir.Value) -> None:
    producer, name = value.producer(), value.name
    assert producer is not None
    value.name = f"{name}.bfloat16"
    node = cast(value, FLOAT, str(name))
    graph.insert_after(producer, node)
    graph.outputs[place] = node.outputs[0]
