"""Every engine of a build against the torch truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from a2edit.export.chain import Made
from a2edit.export.files import write_json
from a2edit.export.source import DIT
from a2edit.export.steps.calibrate import VERIFY_SAMPLES, read_samples
from a2edit.export.steps.runner import runnable, runs_here
from a2edit.runtime.tensors import map_tensors

if TYPE_CHECKING:
    from a2edit.calibration.routes import Route
    from a2edit.export.source import Source
    from a2edit.export.targets import TargetPlan


def save_verification(
    folder: Path,
    source: Source,
    plan: TargetPlan,
    traces: Path,
    routes: Sequence[Route],
    weights: Mapping[str, Made],
    engines: Mapping[str, Made],
    graphs: Mapping[str, Made],
    shared: Made,
) -> None:
    """verification.json: the relative error of every engine and every route of one target.

    Raises:
        EngineError: one of them is out of tolerance.
    """
    from a2edit.export import verify
    from a2edit.runtime.engines.base import WeightSet

    samples = read_samples(traces, VERIFY_SAMPLES)
    by_graph, by_route = {}, {}
    for name, made in engines.items():
        graph, _, baked = name.partition(".")
        policy = plan.policy(name)
        with runnable(name, plan, made, graphs[graph], shared) as engine:
            if graph != DIT:
                by_graph[name] = verify.verify_graph(source.graphs[graph], engine, policy.tolerance)
            for route in routes:
                if graph != DIT or baked not in {"", route.name}:
                    continue
                if engine.spec.weights:
                    file = weights[route.name].folder / f"{route.name}.safetensors"
                    tensors = map_tensors(file, writable=True).tensors
                    arrays = {key: tensor.array for key, tensor in tensors.items()}
                    engine.bind(WeightSet(route.name, arrays))
                by_route[route.name] = verify.verify_route(
                    source.checkpoint, source.dit, engine, route, samples, policy.tolerance
                )
    verify.check({**by_graph, **{f"route {k}": v for k, v in by_route.items()}})
    write_json(
        folder / "verification.json",
        {
            "runner": plan.backend if runs_here(plan) else "onnxruntime, the same graphs",
            "graphs": {name: figure.to_dict() for name, figure in by_graph.items()},
            "routes": {name: figure.to_dict() for name, figure in by_route.items()},
        },
    )
