"""What routes are worth: their errors on a calibration set, against their number, and on traffic.

Pure functions of gate tables; nothing here needs the model that made them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from a2edit.calibration.gram import to_euclid
from a2edit.calibration.routes import Clusters, FloatArray, RouteSample, nearest_errors, p95
from a2edit.runtime.errors import DataError
from a2edit.runtime.metric import RouteMetric

# Traffic may outweigh the calibration set, but what it happens not to show is not forgotten.
CALIBRATION_SHARE = 0.25
# Enough for a 95th percentile to within half a per cent of the requests.
MOST_LOGGED = 4096
# How far a curve goes at least, if there are as many tables.
_CURVE = 128
# Errors below are rounding: a route for every table.
NOTHING = 1e-6
# A curve with less sag than this, as a share of its height, falls steadily: it has no knee.
_SAG = 0.08


@dataclass(frozen=True, slots=True)
class CurveRow:
    """Predicted relative errors of a set's tables by the nearest of K routes.

    Attributes:
        routes: K, at most what was asked for: as many as there are tables to tell apart.
        mean, median, p95, largest: of the errors; p95 is what 95 % of the tables do not exceed.
        hit_rate: share of the tables within the tolerance.
    """

    routes: int
    mean: float
    median: float
    p95: float
    largest: float
    hit_rate: float


def figures(errors: NDArray[np.float64], routes: int, tolerance: float) -> CurveRow:
    """The errors [S] of a set, summed up."""
    return CurveRow(
        routes=routes,
        mean=float(errors.mean()),
        median=float(np.median(errors)),
        p95=p95(errors),
        largest=float(errors.max()),
        hit_rate=float((errors <= tolerance).mean()),
    )


def error_curve(
    tables: FloatArray, metric: RouteMetric, counts: Iterable[int], tolerance: float, seed: int = 0
) -> list[CurveRow]:
    """K-means with K routes on tables [S, L, N], judged on the same tables.

    Close to K = S this flatters: a route is then one request's own table. `held_out_curve` tells
    what other requests will see.

    Args:
        tables: [S, L, N].
        metric: of the same checkpoint.
        counts: the Ks; those that come to the same number of routes give one row.
        tolerance: of the hit rate.
        seed: of k-means' starts.
    """
    clusters = Clusters(_plain(tables), metric, seed)
    return _rows(counts, clusters.distinct, lambda k: figures(clusters.errors(k), k, tolerance))


def held_out_curve(
    tables: FloatArray,
    metric: RouteMetric,
    counts: Iterable[int],
    tolerance: float,
    folds: int = 4,
    seed: int = 0,
) -> list[CurveRow]:
    """As `error_curve`, but every table is judged by routes that were made without it.

    Returns:
        rows for those K that the smallest rest of a fold can tell apart; none for fewer tables
        than folds.
    """
    if len(tables) < folds:
        return []
    # Shuffled, because calibration sets go through their categories in turn.
    fold = np.random.default_rng(seed).permutation(len(tables)) % folds
    parts = [Clusters(_plain(tables[fold != part]), metric, seed) for part in range(folds)]

    def row(count: int) -> CurveRow:
        errors = np.concatenate(
            [
                nearest_errors(tables[fold == part], clusters.means(count), metric)
                for part, clusters in enumerate(parts)
            ]
        )
        return figures(errors, count, tolerance)

    most = min(clusters.distinct for clusters in parts)
    return _rows([count for count in counts if count <= most], most, row)


def _plain(tables: FloatArray) -> RouteSample:
    return RouteSample(tables, [""] * len(tables))


def _rows(counts: Iterable[int], most: int, row: Callable[[int], CurveRow]) -> list[CurveRow]:
    return [row(count) for count in sorted({min(count, most) for count in counts})]


def doubling(most: int, *also: int) -> list[int]:
    """1, 2, 4, … up to `most`, and what else is wanted up to there."""
    powers = (1 << power for power in range(most.bit_length()))
    return sorted({count for count in (*powers, *also) if 1 <= count <= most})


def knee(rows: Sequence[CurveRow]) -> int | None:
    """K where the mean error stops falling fast: the curve's farthest point below its chord.

    Both axes are logarithmic, as the report draws them: what counts is by how much another doubling
    of the routes divides the error. None if the curve does not sag by `_SAG` of its height: then
    every doubling does about the same.
    """
    drawn = [row for row in rows if row.mean > NOTHING]
    if len(drawn) < 3 or drawn[0].mean <= drawn[-1].mean:
        return None
    x = np.log([row.routes for row in drawn])
    y = np.log([row.mean for row in drawn])
    sag = 1 - (x - x[0]) / (x[-1] - x[0]) - (y - y[-1]) / (y[0] - y[-1])
    best = int(np.argmax(sag))
    return drawn[best].routes if sag[best] >= _SAG else None


def hit_rates(
    errors: NDArray[np.float64], categories: Sequence[str], tolerance: float
) -> dict[str, tuple[float, int]]:
    """Category → (share of its tables within the tolerance, their number), alphabetic."""
    marks = np.asarray(categories)
    return {
        name: (float((errors[marks == name] <= tolerance).mean()), int((marks == name).sum()))
        for name in sorted(set(categories))
    }


def nearest_categories(
    tables: FloatArray, known: RouteSample, metric: RouteMetric
) -> tuple[str, ...]:
    """What each table [T, L, N] shows: the category of the known table nearest to it."""
    from scipy.spatial.distance import cdist

    asked, there = to_euclid(metric, tables), to_euclid(metric, known.tables)
    nearest = cdist(asked, there).argmin(1)
    return tuple(known.categories[place] for place in nearest.tolist())


def thinned(tables: FloatArray) -> FloatArray:
    """At most `MOST_LOGGED` of a log's tables [T, L, N], evenly spread over it."""
    if len(tables) <= MOST_LOGGED:
        return tables
    return tables[np.linspace(0, len(tables) - 1, MOST_LOGGED).round().astype(np.intp)]


