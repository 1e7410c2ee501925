"""Curves, knees, hit rates and traffic: what `a2edit-build routes` says about routes."""

import numpy as np
import pytest

from a2edit.calibration.report import (
    CALIBRATION_SHARE,
    MOST_LOGGED,
    CurveRow,
    doubling,
    error_curve,
    held_out_curve,
    hit_rates,
    knee,
    nearest_categories,
    route_report,
    thinned,
    with_traffic,
)
from a2edit.calibration.routes import RouteSample
from a2edit.runtime.metric import RouteMetric

L, N, KINDS = 2, 4, 6
PLAIN = RouteMetric(np.stack([np.eye(N)] * L), float(L))


def clustered(samples: int, noise: float = 0.01, seed: int = 0) -> RouteSample:
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0.1, 1, (KINDS, L, N))
    marks = np.arange(samples) % KINDS
    found = centres[marks] + rng.normal(0, noise, (samples, L, N))
    return RouteSample(found.astype(np.float32), [f"kind{mark}" for mark in marks])


def row(routes: int, mean: float) -> CurveRow:
    return CurveRow(routes, mean, mean, mean, mean, 0.0)


def test_a_curve_falls_and_ends_at_nothing() -> None:
    sample = clustered(48)
    rows = error_curve(sample.tables, PLAIN, doubling(48, 48), tolerance=0.02)
    assert [one.routes for one in rows] == [1, 2, 4, 8, 16, 32, 48]
    assert [one.mean for one in rows] == sorted((one.mean for one in rows), reverse=True)
    assert rows[-1].largest < 1e-6
    assert rows[-1].hit_rate == 1.0
    for one in rows:
        assert one.median <= one.p95 <= one.largest
        assert one.mean <= one.largest
    # One route for all: as far as the tables are from their mean.
    truth = PLAIN.errors(sample.tables, sample.tables.mean(0, keepdims=True))[:, 0]
    assert rows[0].mean == pytest.approx(float(truth.mean()), rel=1e-5)
    assert rows[0].hit_rate == pytest.approx(float((truth <= 0.02).mean()))


def test_tables_that_repeat_end_the_curve_early() -> None:
    tables = np.repeat(clustered(KINDS).tables, 4, axis=0)
    rows = error_curve(tables, PLAIN, (1, 2, 8, 16), tolerance=0.01)
    assert [one.routes for one in rows] == [1, 2, KINDS]


def test_held_out_errors_do_not_flatter() -> None:
    sample = clustered(48)
    own = {one.routes: one for one in error_curve(sample.tables, PLAIN, (4, 32), 0.02)}
    other = {one.routes: one for one in held_out_curve(sample.tables, PLAIN, (4, 32, 48), 0.02)}
    assert set(other) == {4, 32}  # folds of 36 tables have no 48 routes
    # With nearly a route a table only what is held out shows that a new one is still 0.01 away.
    assert other[32].mean > 2 * own[32].mean
    assert held_out_curve(sample.tables[:3], PLAIN, (1, 2), 0.02) == []


def test_the_knee_is_the_number_of_kinds() -> None:
    sample = clustered(96, noise=0.001)
    rows = error_curve(sample.tables, PLAIN, [*doubling(96), KINDS], 0.02)
    assert knee(rows) == KINDS


def test_a_steady_fall_has_no_knee() -> None:
    assert knee([row(1 << power, 1 - power / 8) for power in range(8)]) is None
    assert knee([row(1 << power, 0.8**power) for power in range(8)]) is None
    ends_at_nothing = [row(1 << power, 0.8**power) for power in range(7)] + [row(128, 1e-9)]
    assert knee(ends_at_nothing) is None
    assert knee([row(1, 0.5), row(2, 0.1)]) is None
    assert knee([row(1, 0.0), row(2, 0.0), row(4, 0.0)]) is None


def test_doubling_takes_in_what_is_wanted() -> None:
    assert doubling(40, 6, 99) == [1, 2, 4, 6, 8, 16, 32]
    assert doubling(1) == [1]


def test_hit_rates_by_category() -> None:
    errors = np.array([0.01, 0.03, 0.02, 0.5])
    found = hit_rates(errors, ["b", "b", "a", "a"], 0.02)
    assert found == {"a": (0.5, 2), "b": (0.5, 2)}
    assert list(found) == ["a", "b"]


def test_logged_tables_are_of_the_nearest_kind() -> None:
    known, logged = clustered(24), clustered(12, seed=0, noise=0.02)
    assert nearest_categories(logged.tables, known, PLAIN) == tuple(logged.categories)


def test_traffic_never_drowns_the_calibration_set() -> None:
    known = clustered(24)
    few = with_traffic(known, clustered(6).tables, PLAIN)
    assert few.weights is not None
    assert set(few.weights) == {1.0}
    many = with_traffic(known, clustered(600).tables, PLAIN)
    assert many.weights is not None
    assert many.weights[:24].sum() == pytest.approx(CALIBRATION_SHARE * many.weights.sum())
    assert len(many.categories) == len(many.tables) == 624


def test_a_long_log_is_thinned_evenly() -> None:
    tables = np.arange(3 * MOST_LOGGED, dtype=np.float32)[:, None, None]
    found = thinned(tables)[:, 0, 0]
    assert len(found) == MOST_LOGGED
    assert (found[0], found[-1]) == (0, 3 * MOST_LOGGED - 1)
    assert np.diff(found).max() <= 4
    assert thinned(tables[:5]) is not None
    assert len(thinned(tables[:5])) == 5


def test_a_report_judges_the_routes_that_it_is_given() -> None:
    sample = clustered(24)
    routes = sample.tables[:2]  # exact for two tables, wrong for most
    report = route_report(routes, sample, PLAIN, 0.05)
    assert report.errors[:2].tolist() == [0.0, 0.0]
    assert report.served.routes == 2
    assert report.categories["kind0"] == (1.0, 4)
    assert report.categories["kind3"][0] == 0.0
    assert report.served.hit_rate == pytest.approx(8 / 24)
    assert {one.routes for one in report.curve} >= {1, 2, 4, 8, 16}
