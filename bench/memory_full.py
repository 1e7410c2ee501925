"""What memory plans foresee for a full-size model, from its config files alone.

    python -m a2edit.bench.memory_full MODEL GRAPH TARGET PRESET

is one graph of a model that nobody has weights of here, in a process of its own; it prints one line
of JSON. Nothing of this was run on a GPU: it is arithmetic on graphs that were exported.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from a2edit.runtime.errors import EngineError
from a2edit.runtime.memory.costs import CUDA, Footprint
from a2edit.runtime.memory.plans import Load

if TYPE_CHECKING:
    from a2edit.calibration.policy import Preset
    from a2edit.model.checkpoint import Checkpoint

ROUTES = 8
# Everything in bf16, and the denoiser's routed linears in FP8.
FULL: tuple[tuple[str, Preset], ...] = (("sm80", "lossless"), ("sm89", "balanced"))
# The paper's figures (SPEC §1): an A100, 50 steps, 1024 x 1024, in MiB.
PAPER = {"with experts": 42074, "without experts": 39884}


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One graph's engine, and what one weight set and what it is merged from take; in bytes."""

    engine: Footprint
    set_bytes: int
    activations: int
    bases: Mapping[str, int]  # with the experts; by the type of W⁰


def full_loads(model: str, note: Callable[[str], None]) -> dict[str, Load]:
    """What plans of full-size bundles are made for, on GPUs; by target, preset and base."""
    from a2edit.calibration.policy import graph_policy, resolve
    from a2edit.export.source import GRAPH_NAMES
    from a2edit.runtime.targets import TARGETS

    known: dict[tuple[str, str], Foreseen] = {}
    loads = {}
    for name, preset in FULL:
        target, found = TARGETS[name], {}
        for graph in GRAPH_NAMES:
            policy = graph_policy(graph, target, resolve(target, None, preset), small=False)
            key = graph, policy.variant
            if key not in known:
                note(f"{graph} for {name}, {preset}")
                known[key] = _counted(model, graph, name, preset)
            found[graph] = known[key]
        for base, nbytes in found["dit"].bases.items():
            loads[f"{name} {preset}, {base} base"] = Load(
                {graph: one.engine for graph, one in found.items()},
                set_bytes=max(one.set_bytes for one in found.values()),
                routes=ROUTES,
                rests=CUDA.rests,
                merging=0,  # on the GPU in its base's own memory; or by a processor
                base=nbytes,
            )
    return loads


def _counted(model: str, graph: str, target: str, preset: str) -> Foreseen:
    command = [sys.executable, "-m", "a2edit.bench.memory_full", model, graph, target, preset]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EngineError(f"exporting {graph} of {model} failed: {last}")
    content: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return Foreseen(**{**content, "engine": Footprint(**content["engine"])})


def foresee(model: str, name: str, target_name: str, preset: Preset, folder: Path) -> Foreseen:
    """Export a graph without weights, and count."""
    import onnx_ir as ir

    from a2edit.bench.exporting import export_graph, full_size
    from a2edit.calibration.policy import graph_policy, resolve
    from a2edit.export.activations import activation_bytes
    from a2edit.export.edge import graph_spec
    from a2edit.model.graphs import make_graphs
    from a2edit.runtime.memory.costs import edge_footprint
    from a2edit.runtime.targets import TARGETS

    target = TARGETS[target_name]
    policy = graph_policy(name, target, resolve(target, None, preset), small=False)
    checkpoint = full_size(model, "redux")
    cost = export_graph(checkpoint, name, folder, policy, as_inputs=True)
    onnx = ir.load(folder / f"{name}.onnx")
    requests = len(make_graphs(checkpoint)[name].input_names)
    routed = {f"{it.name}.{kind}" for it in checkpoint.linears for kind in ("weight", "scale")}
    fed = [str(it.name) for it in onnx.graph.inputs[requests:] if it.name not in routed]
    spec, activations = graph_spec(onnx, requests, fed), activation_bytes(onnx)
    engine = edge_footprint(
        edge=sum(part.nbytes for part in (*spec.inputs, *spec.outputs)),
        weights=sum(part.nbytes for part in spec.weights),
        parameters=sum(part.nbytes for part in spec.parameters),
        activations=activations,
        graph_bytes=cost.file,
        engine_bytes=cost.parameter_bytes + cost.constant_bytes,
        costs=CUDA,
    )
    set_bytes = sum(part.nbytes for part in spec.weights)
    return Foreseen(engine, set_bytes, activations, _bases(checkpoint))


def _bases(checkpoint: Checkpoint) -> dict[str, int]:
    """Bytes of base and experts, the latter in bf16; a base of int8 has a float32 scale a row."""
    rank, count = checkpoint.experts.rank, checkpoint.experts.experts
    sides = [(it.out_features, it.in_features) for it in checkpoint.linears]
    experts = sum(2 * count * rank * (out + inner) for out, inner in sides)
    whole = sum(out * inner for out, inner in sides)
    scales = sum(4 * out for out, _ in sides)
    return {"bf16": 2 * whole + experts, "int8": whole + scales + experts}


def main(arguments: Sequence[str]) -> None:
    """The worker."""
    from a2edit.bench.reference import quiet

    quiet()
    model, graph, target, preset = arguments
    with tempfile.TemporaryDirectory() as folder:
        found = foresee(model, graph, target, cast("Preset", preset), Path(folder))
    sys.stdout.write(json.dumps(asdict(found)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
