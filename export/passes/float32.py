"""No float64 in a graph: torch computes RoPE's angles in it, engines are slow at it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir


class Float32(ir.passes.InPlacePass):
    """Every float64 value becomes fp32.

    Folding has evaluated constant tables in float64 before this pass; what is left is rounded
    once (constants) or computed in fp32 (casts).
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for value in model.graph.initializers.values():
            if value.dtype == ir.DataType.DOUBLE:
                assert value.const_value is not None
                array = value.const_value.numpy().astype(np.float32)
                value.const_value = ir.tensor(array, name=value.name)
                value.dtype = ir.DataType.FLOAT
                modified = True
        for node in model.graph:
            if node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.DOUBLE:
                node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.FLOAT))
                modified = True
            for output in node.outputs:
                if output.dtype == ir.DataType.DOUBLE:
                    output.dtype = ir.DataType.FLOAT
                    modified = True
        return ir.passes.PassResult(model, modified)

    def ensures(self, model: ir.Model) -> None:
        graph = model.graph
        values = [*graph.inputs, *graph.outputs, *graph.initializers.values()]
        left = [value.name for value in values if value.dtype == ir.DataType.DOUBLE]
        if left:
            raise ir.passes.PostconditionError(f"float64 is left at {', '.join(map(str, left))}")
