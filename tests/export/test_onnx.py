"""What the ONNX files look like: no weights inside, names kept, no float64, no paths."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from safetensors.numpy import load_file
from torch._subclasses.fake_tensor import FakeTensor

from a2edit.export.bake import bake
from a2edit.export.onnx_export import onnx_from_module, save_onnx
from a2edit.export.passes import run
from a2edit.export.passes.float32 import Float32
from a2edit.export.passes.qdq import QuantiseRoutedLinears
from a2edit.export.source import GRAPH_NAMES
from a2edit.export.weights import places, shared_parameters
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import merged_state
from a2edit.model.graphs import make_graphs
from a2edit.model.weightless import outline
from a2edit.runtime.errors import EngineError
from a2edit.runtime.manifest import read_manifest


def model_of(bundle: Path, name: str) -> ir.Model:
    return ir.load(bundle / "graphs" / f"{name}.fp32.onnx")


@pytest.mark.parametrize("name", GRAPH_NAMES)
def test_parameters_are_outside_and_the_rest_is_small(bundle: Path, name: str) -> None:
    model = model_of(bundle, name)
    shared = places(bundle / "graphs/shared.safetensors")
    for key, value in model.graph.initializers.items():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            assert key in shared
            assert (tensor.offset, tensor.length) == (shared[key].offset, shared[key].bytes)
        else:
            assert tensor is not None
            assert tensor.nbytes < 20_000, key
    types = {value.dtype for node in model.graph for value in node.outputs}
    assert ir.DataType.DOUBLE not in types


@pytest.mark.parametrize("name", GRAPH_NAMES)
def test_nothing_of_the_build_machine_is_in_a_graph(bundle: Path, name: str) -> None:
    content = (bundle / "graphs" / f"{name}.fp32.onnx").read_bytes()
    for text in (b"site-packages", b"/home/", b"stack_trace", str(bundle.parent).encode()):
        assert text not in content


@pytest.mark.parametrize("name", GRAPH_NAMES)
def test_without_weights_it_is_the_loaded_models_graph(
    bundle: Path, checkpoint: Checkpoint, name: str, tmp_path: Path
) -> None:
    """A bundle's graphs are exported from config files; here from parameters with values."""
    routed = [f"{linear.name}.weight" for linear in checkpoint.linears] if name == "dit" else ()
    graph = make_graphs(checkpoint)[name]
    model = onnx_from_module(graph, shared_parameters(checkpoint), routed)
    save_onnx(model, places(bundle / "graphs/shared.safetensors"), tmp_path / f"{name}.onnx")
    exported = (bundle / "graphs" / f"{name}.fp32.onnx").read_bytes()
    assert (tmp_path / f"{name}.onnx").read_bytes() == exported


def test_a_parameter_that_the_file_lacks_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    model = onnx_from_module(make_graphs(checkpoint)["gate"], shared_parameters(checkpoint))
    with pytest.raises(EngineError, match=r"gate\.\S+ is not in shared\.safetensors"):
        save_onnx(model, {}, tmp_path / "gate.onnx")


def test_only_parameters_are_fake(checkpoint_folder: Path, checkpoint: Checkpoint) -> None:
    """Buffers end in the graph as constants: they must be the loaded model's."""
    shapes, real = outline(checkpoint_folder).modules(), checkpoint.modules()
    for part, module in shapes.items():
        assert all(isinstance(value, FakeTensor) for value in module.parameters()), part
        buffers = dict(module.named_buffers())
        assert buffers.keys() == dict(real[part].named_buffers()).keys()
        for name, value in real[part].named_buffers():
            assert torch.equal(buffers[name], value), (part, name)


def test_external_data_is_the_checkpoints(bundle: Path, checkpoint: Checkpoint) -> None:
    found = load_file(bundle / "graphs/shared.safetensors")
    weight = checkpoint.transformer.get_parameter("x_embedder.weight").numpy()
    np.testing.assert_array_equal(found["transformer.x_embedder.weight"], weight)
    routed = {f"transformer.{linear.name}.weight" for linear in checkpoint.linears}
    assert not routed & found.keys()
    assert not any("experts" in key for key in found)


def test_routed_weights_are_inputs_in_torchs_layout(bundle: Path, checkpoint: Checkpoint) -> None:
    graph = read_manifest(bundle).graphs["dit"]["fp32"]
    shapes = {f"{x.name}.weight": (x.out_features, x.in_features) for x in checkpoint.linears}
    assert {weight.name: weight.shape for weight in graph.weights} == shapes
    assert [spec.name for spec in graph.inputs][:2] == ["latents", "conditioning"]


def test_weight_sets_are_the_references_merge(bundle: Path, checkpoint: Checkpoint) -> None:
    import torch

    for name, entry in read_manifest(bundle).routes.items():
        found = load_file(bundle / f"weights/fp32/{name}.safetensors")
        truth = merged_state(checkpoint.transformer, checkpoint.experts, torch.tensor(entry.table))
        assert found.keys() == truth.keys()
        for key, weight in truth.items():
            np.testing.assert_allclose(found[key], weight.numpy(), rtol=0, atol=1e-6)


