"""Graphs as policies compute them: what is bf16 and what stays fp32, and how far from torch."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from a2edit.calibration.policy import GraphPolicy, graph_policy
from a2edit.calibration.ranges import input_parts
from a2edit.export.onnx_export import SHARED_FILE, onnx_from_module, save_onnx
from a2edit.export.passes import run
from a2edit.export.passes.bfloat16 import PRODUCTS, BFloat16
from a2edit.export.passes.qdq import QuantiseRoutedLinears
from a2edit.export.precision import emulated, in_precision
from a2edit.export.source import GRAPH_NAMES
from a2edit.export.weights import places, save_shared, shared_parameters
from a2edit.kernels.reference import LEVELS, narrowed, quantise_rows
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import merged_state
from a2edit.model.graphs import make_graphs
from a2edit.runtime.engines.base import GraphSpec, TensorSpec, WeightSet
from a2edit.runtime.engines.onnxruntime import engine_from_onnx
from a2edit.runtime.targets import TARGETS, Precision

DENOISERS: tuple[tuple[str, Precision], ...] = (
    ("cpu", "fp32"),
    ("cpu", "int8"),
    ("sm75", "int8"),
    ("sm80", "bf16"),
    ("sm80", "int8"),
    ("sm89", "fp8"),
)


def policy_of(graph: str, target: str, precision: Precision) -> GraphPolicy:
    return graph_policy(graph, TARGETS[target], precision, small=False)


class Graphs:
    """A checkpoint's graphs, exported once, in any policy; its parameters lie beside them."""

    def __init__(self, checkpoint: Checkpoint, source: Path, folder: Path) -> None:
        self.checkpoint, self.folder = checkpoint, folder
        self.modules = make_graphs(checkpoint)
        save_shared(checkpoint, source, folder / SHARED_FILE)
        self._models: dict[str, ir.Model] = {}
        blocks = 1 + max(linear.block for linear in checkpoint.linears)
        table = torch.full((blocks, checkpoint.config.num_experts), 0.125)
        self.merged = merged_state(checkpoint.transformer, checkpoint.experts, table)
        inputs = self.modules["dit"].example_inputs()
        self.inputs = dict(zip(self.modules["dit"].input_names, inputs, strict=True))
        self.inputs["delta"] = torch.ones(1)  # so that the step is x + v
        self.truth, self.peaks = self._denoised()

    def model(self, name: str, policy: GraphPolicy) -> ir.Model:
        if name not in self._models:
            linears = self.checkpoint.linears if name == "dit" else ()
            routed = [f"{linear.name}.weight" for linear in linears]
            parameters = shared_parameters(self.checkpoint)
            self._models[name] = onnx_from_module(self.modules[name], parameters, routed)
        model = self._models[name].clone()
        return in_precision(model, policy, self.peaks if policy.quantised else None)

    def _denoised(self) -> tuple[np.ndarray, dict[str, tuple[float, ...]]]:
        """The step in torch, and the largest inputs of every routed linear, one number a part."""
        transformer, handles = self.checkpoint.transformer, []
        peaks: dict[str, tuple[float, ...]] = {}
        for linear in self.checkpoint.linears:
            parts = list(input_parts(linear, transformer.inner_dim))

            def record(
                _: nn.Module,
                inputs: tuple[Tensor, ...],
                name: str = linear.name,
                parts: list[int] = parts,
            ) -> None:
                peaks[name] = tuple(float(part.abs().max()) for part in inputs[0].split(parts, -1))

            module = transformer.get_submodule(linear.name)
            handles.append(module.register_forward_pre_hook(record))
        state = {f"transformer.{name}": weight for name, weight in self.merged.items()}
        feeds = tuple(self.inputs.values())
        with torch.no_grad():
            step = torch.func.functional_call(self.modules["dit"], state, feeds)
        for handle in handles:
            handle.remove()
        return step.numpy(), peaks

    def save(self, model: ir.Model, label: str) -> Path:
        path = self.folder / f"{model.graph.name}.{label}.onnx"
        save_onnx(model, places(self.folder / SHARED_FILE), path)
        return path


