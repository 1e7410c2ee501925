"""Torch modules → weight-free ONNX: parameters outside, routed weights as inputs."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from diffusers.models.embeddings import Timesteps
from diffusers.models.transformers.transformer_flux import FluxPosEmbed
from torch import Tensor, nn

from a2edit.export.openings import NOTHING_OPEN, Openings
from a2edit.export.passes import run
from a2edit.export.passes.external import ExternalParameters
from a2edit.export.passes.float32 import Float32
from a2edit.export.passes.simplify import Simplify
from a2edit.export.passes.weight_layout import WeightsInPlace
from a2edit.export.weight_only import WEIGHT_ONLY_FILE
from a2edit.export.weights import Place
from a2edit.model.graphs import GraphModule
from a2edit.runtime.errors import EngineError

SHARED_FILE = "shared.safetensors"
OPSET = 20


class _Routed(nn.Module):
    """A graph that takes routed weights as further positional inputs."""

    def __init__(self, graph: GraphModule, weights: Sequence[str]) -> None:
        super().__init__()
        # Not `graph`: the exported module has an attribute of that name.
        self.body = graph
        self._weights = tuple(weights)

    def forward(self, *tensors: Tensor) -> Tensor:
        count = len(self.body.input_names)
        state = {
            f"transformer.{name}": tensor
            for name, tensor in zip(self._weights, tensors[count:], strict=True)
        }
        result: Tensor = torch.func.functional_call(self.body, state, tensors[:count])
        return result


class _FrozenTimesteps(nn.Module):
    """diffusers' `Timesteps` with its frequencies as a constant.

    It computes them by exp at every call. ONNX tools fold that with another exp than torch's; one
    last bit apart, times t = 30,000 (guidance), is an angle wrong by 2e-3.
    """

    frequencies: Tensor

    def __init__(self, source: Timesteps) -> None:
        super().__init__()
        half = source.num_channels // 2
        exponent = -torch.log(torch.tensor(10000.0, dtype=torch.float64)).item()
        steps = torch.arange(half, dtype=torch.float32)
        table = torch.exp(exponent * steps / (half - source.downscale_freq_shift))
        self.register_buffer("frequencies", table, persistent=False)
        self.flip, self.scale = source.flip_sin_to_cos, source.scale

    def forward(self, timesteps: Tensor) -> Tensor:
        angles = self.scale * (timesteps[:, None].float() * self.frequencies)
        waves = (torch.cos(angles), torch.sin(angles))
        return torch.cat(waves if self.flip else waves[::-1], -1)


class _RotaryTables(nn.Module):
    """diffusers' `FluxPosEmbed` with its cosines and sines as tables that positions point into.

    It computes them in float64 at every call, which engines are slow at, and in fp32 they would be
    others.
    """

    def __init__(self, source: FluxPosEmbed, positions: int) -> None:
        super().__init__()
        rows = torch.arange(positions, dtype=torch.float32)
        cosines, sines = source(rows[:, None].expand(positions, len(source.axes_dim)))
        for kind, table in (("cos", cosines), ("sin", sines)):
            for axis, part in enumerate(table.split(source.axes_dim, -1)):
                self.register_buffer(f"{kind}{axis}", part.clone(), persistent=False)
        self._axes = len(source.axes_dim)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        places = ids.long()

        def looked_up(kind: str) -> Tensor:
            tables = [self.get_buffer(f"{kind}{axis}") for axis in range(self._axes)]
            return torch.cat([table[places[:, axis]] for axis, table in enumerate(tables)], -1)

        return looked_up("cos"), looked_up("sin")


@contextmanager
def _exportable(graph: GraphModule, examples: Sequence[Tensor]) -> Iterator[None]:
    """The graph with the pieces swapped that do not export exactly; undone at the end."""
    # the examples are of the largest size: no row or column of tokens lies further out
    positions = max(max(it.shape[1:3], default=0) for it in examples)
    swapped = [
        (parent, name, child)
        for parent in graph.modules()
        for name, child in parent.named_children()
        if isinstance(child, Timesteps | FluxPosEmbed)
    ]
    try:
        for parent, name, child in swapped:
            frozen = (
                _FrozenTimesteps(child)
                if isinstance(child, Timesteps)
                else _RotaryTables(child, positions)
            )
            setattr(parent, name, frozen)
        yield
    finally:
        for parent, name, child in swapped:
            setattr(parent, name, child)


def onnx_from_module(
    graph: GraphModule,
    parameters: Mapping[str, Tensor],
    routed: Sequence[str] = (),
    openings: Openings = NOTHING_OPEN,
) -> ir.Model:
    """Export one graph.

    Args:
        graph: with `input_names`, `output_names`, `example_inputs`; its parameters' values are
            not read (`model.weightless.outline`).
        parameters: shared name → parameter; the graph's initializers get these names.
        routed: "<linear>.weight" of `graph.transformer` to take as inputs, in this order.
        openings: which sizes stay open; the others are constants of the graph.

    Raises:
        EngineError: torch cannot export the graph, or a pass refuses it.
    """
    examples = openings.examples(graph)
    dims = [openings.open_dims(graph, name) for name in graph.input_names]
    if routed:
        examples += [graph.get_parameter(f"transformer.{name}").detach() for name in routed]
    module = _Routed(graph, routed).eval()
    names = {id(tensor): name for name, tensor in parameters.items()}
    try:
        with torch.no_grad(), _exportable(graph, examples), _quiet():
            program = torch.onnx.export(
                module,
                tuple(examples),
                dynamo=True,
                optimize=False,
                verbose=False,
                opset_version=OPSET,
                input_names=[*graph.input_names, *routed],
                dynamic_shapes=_dynamic(dims, len(routed)),
                output_names=list(graph.output_names),
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise EngineError(f"graph {graph.graph_name}: torch cannot export it: {error}") from error
    assert program is not None
    model = program.model
    # With duplicates: T5 ties its embedding, and the exporter picks either of its two names.
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if name in model.graph.initializers and id(parameter) in names:
            value = model.graph.initializers[name]
            # No pass may ask for what the file alone will have.
            value.name, value.const_value = names[id(parameter)], None
    for value, named in zip(model.graph.inputs, dims, strict=False):
        assert value.shape is not None
        for place, name in named.items():
            value.shape[place] = name
    model.graph.name = graph.graph_name
    model.producer_name, model.producer_version = "a2edit", ""
    passes: list[ir.passes.PassBase] = [Simplify(parameters), Float32()]
    with _quiet():
        return run(model, passes, graph.graph_name)


def _dynamic(dims: Sequence[Mapping[int, str]], routed: int) -> dict[str, Any] | None:
    """`dynamic_shapes` of `_Routed`, whose inputs come in one tuple; None where none is open."""
    if not any(dims):
        return None
    opened = [dict.fromkeys(named, torch.export.Dim.DYNAMIC) for named in dims]
    return {"tensors": (*opened, *({} for _ in range(routed)))}


def save_onnx(
    model: ir.Model,
    places: Mapping[str, Place],
    path: Path,
    inputs: Collection[str] = (),
    weight_only: Mapping[str, Place] | None = None,
) -> None:
    """Write a graph whose parameters lie in files beside it.

    Args:
        model: the graph.
        places: of the parameters in `SHARED_FILE`.
        path: of the graph's file.
        inputs: names of parameters that are fed, not read from a file.
        weight_only: of those in `WEIGHT_ONLY_FILE`, for a graph that has 8-bit weights.
    """
    files = {SHARED_FILE: places}
    if weight_only is not None:
        files[WEIGHT_ONLY_FILE] = weight_only
    passes: list[ir.passes.PassBase] = [ExternalParameters(files, path.parent, inputs)]
    if inputs:
        passes.append(WeightsInPlace())
    ir.save(run(model, passes, path.stem), path)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports on its own internals, which says nothing to a user."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logger = logging.getLogger("torch.onnx")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
