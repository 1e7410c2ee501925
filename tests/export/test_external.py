"""Parameters outside of the graph, in the types that their file stores: the same numbers."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file

from a2edit.export.compile.openvino import engine_from_onnx
from a2edit.export.onnx_export import onnx_from_module, save_onnx
from a2edit.export.passes import run
from a2edit.export.passes.external import ExternalParameters, large_matrices
from a2edit.export.passes.weight_layout import WeightsInPlace
from a2edit.export.weights import (
    array_of,
    parameter_specs,
    places,
    shared_parameters,
    tensor_header,
)
from a2edit.model.graphs import make_graphs
from a2edit.model.weightless import FLUX_FILL, fake_checkpoint, without_weights
from a2edit.runtime.engines.base import GraphSpec, TensorSpec
from a2edit.runtime.engines.openvino import engine_from_blob
from a2edit.runtime.errors import EngineError

FILE = "shared.safetensors"


def _model(folder: Path, kinds: dict[str, torch.dtype], inputs: Collection[str] = ()) -> Path:
    """y = x · W + b with parameters of these stored types, fp32 in the graph."""
    shapes = {"W": (3, 4), "b": (4,)}
    torch.manual_seed(0)
    save_file(
        {key: torch.randn(shapes[key]).to(kind) for key, kind in kinds.items()}, folder / FILE
    )
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[2,3] x, float[3,4] W, float[4] b)'
    text += " => (float[2,4] y) { p = MatMul(x, W) y = Add(p, b) }"
    model = ir.from_onnx_text(text)
    for value in model.graph.inputs[1:]:
        model.graph.inputs.remove(value)
        model.graph.register_initializer(_empty(value))
    run(model, [ExternalParameters({FILE: places(folder / FILE)}, folder, inputs)], "g")
    ir.save(model, folder / "g.onnx")
    return folder / "g.onnx"


def _empty(value: ir.Value) -> ir.Value:
    assert value.shape is not None
    value.const_value = ir.tensor(np.zeros([int(n) for n in value.shape.numpy()], np.float32))
    return value


@pytest.mark.parametrize(
    "kinds",
    [
        {"W": torch.float32, "b": torch.float32},
        {"W": torch.float16, "b": torch.float32},
        {"W": torch.bfloat16, "b": torch.float16},
    ],
)
def test_narrow_parameters_are_the_same_numbers(
    tmp_path: Path, kinds: dict[str, torch.dtype]
) -> None:
    path = _model(tmp_path, kinds)
    model = ir.load(path)
    found = places(tmp_path / FILE)
    for name, kind in kinds.items():
        tensor = model.graph.initializers[name].const_value
        assert isinstance(tensor, ir.ExternalTensor)
        assert (tensor.offset, tensor.length) == (found[name].offset, found[name].bytes)
        assert tensor.numpy().dtype.name == str(kind).removeprefix("torch.")
    casts = [node for node in model.graph if node.op_type == "Cast"]
    assert len(casts) == sum(kind != torch.float32 for kind in kinds.values())
    stored = {name: tensor.float().numpy() for name, tensor in load_file(tmp_path / FILE).items()}
    x = np.eye(2, 3, dtype=np.float32)  # each sum has one term, so that its order is no matter
    truth = x @ stored["W"] + stored["b"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], truth)
    engine_from_onnx(path, tmp_path / "g.blob", "fp32")
    spec = GraphSpec(
        "g", (TensorSpec("x", "float32", (2, 3)),), (TensorSpec("y", "float32", (2, 4)),)
    )
    with engine_from_blob(spec, tmp_path / "g.blob", "fp32") as engine:
        np.testing.assert_array_equal(engine.run({"x": x})["y"], truth)


def test_a_cast_to_the_stored_type_is_no_cast(tmp_path: Path) -> None:
    """A bf16 graph takes bf16 parameters as they are, and others rounded once."""
    save_file(
        {"a": torch.randn(4).bfloat16(), "b": torch.randn(4).half()},
        tmp_path / FILE,
    )
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[4] a, float[4] b)'
    text += " => (bfloat16[4] y, float[4] z) { c = Cast<to=16>(a) d = Cast<to=16>(b)"
    model = ir.from_onnx_text(text + " y = Add(c, d) z = Neg(a) }")
    for value in list(model.graph.inputs):
        model.graph.inputs.remove(value)
        model.graph.register_initializer(_empty(value))
    run(model, [ExternalParameters({FILE: places(tmp_path / FILE)}, tmp_path)], "g")
    add = next(node for node in model.graph if node.op_type == "Add")
    assert add.inputs[0] is model.graph.initializers["a"]
    assert add.inputs[1] is not model.graph.initializers["b"]
    entering = [node.inputs[0] for node in model.graph if node.op_type == "Cast"]
    casts = {value.name for value in entering if value}
    assert casts == {"a", "b", "b.cast"}  # "a" for z, which is fp32


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_parameters_as_inputs(tmp_path: Path, kind: torch.dtype) -> None:
    """Fed from the file, a matrix is the same numbers; the rest stays outside as it was."""
    path = _model(tmp_path, {"W": kind, "b": torch.float16}, inputs=["W"])
    model = ir.load(path)
    assert [value.name for value in model.graph.inputs] == ["x", "W"]
    assert model.graph.inputs[1].dtype is not None
    assert model.graph.inputs[1].dtype.numpy().name == str(kind).removeprefix("torch.")
    assert list(model.graph.initializers) == ["b"]
    stored = load_file(tmp_path / FILE)
    x = np.eye(2, 3, dtype=np.float32)
    feeds = {"x": onnxruntime.OrtValue.ortvalue_from_numpy(x)}
    feeds["W"] = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(
        array_of(stored["W"]), int(model.graph.inputs[1].dtype)
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run_with_ort_values(None, feeds)[0].numpy()
    truth = x @ stored["W"].float().numpy() + stored["b"].float().numpy()
    np.testing.assert_array_equal(found, truth)


def test_fed_matrices_are_turned_as_routed_weights_are(tmp_path: Path) -> None:
    """One graph has both: the pass for them runs once before and once after the file is known."""
    save_file({"a.weight": torch.randn(5, 4)}, tmp_path / FILE)
    text = (
        '<ir_version: 10, opset_import: ["" : 20]> g (float[1,3,4] x, float[4,4] r, float[5,4] a)'
    )
    text += " => (float[1,3,5] z) { t = Transpose<perm=[1,0]>(r) y = MatMul(x, t)"
    model = ir.from_onnx_text(text + " u = Transpose<perm=[1,0]>(a) z = MatMul(y, u) }")
    routed, fed = model.graph.inputs[1:]
    routed.name, fed.name = "r.weight", "a.weight"
    model.graph.inputs.remove(fed)
    model.graph.register_initializer(_empty(fed))
    products = [node for node in model.graph if node.op_type == "MatMul"]
    products[0].outputs[0].shape = ir.Shape([1, 3, 4])
    run(model, [WeightsInPlace()], "g")
    save_onnx(model, places(tmp_path / FILE), tmp_path / "g.onnx", ["a.weight"])
    for product in products:
        source = product.inputs[1]
        assert source is not None
        turn = source.producer()
        assert turn is not None
        assert tuple(turn.attributes["perm"].as_ints()) == (0, 2, 1)
    rng = np.random.default_rng(0)
    x, r = rng.standard_normal((1, 3, 4), np.float32), rng.standard_normal((4, 4), np.float32)
    a = load_file(tmp_path / FILE)["a.weight"].numpy()
    session = onnxruntime.InferenceSession(tmp_path / "g.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": x, "r.weight": r, "a.weight": a})[0]
    np.testing.assert_allclose(found, x @ r.T @ a.T, rtol=1e-5)


def test_an_input_that_is_no_parameter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"the graph has no parameters .*'V'"):
        _model(tmp_path, {"W": torch.float32, "b": torch.float32}, inputs=["V"])


def test_large_matrices_are_those_that_products_take(tmp_path: Path) -> None:
    with without_weights():
        full = fake_checkpoint(FLUX_FILL, torch.float32)
    shared = shared_parameters(full)
    specs = parameter_specs(shared, dict.fromkeys(shared, torch.bfloat16))
    (tmp_path / FILE).write_bytes(tensor_header(specs))
    found = places(tmp_path / FILE)
    for name, least in (("text_encoder", 0.999), ("vae_decoder", 0.0)):
        model = onnx_from_module(make_graphs(full)[name], shared)
        parameters = [key for key in model.graph.initializers if key in found]
        large = large_matrices(model, found)
        part = sum(found[key].bytes for key in large)
        whole = sum(found[key].bytes for key in parameters)
        assert least * whole <= part < (whole if least else 0.1 * whole), name
