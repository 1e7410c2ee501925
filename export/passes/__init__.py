"""Graph passes, one a file: `requires` → `call` → `ensures` (onnx_ir's PassBase).

A pass that fails says which it was; `run` turns that into the project's own error.
"""

from collections.abc import Sequence

import onnx_ir as ir

from a2edit.runtime.errors import EngineError


def run(model: ir.Model, passes: Sequence[ir.passes.PassBase], graph: str) -> ir.Model:
    """Run passes in order over the model of a graph.

    Raises:
        EngineError: a pass refused the model, or broke what it promises; names pass and graph.
    """
    for each in passes:
        try:
            model = each(model).model
        except (ir.passes.InvariantError, ir.passes.PassError, ValueError) as error:
            name = type(each).__name__
            raise EngineError(f"graph {graph}: pass {name} failed: {error}") from error
    return model
