"""Passes on a graph small enough to know every number: what is rounded, and what is not."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from a2edit.export.edge import graph_spec
from a2edit.export.passes import run
from a2edit.export.passes.bfloat16 import BFloat16
from a2edit.export.passes.qdq import QuantiseRoutedLinears
from a2edit.export.precision import emulated
from a2edit.kernels.reference import LEVELS, narrowed, quantise_rows
from a2edit.runtime.engines.base import WeightSet
from a2edit.runtime.engines.onnxruntime import engine_from_onnx

MLP = """
<ir_version: 10, opset_import: ["" : 20]>
mlp (float[4, 16] x, float[32, 16] up, float[16, 32] down) => (float[4, 16] y) {
    up_t = Transpose <perm = [1, 0]> (up)
    h = MatMul (x, up_t)
    s = Sigmoid (h)
    a = Mul (h, s)
    down_t = Transpose <perm = [1, 0]> (down)
    z = MatMul (a, down_t)
    y = Add (z, x)
}
"""


def mlp(text: str = MLP) -> ir.Model:
    model = ir.from_onnx_text(text)
    for value in model.graph.inputs[1:]:
        value.name = f"{value.name}.weight"
    return ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(model)))


def error(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


def run_mlp(model: ir.Model, path: Path, *tensors: np.ndarray) -> np.ndarray:
    spec = graph_spec(model, 1)
    ir.save(model, path)
    weights = {it.name: array for it, array in zip(spec.weights, tensors[1:], strict=True)}
    with engine_from_onnx(spec, path, "fp32") as engine:
        engine.bind(WeightSet("mlp", weights))
        return engine.run({"x": tensors[0]})["y"]


def test_the_twin_is_torchs_bf16_op_by_op(tmp_path: Path) -> None:
    """Every op rounds as torch's does; the sum behind the last product is the edge's, in fp32."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-8, 9, (4, 16), generator=generator).float()
    up, down = (torch.randn(shape, generator=generator) for shape in ((32, 16), (16, 32)))
    model = emulated(run(mlp(), [BFloat16()], "mlp"))
    weights = (narrowed(weight.numpy(), "bfloat16") for weight in (up, down))
    found = run_mlp(model, tmp_path / "twin.onnx", x.numpy(), *weights)
    hidden = x.bfloat16() @ up.bfloat16().T
    hidden = hidden * torch.sigmoid(hidden)
    truth = (hidden @ down.bfloat16().T).float().numpy() + x.numpy()
    # sums in another order may fall on another side of a tie, once in thousands
    assert (found == truth).mean() > 0.95
    assert error(found, truth) < 2**-9


def test_the_twin_has_bf16s_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = (4, 16), (32, 16), (16, 32)
    tensors = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    truth = run_mlp(mlp(), tmp_path / "mlp.onnx", *tensors)
    model = emulated(run(mlp(), [BFloat16()], "mlp"))
    bits = [tensors[0], *(narrowed(weight, "bfloat16") for weight in tensors[1:])]
    gap = error(run_mlp(model, tmp_path / "twin.onnx", *bits), truth)
    assert 2**-11 < gap < 2**-7


def test_an_fp32_model_is_its_own_twin(tmp_path: Path) -> None:
    model = mlp()
    before = ir.to_proto(model).SerializeToString()
    assert ir.to_proto(emulated(model)).SerializeToString() == before


@pytest.mark.parametrize("kind", ["int8", "float8_e4m3fn"])
def test_quantised_products_are_the_levels_products(kind: str, tmp_path: Path) -> None:
    """x and W are levels times powers of two: nothing is lost, in the graph's DequantizeLinear."""
    rng = np.random.default_rng(0)
    x = rng.integers(-7, 8, (4, 16)).astype(np.float32)
    x[0, 0] = LEVELS[kind] / 2
    up, down = (rng.integers(-7, 8, shape).astype(np.float32) for shape in ((32, 16), (16, 32)))
    truth = run_mlp(mlp(), tmp_path / "mlp.onnx", x, up, down)
    quantise = QuantiseRoutedLinears({"up": LEVELS[kind] / 2}, None, kind)
    model = run(mlp(), [quantise], "mlp")
    assert model.graph.inputs[3].name == "up.scale"
    up[:, 0] = LEVELS[kind] / 4
    levels, scales = quantise_rows(up, None, kind)
    assert set(scales.tolist()) == {0.25}
    truth = run_mlp(mlp(), tmp_path / "mlp.onnx", x, up, down)
    found = run_mlp(model, tmp_path / "quantised.onnx", x, levels, down, scales)
    np.testing.assert_allclose(found, truth, rtol=1e-6)


def test_constants_that_bf16_lacks_are_not_rounded() -> None:
    """0.1 scales every token alike: its error would not average out."""
    text = MLP.replace("Sigmoid (h)", "Mul (h, c)")
    for number, wide in ((0.1, True), (0.5, False)):
        model = mlp(text.replace("y) {", f"y) <float c = {{{number}}}> {{"))
        model = run(model, [BFloat16()], "mlp")
        (scaled,) = (node for node in model.graph if node.outputs[0].name == "s")
        assert scaled.outputs[0].dtype == (ir.DataType.FLOAT if wide else ir.DataType.BFLOAT16)
