"""Which linears of a denoiser err, and by how much: its graph in onnxruntime beside torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from a2edit.export.held_out import HeldOut, Truth
from a2edit.export.openings import open_shape
from a2edit.export.passes.values import products_of
from a2edit.export.quality import relative_error
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import unmerged
from a2edit.model.graphs import DitGraph, ModulationGraph
from a2edit.runtime.engines.base import OPEN, Array, GraphSpec, TensorSpec, WeightSet
from a2edit.runtime.engines.onnxruntime import engine_from_onnx
from a2edit.runtime.errors import EngineError
from a2edit.runtime.tensors import pick_tensors

# Bytes of inputs and outputs of linears that are held at a time; a full-size one has some 500 MB.
AT_ONCE = 1 << 30
# What stands between a linear's input and its product, and changes nothing but precision.
_WRAPPERS = {"Cast", "QuantizeLinear", "DequantizeLinear"}
_REACHING = _WRAPPERS | {"Transpose", "Unsqueeze"}


@dataclass(frozen=True, slots=True)
class LayerError:
    """One linear at one step, relative errors of its output without the bias.

    Attributes:
        name: of the linear.
        own: against torch's linear on the very input that this one got: what quantising it costs.
        total: against the torch model's output: what came before is part of it.
    """

    name: str
    own: float
    total: float

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "own": self.own, "total": self.total}


@dataclass(frozen=True, slots=True)
class _Tap:
    """Where a linear's input (in parts along its last axis) and its product lie in the graph."""

    name: str
    inputs: tuple[ir.Value, ...]
    output: ir.Value

    @property
    def values(self) -> tuple[ir.Value, ...]:
        return (*self.inputs, self.output)

    def nbytes(self, tokens: int) -> int:
        """At most, for a request of so many tokens."""
        total = 0
        for value in self.values:
            spec = _spec(value)
            known = tuple(size for size in spec.shape if size != OPEN)
            total += spec.nbytes_of(known) * (tokens if spec.is_open else 1)
        return total


@torch.no_grad()
def layer_errors(
    checkpoint: Checkpoint,
    dit: DitGraph,
    onnx: Path,
    spec: GraphSpec,
    weights: WeightSet,
    sample: HeldOut,
    truth: Truth,
    table: NDArray[np.float32],
    step: int,
) -> list[LayerError]:
    """Errors of all routed linears, the largest own one first.

    Args:
        checkpoint: the truth, which runs its experts unmerged at `table` [L, N].
        dit: its denoiser.
        onnx: the denoiser's graph as the engine was compiled from it, its shared parameters beside
            it; of a bf16 graph, its twin in fp32.
        spec: the edge of that graph.
        weights: the route's.
        sample: a request.
        truth: of the request at `table`.
        table: of the route.
        step: one of the truth's points.

    Raises:
        EngineError: the graph has no such linear, or onnxruntime cannot run it.
    """
    latents, _ = truth.points[step]
    known = {**sample.feeds, "sigma": truth.levels[step, None]}
    modulation = ModulationGraph(checkpoint)
    given = modulation(*(torch.from_numpy(known[name]) for name in modulation.input_names))
    state = {
        "latents": latents,
        "modulation": given.numpy(),
        "delta": np.ones(1, np.float32),
    }
    feeds = {**sample.feeds, **state}
    found = []
    contexts = (sample.feeds[key].shape[1] for key in ("text_tokens", "reference_tokens"))
    tokens = latents.shape[1] * latents.shape[2] + sum(contexts)
    names = [linear.name for linear in checkpoint.linears]
    context = unmerged(checkpoint.transformer, checkpoint.experts, torch.from_numpy(table)[None])
    with context:
        for group in _groups(_taps(ir.load(onnx), names), tokens):
            seen = _run_tapped(onnx, spec, [tap.name for tap in group], names, weights, feeds)
            with _outputs(checkpoint.transformer, [tap.name for tap in group]) as truths:
                dit(*(torch.from_numpy(np.ascontiguousarray(feeds[k])) for k in dit.input_names))
            for tap in group:
                x, y = seen[tap.name]
                linear = checkpoint.transformer.get_submodule(tap.name)
                own = _without_bias(linear, linear(torch.from_numpy(x))).numpy()
                errors = relative_error(y, own), relative_error(y, truths[tap.name].numpy())
                found.append(LayerError(tap.name, *errors))
    return sorted(found, key=lambda error: (-error.own, error.name))