def with_traffic(known: RouteSample, logged: FloatArray, metric: RouteMetric) -> RouteSample:
    """A calibration set and a log's tables [T, L, N] as one set to make routes from.

    Every table counts once, but all of the calibration set never for less than
    `CALIBRATION_SHARE` of the whole. A logged table is of the category of the nearest known one.

    Raises:
        DataError: the log's tables have another shape.
    """
    if logged.shape[1:] != known.tables.shape[1:]:
        raise DataError(
            f"logged gate tables are {list(logged.shape[1:])}, those of the calibration set "
            f"{list(known.tables.shape[1:])}: the log is damaged, or of another checkpoint"
        )
    own, logged_weights = np.ones(len(known.tables)), np.ones(len(logged))
    least = CALIBRATION_SHARE / (1 - CALIBRATION_SHARE) * len(logged)
    own *= max(1.0, least / len(known.tables))
    return RouteSample(
        np.concatenate([known.tables, logged.astype(known.tables.dtype)]),
        (*known.categories, *nearest_categories(logged, known, metric)),
        np.concatenate([own, logged_weights]),
    )


@dataclass(frozen=True, slots=True)
class RouteReport:
    """A set of routes, judged on gate tables.

    Attributes:
        served: figures of these routes.
        errors: predicted error of every table, [S].
        categories: category → (hit rate, tables).
        curve, held_out: error against K, judged on the same tables and on others.
        knee: K where the curve bends, if it does.
    """

    served: CurveRow
    errors: NDArray[np.float64]
    categories: Mapping[str, tuple[float, int]]
    curve: Sequence[CurveRow]
    held_out: Sequence[CurveRow]
    knee: int | None


def route_report(
    routes: FloatArray, sample: RouteSample, metric: RouteMetric, tolerance: float, seed: int = 0
) -> RouteReport:
    """Judge routes [K, L, N] on a sample; deterministic.

    The sample's weights are for making routes: here every table counts once.
    """
    tables = sample.tables
    errors = nearest_errors(tables, routes, metric)
    counts = doubling(min(len(tables), max(_CURVE, 2 * len(routes))), len(routes))
    curve = error_curve(tables, metric, counts, tolerance, seed)
    return RouteReport(
        served=figures(errors, len(routes), tolerance),
        errors=errors,
        categories=hit_rates(errors, sample.categories, tolerance),
        curve=curve,
        held_out=held_out_curve(tables, metric, counts, tolerance, seed=seed),
        knee=knee(curve),
    )
