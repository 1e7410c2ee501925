"""Routed weights are read where they lie: the same numbers, and no copy in the plan."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto as Type
from onnx import helper

from a2edit.export.compile.tensorrt import engine_from_onnx
from a2edit.export.passes import run
from a2edit.export.passes.weight_layout import WeightsInPlace
from a2edit.runtime.engines import onnxruntime
from a2edit.runtime.engines.base import GraphSpec, TensorSpec, WeightSet
from a2edit.runtime.targets import TARGETS

ROWS, WIDE, OUT = 64, 128, 96


def model(rank: int = 3) -> ir.Model:
    """x · W.T in the form that torch's exporter gives it."""
    lead = [1] * (rank - 2)
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["proj.weight"], ["turned"], perm=[1, 0]),
            helper.make_node("MatMul", ["x", "turned"], ["y"]),
        ],
        "proj",
        [
            helper.make_tensor_value_info("x", Type.FLOAT, [*lead, ROWS, WIDE]),
            helper.make_tensor_value_info("proj.weight", Type.FLOAT, [OUT, WIDE]),
        ],
        [helper.make_tensor_value_info("y", Type.FLOAT, [*lead, ROWS, OUT])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return ir.from_proto(onnx.shape_inference.infer_shapes(made))


def saved(made: ir.Model, path: Path) -> Path:
    proto = ir.to_proto(made)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_the_products_are_the_same_at_every_rank(rank: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shape = (*[1] * (rank - 2), ROWS, WIDE)
    x = rng.standard_normal(shape).astype(np.float32)
    weight = rng.standard_normal((OUT, WIDE)).astype(np.float32)
    spec = GraphSpec(
        "proj",
        (TensorSpec("x", "float32", shape),),
        (TensorSpec("y", "float32", (*shape[:-1], OUT)),),
        (TensorSpec("proj.weight", "float32", (OUT, WIDE)),),
    )
    changed = run(model(rank), [WeightsInPlace()], "proj")
    assert sum(node.op_type == "Unsqueeze" for node in changed.graph) == rank - 2
    with onnxruntime.engine_from_onnx(spec, saved(changed, tmp_path / "y.onnx"), "fp32") as engine:
        engine.bind(WeightSet("w", {"proj.weight": weight}))
        np.testing.assert_allclose(engine.run({"x": x})["y"], x @ weight.T, rtol=1e-4, atol=1e-4)


def test_the_plan_copies_no_weight(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    copying = b'input_args={ "proj.weight.1" }'
    for made, copies in ((model(), True), (run(model(), [WeightsInPlace()], "proj"), False)):
        plan = tmp_path / "proj.plan"
        graph = saved(made, tmp_path / "proj.onnx")
        engine_from_onnx(graph, plan, TARGETS["sm80"], "tensorrt_rtx")
        assert (copying in plan.read_bytes()) is copies


def test_products_of_two_ranks_are_left_alone() -> None:
    made = model()
    graph = made.graph
    flat = ir.Value(name="z", shape=ir.Shape((ROWS, WIDE)), type=ir.TensorType(ir.DataType.FLOAT))
    graph.inputs.append(flat)
    turned = graph[0].outputs[0]
    graph.append(ir.node("MatMul", [flat, turned]))
    changed = run(made, [WeightsInPlace()], "proj")
    assert [node.op_type for node in changed.graph] == ["Transpose", "MatMul", "MatMul"]
