"""Specialisation of a checkpoint's experts: who is awake for what, and who is missed when gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from a2edit.bench.flow import BATCH, fresh_batch, loss_of
from a2edit.calibration.gram import traced_metric
from a2edit.calibration.routes import cluster_routes
from a2edit.calibration.samples import calibration_requests, encode
from a2edit.calibration.specialisation import (
    ActiveSets,
    CategoryProbe,
    active_sets,
    mean_weights,
    probe_categories,
)
from a2edit.calibration.tracing import trace
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import eject, inject
from a2edit.model.graphs import DitGraph, make_graphs
from a2edit.runtime.metric import RouteMetric
from a2edit.training.data import PairFactory
from a2edit.training.datasets.source import SampleSource
from a2edit.training.flow import FlowModel, NoiseLevels
from a2edit.training.masks import MaskMix
from a2edit.training.scenes import Split
from a2edit.training.stages import WINDOWS

# Far from the indices that training, sheets and calibration draw from.
_FIRST_INDEX = 1 << 37
_ROUTES_INDEX = 1 << 38
_EVERY = MaskMix(fine=1, rough=1, box=1, free=1)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, over how many samples.

    Attributes:
        samples: requests whose gate tables are read, the categories in turn.
        effects: samples of a category that the experts are switched off on; 0: leave it out.
        routes: K of the static routes that are to cover the requests.
        tolerance: predicted error of the velocity up to which a route covers a request.
        split: of the kinds of objects: those that were trained on, or those held out.
        half: the transformer under bf16 autocast.
        traced: requests that the metric of routes is measured on.
    """

    samples: int = 320
    effects: int = 16
    routes: int = 8
    tolerance: float = 0.01
    split: Split = "train"
    half: bool = False
    traced: int = 16


@dataclass(frozen=True, slots=True)
class Specialisation:
    """What was found.

    Attributes:
        probe: of the category in the gate table.
        active: sets of experts.
        categories: rows of the two matrices.
        weights: mean gate weight by category and expert, [C, N].
        effects: by category and expert, [C, N]: the rise of the flow loss, as a share of it, when
            that expert is switched off; above 0, it is missed. None if that was left out.
        covered: share of the requests that a static route serves within the tolerance.
        route_errors: predicted error of the nearest route, [S].
    """

    probe: CategoryProbe
    active: ActiveSets
    categories: tuple[str, ...]
    weights: NDArray[np.float64]
    effects: NDArray[np.float64] | None
    covered: float
    route_errors: NDArray[np.float64]


def measure_experts(
    checkpoint: Checkpoint,
    plan: Plan,
    source: SampleSource | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Specialisation:
    """Run the gate over fresh samples, cluster routes on others, switch every expert off in turn.

    Args:
        checkpoint: in memory, its experts beside the base.
        plan: how much to measure.
        source: of samples; the drawn scenes by default.
        progress: told (what, done, of) as it goes on.
    """
    factory = PairFactory(checkpoint, source)
    flow = FlowModel(checkpoint, NoiseLevels(), torch.device("cpu"))
    names = factory.source.categories

    def tables(first: int, split: Split, what: str) -> tuple[NDArray[np.float32], list[str]]:
        found, shown = [], []
        for start in range(0, plan.samples, BATCH):
            batch, categories = fresh_batch(factory, _EVERY, first + start, split, sides=WINDOWS)
            with torch.no_grad():
                found.append(flow.route(flow.gate_logits_of(batch)).numpy())
            shown += categories
            progress(what, start + BATCH, plan.samples)
        return np.concatenate(found), shown

    asked, shown = tables(_FIRST_INDEX, plan.split, "gate tables")
    calibration, seen = tables(_ROUTES_INDEX, "train", "calibration")
    metric = _metric(checkpoint, plan.traced, progress)
    routes = cluster_routes(calibration, seen, metric, plan.routes)
    errors = metric.errors(asked, np.stack([route.table for route in routes])).min(1)
    order, weights = mean_weights(asked, shown)
    effects = None
    if plan.effects:
        rows = [names.index(name) for name in order]
        effects = _effects(checkpoint, factory, flow, plan, progress)[rows]
    return Specialisation(
        probe=probe_categories(asked, shown),
        active=active_sets(asked),
        categories=order,
        weights=weights,
        effects=effects,
        covered=float((errors <= plan.tolerance).mean()),
        route_errors=errors,
    )


def _metric(
    checkpoint: Checkpoint, count: int, progress: Callable[[str, int, int], None]
) -> RouteMetric:
    graphs = make_graphs(checkpoint)
    dit = graphs["dit"]
    assert isinstance(dit, DitGraph)
    samples = encode(graphs, calibration_requests(checkpoint, None, 0, count))
    traces = trace(
        checkpoint,
        dit,
        samples,
        deep=count,
        tick=lambda done: progress("traces of the denoiser", done, count),
    )
    return traced_metric(checkpoint, traces)


def _effects(
    checkpoint: Checkpoint,
    factory: PairFactory,
    flow: FlowModel,
    plan: Plan,
    progress: Callable[[str, int, int], None],
) -> NDArray[np.float64]:
    """[C, N] in the source's order; the same samples, noise and noise levels for every expert."""
    experts: list[int | None] = [None, *range(checkpoint.experts.experts)]
    names = factory.source.categories
    losses = np.zeros((len(names), len(experts)))
    inject(checkpoint.transformer, checkpoint.experts)
    try:
        for row, category in enumerate(names):
            for start in range(0, plan.effects, BATCH):
                batch, _ = fresh_batch(
                    factory,
                    _EVERY,
                    _FIRST_INDEX + start,
                    plan.split,
                    sides=WINDOWS,
                    category=category,
                )
                for column, expert in enumerate(experts):
                    losses[row, column] += loss_of(
                        flow, batch, start, half=plan.half, switched_off=expert
                    )
            progress("experts switched off", row + 1, len(names))
    finally:
        checkpoint.experts.weights = None
        eject(checkpoint.transformer, checkpoint.experts)
    return losses[:, 1:] / losses[:, :1] - 1
