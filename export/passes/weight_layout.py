"""Routed weights where they lie: no copy of them at every step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from a2edit.export.passes.values import constant, describe

# What may stand between a weight and its transpose, and keeps its shape.
_BETWEEN = frozenset({"Cast", "DequantizeLinear"})
_AXES = "routed_weight_axis"


class WeightsInPlace(ir.passes.InPlacePass):
    """Routed weights [out, in] get the rank of what they are multiplied to, before they are turned.

    W → Transpose(1, 0) → MatMul with x [1, tokens, in]
    W → Unsqueeze → Transpose(0, 2, 1) → MatMul with x [1, tokens, in]

    The numbers are the same. TensorRT reads a turned weight in place, but where its product has a
    rank more it writes the turned weight out first, at every run: all weights twice through memory.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        axes = None
        for turn, rank in list(_turned(graph)):
            axes = axes or graph.initializers.get(_AXES)  # of an earlier run, for other weights
            axes = axes or constant(graph, _AXES, np.array([0], dtype=np.int64))
            source = turn.inputs[0]
            assert source is not None
            assert source.shape is not None
            assert source.dtype is not None
            shape = tuple(source.shape)
            for step in range(rank - 2):
                shape = (1, *shape)
                stacked = ir.node("Unsqueeze", [source, axes])
                name = f"{turn.outputs[0].name}.stacked.{step}"
                describe(stacked.outputs[0], name, ir.Shape(shape), source.dtype)
                graph.insert_before(turn, stacked)
                source = stacked.outputs[0]
            turn.replace_input_with(0, source)
            places = (*range(rank - 2), rank - 1, rank - 2)
            turn.attributes["perm"] = ir.AttrInt64s("perm", places)
            turn.outputs[0].shape = ir.Shape([shape[place] for place in places])
        return ir.passes.PassResult(model, axes is not None)

    def ensures(self, model: ir.Model) -> None:
        left = [turn.outputs[0].name for turn, _ in _turned(model.graph)]
        if left:
            raise ir.passes.PostconditionError(f"weights turned at the wrong rank: {left}")


def _turned(graph: ir.Graph) -> Iterator[tuple[ir.Node, int]]:
    """Transposes of routed weights that a product of a larger rank takes, and that rank."""
    for value in graph.inputs:
        if not str(value.name).endswith(".weight"):
            continue
        values = [value]
        while values:
            for node, _ in values.pop().uses():
                if node.op_type in _BETWEEN:
                    values.extend(node.outputs)
                elif node.op_type == "Transpose":
                    rank = _product_rank(node)
                    if rank > len(node.outputs[0].shape or ()):
                        yield node, rank


def _product_rank(turn: ir.Node) -> int:
    """The one rank of the products' left operands; 0 where they differ, or are no products."""
    ranks = {
        len(user.inputs[0].shape)
        if user.op_type == "MatMul" and user.inputs[0] is not None and user.inputs[0].shape
        else 0
        for user, _ in turn.outputs[0].uses()
    }
    return ranks.pop() if len(ranks) == 1 else 0
