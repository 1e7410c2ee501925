"""Torch modules → exported programs: every weight and parameter is an input, as in no ONNX file.

The second writer beside `onnx_export`: the same `torch.export`, the same modules swapped before it.
A program holds tables and no parameters, so that an engine compiled of it is code, and the bytes of
the model stay where they are, in the bundle's own files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from a2edit.export.exportable import dynamic_shapes, exportable, quiet
from a2edit.export.fused import fused_attention
from a2edit.export.openings import Openings
from a2edit.export.products import (
    Narrow,
    QuantisedLinear,
    StoredIn8Bits,
    activations,
    in_types,
)
from a2edit.model.graphs import GraphModule
from a2edit.runtime.engines.base import GraphSpec, TensorSpec
from a2edit.runtime.errors import EngineError

if TYPE_CHECKING:
    import onnx_ir as ir

# Modules are swapped in place: one export at a time.
_EXPORTING = Lock()
_EIGHT = frozenset({"int8", "float8_e4m3fn"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter that a program takes as an input.

    Attributes:
        spec: as the bundle's file stores it.
        taken: the type that the program takes it in.
    """

    spec: TensorSpec
    taken: str


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A graph, exported.

    Attributes:
        exported: takes inputs, routed weights and parameters, in this order.
        spec: of inputs, outputs and routed weights.
        parameters: behind the routed weights.
    """

    exported: torch.export.ExportedProgram
    spec: GraphSpec
    parameters: tuple[Parameter, ...]


class _Fed(nn.Module):
    """A graph that takes all its weights and parameters as further positional inputs."""

    def __init__(self, graph: GraphModule, places: Sequence[Sequence[str]]) -> None:
        super().__init__()
        # Out of torch's sight: what is not fed must not become a parameter of the program.
        self._graph = (graph,)
        self._places, self._typed = places, _bf16_places(graph) | _own_places(graph)
        narrow = _bf16_places(graph)
        fed = {place for group in places for place in group}
        self._unfed = {
            place: (parameter.shape, torch.bfloat16 if place in narrow else torch.float32)
            for place, parameter in graph.named_parameters(remove_duplicate=False)
            if place not in fed
        }

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        (graph,) = self._graph
        count = len(graph.input_names)
        # What the ONNX graph does not read, such as SigLIP's pooling head, no output depends on:
        # if one did, it would be no number.
        state = {
            place: torch.full((), torch.nan, dtype=kind).expand(shape)
            for place, (shape, kind) in self._unfed.items()
        }
        state |= {
            place: tensor if place in self._typed else tensor.float()
            for places, tensor in zip(self._places, tensors[count:], strict=True)
            for place in places
        }
        result: Tensor | tuple[Tensor, ...] = torch.func.functional_call(
            graph, state, tensors[:count], tie_weights=False
        )
        if isinstance(result, Tensor):
            return _widened(result)
        return tuple(map(_widened, result))


def _widened(result: Tensor) -> Tensor:
    """The edge of a graph is never narrow."""
    return result.float() if result.dtype == torch.bfloat16 else result


def program_from_module(
    graph: GraphModule,
    variant: ir.Model,
    spec: GraphSpec,
    shared: Mapping[str, Tensor],
    stored: Mapping[str, str],
    openings: Openings,
    *,
    narrow: bool,
    fused: bool = False,
) -> Program:
    """Export a graph in the types of its ONNX variant.

    Args:
        graph: its parameters' values are not read (`model.weightless.outline`).
        variant: says what is quantised, by how much, and which parameters are read at all.
        spec: the variant's edge.
        shared: shared name → parameter of the checkpoint.
        stored: tensor of the bundle's shared files → its dtype there.
        openings: which sizes stay open.
        narrow: whether the network is bf16.
        fused: whether our kernels are operators of their own, which torch's compiler leaves as
            they are; else it makes kernels of the same formulas by itself. GPUs only.

    Raises:
        EngineError: torch cannot export the graph.
    """
    used = {str(value.name) for value in variant.graph.inputs} | variant.graph.initializers.keys()
    eight = {
        f"transformer.{part.name.removesuffix('.weight')}": part.dtype
        for part in spec.weights
        if part.dtype in _EIGHT
    }
    how = {f"transformer.{name}": it for name, it in activations(variant).items()}
    small = {name for name in shared if f"{name}.int8" in used}
    held = {id(shared[name]) for name in small}
    names = {id(parameter): name for name, parameter in shared.items()}
    for part in spec.weights:
        if not part.name.endswith(".scale"):
            names[id(graph.get_parameter(f"transformer.{part.name}"))] = part.name
    examples = openings.examples(graph)
    dims = [openings.open_dims(graph, name) for name in graph.input_names]
    with _EXPORTING, in_types(graph, eight, how, held, narrow=narrow, fused=fused):
        places = _places(graph, names, small)
        known = {part.name for part in spec.weights}
        parameters = [
            _parameter(name, places[name], graph, stored, narrow=narrow)
            for name in sorted((places.keys() & used) - known)
        ]
        wanted = [*(part.name for part in spec.weights), *(it.spec.name for it in parameters)]
        module = _Fed(graph, [places[name] for name in wanted]).eval()
        taken = [(part.shape, part.dtype) for part in spec.weights]
        taken += [(it.spec.shape, it.taken) for it in parameters]
        try:
            attention = fused_attention(graph) if fused else nullcontext()
            with torch.no_grad(), exportable(graph, examples), attention, quiet():
                with FakeTensorMode():
                    fed = [torch.empty(shape, dtype=getattr(torch, kind)) for shape, kind in taken]
                exported = torch.export.export(
                    module,
                    (*examples, *fed),
                    dynamic_shapes=dynamic_shapes(dims, len(wanted)),
                    strict=False,
                )
        except Exception as error:  # of many kinds, without a base class of their own
            raise EngineError(
                f"graph {graph.graph_name}: torch cannot export it: {error}"
            ) from error
    unfed = [name for name, it in exported.constants.items() if isinstance(it, FakeTensor)]
    assert not unfed, f"{graph.graph_name} has parameters without bytes as constants: {unfed}"
    return Program(exported, spec, tuple(parameters))


def _places(
    graph: GraphModule, names: Mapping[int, str], small: Collection[str]
) -> dict[str, list[str]]:
    """Where each input goes in the graph; a tied parameter has several places."""
    found: dict[str, list[str]] = {}
    for place, parameter in graph.named_parameters(remove_duplicate=False):
        name = names.get(id(parameter))
        if name is None:
            continue
        scale = place.removesuffix("weight") + "scale"
        if name in small:
            found.setdefault(f"{name}.scale", []).append(scale)
            name += ".int8"
        elif place.endswith(".weight"):
            found.setdefault(name.removesuffix("weight") + "scale", []).append(scale)
        found.setdefault(name, []).append(place)
    return found


def _parameter(
    name: str,
    places: Sequence[str],
    graph: GraphModule,
    stored: Mapping[str, str],
    *,
    narrow: bool,
) -> Parameter:
    """What is stored wider than it is used, or narrower, is converted once, when it is fed."""
    spec = TensorSpec(name, stored[name], tuple(graph.get_parameter(places[0]).shape))
    if spec.dtype == "int8" or name.endswith(".scale"):
        return Parameter(spec, spec.dtype)
    if not narrow:
        return Parameter(spec, "float32")
    return Parameter(spec, "bfloat16" if places[0] in _bf16_places(graph) else spec.dtype)


def _bf16_places(graph: GraphModule) -> set[str]:
    """Parameters of products that are bf16."""
    return {
        f"{path}.inner.{name}"
        for path, module in graph.named_modules()
        if isinstance(module, Narrow)
        for name, _ in module.inner.named_parameters()
    }


def _own_places(graph: GraphModule) -> set[str]:
    """Parameters that their modules bring to the types that they need."""
    return {
        f"{path}.{name}"
        for path, module in graph.named_modules()
        if isinstance(module, QuantisedLinear | StoredIn8Bits)
        for name, _ in module.named_parameters()
    }
