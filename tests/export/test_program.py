"""Exported programs: what is an input of them, what they multiply, and how far from torch."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from a2edit.calibration.policy import GraphPolicy, graph_policy
from a2edit.export.compile.inductor import layer_types
from a2edit.export.edge import graph_spec
from a2edit.export.onnx_export import SHARED_FILE, save_onnx
from a2edit.export.openings import NOTHING_OPEN, Openings
from a2edit.export.precision import emulated, in_precision
from a2edit.export.products import check_sides
from a2edit.export.program import Program, program_from_module
from a2edit.export.source import GRAPH_NAMES, Source
from a2edit.export.weight_only import WEIGHT_ONLY_FILE, save_weight_only
from a2edit.export.weights import places, save_shared, shared_parameters
from a2edit.kernels.reference import narrowed, quantise_rows
from a2edit.model.experts import merged_state
from a2edit.runtime.engines.base import GraphSpec, TensorSpec, WeightSet
from a2edit.runtime.engines.onnxruntime import engine_from_onnx
from a2edit.runtime.errors import EngineError
from a2edit.runtime.targets import TARGETS, Precision
from a2edit.runtime.tensors import pick_tensors

# Of every kind of policy one target.
POLICIES: dict[str, tuple[str, Precision, bool]] = {
    "fp32": ("cpu", "fp32", False),
    "int8": ("cpu", "int8", False),
    "int8, small": ("cpu", "int8", True),
    "bf16, small": ("sm80", "bf16", True),
    "bf16": ("sm80", "bf16", False),
    "int8-bf16": ("sm80", "int8", False),
    "fp8-bf16": ("sm89", "fp8", False),
}


@dataclass(frozen=True, eq=False)
class Exports:
    """A checkpoint's graphs as programs and as ONNX, in any policy."""

    source: Source
    folder: Path

    def policy(self, name: str, variant: str) -> GraphPolicy:
        target, precision, small = POLICIES[variant]
        return graph_policy(name, TARGETS[target], precision, small)

    @cache  # noqa: B019 # as long as the module's tests
    def merged(self) -> dict[str, np.ndarray]:
        checkpoint = self.source.checkpoint
        blocks = 1 + max(linear.block for linear in checkpoint.linears)
        table = torch.full((blocks, checkpoint.config.num_experts), 0.125)
        state = merged_state(checkpoint.transformer, checkpoint.experts, table)
        return {
            key.removeprefix("transformer."): it.float().numpy().copy() for key, it in state.items()
        }

    @cache  # noqa: B019
    def denoised(self) -> tuple[np.ndarray, dict[str, float]]:
        """The velocity in torch, and the largest input of every routed linear."""
        peaks: dict[str, float] = {}
        handles = []
        for linear in self.source.checkpoint.linears:

            def record(_: nn.Module, inputs: tuple[Tensor, ...], name: str = linear.name) -> None:
                peaks[name] = float(inputs[0].abs().max())

            module = self.source.checkpoint.transformer.get_submodule(linear.name)
            handles.append(module.register_forward_pre_hook(record))
        state = {f"transformer.{k}": torch.from_numpy(it) for k, it in self.merged().items()}
        inputs = self.inputs("dit")
        with torch.no_grad():
            step = torch.func.functional_call(self.source.dit, state, tuple(inputs.values()))
        for handle in handles:
            handle.remove()
        return (step - inputs["latents"]).numpy(), peaks

    def inputs(self, name: str) -> dict[str, Tensor]:
        graph = self.source.graphs[name]
        found = dict(zip(graph.input_names, graph.example_inputs(), strict=True))
        if name == "dit":
            found["delta"] = torch.ones(1)  # so that the step is x + v
            found["modulation"] = torch.from_numpy(self.truth("modulation"))
        return found

    def truth(self, name: str) -> np.ndarray:
        if name == "dit":
            return self.denoised()[0]
        with torch.no_grad():
            found: np.ndarray = self.source.graphs[name](*self.inputs(name).values()).numpy()
        return found

    @cache  # noqa: B019
    def variant(self, name: str, variant: str, openings: Openings = NOTHING_OPEN) -> ir.Model:
        policy = self.policy(name, variant)
        model = self.source.exported(name, openings).clone()
        peaks = self.denoised()[1] if policy.quantised else None
        linear = self.source.outline.linears[1]
        factors = np.linspace(0.5, 2, linear.in_features, dtype=np.float32)
        smooth = {f"{linear.name}.smooth": factors} if policy.quantised else None
        if peaks is not None:  # its input is divided by the factors, of which none is below 0.5
            peaks = {**peaks, linear.name: 2 * peaks[linear.name]}
        return in_precision(model, policy, peaks, smooth)

    @cache  # noqa: B019
    def program(
        self,
        name: str,
        variant: str,
        openings: Openings = NOTHING_OPEN,
        *,
        fused: bool = False,
    ) -> Program:
        graph = self.source.outline_graphs[name]
        model = self.variant(name, variant, openings)
        stored = {
            key: place.dtype
            for file in (SHARED_FILE, WEIGHT_ONLY_FILE)
            for key, place in places(self.folder / file).items()
        }
        return program_from_module(
            graph,
            model,
            graph_spec(model, len(graph.input_names)),
            shared_parameters(self.source.outline),
            stored,
            openings,
            narrow=self.policy(name, variant).rest == "bf16",
            fused=fused,
        )

    def weights(self, spec: GraphSpec) -> WeightSet:
        """Routed weights in the types of a graph."""
        types = {part.name: part.dtype for part in spec.weights}
        smooth = self.source.outline.linears[1]
        tensors: dict[str, np.ndarray] = {}
        for name, array in self.merged().items():
            scale = name.removesuffix("weight") + "scale"
            if scale in types:
                factors = np.linspace(0.5, 2, smooth.in_features, dtype=np.float32)
                own = factors if name == f"{smooth.name}.weight" else None
                levels = quantise_rows(array, own, types[name], types[scale])
                tensors[name], tensors[scale] = levels
            else:
                tensors[name] = narrowed(array, types[name])
        return WeightSet("route", tensors)

    def run(self, name: str, variant: str, *, fused: bool = False) -> np.ndarray:
        """What the program computes, in torch."""
        inputs = self.inputs(name)
        found = self.fed(self.program(name, variant, fused=fused), inputs)
        return found - inputs["latents"].numpy() if name == "dit" else found

    def fed(self, program: Program, inputs: dict[str, Tensor]) -> np.ndarray:
        parameters = {part.spec.name: part for part in program.parameters}
        files = [self.folder / SHARED_FILE, self.folder / WEIGHT_ONLY_FILE]
        stored = pick_tensors(files, parameters.keys())
        given = list(inputs.values())
        weights = self.weights(program.spec) if program.spec.weights else WeightSet("none", {})
        given += [tensor(weights.tensors[it.name], it.dtype) for it in program.spec.weights]
        for key, part in parameters.items():
            given.append(tensor(stored[key], part.spec.dtype).to(getattr(torch, part.taken)))
        with torch.no_grad():
            found: Tensor = program.exported.module()(*given)
        return found.numpy()

    def onnx(self, name: str, variant: str) -> np.ndarray:
        """What the ONNX variant computes, every value rounded to the type that it has there."""
        model = self.variant(name, variant).clone()
        graph = self.source.graphs[name]
        spec = graph_spec(model, len(graph.input_names))
        stored, narrow = (places(self.folder / file) for file in (SHARED_FILE, WEIGHT_ONLY_FILE))
        path = self.folder / f"{name}.{variant}.onnx"
        save_onnx(model, stored, path, weight_only=narrow)
        twin = emulated(ir.load(path))
        ir.save(twin, path.with_suffix(".twin.onnx"))
        with engine_from_onnx(spec, path.with_suffix(".twin.onnx"), "fp32") as engine:
            if spec.weights:
                engine.bind(self.weights(spec))
            feeds = {key: it.numpy().copy() for key, it in self.inputs(name).items()}
            found = engine.run(feeds)[graph.output_names[0]]
        return found - self.inputs(name)["latents"].numpy() if name == "dit" else found