def constant(value: ir.Value | None) -> float:
    assert value is not None
    assert value.const_value is not None
    return float(value.const_value.numpy())


def _readers(model: ir.Model) -> list[str]:
    """What the embedders' and the last projection's products are made by."""
    names = [
        f"transformer.{part}.weight" for part in ("x_embedder", "context_embedder", "proj_out")
    ]
    return [node.op_type for name in names for node, _ in model.graph.initializers[name].uses()]


def test_quantised_linears_have_one_scale_an_input(bundle: Path, checkpoint: Checkpoint) -> None:
    model = model_of(bundle, "dit")
    before = _readers(model)
    assert len(before) == 3
    ranges = {linear.name: 4.0 for linear in checkpoint.linears}
    model = run(model, [QuantiseRoutedLinears(ranges)], "dit")
    quantisers = [node for node in model.graph if node.op_type == "QuantizeLinear"]
    assert len(quantisers) == len(ranges)
    assert [constant(node.inputs[1]) for node in quantisers] == pytest.approx(
        [4 / 127] * len(ranges)
    )
    types = {value.name: value.dtype for value in model.graph.inputs}
    for name in ranges:
        (weight,) = (value for value in model.graph.inputs if value.name == f"{name}.weight")
        ((dequantise, _),) = weight.uses()
        assert constant(dequantise.inputs[1]) == 1  # rows are scaled behind the product
        assert types[f"{name}.weight"] == ir.DataType.INT8
        assert types[f"{name}.scale"] == ir.DataType.FLOAT
    assert _readers(model) == before  # the rest stays as it was


def test_factors_divide_an_input(bundle: Path, checkpoint: Checkpoint) -> None:
    linear = next(it for it in checkpoint.linears if it.name.endswith(".proj_out"))
    smooth = np.geomspace(0.5, 4, linear.in_features).astype(np.float32)
    factors = {f"{linear.name}.smooth": smooth}
    quantise = QuantiseRoutedLinears({linear.name: 8.0}, factors)
    model = run(model_of(bundle, "dit"), [quantise], "dit")
    (node,) = (node for node in model.graph if node.op_type == "QuantizeLinear")
    (value, *_) = node.inputs
    assert value is not None
    producer = value.producer()
    assert producer is not None
    assert producer.op_type == "Mul"
    factor = producer.inputs[1]
    assert factor is not None
    assert factor.const_value is not None
    np.testing.assert_array_equal(factor.const_value.numpy(), 1 / smooth)


def test_a_failing_pass_says_which_it_was(bundle: Path) -> None:
    with pytest.raises(EngineError, match=r"graph dit: pass QuantiseRoutedLinears failed.*nowhere"):
        run(model_of(bundle, "dit"), [QuantiseRoutedLinears({"nowhere": 1.0})], "dit")


def test_float64_is_cast() -> None:
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[2])
    wide = ir.node("Cast", [x], attributes={"to": int(ir.DataType.DOUBLE)})
    angle = ir.node("Sin", wide.outputs)
    back = ir.node("Cast", angle.outputs, attributes={"to": int(ir.DataType.FLOAT)})
    for node, kind in ((wide, "DOUBLE"), (angle, "DOUBLE"), (back, "FLOAT")):
        node.outputs[0].dtype = ir.DataType[kind]
    graph = ir.Graph([x], back.outputs, nodes=[wide, angle, back], opset_imports={"": 20})
    model = run(ir.Model(graph, ir_version=10), [Float32()], "tiny")
    assert {value.dtype for node in model.graph for value in node.outputs} == {ir.DataType.FLOAT}


def test_baking_leaves_the_requests_inputs_only(bundle: Path, tmp_path: Path) -> None:
    route = next(iter((bundle / "weights/fp32").iterdir()))
    path = bake(
        bundle / "graphs/dit.fp32.onnx",
        bundle / "graphs",
        route,
        tmp_path / "parts",
    )
    baked, free = ir.load(path), model_of(bundle, "dit")
    names = {spec.name for spec in read_manifest(bundle).graphs["dit"]["fp32"].inputs}
    assert (
        {value.name for value in baked.graph.inputs} == names < {v.name for v in free.graph.inputs}
    )
    content = (path.parent / "route.safetensors").read_bytes()
    for name, weight in load_file(route).items():
        tensor = baked.graph.initializers[name].const_value
        assert isinstance(tensor, ir.ExternalTensor)
        first, length = tensor.offset, tensor.length
        assert first is not None
        assert length is not None
        assert (tensor.dtype.numpy(), tuple(tensor.shape.numpy())) == (weight.dtype, weight.shape)
        assert content[first : first + length] == weight.tobytes()
