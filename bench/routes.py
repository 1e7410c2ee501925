"""Is the predicted route error the real one? Velocities at the gate's own table and at routes'."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from a2edit.calibration.gram import checkpoint_metric, traced_metric
from a2edit.calibration.routes import cluster_routes
from a2edit.calibration.samples import HELD_OUT, EncodedSample, calibration_requests, encode
from a2edit.calibration.tracing import BINS, trace, velocity_of
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import unmerged
from a2edit.model.graphs import DitGraph, make_graphs

FloatArray = NDArray[np.float64]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        samples: held-out requests, the categories in turn.
        calibration: gate tables that routes are made from.
        deep: of those, how many the denoiser is traced on.
        counts: numbers of routes K.
        compared: the K whose every route is run on every request.
        data: a UniEdit data set; the drawn scenes when None.
    """

    samples: int = 24
    calibration: int = 64
    deep: int = 16
    counts: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    compared: int = 8
    data: Path | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Predicted against measured relative errors of pairs of a gate table and a route.

    Attributes:
        measured: of the velocity, over all noise levels, [P].
        predicted: by the traced metric, [P].
        free: by the data-free metric, [P].
    """

    measured: FloatArray
    predicted: FloatArray
    free: FloatArray

    @property
    def rank(self) -> float:
        """Spearman's correlation of predicted and measured."""
        return float(spearmanr(self.predicted, self.measured).statistic)

    @property
    def free_rank(self) -> float:
        return float(spearmanr(self.free, self.measured).statistic)

    @property
    def ratios(self) -> FloatArray:
        """Predicted over measured, where anything could be measured."""
        seen = self.measured > 0
        return self.predicted[seen] / self.measured[seen]

    @property
    def free_ratios(self) -> FloatArray:
        seen = self.measured > 0
        return self.free[seen] / self.measured[seen]


@dataclass(frozen=True, slots=True)
class RouteErrors:
    """What was found.

    Attributes:
        served: every request against its nearest route, for every K: P = S · len(counts).
        everyone: every request against every route of the compared K.
        counts: K of every served pair, [P].
    """

    served: Agreement
    everyone: Agreement
    counts: NDArray[np.int64]


@torch.no_grad()
def measure_routes(checkpoint: Checkpoint, plan: Plan, progress: Progress) -> RouteErrors:
    """Calibrate, cluster, and run held-out requests at their own tables and at the routes'."""
    graphs = make_graphs(checkpoint)
    dit = graphs["dit"]
    assert isinstance(dit, DitGraph)

    def encoded(first: int, count: int, what: str) -> Iterable[EncodedSample]:
        requests = calibration_requests(checkpoint, plan.data, first, count)
        for place, sample in enumerate(encode(graphs, requests)):
            yield sample
            progress(what, place + 1, count)

    traces = trace(checkpoint, dit, encoded(0, plan.calibration, "calibration"), deep=plan.deep)
    metrics = traced_metric(checkpoint, traces), checkpoint_metric(checkpoint)
    routes = {
        count: np.stack(
            [
                route.table
                for route in cluster_routes(traces.tables, traces.categories, metrics[0], count)
            ]
        )
        for count in {*plan.counts, plan.compared}
    }
    served: list[tuple[float, ...]] = []
    everyone: list[tuple[float, ...]] = []
    held_out = list(encoded(HELD_OUT, plan.samples, "held-out requests"))
    for place, sample in enumerate(held_out):
        nearest = [
            routes[count][metrics[0].errors(sample.table[None], routes[count])[0].argmin()]
            for count in plan.counts
        ]
        tables = np.stack([*nearest, *routes[plan.compared]])
        measured = _velocity_errors(checkpoint, dit, sample, tables, seed=place)
        predicted = [metric.errors(sample.table[None], tables)[0] for metric in metrics]
        rows = list(zip(measured.tolist(), *(p.tolist() for p in predicted), strict=True))
        served += rows[: len(nearest)]
        everyone += rows[len(nearest) :]
        progress("velocities", place + 1, plan.samples)
    counts = np.tile(np.array(plan.counts), len(held_out))
    return RouteErrors(_agreement(served), _agreement(everyone), counts)


def _agreement(rows: list[tuple[float, ...]]) -> Agreement:
    return Agreement(*np.array(rows, np.float64).T)


def _velocity_errors(
    checkpoint: Checkpoint,
    dit: DitGraph,
    sample: EncodedSample,
    tables: NDArray[np.float32],
    seed: int,
) -> FloatArray:
    """‖v_route − v‖ / ‖v‖ over the noise levels of a short loop at the sample's own table, [K]."""
    config, bank = checkpoint.config, checkpoint.experts
    own = torch.from_numpy(sample.table)[None]
    latents = sample.noise(seed, int(checkpoint.transformer.config.out_channels))
    change, energy = np.zeros(len(tables)), 0.0
    with unmerged(checkpoint.transformer, bank, own):
        for high, low in pairwise(sample.levels(BINS).tolist()):
            bank.weights = own
            truth = velocity_of(dit, sample, latents, high, config.guidance)
            energy += float(truth.double().square().sum())
            for place, table in enumerate(tables):
                bank.weights = torch.from_numpy(table)[None]
                found = velocity_of(dit, sample, latents, high, config.guidance)
                change[place] += float((found.double() - truth.double()).square().sum())
            latents = latents + (low - high) * truth
    return np.sqrt(change / energy)