def tensor(array: np.ndarray, dtype: str) -> Tensor:
    found = torch.from_numpy(np.require(array, requirements=["C", "W"]))
    return found if found.dtype == getattr(torch, dtype) else found.view(getattr(torch, dtype))


def error(found: np.ndarray, truth: np.ndarray) -> float:
    gap = found.astype(np.float64) - truth
    return float(np.linalg.norm(gap) / np.linalg.norm(truth.astype(np.float64)))


@pytest.fixture(scope="module")
def exports(checkpoint_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Exports:
    folder, source = tmp_path_factory.mktemp("shared"), Source(checkpoint_folder)
    save_shared(source.outline, source.folder, folder / SHARED_FILE)
    save_weight_only(source.outline, source.folder, folder / WEIGHT_ONLY_FILE)
    return Exports(source, folder)


@pytest.mark.parametrize("variant", POLICIES)
@pytest.mark.parametrize("name", GRAPH_NAMES)
def test_a_program_repeats_torch(exports: Exports, name: str, variant: str) -> None:
    found, truth = exports.run(name, variant), exports.truth(name)
    assert found.dtype == truth.dtype
    assert error(found, truth) <= exports.policy(name, variant).tolerance


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        *(("dit", variant) for variant in POLICIES if "small" not in variant),
        *(("modulation", variant) for variant in ("bf16", "int8, small", "bf16, small")),
    ],
)
def test_a_program_computes_what_its_onnx_variant_does(
    exports: Exports, name: str, variant: str
) -> None:
    """In fp32 and in 8 bits up to the order of sums; in bf16 both round, not at the same places."""
    found, same = exports.run(name, variant), exports.onnx(name, variant)
    truth = exports.truth(name)
    own = error(same, truth)
    allowed = own if exports.policy(name, variant).rest == "bf16" else 2e-6
    assert error(found, same) <= allowed
    assert error(found, truth) <= 1.2 * own + 1e-6


