"""What compiled engines multiply, as they say themselves."""

from pathlib import Path
from typing import Any

import onnx
import openvino as ov
import pytest
from onnx import TensorProto as Type
from onnx import helper

from a2edit.export.compile.layers import LayerTypes, read_layer_types
from a2edit.export.compile.openvino_layers import runtime_layer_types


def compiled(tmp_path: Path, behind: bool) -> Any:
    """Two linears, the first in int8 by its graph, its scale behind the product or before it."""
    scale = "one" if behind else "scale"
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "step", "zero"], ["back"]),
        helper.make_node("DequantizeLinear", ["q", scale], ["w"], axis=1),
        helper.make_node("MatMul", ["back", "w"], ["product"]),
        helper.make_node("Mul", ["product", "scale"], ["scaled"])
        if behind
        else helper.make_node("Identity", ["product"], ["scaled"]),
        helper.make_node("Relu", ["scaled"], ["h"]),
        helper.make_node("MatMul", ["h", "v"], ["y"]),
    ]
    edges = {
        "x": (Type.FLOAT, [1, 32, 64]),
        "q": (Type.INT8, [64, 48]),
        "scale": (Type.FLOAT, [48]),
        "v": (Type.FLOAT, [48, 16]),
    }
    constants = [
        helper.make_tensor("step", Type.FLOAT, [], [0.02]),
        helper.make_tensor("zero", Type.INT8, [], [0]),
        *([helper.make_tensor("one", Type.FLOAT, [], [1.0])] if behind else []),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info(name, *edge) for name, edge in edges.items()],
        [helper.make_tensor_value_info("y", Type.FLOAT, [1, 32, 16])],
        constants,
    )
    path = tmp_path / "two.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path
    )
    return ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


@pytest.mark.parametrize(
    ("behind", "linear"),
    [(True, {"int8 x int8": 1, "fp32 x fp32": 1}), (False, {"fp32 x fp32": 2})],
    ids=["scale behind the product", "scale before it"],
)
def test_openvino_says_what_it_multiplies(
    behind: bool, linear: dict[str, int], tmp_path: Path
) -> None:
    """A row's scale before the product has OpenVINO multiply in fp32 (docs/decisions/0012)."""
    found = runtime_layer_types(compiled(tmp_path, behind))
    assert found == LayerTypes(source="runtime model", linear=linear, convolution={}, attention={})


def test_counts_are_read_as_they_were_written(tmp_path: Path) -> None:
    counts = LayerTypes(source="plan", linear={"int8 x int8": 3}, attention={"bf16 x bf16": 2})
    path = tmp_path / "dit.layers.json"
    counts.write(path)
    assert read_layer_types(path) == counts
    before = path.read_bytes()
    read_layer_types(path).write(path)
    assert path.read_bytes() == before