def _run_tapped(
    onnx: Path,
    spec: GraphSpec,
    wanted: Sequence[str],
    names: Sequence[str],
    weights: WeightSet,
    feeds: Mapping[str, Array],
) -> dict[str, tuple[Array, Array]]:
    """Input and product of the `wanted` linears, their values made outputs of the graph."""
    model = ir.load(onnx)
    taps = [tap for tap in _taps(model, names) if tap.name in wanted]
    values = {value.name: value for tap in taps for value in tap.values}
    model.graph.outputs[:] = list(values.values())
    tapped = onnx.with_name(f".tapped-{onnx.name}")
    try:
        ir.save(model, tapped)
        outputs = tuple(_spec(value) for value in values.values())
        edge = replace(spec, outputs=outputs)
        with engine_from_onnx(edge, tapped, "fp32") as engine:
            parts = {part.name for part in spec.parameters}
            engine.feed(pick_tensors(onnx.parent.glob("*.safetensors"), parts))
            engine.bind(weights)
            found = engine.run({it.name: feeds[it.name] for it in spec.inputs})
    finally:
        tapped.unlink(missing_ok=True)
    return {
        tap.name: (
            np.concatenate([found[str(value.name)] for value in tap.inputs], -1),
            found[str(tap.output.name)],
        )
        for tap in taps
    }


@contextmanager
def _outputs(transformer: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """What linears give inside the block, without their biases."""
    kept: dict[str, Tensor] = {}
    handles = []
    for name in names:

        def keep(module: nn.Module, _: object, output: Tensor, name: str = name) -> None:
            kept[name] = _without_bias(module, output)

        handles.append(transformer.get_submodule(name).register_forward_hook(keep))
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _without_bias(linear: nn.Module, output: Tensor) -> Tensor:
    bias = getattr(getattr(linear, "base", linear), "bias", None)
    return output if bias is None else output - bias


def _groups(taps: Sequence[_Tap], tokens: int) -> Iterator[list[_Tap]]:
    total = list(itertools.accumulate(tap.nbytes(tokens) for tap in taps))
    for _, group in itertools.groupby(
        zip(taps, total, strict=True), key=lambda pair: pair[1] // AT_ONCE
    ):
        yield [tap for tap, _ in group]


def _taps(model: ir.Model, names: Sequence[str]) -> list[_Tap]:
    inputs = {value.name: value for value in model.graph.inputs}
    taps = []
    for name in names:
        weight = inputs.get(f"{name}.weight")
        products, _ = products_of(weight, _REACHING) if weight is not None else ([], [])
        if len(products) != 1:
            raise EngineError(
                f"graph {model.graph.name}: {name} has {len(products)} products; layers can be "
                "compared only in a graph that `a2edit-build engines` exported"
            )
        (product,) = products
        source = product.inputs[0]
        assert source is not None
        scale = inputs.get(f"{name}.scale")
        taps.append(_Tap(name, tuple(_sources(source)), _scaled(product.outputs[0], scale)))
    return taps


def _sources(value: ir.Value) -> list[ir.Value]:
    """The values that a product's input was quantised (and divided, and joined) from."""
    node = value.producer()
    if node is None:
        return [value]
    before = [it for it in node.inputs if it is not None]
    if node.op_type in _WRAPPERS or (node.op_type == "Mul" and _is_factors(before[1])):
        return _sources(before[0])
    if node.op_type == "Concat" and any(_sources(part) != [part] for part in before):
        return [source for part in before for source in _sources(part)]
    return [value]


def _is_factors(value: ir.Value) -> bool:
    """1 / s of SmoothQuant, as the quantising pass names it, be it converted or not."""
    return ".input_factors" in str(_unconverted(value).name)


def _scaled(value: ir.Value, scale: ir.Value | None) -> ir.Value:
    """A product's value, behind the multiplication by its rows' scales where there is one."""
    readers = [value]
    while scale is not None and readers:
        for node, _ in readers.pop().uses():
            factors = [_unconverted(it) for it in node.inputs if it is not None]
            if node.op_type == "Mul" and scale in factors:
                return node.outputs[0]
            if node.op_type == "Cast":
                readers.append(node.outputs[0])
    return value


def _unconverted(value: ir.Value) -> ir.Value:
    while (node := value.producer()) is not None and node.op_type == "Cast":
        source = node.inputs[0]
        assert source is not None
        value = source
    return value


def _spec(value: ir.Value) -> TensorSpec:
    assert value.dtype is not None
    return TensorSpec(str(value.name), value.dtype.numpy().name, open_shape(value))