@pytest.mark.parametrize(
    ("variant", "routed", "attention"),
    [
        ("fp32", {"fp32 x fp32"}, "fp32 x fp32"),
        ("int8", {"int8 x int8", "fp32 x fp32"}, "fp32 x fp32"),
        ("bf16", {"bf16 x bf16"}, "bf16 x bf16"),
        ("int8-bf16", {"int8 x int8", "bf16 x bf16"}, "bf16 x bf16"),
        ("fp8-bf16", {"fp8 x fp8", "bf16 x bf16"}, "bf16 x bf16"),
    ],
)
def test_a_denoiser_multiplies_in_what_its_policy_says(
    exports: Exports, variant: str, routed: set[str], attention: str
) -> None:
    program = exports.program("dit", variant)
    found = layer_types(program.exported)
    assert (set(found.linear), found.source) == (routed, "network")
    assert dict(found.attention) == {attention: 3}
    eight = sum(part.dtype in {"int8", "float8_e4m3fn"} for part in program.spec.weights)
    assert sum(count for kind, count in found.linear.items() if "8" in kind) == eight
    assert (eight > 0) == (exports.policy("dit", variant).quantised)


def test_every_parameter_is_an_input_and_none_is_a_constant(exports: Exports) -> None:
    for name in GRAPH_NAMES:
        program = exports.program(name, "fp32")
        assert not program.exported.state_dict
        tables = sum(it.nbytes for it in program.exported.constants.values())
        assert tables < 10_000  # sinusoids, cosines, position ids
        read = exports.variant(name, "fp32").graph.initializers.keys()
        fed = {part.spec.name for part in program.parameters}
        assert fed == {key for key in read if key in shared_parameters(exports.source.outline)}


def test_parameters_are_taken_in_the_types_that_they_are_multiplied_in(exports: Exports) -> None:
    """The tiny checkpoint stores fp16: they are converted once, when an engine is fed."""
    for variant, wanted in (("fp32", {"float32"}), ("bf16", {"bfloat16", "float16"})):
        parts = exports.program("dit", variant).parameters
        assert {part.spec.dtype for part in parts} == {"float16"}
        assert {part.taken for part in parts} == wanted


def test_graphs_are_as_they_were_after_an_export(exports: Exports) -> None:
    graph = exports.source.outline_graphs["dit"]
    before = [(name, type(module)) for name, module in graph.named_modules()]
    exports.program("dit", "fp8-bf16")
    assert [(name, type(module)) for name, module in graph.named_modules()] == before


@pytest.mark.parametrize("variant", ["int8-bf16", "fp8-bf16"])
def test_our_kernels_are_operators_where_they_are_asked_for(exports: Exports, variant: str) -> None:
    """And change no more than bf16's rounding at other places does."""
    plain, fused = (exports.program("dit", variant, fused=it) for it in (False, True))
    names = [
        node.target.name()
        for program in (plain, fused)
        for node in program.exported.graph.nodes
        if getattr(node.target, "namespace", "") == "a2edit"
    ]
    eight = sum(part.dtype in {"int8", "float8_e4m3fn"} for part in plain.spec.weights)
    assert names.count("a2edit::quantize_activation") == eight
    assert names.count("a2edit::qk_norm_rope") == 4  # a block of two streams, two of one
    assert len(names) == eight + 4
    truth = exports.truth("dit")
    found, own = exports.run("dit", variant, fused=True), error(exports.run("dit", variant), truth)
    assert error(found, truth) <= 1.5 * own


def test_sides_that_a_gpu_has_no_product_for_are_refused() -> None:
    part = TensorSpec("blocks.0.to_q.weight", "float8_e4m3fn", (32, 24))
    with pytest.raises(EngineError, match=r"multiples of 16: .* by --lift blocks\.0\.to_q$"):
        check_sides(GraphSpec("dit", (), (), (part,)))
    check_sides(GraphSpec("dit", (), (), (replace(part, dtype="int8"),)))


@pytest.mark.parametrize("variant", ["fp32", "int8-bf16"])
def test_open_sizes_and_batches_stay_open_in_a_program(exports: Exports, variant: str) -> None:
    openings = Openings((32, 48), 2)
    program = exports.program("dit", variant, openings)
    assert {part.shape[:3] for part in program.spec.inputs[:2]} == {(-1, -1, -1)}
    graph = exports.source.dit
    state = {f"transformer.{k}": torch.from_numpy(it) for k, it in exports.merged().items()}
    for batch, size in ((1, 32), (2, 48), (2, 32)):
        inputs = dict(zip(graph.input_names, graph.example_inputs(batch, size), strict=True))
        inputs["delta"] = torch.ones(batch)
        modulation = exports.source.graphs["modulation"]
        with torch.no_grad():
            inputs["modulation"] = modulation(*modulation.example_inputs(batch))
            truth = torch.func.functional_call(graph, state, tuple(inputs.values()))
        latents = inputs["latents"].numpy()
        found = exports.fed(program, inputs) - latents
        # inputs of other sizes than the one that ranges were taken of go past them
        allowed = 1e-5 if variant == "fp32" else 5e-2
        assert error(found, truth.numpy() - latents) <= allowed