@pytest.fixture(scope="module")
def graphs(
    checkpoint: Checkpoint, checkpoint_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Graphs:
    return Graphs(checkpoint, checkpoint_folder, tmp_path_factory.mktemp("graphs"))


def spec_of(model: ir.Model, requests: int) -> GraphSpec:
    def specs(values: list[ir.Value]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(str(it.name), it.dtype.numpy().name, tuple(it.shape.numpy()))  # type: ignore[union-attr]
            for it in values
        )

    inputs = list(model.graph.inputs)
    outputs = specs(list(model.graph.outputs))
    return GraphSpec(
        str(model.graph.name), specs(inputs[:requests]), outputs, specs(inputs[requests:])
    )


def weight_set(spec: GraphSpec, merged: dict[str, Tensor]) -> WeightSet:
    """Routed weights in the types of a graph."""
    types = {it.name: it.dtype for it in spec.weights}
    tensors: dict[str, np.ndarray] = {}
    for key, weight in merged.items():
        name, array = key.removeprefix("transformer."), weight.numpy()
        scale = name.removesuffix(".weight") + ".scale"
        if scale in types:
            levels = quantise_rows(array, None, types[name], types[scale])
            tensors[name], tensors[scale] = levels
        else:
            tensors[name] = narrowed(array, types[name])
    return WeightSet("route", tensors)


def error(found: np.ndarray, truth: np.ndarray, base: np.ndarray | float = 0.0) -> float:
    gap, wanted = found.astype(np.float64) - truth, truth.astype(np.float64) - base
    return float(np.linalg.norm(gap) / np.linalg.norm(wanted))


@pytest.mark.parametrize("name", GRAPH_NAMES)
@pytest.mark.parametrize(("target", "precision"), DENOISERS)
def test_graphs_are_sound_and_keep_their_edge(
    graphs: Graphs, name: str, target: str, precision: Precision
) -> None:
    policy = policy_of(name, target, precision)
    plain, model = graphs.model(name, policy_of(name, "cpu", "fp32")), graphs.model(name, policy)
    onnx.checker.check_model(str(graphs.save(model, policy.variant)), full_check=True)
    requests = len(graphs.modules[name].input_names)
    expected, found = spec_of(plain, requests), spec_of(model, requests)
    assert (found.inputs, found.outputs) == (expected.inputs, expected.outputs)
    types = {str(node.outputs[0].dtype) for node in model.graph if node.op_type in PRODUCTS}
    assert types == {"BFLOAT16" if policy.rest == "bf16" else "FLOAT"}
    kind = {"int8": "int8", "fp8": "float8_e4m3fn", "bf16": "bfloat16"}.get(policy.precision)
    for weight in found.weights:
        scale = "bfloat16" if policy.rest == "bf16" else "float32"
        assert weight.dtype == (scale if weight.name.endswith(".scale") else kind or "float32")


@pytest.mark.parametrize("name", GRAPH_NAMES)
def test_bytes_are_only_cast(graphs: Graphs, name: str) -> None:
    """TensorRT computes nothing in uint8, not even a transpose."""
    model = graphs.model(name, policy_of(name, "sm80", "bf16"))
    for node in model.graph:
        values = (*node.inputs, *node.outputs)
        if any(value is not None and value.dtype == ir.DataType.UINT8 for value in values):
            assert node.op_type == "Cast"


def test_sinusoids_statistics_tables_and_the_step_stay_fp32(graphs: Graphs) -> None:
    model = graphs.model("dit", policy_of("dit", "sm80", "bf16"))
    types: dict[str, set[str]] = {}
    for node in model.graph:
        types.setdefault(node.op_type, set()).add(str(node.outputs[0].dtype))
    for kind in ("Sin", "Cos", "Pow", "ReduceMean", "Sqrt", "Reciprocal"):
        assert types[kind] == {"FLOAT"}, kind
    for kind in ("Softmax", "LayerNormalization", "Gelu", "Concat"):
        assert "BFLOAT16" in types[kind], kind
    tables = [
        node
        for node in model.graph
        if node.op_type == "Mul"
        and any(len(value.shape) == 4 and value.is_initializer() for value in node.inputs)  # type: ignore[union-attr,arg-type]
    ]
    assert tables
    assert all(node.outputs[0].dtype == ir.DataType.FLOAT for node in tables)
    (last,) = (node for node in model.graph if node.outputs[0] is model.graph.outputs[0])
    assert last.op_type == "Add"
    assert next(value.name for value in last.inputs if value is not None) == "latents"


@pytest.mark.parametrize("name", [name for name in GRAPH_NAMES if name != "dit"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_graphs_repeat_torch(graphs: Graphs, name: str, precision: Precision) -> None:
    policy = policy_of(name, "sm80", precision)
    module = graphs.modules[name]
    model = emulated(graphs.model(name, policy))
    spec = spec_of(model, len(module.input_names))
    inputs = module.example_inputs()
    with torch.no_grad():
        truth = module(*inputs).numpy()
    feeds = {key: value.numpy() for key, value in zip(module.input_names, inputs, strict=True)}
    with engine_from_onnx(spec, graphs.save(model, f"twin-{precision}"), "fp32") as engine:
        found = engine.run(feeds)[module.output_names[0]]
    assert error(found, truth) < policy.tolerance


@pytest.mark.parametrize(("target", "precision"), DENOISERS)
def test_the_denoiser_repeats_torch_as_far_as_its_types_allow(
    graphs: Graphs, target: str, precision: Precision
) -> None:
    """Every routed linear is quantised here, and nothing is smoothed: a build does better."""
    policy = policy_of("dit", target, precision)
    model = emulated(graphs.model("dit", policy))
    spec = spec_of(model, len(graphs.inputs))
    feeds = {key: value.numpy() for key, value in graphs.inputs.items()}
    with engine_from_onnx(spec, graphs.save(model, f"twin-{policy.variant}"), "fp32") as engine:
        engine.bind(weight_set(spec, graphs.merged))
        found = engine.run(feeds)["next_latents"]
    gap = error(found, graphs.truth, feeds["latents"])
    least, most = {"fp32": (0, 1e-5), "bf16": (2**-10, 2**-6), "int8": (2**-10, 2**-5)}.get(
        precision, (2**-8, 2**-4)
    )
    assert least <= gap < most, f"{policy.variant}: {gap:.1e}"


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


def run_mlp(model: ir.Model, path: Path, *tensors: np.ndarray) -> np.ndarray:
    spec = spec_of(model, 1)
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
    quantise = QuantiseRoutedLinears({"up": (LEVELS[kind] / 2,)}, None, kind)
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
