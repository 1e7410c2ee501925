"""Which weights run: the route nearest to what the gate asked for (SPEC §5)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from a2edit.runtime.engines.base import WeightSet
from a2edit.runtime.manifest import MetricEntry, RouteEntry

FloatArray = NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class RouteChoice:
    """The answer of a store."""

    weight_set: WeightSet
    route: str
    predicted_error: float
    supply: str  # "loaded" from the bundle now, or "cached" in memory


class RouteMetric:
    """The predicted route error: how far running r is from what the gate asked, w.

    sqrt( sum_l (w_l - r_l)' G_l (w_l - r_l) / sum_l energy_l ), relative to the energy of the
    base model's output.
    """

    def __init__(self, entry: MetricEntry) -> None:
        self.gram = np.asarray(entry.gram, np.float64)  # [L, N, N]
        self.energy = max(float(np.sum(entry.energy)), np.finfo(np.float64).tiny)
        self.tolerance = entry.tolerance

    def errors(self, wanted: FloatArray, tables: FloatArray) -> NDArray[np.float64]:
        """[L,N] against [K,L,N] -> [K]."""
        gap = tables.astype(np.float64) - wanted.astype(np.float64)
        squared = np.einsum("kln,lnm,klm->k", gap, self.gram, gap)
        # rounding may take a zero below zero
        distance: NDArray[np.float64] = np.sqrt(np.maximum(squared, 0.0) / self.energy)
        return distance


class RouteStore:
    """The bundle's static routes. A set is read when it is first chosen, and then kept.

    `load` reads a weight set by name. Not thread-safe.
    """

    def __init__(
        self,
        routes: Mapping[str, RouteEntry],
        metric: MetricEntry,
        load: Callable[[str], WeightSet],
    ) -> None:
        self.metric = RouteMetric(metric)
        self._entries = dict(routes)
        self._names = list(routes)
        self._tables = np.array([routes[name].table for name in self._names], np.float64)
        self._load = load
        self._held: dict[str, WeightSet] = {}

    @property
    def nbytes(self) -> int:
        """What the sets in memory take."""
        return sum(weights.nbytes for weights in self._held.values())

    def nearest(self, gate_weights: FloatArray) -> tuple[str, float]:
        """The route with the smallest predicted error, the first on ties, and that error."""
        errors = self.metric.errors(gate_weights, self._tables)
        best = int(np.argmin(errors))
        return self._names[best], float(errors[best])

    def get(self, gate_weights: FloatArray) -> RouteChoice:
        """The weights to run for a gate's [L,N]."""
        route, error = self.nearest(gate_weights)
        name = self._entries[route].weight_set
        supply = "cached" if name in self._held else "loaded"
        if supply == "loaded":
            self._held[name] = self._load(name)
        return RouteChoice(self._held[name], route, error, supply)
