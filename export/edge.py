"""graph.json: the edge of an exported graph, as the manifest will hold it."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from a2edit.export.files import read_json
from a2edit.export.openings import open_shape
from a2edit.runtime.engines.base import GraphSpec, TensorSpec
from a2edit.runtime.manifest import GraphEntry

if TYPE_CHECKING:
    import onnx_ir as ir


def graph_spec(model: ir.Model, requests: int, fed: Collection[str] = ()) -> GraphSpec:
    """The edge of a model, of which the first inputs come with a request.

    Of the others those in `fed` are parameters, and the rest routed weights.
    """

    def specs(values: Sequence[ir.Value]) -> tuple[TensorSpec, ...]:
        found = []
        for value in values:
            assert value.dtype is not None
            dtype = value.dtype.numpy().name
            found.append(TensorSpec(str(value.name), dtype, open_shape(value)))
        return tuple(found)

    graph = model.graph
    behind = graph.inputs[requests:]
    return GraphSpec(
        str(graph.name),
        specs(graph.inputs[:requests]),
        specs(graph.outputs),
        specs([value for value in behind if value.name not in fed]),
        specs([value for value in behind if value.name in fed]),
    )


def write_graph(
    model: ir.Model,
    requests: int,
    folder: Path,
    fed: Collection[str] = (),
    activations: int = 0,
) -> None:
    """Write graph.json: the edge of a model, as `graph_spec`, and the bytes between its nodes."""
    edge = asdict(graph_spec(model, requests, fed)) | {"activations": activations}
    del edge["name"]
    (folder / "graph.json").write_text(json.dumps(edge, sort_keys=True), encoding="utf-8")


def read_graph(folder: Path, file: str) -> GraphEntry:
    """The edge that `write_graph` wrote, as the manifest holds it."""
    content = read_json(folder / "graph.json")
    activations = int(content.pop("activations"))
    edge = {
        kind: tuple(TensorSpec(t["name"], t["dtype"], tuple(t["shape"])) for t in tensors)
        for kind, tensors in content.items()
    }
    return GraphEntry(file=file, activations=activations, **edge)


def graph_file(graph: str, variant: str) -> str:
    """The name of a variant's file, in its step's folder and in the bundle's graphs/."""
    return f"{graph}.{variant}.onnx"


def weight_set_bytes(graph: GraphEntry) -> int:
    """Size of one route's weights, as the denoiser's graph takes them."""
    return sum(spec.nbytes for spec in graph.weights)
