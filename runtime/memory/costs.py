"""What engines and weight sets take, foreseen from a manifest: plain arithmetic, no device."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from a2edit.runtime.engines.base import OPEN, TensorSpec
from a2edit.runtime.manifest import EngineEntry, GraphEntry, Manifest
from a2edit.runtime.spec import PATCH, ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendCosts:
    """How a backend turns what a manifest says into memory.

    Measured for OpenVINO (`a2edit-bench memory`); of ONNX Runtime and torch on a processor they are
    rough. For GPUs they are what the interface says: a plan's file and scratch memory, each tensor
    once on the device.
    """

    library: int  # bytes, once a process, beside the interpreter: code and tables that it touches
    engine: int  # bytes, of each engine, however small
    graph: float  # of the graph's file, which grows with its nodes: kernels and their plumbing
    constants: float  # of the engine's file
    activations: float  # of what lives between the graph's nodes
    parameters: float  # of the matrices that an engine is fed
    reading: float  # of the engine's file, while it is being opened
    binding: float  # of the weight inputs, from opening until weights are bound
    rests: bool  # whether a set that was built ahead takes nothing while it is not bound


MIB = 2**20
OPENVINO = BackendCosts(
    library=54 * MIB,
    engine=5 * MIB // 2,
    graph=24.0,
    constants=2.0,  # as they lie in the file, and laid out for the kernels
    activations=1.0,
    parameters=0.0,
    reading=1.0,
    binding=1.0,  # the request has room of its own for them, until others take its place
    rests=True,
)
ONNXRUNTIME = BackendCosts(
    library=30 * MIB,
    engine=MIB // 2,
    graph=8.0,
    constants=1.0,
    activations=2.5,  # its arena grows by doubling
    parameters=0.0,
    reading=0.5,
    binding=0.0,
    rests=True,
)
CUDA = BackendCosts(
    library=0,  # the driver's context is not the editor's
    engine=0,
    graph=0.0,
    constants=1.0,
    activations=1.0,
    parameters=1.0,
    reading=0.0,
    binding=0.0,
    rests=False,
)
INDUCTOR = replace(CUDA, library=256 * MIB, engine=MIB, rests=True)  # torch itself, above all


def costs_of(backend: str, device: str) -> BackendCosts:
    """Of an engine's backend; those that run on a GPU are alike."""
    own = {"openvino": OPENVINO, "onnxruntime": ONNXRUNTIME, "inductor": INDUCTOR}
    return own[backend] if device == "cpu" else CUDA


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes of one engine.

    Attributes:
        held: while it is open, its activations included.
        opening: beyond that, while it is being opened.
        waiting: beyond `held`, from opening until weights are bound.
        running: beyond `held`, while it runs: its inputs and outputs.
        read: from disk, to open it.
    """

    held: int
    opening: int
    waiting: int
    running: int
    read: int


def footprint(
    graph: GraphEntry,
    graph_bytes: int,
    engine_bytes: int,
    model: ModelSpec,
    costs: BackendCosts,
    workspace: int | None = None,
) -> Footprint:
    """Of the engine of `graph`.

    Args:
        graph: its edge, and its activations.
        graph_bytes: of the graph's file, which holds no weights.
        engine_bytes: of the compiled file: its constants.
        model: what open sizes are at their largest.
        costs: of the backend.
        workspace: what the engine itself says of its activations, where it was asked.
    """
    activations = round(costs.activations * graph.activations) if workspace is None else workspace
    return edge_footprint(
        edge=sum(_largest(spec, model) for spec in (*graph.inputs, *graph.outputs)),
        weights=sum(spec.nbytes for spec in graph.weights),
        parameters=sum(spec.nbytes for spec in graph.parameters),
        activations=activations,
        graph_bytes=graph_bytes,
        engine_bytes=engine_bytes,
        costs=costs,
    )


def edge_footprint(
    *,
    edge: int,
    weights: int,
    parameters: int,
    activations: int,
    graph_bytes: int,
    engine_bytes: int,
    costs: BackendCosts,
) -> Footprint:
    """From bytes: of what comes with a request and goes back, of a weight set, of parameters, of
    what an engine takes for what lives between its nodes, and of the two files.
    """
    held = (
        costs.engine
        + costs.graph * graph_bytes
        + costs.constants * engine_bytes
        + costs.parameters * parameters
        + activations
    )
    return Footprint(
        held=round(held),
        opening=round(costs.reading * engine_bytes),
        waiting=round(costs.binding * weights),
        running=edge,
        read=engine_bytes + parameters,
    )


def engine_footprints(
    manifest: Manifest,
    entries: Mapping[str, EngineEntry],
    costs: BackendCosts,
    workspaces: Mapping[str, int],
) -> dict[str, Footprint]:
    """Of every engine that a bundle has for a target, by name.

    `workspaces` are those that engines told of when they were opened.
    """
    found = {}
    for name, entry in entries.items():
        graph = manifest.graphs[name.partition(".")[0]][entry.variant]
        sizes = manifest.files[graph.file].bytes, manifest.files[entry.file].bytes
        found[name] = footprint(graph, *sizes, manifest.model, costs, workspaces.get(name))
    return found


def _largest(spec: TensorSpec, model: ModelSpec) -> int:
    """Bytes of a tensor with its open sizes at their largest: batch first, then rows and columns.

    Pixels stand in the graphs' own order, too: a picture has PATCH pixels where tokens have one.
    """
    if not spec.is_open:
        return spec.nbytes
    rows, columns = model.grid(model.sizes[-1])
    pixels = spec.dtype == "uint8"
    usual = (model.batch, *((side * PATCH if pixels else side) for side in (rows, columns)))
    shape = [
        (usual[at] if at < len(usual) else 1) if size == OPEN else size
        for at, size in enumerate(spec.shape)
    ]
    return spec.nbytes_of(tuple(shape))
