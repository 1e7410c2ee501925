"""A bf16 graph's twin, to the same figures, for ONNX Runtime on a CPU without bf16 arithmetic."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from a2edit.export.passes.values import BFLOAT16, FLOAT, LAYOUT, cast, constant, inline

# What they return has no more digits than what they take; or, of DequantizeLinear, is never
# rounded: engines multiply the levels and scale the sums.
_UNROUNDED = LAYOUT | {"DequantizeLinear", "Gather", "GatherND", "Max", "Min", "Neg", "Where"}


class EmulateBFloat16(ir.passes.InPlacePass):
    """Every bf16 op becomes an fp32 op whose results are rounded to bf16 and widened again.

    That is what a bf16 unit computes: products of bf16 values are exact in fp32, sums are kept in
    fp32, and one rounding ends an op. Inputs, weights and what they are stored in keep their
    types. QuantizeLinear and DequantizeLinear stay, with the same scales in fp32.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        wide: dict[ir.Value, ir.Value] = {}
        for node in list(graph):
            for place, value in enumerate(node.inputs):
                if value is not None and value.dtype == BFLOAT16:
                    if value not in wide:
                        wide[value] = _widened(graph, node, value)
                    node.replace_input_with(place, wide[value])
            for output in node.outputs:
                if output.dtype != BFLOAT16:
                    continue
                if node.op_type == "Cast":
                    wide[output] = _appended(graph, node, output, f"{output.name}.fp32")
                    continue
                output.type = ir.TensorType(FLOAT)
                if node.op_type not in _UNROUNDED:
                    _round(graph, node, output)
        return ir.passes.PassResult(model, modified=True)

    def ensures(self, model: ir.Model) -> None:
        for node in model.graph:
            types = {value.dtype for value in (*node.inputs, *node.outputs) if value is not None}
            if BFLOAT16 in types and node.op_type != "Cast":
                raise ir.passes.PostconditionError(f"{node.op_type} computes in bf16: {node}")


def _widened(graph: ir.Graph, before: ir.Node, value: ir.Value) -> ir.Value:
    name = f"{value.name}.fp32"
    array = inline(value)
    if array is not None:
        return constant(graph, name, array.astype(np.float32))
    node = cast(value, FLOAT, name)
    graph.insert_before(before, node)
    return node.outputs[0]


def _appended(graph: ir.Graph, after: ir.Node, value: ir.Value, name: str) -> ir.Value:
    node = cast(value, FLOAT, name)
    graph.insert_after(after, node)
    return node.outputs[0]


def _round(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    """Put two Casts between a node's output and its users."""
    users = list(value.uses())
    narrow = cast(value, BFLOAT16, f"{value.name}.bfloat16")
    graph.insert_after(node, narrow)
    rounded = _appended(graph, narrow, narrow.outputs[0], f"{value.name}.rounded")
    for user, place in users:
        user.replace_input_with(place, rounded)
