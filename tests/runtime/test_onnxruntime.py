"""onnxruntime beyond fp32: types that numpy lacks, and providers for GPUs."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto as Type
from onnx import helper

from a2edit.runtime.engines.base import Array, GraphSpec, TensorSpec, WeightSet
from a2edit.runtime.errors import EngineError, TargetError

onnxruntime = pytest.importorskip("a2edit.runtime.engines.onnxruntime")
# 1, -2 and 0.5 by bits
BITS: dict[str, tuple[int, Array]] = {
    "bfloat16": (Type.BFLOAT16, np.array([0x3F80, 0xC000, 0x3F00], np.uint16)),
    "float8_e4m3fn": (Type.FLOAT8E4M3FN, np.array([0x38, 0xC0, 0x30], np.uint8)),
}


def product(folder: Path, dtype: str) -> tuple[GraphSpec, Path]:
    """y = x · w in fp32, and y once more in `dtype`; x and w are of `dtype`."""
    kind = BITS[dtype][0]
    nodes = [
        helper.make_node("Cast", ["x"], ["wide_x"], to=Type.FLOAT),
        helper.make_node("Cast", ["w"], ["wide_w"], to=Type.FLOAT),
        helper.make_node("Mul", ["wide_x", "wide_w"], ["y"]),
        helper.make_node("Cast", ["y"], ["narrow"], to=kind),
    ]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info(name, kind, [3]) for name in "xw"],
        [
            helper.make_tensor_value_info("y", Type.FLOAT, [3]),
            helper.make_tensor_value_info("narrow", kind, [3]),
        ],
    )
    path = folder / "product.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, path)
    x, w, narrow = (TensorSpec(name, dtype, (3,)) for name in ("x", "w", "narrow"))
    return GraphSpec("product", (x,), (TensorSpec("y", "float32", (3,)), narrow), (w,)), path


@pytest.mark.parametrize("dtype", BITS)
def test_types_that_numpy_lacks_travel_as_bits(dtype: str, tmp_path: Path) -> None:
    spec, path = product(tmp_path, dtype)
    bits = BITS[dtype][1]
    one, half = bits[[0, 0, 0]], bits[[2, 2, 2]]
    with onnxruntime.engine_from_onnx(spec, path, "fp32") as engine:
        engine.bind(WeightSet("one", {"w": one}))
        result = engine.run({"x": bits})
        assert result["y"].tolist() == [1, -2, 0.5]
        np.testing.assert_array_equal(result["narrow"], bits)
        assert result["narrow"].dtype == bits.dtype
        engine.bind(WeightSet("half", {"w": half}))
        assert engine.run({"x": bits})["y"].tolist() == [0.5, -1, 0.25]
        with pytest.raises(EngineError, match=rf"expected x {dtype}\[3\], got float32\[3\]"):
            engine.run({"x": np.zeros(3, np.float32)})


def test_an_fp8_product_with_its_scales_behind_it_runs(tmp_path: Path) -> None:
    """The form that TensorRT multiplies in fp8; onnxruntime would fuse it to an int8 product."""
    constants = [
        helper.make_tensor("step", Type.FLOAT, [], [0.5]),
        helper.make_tensor("one", Type.FLOAT, [], [1.0]),
        helper.make_tensor("zero", Type.FLOAT8E4M3FN, [], [0]),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "step", "zero"], ["back"]),
        helper.make_node("DequantizeLinear", ["w", "one"], ["wide"]),
        helper.make_node("MatMul", ["back", "wide"], ["product"]),
        helper.make_node("Mul", ["product", "scale"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "fp8",
        [
            helper.make_tensor_value_info("x", Type.FLOAT, [1, 2, 3]),
            helper.make_tensor_value_info("w", Type.FLOAT8E4M3FN, [3, 2]),
            helper.make_tensor_value_info("scale", Type.FLOAT, [2]),
        ],
        [helper.make_tensor_value_info("y", Type.FLOAT, [1, 2, 2])],
        constants,
    )
    path = tmp_path / "fp8.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, path)
    spec = GraphSpec(
        "fp8",
        (TensorSpec("x", "float32", (1, 2, 3)),),
        (TensorSpec("y", "float32", (1, 2, 2)),),
        (TensorSpec("w", "float8_e4m3fn", (3, 2)), TensorSpec("scale", "float32", (2,))),
    )
    columns = np.repeat(BITS["float8_e4m3fn"][1][:, None], 2, axis=1)
    weights = {"w": columns, "scale": np.array([1, 10], np.float32)}
    with onnxruntime.engine_from_onnx(spec, path, "fp8") as engine:
        engine.bind(WeightSet("w", weights))
        # 8.7 is 17.4 steps, and fp8 has 16 and 18
        y = engine.run({"x": np.array([[[1, 2, 4], [8.7, 0, 0]]], np.float32)})["y"]
    np.testing.assert_allclose(y[0], [[-1, -10], [9, 90]])


@pytest.mark.parametrize("backend", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_a_provider_that_is_not_installed_is_refused(backend: str, tmp_path: Path) -> None:
    import onnxruntime as package

    provider = onnxruntime.PROVIDERS[backend][0]
    if provider in package.get_available_providers():
        pytest.skip(f"this onnxruntime has the {provider}")
    spec, path = product(tmp_path, "bfloat16")
    wanted = rf"{backend}.* needs the {provider}.* lacks .*CPUExec.*pip install onnxruntime-gpu"
    with pytest.raises(TargetError, match=wanted):
        onnxruntime.engine_from_onnx(spec, path, "bf16", backend)


def test_an_unknown_backend_is_refused(tmp_path: Path) -> None:
    spec, path = product(tmp_path, "bfloat16")
    with pytest.raises(TargetError, match=r"'onnxruntime-rocm' is unknown: use onnxr.*cuda"):
        onnxruntime.engine_from_onnx(spec, path, "fp32", "onnxruntime-rocm")


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_on_a_gpu_the_answers_are_the_same(backend: str, tmp_path: Path) -> None:
    import onnxruntime as package

    if onnxruntime.PROVIDERS[backend][0] not in package.get_available_providers():
        pytest.skip(f"{backend} needs the package onnxruntime-gpu")
    spec, path = product(tmp_path, "bfloat16")
    bits = BITS["bfloat16"][1]
    sets = [WeightSet(str(place), {"w": bits[[place] * 3]}) for place in (0, 2)]
    with onnxruntime.engine_from_onnx(spec, path, "fp32", backend) as engine:
        for weights, expected in ((sets[0], [1, -2, 0.5]), (sets[1], [0.5, -1, 0.25])) * 2:
            engine.bind(weights)
            assert engine.run({"x": bits})["y"].tolist() == expected
