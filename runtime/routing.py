"""Which weights run: a route that is near enough to the gate's wish, or a merge (SPEC §5)."""

import hashlib
import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from a2edit.runtime.engines.base import WeightSet
from a2edit.runtime.errors import DeviceMemoryError, RequestError
from a2edit.runtime.manifest import MetricEntry, RouteEntry
from a2edit.runtime.resident import ResidentSets
from a2edit.runtime.sizes import format_size

FloatArray = NDArray[np.floating]
Supply = Literal["static", "merged"]

# Tables are merged in steps of 1/QUANTUM: fine enough to change no picture, and two processes
# whose gates differ in a last bit merge the same weights. Exact in float32.
QUANTUM = 2**16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoutePlan:
    """What is to run for a gate's table, before its weights are had."""

    route: str  # of the bundle, or "merged-<hash of the table>"
    table: NDArray[np.float32]  # [L, N], what runs
    predicted_error: float  # of `table` against what the gate asked for, relative
    supply: Supply  # built ahead, or merged from the experts
    warning: str = ""

    @property
    def key(self) -> Hashable:
        """Equal for plans that run the same weights."""
        return self.route if self.supply == "static" else self.table.tobytes()


@dataclass(frozen=True, slots=True, eq=False)
class RouteChoice:
    """The answer of a store: the weights to bind, and what is known of them (see RoutePlan)."""

    weight_set: WeightSet
    route: str
    predicted_error: float
    supply: Supply
    table: NDArray[np.float32]  # [L, N], what runs
    warning: str = ""


@dataclass(frozen=True, slots=True)
class WeightSource:
    """Where sets come from, and what one of them takes in memory."""

    make: Callable[[RoutePlan], WeightSet]
    nbytes: int
    error: float = 0.0  # of the velocity, relative: that making it adds


