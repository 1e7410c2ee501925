"""From the gate tables of a calibration set to named routes (SPEC §3, §5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from a2edit.calibration.gram import to_euclid
from a2edit.runtime.errors import RequestError
from a2edit.runtime.metric import RouteMetric

DEFAULT_ROUTES = 8
FloatArray = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Route:
    """A table of frozen expert weights under a name.

    Attributes:
        name: from the commonest category of its members; unique, safe as a file name.
        table: [L, N] fp32, 0 = inactive.
        members: tables that it was made from.
        predicted_error: mean of its members' predicted relative errors.
    """

    name: str
    table: NDArray[np.float32]
    members: int
    predicted_error: float


@dataclass(frozen=True, slots=True)
class RouteLimit:
    """How many routes to make: one of the three is given.

    Attributes:
        count: K, the most routes.
        error: the fewest routes whose 95th percentile of predicted errors is within it. Not the
            mean, which hides the requests that are served badly, and not the largest, which one
            odd request decides: within the tolerance at p95, 95 % of requests need no merging.
        budget: as many routes as fit into so many bytes of weight sets.
    """

    count: int | None = None
    error: float | None = None
    budget: int | None = None

    def __post_init__(self) -> None:
        given = {
            name: value
            for name, value in (
                ("--routes", self.count),
                ("--route-error", self.error),
                ("--routes-budget", self.budget),
            )
            if value is not None
        }
        if len(given) > 1:
            listed = " and ".join(f"{name} {value}" for name, value in given.items())
            raise RequestError(
                f"{listed} both say how many routes to make: give one of --routes, --route-error "
                "and --routes-budget"
            )
        if self.count is not None and self.count < 1:
            raise RequestError(f"--routes is {self.count}; it must be at least 1")
        if self.error is not None and not 0 < self.error < np.inf:
            raise RequestError(f"--route-error is {self.error}; it must be above 0, such as 0.01")
        if self.budget is not None and self.budget < 1:
            raise RequestError(f"--routes-budget is {self.budget}; it must be above 0 bytes")

    def most(self, set_bytes: int) -> int:
        """K that the budget allows for weight sets of `set_bytes`, or that was given."""
        if self.budget is None:
            return DEFAULT_ROUTES if self.count is None else self.count
        if self.budget < set_bytes:
            raise RequestError(
                f"--routes-budget is {self.budget} bytes, and the weight set of one route takes "
                f"{set_bytes} ({set_bytes / 1e9:.3g} GB): give at least that"
            )
        return self.budget // set_bytes


@dataclass(frozen=True, slots=True)
class RouteSample:
    """What routes are made from.

    Attributes:
        tables: [S, L, N], after Anchor-Guided Routing.
        categories: [S], what each request shows.
        weights: [S], how much each of them counts; 1 each when None.
    """

    tables: FloatArray
    categories: Sequence[str]
    weights: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if len(self.tables) == 0 or not np.isfinite(self.tables).all():
            raise RequestError(
                f"routes: {len(self.tables)} gate tables were traced, or some hold NaN or "
                "infinity; check the checkpoint's gate/"
            )
        assert len(self.categories) == len(self.tables)


def choose_routes(
    sample: RouteSample, metric: RouteMetric, limit: RouteLimit, set_bytes: int, seed: int = 0
) -> list[Route]:
    """The routes that `limit` asks for; `set_bytes` is the size of one route's weight set.

    Raises:
        RequestError: no tables, NaN or infinity in one, or a budget below one weight set.
    """
    clusters = Clusters(sample, metric, seed)
    if limit.error is None:
        return clusters.routes(limit.most(set_bytes))
    return clusters.routes(_fewest(clusters, limit.error))


def cluster_routes(
    tables: FloatArray,
    categories: Sequence[str],
    metric: RouteMetric,
    count: int,
    seed: int = 0,
) -> list[Route]:
    """K-means in the Gram metric; a route is the mean of its members' tables.

    1. Where fewer than K tables can be told apart, there are as many routes as those.
    2. An entry that is zero in every member stays exactly zero.
    3. Routes are ordered by members, then by table, so that a rebuild names them alike.

    Args:
        tables: [S, L, N], after Anchor-Guided Routing.
        categories: [S], what each sample shows.
        metric: of the same checkpoint.
        count: K ≥ 1.
        seed: of k-means' starts.

    Raises:
        RequestError: K < 1, no tables, or tables with NaN or infinity.
    """
    limit = RouteLimit(count)
    return Clusters(RouteSample(tables, categories), metric, seed).routes(limit.most(0))


class Clusters:
    """K-means of one sample, for one K or another."""

    def __init__(self, sample: RouteSample, metric: RouteMetric, seed: int) -> None:
        self.sample, self.metric, self.seed = sample, metric, seed
        places = to_euclid(metric, sample.tables)
        # Rounded to what fp32 can tell apart: k-means must not be asked to split equal points.
        self.places = places / max(float(np.abs(places).max()), np.finfo(np.float64).tiny)
        self.distinct = len(np.unique(np.round(self.places, 6), axis=0))
        counted = sample.weights
        self.weights = np.ones(len(places)) if counted is None else counted

    def groups(self, count: int) -> list[NDArray[np.intp]]:
        """Members of each cluster; one thread, for sums must not depend on how many cores."""
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits

        if (wanted := min(count, self.distinct)) == 1:
            return [np.arange(len(self.places))]
        # Among many clusters one bad start matters less, and each takes longer.
        starts = 8 if wanted <= 32 else 2
        model = KMeans(n_clusters=wanted, n_init=starts, random_state=self.seed)
        with threadpool_limits(1):
            labels = model.fit(self.places, sample_weight=self.sample.weights).labels_
        return [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def mean(self, group: NDArray[np.intp]) -> NDArray[np.float32]:
        tables = self.sample.tables[group].astype(np.float64)
        found: NDArray[np.float64] = np.average(tables, axis=0, weights=self.weights[group])
        return found.astype(np.float32)

    def means(self, count: int) -> NDArray[np.float32]:
        """Tables of at most `count` routes, [K, L, N]."""
        return np.stack([self.mean(group) for group in self.groups(count)])

    def errors(self, count: int) -> NDArray[np.float64]:
        """Predicted error of every table by the nearest of at most `count` routes, [S]."""
        return nearest_errors(self.sample.tables, self.means(count), self.metric)

    def routes(self, count: int) -> list[Route]:
        made = [(group, self.mean(group)) for group in self.groups(count)]
        names: Counter[str] = Counter()
        routes = []
        for group, table in sorted(made, key=lambda one: (-len(one[0]), one[1].tolist())):
            errors = self.metric.errors(self.sample.tables[group], table[None])[:, 0]
            kinds: dict[str, float] = {}
            for place in group.tolist():
                kind = self.sample.categories[place]
                kinds[kind] = kinds.get(kind, 0.0) + float(self.weights[place])
            stem = max(sorted(kinds), key=lambda kind: kinds[kind])
            names[stem] += 1
            name = stem if names[stem] == 1 else f"{stem}-{names[stem]}"
            error = float(np.average(errors, weights=self.weights[group]))
            routes.append(Route(name, table, len(group), error))
        return routes


def nearest_errors(
    tables: FloatArray, routes: FloatArray, metric: RouteMetric
) -> NDArray[np.float64]:
    """Predicted error of each table [S, L, N] by the nearest of the routes [K, L, N]: [S].

    `metric.errors(tables, routes).min(1)`, as distances after `to_euclid`: thousands of tables
    against hundreds of routes take seconds, not minutes.
    """
    from scipy.spatial.distance import cdist

    found: NDArray[np.float64] = cdist(to_euclid(metric, tables), to_euclid(metric, routes)).min(1)
    return found


def p95(errors: NDArray[np.float64], weights: NDArray[np.float64] | None = None) -> float:
    """The smallest error that 95 % of the requests, by weight, do not exceed."""
    return float(np.quantile(errors, 0.95, method="inverted_cdf", weights=weights))


def _fewest(clusters: Clusters, error: float) -> int:
    """The smallest K with p95 within `error`, at most as many as there are tables to tell apart.

    Found by doubling and halving, since p95 falls as K grows but for the luck of k-means' starts.
    """

    def within(count: int) -> bool:
        return p95(clusters.errors(count), clusters.sample.weights) <= error

    low, high = 0, 1
    while high < clusters.distinct and not within(high):
        low, high = high, min(2 * high, clusters.distinct)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if within(middle) else (middle, high)
    return high
