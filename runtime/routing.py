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
        self.metric, self.tolerance = metric.metric, metric.tolerance
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
        errors = self.metric.errors(gate_weights[None], self._tables)[0]
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
