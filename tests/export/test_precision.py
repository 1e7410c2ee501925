"""Graphs as policies compute them: what is bf16 and what stays fp32, and how far from torch."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from a2edit.calibration.policy import GraphPolicy, graph_policy
from a2edit.export.compile.layers import SUFFIX, read_layer_types
from a2edit.export.compile.tensorrt import engine_from_onnx as plan_from_onnx
from a2edit.export.edge import graph_spec
from a2edit.export.onnx_export import SHARED_FILE, onnx_from_module, save_onnx
from a2edit.export.passes.bfloat16 import PRODUCTS
from a2edit.export.precision import emulated, in_precision
from a2edit.export.source import GRAPH_NAMES
from a2edit.export.weight_only import WEIGHT_ONLY_FILE, is_weight_only, save_weight_only
from a2edit.export.weights import places, save_shared, shared_parameters
from a2edit.kernels.reference import dequantise_rows, narrowed, quantise_rows, widened
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import merged_state
from a2edit.model.graphs import make_graphs
from a2edit.runtime.engines.base import GraphSpec, WeightSet
from a2edit.runtime.engines.onnxruntime import engine_from_onnx
from a2edit.runtime.errors import EngineError
from a2edit.runtime.targets import TARGETS, Precision
from a2edit.runtime.tensors import map_tensors

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
        save_weight_only(checkpoint, source, folder / WEIGHT_ONLY_FILE)
        self._models: dict[str, ir.Model] = {}
        blocks = 1 + max(linear.block for linear in checkpoint.linears)
        table = torch.full((blocks, checkpoint.config.num_experts), 0.125)
        self.merged = merged_state(checkpoint.transformer, checkpoint.experts, table)
        inputs = self.modules["dit"].example_inputs()
        self.inputs = dict(zip(self.modules["dit"].input_names, inputs, strict=True))
        self.inputs["delta"] = torch.ones(1)  # so that the step is x + v
        modulation = self.modules["modulation"]
        with torch.no_grad():
            self.inputs["modulation"] = modulation(*modulation.example_inputs())
        self.truth, self.peaks = self._denoised()

    def model(self, name: str, policy: GraphPolicy) -> ir.Model:
        if name not in self._models:
            linears = self.checkpoint.linears if name == "dit" else ()
            routed = [f"{linear.name}.weight" for linear in linears]
            parameters = shared_parameters(self.checkpoint)
            self._models[name] = onnx_from_module(self.modules[name], parameters, routed)
        model = self._models[name].clone()
        return in_precision(model, policy, self.peaks if policy.quantised else None)

    def _denoised(self) -> tuple[np.ndarray, dict[str, float]]:
        """The step in torch, and the largest input of every routed linear."""
        transformer, handles = self.checkpoint.transformer, []
        peaks: dict[str, float] = {}
        for linear in self.checkpoint.linears:

            def record(_: nn.Module, inputs: tuple[Tensor, ...], name: str = linear.name) -> None:
                peaks[name] = float(inputs[0].abs().max())

            module = transformer.get_submodule(linear.name)
            handles.append(module.register_forward_pre_hook(record))
        state = {f"transformer.{name}": weight for name, weight in self.merged.items()}
        feeds = tuple(self.inputs.values())
        with torch.no_grad():
            step = torch.func.functional_call(self.modules["dit"], state, feeds)
        for handle in handles:
            handle.remove()
        return step.numpy(), peaks

    def feeds(self, name: str) -> dict[str, Tensor]:
        if name == "dit":
            return self.inputs
        module = self.modules[name]
        return dict(zip(module.input_names, module.example_inputs(), strict=True))

    def save(self, model: ir.Model, label: str) -> Path:
        path = self.folder / f"{model.graph.name}.{label}.onnx"
        parameters, narrow = (places(self.folder / it) for it in (SHARED_FILE, WEIGHT_ONLY_FILE))
        save_onnx(model, parameters, path, weight_only=narrow)
        return path


@pytest.fixture(scope="module")
def graphs(
    checkpoint: Checkpoint, checkpoint_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Graphs:
    return Graphs(checkpoint, checkpoint_folder, tmp_path_factory.mktemp("graphs"))


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
    expected, found = graph_spec(plain, requests), graph_spec(model, requests)
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
    types: dict[str, set[str]] = {}
    for name in ("modulation", "dit"):
        model = graphs.model(name, policy_of(name, "sm80", "bf16"))
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
    spec = graph_spec(model, len(module.input_names))
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
    spec = graph_spec(model, len(graphs.inputs))
    feeds = {key: value.numpy() for key, value in graphs.inputs.items()}
    with engine_from_onnx(spec, graphs.save(model, f"twin-{policy.variant}"), "fp32") as engine:
        engine.bind(weight_set(spec, graphs.merged))
        found = engine.run(feeds)["next_latents"]
    gap = error(found, graphs.truth, feeds["latents"])
    least, most = {"fp32": (0, 1e-5), "bf16": (2**-10, 2**-6), "int8": (2**-10, 2**-5)}.get(
        precision, (2**-8, 2**-4)
    )
    assert least <= gap < most, f"{policy.variant}: {gap:.1e}"


SMALL = [(name, rest) for name in ("text_encoder", "modulation") for rest in ("fp32", "bf16")]


@pytest.mark.parametrize(("name", "rest"), SMALL)
def test_8_bit_weights_halve_what_is_stored_and_cost_little(
    graphs: Graphs, name: str, rest: Precision
) -> None:
    wide = graph_policy(name, TARGETS["sm80"], rest, small=False)
    policy = graph_policy(name, TARGETS["sm80"], rest, small=True)
    assert policy.variant == f"{rest}-w8"
    found = {}
    for it in (wide, policy):
        model = emulated(graphs.model(name, it))
        path = graphs.save(model, f"small-{it.variant}")
        onnx.checker.check_model(str(path), full_check=True)
        spec = graph_spec(model, len(graphs.modules[name].input_names))
        feeds = {key: value.numpy() for key, value in graphs.feeds(name).items()}
        with engine_from_onnx(spec, path, "fp32") as engine:
            found[it.variant] = engine.run(feeds)[graphs.modules[name].output_names[0]]
    gap = error(found[policy.variant], found[wide.variant], 0.0)
    assert 2**-12 < gap < policy.tolerance


def test_8_bit_weights_are_the_modulations_and_t5s_linears(graphs: Graphs) -> None:
    shared = shared_parameters(graphs.checkpoint)
    chosen = {name for name in shared if is_weight_only(name)}
    linears = {
        f"{part}.{name}.weight"
        for part in ("transformer", "text_encoder")
        for name, module in graphs.checkpoint.modules()[part].named_modules()
        if isinstance(module, nn.Linear)
    }
    embedders = ("embedder", "norm_out", "transformer.proj_out")
    rest = {name for name in linears & shared.keys() if any(part in name for part in embedders)}
    assert rest
    assert chosen == (linears & shared.keys()) - rest
    stored = map_tensors(graphs.folder / WEIGHT_ONLY_FILE).tensors
    assert {name.rpartition(".")[0] for name in stored} == chosen
    for name in chosen:
        weight = shared[name].numpy()
        levels, scale = stored[f"{name}.int8"], stored[f"{name}.scale"]
        assert (levels.dtype, scale.dtype) == ("int8", "bfloat16")
        gap = np.abs(dequantise_rows(levels.array, scale.array) - weight)
        assert (gap <= widened(scale.array)[:, None] * 0.5001).all()
    size = (graphs.folder / WEIGHT_ONLY_FILE).stat().st_size
    assert size < 0.6 * sum(2 * shared[name].numel() for name in chosen)


def test_8_bit_weights_need_their_file(graphs: Graphs, tmp_path: Path) -> None:
    policy = graph_policy("modulation", TARGETS["cpu"], "fp32", small=True)
    model = graphs.model("modulation", policy)
    with pytest.raises(EngineError, match=r"norm1.linear.weight.int8 is not in shared.safetensors"):
        save_onnx(model, places(graphs.folder / SHARED_FILE), tmp_path / "modulation.onnx")


# Beside the bundles of test_gpu_targets.py.
PLANS: list[tuple[str, str, Precision, bool]] = [
    ("dit", "sm80", "bf16", False),
    ("text_encoder", "sm80", "bf16", True),
    ("modulation", "sm80", "int8", True),
    ("dit", "sm80", "int8", False),
]


@pytest.mark.parametrize(("name", "target", "precision", "small"), PLANS)
def test_tensorrt_multiplies_in_the_types_that_a_graph_says(
    graphs: Graphs, tmp_path: Path, name: str, target: str, precision: Precision, small: bool
) -> None:
    pytest.importorskip("tensorrt_rtx")
    policy = graph_policy(name, TARGETS[target], precision, small)
    path = graphs.save(graphs.model(name, policy), policy.variant)
    plan = tmp_path / "graph.plan"
    plan_from_onnx(path, plan, TARGETS[target], "tensorrt_rtx")
    layers = read_layer_types(plan.with_suffix(SUFFIX))
    products = {*layers.linear, *layers.convolution, *layers.attention}
    if policy.quantised:
        kind = policy.precision
        assert layers.linear[f"{kind} x {kind}"] == len(graphs.checkpoint.linears)
    else:
        assert products == {"bf16 x bf16"}
