"""Torch modules → weight-free ONNX: parameters outside, routed weights as inputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import onnx_ir as ir
import torch
from torch import Tensor, nn

from a2edit.export.exportable import dynamic_shapes, exportable, quiet
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
        with torch.no_grad(), exportable(graph, examples), quiet():
            program = torch.onnx.export(
                module,
                tuple(examples),
                dynamo=True,
                optimize=False,
                verbose=False,
                opset_version=OPSET,
                input_names=[*graph.input_names, *routed],
                dynamic_shapes=dynamic_shapes(dims, len(routed)),
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
    with quiet():
        return run(model, passes, graph.graph_name)


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
