"""What torch writes → a small graph whose parameters keep their names and layout."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.optimizer import fold_constants


class Simplify(ir.passes.InPlacePass):
    """Inline, fold constants, share equal subexpressions, drop what is unused and what is not ours.

    1. Parameters are not folded: a transposed weight would become an anonymous copy, and could no
       longer live in the shared file nor be bound.
    2. Equal small constants become one (RoPE's tables are written once a block).
    3. Torch's stack traces, which name files of the build machine, are removed.
    """

    def __init__(self, parameters: Collection[str]) -> None:
        super().__init__()
        self._parameters = frozenset(parameters)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        common.InlinePass()(model)
        fold_constants(
            model,
            onnx_shape_inference=True,
            input_size_limit=1 << 28,
            output_size_limit=1 << 28,
            should_fold=self._may_fold,
        )
        _lift(model)
        common.RemoveUnusedNodesPass()(model)
        self._share_constants(model)
        common.CommonSubexpressionEliminationPass()(model)
        common.RemoveUnusedNodesPass()(model)
        common.RemoveUnusedOpsetsPass()(model)
        common.ClearMetadataAndDocStringPass()(model)
        model.metadata_props.clear()
        return ir.passes.PassResult(model, modified=True)

    def _may_fold(self, node: ir.Node) -> bool | None:
        reads = any(value is not None and value.name in self._parameters for value in node.inputs)
        return False if reads else None

    def _share_constants(self, model: ir.Model) -> None:
        seen: dict[tuple[object, ...], ir.Value] = {}
        for name, value in list(model.graph.initializers.items()):
            tensor = value.const_value
            if name in self._parameters or tensor is None:
                continue
            key = (tensor.dtype, tuple(tensor.shape), tensor.tobytes())
            first = seen.setdefault(key, value)
            if first is not value and not value.is_graph_output():
                value.replace_all_uses_with(first)
                del model.graph.initializers[name]

    def ensures(self, model: ir.Model) -> None:
        names = [node.name for node in model.graph if node.op_type in {"If", "Loop"}]
        if names:
            raise ir.passes.PostconditionError(f"control flow is left in the graph: {names}")


def _lift(model: ir.Model) -> None:
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
