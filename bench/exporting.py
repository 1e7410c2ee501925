"""Graphs of a full-size model, exported without its weights: seconds, memory, what is in them.

    python -m a2edit.bench.exporting MODEL LAYOUT GRAPH

is one graph in a process of its own, so that its peak is its own, and prints one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from a2edit.export.openings import NOTHING_OPEN, Openings
from a2edit.runtime.errors import EngineError

if TYPE_CHECKING:
    from a2edit.calibration.policy import GraphPolicy
    from a2edit.model.checkpoint import Checkpoint

LAYOUTS = ("redux", "diptych")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportCost:
    """What exporting one graph took, and what came of it.

    Attributes:
        seconds: from modules to the file.
        peak: resident set of the process, MB.
        nodes: of the graph.
        inputs: of the graph, routed weights among them.
        parameters: that the graph takes from the shared file.
        parameter_bytes: of those, bf16.
        constants: other initializers.
        constant_bytes: of those.
        file: bytes of the ONNX file.
    """

    seconds: float
    peak: float
    nodes: int
    inputs: int
    parameters: int
    parameter_bytes: int
    constants: int
    constant_bytes: int
    file: int


def measure_export(model: str, layout: str, graph: str) -> ExportCost:
    """Export one graph in a process of its own.

    Args:
        model: "flux-fill", or a checkpoint, of which config files are all that is read.
        layout: one of `LAYOUTS`.
        graph: by name.
    """
    command = [sys.executable, "-m", "a2edit.bench.exporting", model, layout, graph]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EngineError(f"exporting {graph} of {model} failed: {last}")
    return ExportCost(**json.loads(done.stdout.splitlines()[-1]))


def full_size(model: str, layout: str) -> Checkpoint:
    """The modules of a model, without their weights."""
    import torch

    from a2edit.model.weightless import fake_checkpoint, shapes_of, without_weights

    shapes = shapes_of(model)
    # A string of `LAYOUTS`; another one the config refuses.
    mot = replace(shapes.mot, layout=cast("Literal['redux', 'diptych']", layout))
    with without_weights():
        return fake_checkpoint(replace(shapes, mot=mot), torch.float32)


def export_graph(
    checkpoint: Checkpoint,
    name: str,
    folder: Path,
    policy: GraphPolicy | None = None,
    *,
    as_inputs: bool = False,
    openings: Openings = NOTHING_OPEN,
) -> ExportCost:
    """Write <name>.onnx of a checkpoint whose weights are never needed, in this process.

    Beside it lies the head alone of the file of its parameters, bf16 as FLUX.1-Fill is published.
    With a policy it is the graph that it asks for, at made-up ranges: they change no size; with
    `as_inputs`, its large matrices are inputs, routed or not.
    """
    import onnx_ir as ir
    import torch

    from a2edit.export.onnx_export import SHARED_FILE, onnx_from_module, save_onnx
    from a2edit.export.passes.external import large_matrices
    from a2edit.export.precision import in_precision
    from a2edit.export.source import DIT
    from a2edit.export.weights import parameter_specs, places, shared_parameters, tensor_header
    from a2edit.model.graphs import make_graphs
    from a2edit.runtime.memory import peak_resident_mb

    start = time.perf_counter()
    graph, shared = make_graphs(checkpoint)[name], shared_parameters(checkpoint)
    routed = [f"{linear.name}.weight" for linear in checkpoint.linears] if name == DIT else ()
    model = onnx_from_module(graph, shared, routed, openings)
    if policy:
        model = in_precision(model, policy, _made_up_ranges(checkpoint) if policy.quantised else {})
    used = {key: value for key, value in shared.items() if key in model.graph.initializers}
    specs = parameter_specs(used, dict.fromkeys(used, torch.bfloat16))
    (folder / SHARED_FILE).write_bytes(tensor_header(specs))
    path = folder / f"{name}.onnx"
    found = places(folder / SHARED_FILE)
    save_onnx(model, found, path, large_matrices(model, found) if as_inputs else ())
    seconds = time.perf_counter() - start
    tensors = [value.const_value for value in model.graph.initializers.values()]
    outside = [tensor for tensor in tensors if isinstance(tensor, ir.ExternalTensor)]
    inside = [t for t in tensors if t is not None and not isinstance(t, ir.ExternalTensor)]
    return ExportCost(
        seconds=seconds,
        peak=peak_resident_mb(),
        nodes=len(model.graph),
        inputs=len(model.graph.inputs),
        parameters=len(outside),
        parameter_bytes=sum(tensor.nbytes for tensor in outside),
        constants=len(inside),
        constant_bytes=sum(tensor.nbytes for tensor in inside),
        file=path.stat().st_size,
    )


def _made_up_ranges(checkpoint: Checkpoint) -> dict[str, float]:
    """Only their number counts here."""
    return {linear.name: 8.0 for linear in checkpoint.linears}


def main(arguments: Sequence[str]) -> None:
    """The worker."""
    model, layout, name = arguments
    with tempfile.TemporaryDirectory() as folder:
        cost = export_graph(full_size(model, layout), name, Path(folder))
    sys.stdout.write(json.dumps(asdict(cost)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
