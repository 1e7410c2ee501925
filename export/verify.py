"""Every engine and every route against the torch truth, on its own files (SPEC §11.8).

What is measured is the engine that goes into the bundle, not the graph that it came from. The truth
of `dit` runs the experts unmerged, so that merging and quantising are part of the error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from a2edit.calibration.ranges import denoised
from a2edit.calibration.routes import Route
from a2edit.calibration.samples import EncodedSample
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.graphs import DitGraph, GraphModule
from a2edit.runtime.engines.base import Array, Engine
from a2edit.runtime.errors import EngineError


def compared_steps(steps: int) -> set[int]:
    """Steps at which velocities are compared: the loop's first, middle and last."""
    return {0, steps // 2, steps - 1}


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured relative error beside what is allowed; rounded, so that rebuilds repeat."""

    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance  # False for NaN

    def to_dict(self) -> dict[str, float]:
        return {"relative_error": self.error, "tolerance": self.tolerance}


def relative_error(found: Array, truth: Array) -> float:
    """‖found − truth‖ / ‖truth‖ in float64, to two digits."""
    wanted = truth.astype(np.float64)
    size = max(float(np.linalg.norm(wanted)), np.finfo(np.float64).tiny)
    return float(f"{np.linalg.norm(found.astype(np.float64) - wanted) / size:.1e}")


@torch.no_grad()
def verify_graph(graph: GraphModule, engine: Engine, tolerance: float) -> Figure:
    """One engine on the graph's example inputs."""
    examples = graph.example_inputs()
    truth = graph(*examples).numpy()
    found = engine.run(_feeds(dict(zip(graph.input_names, examples, strict=True))))
    return Figure(relative_error(found[graph.output_names[0]], truth), tolerance)


@torch.no_grad()
def verify_route(
    checkpoint: Checkpoint,
    dit: DitGraph,
    engine: Engine,
    route: Route,
    samples: Sequence[EncodedSample],
    tolerance: float,
) -> Figure:
    """A route's velocity along the loop against the same table with experts unmerged.

    Both see the latents that the torch loop reaches, because late ones are nothing like noise:
    quantised activations err most there. Δσ = 1 makes the engine's step x + v, so that v is read
    without the loss of a small step.

    The engine has the route's weights bound or baked in.

    Returns:
        the largest error over samples and compared steps.
    """
    compared = compared_steps(checkpoint.config.steps)
    worst = 0.0
    for seed, sample in enumerate(samples):
        loop = denoised(checkpoint, dit, sample, seed, route.table)
        for step, (inputs, truth) in enumerate(loop):
            if step in compared:
                feeds = _feeds(dict(zip(dit.input_names, inputs, strict=True)))
                found = engine.run(feeds)[dit.output_names[0]] - inputs[0].numpy()
                error = relative_error(found, truth.numpy())
                worst = error if np.isnan(error) else max(worst, error)
    return Figure(worst, tolerance)


def _feeds(inputs: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name: tensor.contiguous().numpy() for name, tensor in inputs.items()}


def check(figures: Mapping[str, Figure]) -> None:
    """Fail the build over a figure out of tolerance.

    Raises:
        EngineError: names every failing engine with its error and what is allowed.
    """
    failed = [
        f"{name}: relative error {figure.error:.1e}, allowed {figure.tolerance:.0e}"
        for name, figure in figures.items()
        if not figure.passed
    ]
    if failed:
        raise EngineError(
            f"the engines do not repeat the model: {'; '.join(failed)}. "
            "Build with --precision fp32, or look at the layers with the largest ranges"
        )
