"""Routes: the named means of clusters in the Gram metric."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2edit.calibration.routes import cluster_routes
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
