"""Routes: the named means of clusters in the Gram metric."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2edit.calibration.routes import (
    Route,
    RouteLimit,
    RouteSample,
    choose_routes,
    cluster_routes,
    nearest_errors,
    p95,
)
from a2edit.runtime.errors import RequestError
from a2edit.runtime.metric import RouteMetric

L, N = 2, 4
PLAIN = RouteMetric(np.stack([np.eye(N)] * L), float(L))


def tables(seed: int, samples: int, distinct: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    kinds = rng.uniform(0.1, 1, (distinct, L, N)) * (rng.uniform(size=(distinct, L, N)) > 0.4)
    kinds[:, :, 0] = 0.5  # the anchor never sleeps
    return kinds[np.arange(samples) % distinct].astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12))
def test_every_sample_has_a_route_and_no_route_is_empty(
    seed: int, distinct: int, count: int
) -> None:
    found = tables(seed, 24, distinct)
    kinds = [f"kind{place % distinct % 3}" for place in range(24)]
    routes = cluster_routes(found, kinds, PLAIN, count)
    assert 1 <= len(routes) <= min(count, distinct)
    assert sum(route.members for route in routes) == 24
    assert min(route.members for route in routes) >= 1
    names = [route.name for route in routes]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"kind\d(-\d+)?", name) for name in names)
    # The mean of members is in their hull, entry by entry.
    stacked = np.stack([route.table for route in routes])
    assert (stacked <= found.max(0) + 1e-6).all()
    assert (stacked >= found.min(0) - 1e-6).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_as_many_routes_as_tables_serve_each_exactly(seed: int, distinct: int) -> None:
    found = tables(seed, 12, distinct)
    routes = cluster_routes(found, ["x"] * 12, PLAIN, 32)
    errors = PLAIN.errors(found, np.stack([route.table for route in routes]))
    assert errors.min(1).max() < 1e-5
    assert max(route.predicted_error for route in routes) < 1e-5


def test_zeros_stay_zeros_where_all_members_agree() -> None:
    found = tables(1, 16, 4)
    found[:, 1, 2] = 0
    for route in cluster_routes(found, ["x"] * 16, PLAIN, 2):
        assert route.table[1, 2] == 0
        assert route.table.dtype == np.float32


def test_more_routes_never_predict_a_larger_error() -> None:
    found = tables(3, 48, 24)
    errors = []
    for count in (1, 2, 4, 8, 16):
        routes = cluster_routes(found, ["x"] * 48, PLAIN, count)
        means = np.stack([route.table for route in routes])
        errors.append(float((PLAIN.errors(found, means).min(1) ** 2).mean()))
    assert errors == sorted(errors, reverse=True)


def test_the_metric_decides_what_is_far() -> None:
    # Expert 1 changes nothing, so tables that differ in it only are one route.
    gram = np.stack([np.diag([1.0, 0.0, 1.0, 1.0])] * L)
    found = tables(0, 8, 1)
    found[::2, :, 1] += 0.3
    assert len(cluster_routes(found, ["x"] * 8, RouteMetric(gram, float(L)), 8)) == 1
    assert len(cluster_routes(found, ["x"] * 8, PLAIN, 8)) == 2


def test_a_rebuild_makes_the_same_routes() -> None:
    found, kinds = tables(5, 40, 20), [f"k{place % 5}" for place in range(40)]
    first, second = (cluster_routes(found, kinds, PLAIN, 6) for _ in range(2))
    assert [r.name for r in first] == [r.name for r in second]
    assert [r.table.tobytes() for r in first] == [r.table.tobytes() for r in second]


@pytest.mark.parametrize("count", [0, -1])
def test_no_routes_are_refused(count: int) -> None:
    with pytest.raises(RequestError, match="at least 1"):
        cluster_routes(tables(0, 4, 2), ["x"] * 4, PLAIN, count)


def test_nan_is_refused() -> None:
    found = tables(0, 4, 2)
    found[0, 0, 0] = np.nan
    with pytest.raises(RequestError, match="NaN"):
        cluster_routes(found, ["x"] * 4, PLAIN, 2)


def spread(seed: int, samples: int) -> np.ndarray:
    """Tables around six centres, so that errors fall with every route."""
    rng = np.random.default_rng(seed)
    return (tables(seed, samples, 6) + rng.normal(0, 0.01, (samples, L, N))).astype(np.float32)


def worst_of_95(found: np.ndarray, routes: list[Route]) -> float:
    return p95(nearest_errors(found, np.stack([route.table for route in routes]), PLAIN))


def test_a_bound_takes_the_fewest_routes_that_keep_it() -> None:
    found = spread(7, 48)
    sample = RouteSample(found, ["x"] * 48)
    for bound in (0.2, 0.05, 0.02):
        routes = choose_routes(sample, PLAIN, RouteLimit(error=bound), 1)
        assert worst_of_95(found, routes) <= bound
        fewer = len(routes) - 1
        if fewer:
            assert worst_of_95(found, cluster_routes(found, ["x"] * 48, PLAIN, fewer)) > bound


def test_a_bound_that_needs_every_table_gets_no_more_than_those() -> None:
    found = spread(8, 24)
    sample = RouteSample(np.concatenate([found, found]), ["x"] * 48)
    assert len(choose_routes(sample, PLAIN, RouteLimit(error=1e-7), 1)) == 24


def test_a_loose_bound_takes_one_route() -> None:
    sample = RouteSample(spread(9, 24), ["x"] * 24)
    assert len(choose_routes(sample, PLAIN, RouteLimit(error=10.0), 1)) == 1


def test_a_budget_buys_as_many_sets_as_fit() -> None:
    sample = RouteSample(spread(10, 24), ["x"] * 24)
    for budget, wanted in ((1000, 1), (2999, 2), (5000, 5)):
        assert len(choose_routes(sample, PLAIN, RouteLimit(budget=budget), 1000)) == wanted
    with pytest.raises(RequestError, match=r"999 bytes.*one route takes 1000"):
        choose_routes(sample, PLAIN, RouteLimit(budget=999), 1000)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"count": 2, "error": 0.1}, "--routes 2 and --route-error 0.1 both say"),
        ({"error": 0.1, "budget": 5}, "give one of --routes, --route-error and --routes-budget"),
        ({"count": 0}, "--routes is 0"),
        ({"error": 0.0}, "--route-error is 0.0"),
        ({"error": float("nan")}, "--route-error is nan"),
        ({"budget": 0}, "--routes-budget is 0"),
    ],
)
def test_limits_that_make_no_sense_are_refused(given: dict[str, float], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        RouteLimit(**given)  # type: ignore[arg-type]


def test_what_counts_more_pulls_the_route() -> None:
    found = tables(4, 2, 2)
    sample = RouteSample(found, ["rare", "common"], np.array([1.0, 3.0]))
    (route,) = choose_routes(sample, PLAIN, RouteLimit(1), 1)
    np.testing.assert_allclose(route.table, 0.25 * found[0] + 0.75 * found[1], rtol=1e-6)
    assert route.name == "common"
    errors = PLAIN.errors(found, route.table[None])[:, 0]
    assert route.predicted_error == pytest.approx(0.25 * errors[0] + 0.75 * errors[1])


def test_the_nearest_route_is_the_metrics() -> None:
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(L, N, N))
    metric = RouteMetric(np.einsum("lij,lkj->lik", factors, factors), 7.0)
    asked, routes = rng.uniform(size=(9, L, N)), rng.uniform(size=(4, L, N)).astype(np.float32)
    asked[3] = routes[2]
    found = nearest_errors(asked, routes, metric)
    np.testing.assert_allclose(found, metric.errors(asked, routes).min(1), rtol=1e-9, atol=1e-12)
    assert found[3] == 0.0


def test_p95_is_what_95_percent_do_not_exceed() -> None:
    errors = np.arange(1.0, 101.0)
    assert p95(errors) == 95
    assert p95(errors[:20]) == 19
    assert p95(np.array([1.0, 2.0]), np.array([96.0, 4.0])) == 1