class RouteStore:
    """Answers every gate table: by a static route, by a merge, or by a refusal.

    1. The nearest static route, where its predicted error is within the tolerance.
    2. Otherwise the weights are merged from the experts, for the table in steps of 1/QUANTUM; from
       a base in 8 bits only where that errs less than the nearest route.
    3. Without the experts (a bundle built with --routes-only), or where such a merge errs as much:
       the nearest static route with a warning, or RequestError if `strict`.

    The answer to a table never depends on what else was asked before: a merged set is found
    again by its exact table only. Sets are kept in memory, up to a budget. Thread-safe.
    """

    def __init__(
        self,
        routes: Mapping[str, RouteEntry],
        metric: MetricEntry,
        static: WeightSource,
        merged: WeightSource | None = None,
        *,
        tolerance: float | None = None,
        strict: bool = False,
        memory_budget: int | None = None,
        dropped: Callable[[WeightSet], None] | None = None,
    ) -> None:
        """`merged` is None where there is nothing to merge from; `tolerance` None is the metric's.

        `memory_budget`: bytes of all sets in memory; `dropped` is told of each that has to go.
        Raises RequestError for a tolerance that is none, and a budget that holds not one set.
        """
        self.metric, self.strict = metric.metric, strict
        self.tolerance = metric.tolerance if tolerance is None else tolerance
        if not 0 <= self.tolerance < math.inf:
            raise RequestError(
                f"route tolerance {self.tolerance} must be 0 or more: 0.01 lets the velocity be "
                "1 % off, 0 merges whatever was not built exactly"
            )
        largest = max(source.nbytes for source in (static, merged) if source)
        if memory_budget is not None and memory_budget < largest:
            raise RequestError(
                f"memory budget {format_size(memory_budget)} is less than one weight set of this "
                f"bundle, {format_size(largest)}: give that at least, or no budget"
            )
        self._entries = dict(routes)
        self._names = list(routes)
        self._tables = np.array([routes[name].table for name in self._names], np.float64)
        self._static, self._merged = static, merged
        self._resident = ResidentSets(memory_budget, dropped)

    @property
    def nbytes(self) -> int:
        """What the sets in memory take."""
        return self._resident.nbytes

    @property
    def held(self) -> list[WeightSet]:
        """The sets in memory."""
        return self._resident.held()

    def limit(self, memory_budget: int | None) -> None:
        """Keep to another budget from now on: bytes, at least those of one set; None: no limit."""
        self._resident.limit(memory_budget)

    def get(self, gate_weights: FloatArray) -> RouteChoice:
        """The weights to run for a gate's [L, N]; raises RequestError where there are none."""
        return self.supply(self.plan(gate_weights))

    def plan(self, gate_weights: FloatArray) -> RoutePlan:
        """What `get` would answer; no weights are read or merged."""
        ranked = self.ranked(gate_weights)
        route, error = ranked[0]
        plan = RoutePlan(
            route=route,
            table=self._tables[self._names.index(route)].astype(np.float32),
            predicted_error=error,
            supply="static",
        )
        if error <= self.tolerance:
            return plan
        if not self._merged:
            why = "this bundle has no experts to merge from"
            return self._beyond(plan, why, "without --routes-only")
        merged = self._merge_plan(gate_weights, self._merged.error)
        if self._merged.error == 0 or merged.predicted_error < error:
            return merged
        why = f"a merge from this bundle's base in 8 bits one of {merged.predicted_error:.2%}"
        return self._beyond(plan, why, "with --merge-base full")

    def supply(self, plan: RoutePlan) -> RouteChoice:
        """The weights of a plan of this store: from memory, from the bundle, or merged now.

        Where a GPU has no room for them, sets that were merged there before make it. Raises
        DeviceMemoryError where that is not enough.
        """
        source = self._static if plan.supply == "static" else self._merged
        assert source is not None
        while True:
            try:
                weights = self._resident.get(plan.key, source.nbytes, lambda: source.make(plan))
                break
            except DeviceMemoryError:
                if not self._resident.drop_placed():
                    raise
        return RouteChoice(
            weights, plan.route, plan.predicted_error, plan.supply, plan.table, plan.warning
        )

    def leave_gpu(self) -> None:
        """Let go of the sets that were merged on a GPU."""
        while self._resident.drop_placed():
            pass

    def clear(self) -> None:
        """Let go of every set in memory; the next that is asked for is read or merged again."""
        self._resident.clear()

    def ranked(self, gate_weights: FloatArray) -> list[tuple[str, float]]:
        """Every static route and its predicted error, the nearest first; ties in their order."""
        self._check(gate_weights)
        errors = self.metric.errors(gate_weights[None], self._tables)[0]
        return [(self._names[k], float(errors[k])) for k in np.argsort(errors, kind="stable")]

    def _merge_plan(self, gate_weights: FloatArray, error: float) -> RoutePlan:
        steps = np.rint(gate_weights.astype(np.float64) * QUANTUM) / QUANTUM
        table = (steps + 0.0).astype(np.float32)  # +0: one zero, one hash
        name = f"merged-{hashlib.sha256(table.tobytes()).hexdigest()[:12]}"
        return RoutePlan(
            route=name,
            table=table,
            predicted_error=math.hypot(
                self.metric.errors(gate_weights[None], table[None])[0, 0], error
            ),
            supply="merged",
        )

    def _beyond(self, plan: RoutePlan, why: str, build: str) -> RoutePlan:
        """The nearest route though it is too far, with a warning; a refusal if strict."""
        gap = (
            f"the nearest route, {plan.route}, has a predicted error of "
            f"{plan.predicted_error:.2%}, above the tolerance of {self.tolerance:.2%}, and {why}"
        )
        if self.strict:
            raise RequestError(
                f"{gap}: build it {build} or with more routes, raise --route-tolerance, or leave "
                "out --strict-route"
            )
        return replace(plan, warning=gap)

    def _check(self, gate_weights: FloatArray) -> None:
        if gate_weights.shape != self.metric.shape:
            raise RequestError(
                f"gate weights have shape {list(gate_weights.shape)}; this bundle's routes are "
                f"{list(self.metric.shape)}: blocks, experts"
            )
        if not np.isfinite(gate_weights).all():
            block, expert = np.argwhere(~np.isfinite(gate_weights))[0]
            raise RequestError(
                f"gate weights must be finite, got {gate_weights[block, expert]} for block "
                f"{block}, expert {expert}: the gate of this bundle is broken, build it again"
            )
