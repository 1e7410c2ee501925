"""8-bit weights in front of products that are computed in the network's type."""

from __future__ import annotations

import onnx_ir as ir

from a2edit.export.passes.values import FLOAT, describe
from a2edit.export.weight_only import is_weight_only


class StoreWeightsIn8Bits(ir.passes.InPlacePass):
    """Every weight that `is_weight_only` names becomes int8 and a scale a row, dequantised.

    Both are parameters of their own, "<name>.int8" and "<name>.scale", as `save_weight_only`
    writes them. Their inputs are not quantised.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        found = [value for value in graph.initializers.values() if is_weight_only(str(value.name))]
        for value in found:
            name, shape = str(value.name), value.shape
            assert shape is not None
            levels, scale = ir.Value(), ir.Value()
            describe(levels, f"{name}.int8", shape, ir.DataType.INT8)
            describe(scale, f"{name}.scale", ir.Shape((shape[0],)), FLOAT)
            node = ir.node("DequantizeLinear", [levels, scale], {"axis": 0})
            describe(node.outputs[0], f"{name}.dequantised", shape, FLOAT)
            graph.insert_before(next(iter(value.uses())).node, node)
            value.replace_all_uses_with(node.outputs[0])
            del graph.initializers[name]
            for parameter in (levels, scale):
                graph.initializers[str(parameter.name)] = parameter
        return ir.passes.PassResult(model, bool(found))

    def ensures(self, model: ir.Model) -> None:
        left = [name for name in model.graph.initializers if is_weight_only(name)]
        if left:
            raise ir.passes.PostconditionError(f"weights left in high precision: {left}")
