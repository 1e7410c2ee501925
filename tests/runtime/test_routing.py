"""The nearest route, in the metric of SPEC §5."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2edit.runtime.engines.base import WeightSet
from a2edit.runtime.manifest import MetricEntry, RouteEntry
from a2edit.runtime.routing import RouteStore


def entry(table: list[list[float]], name: str) -> RouteEntry:
    rows = tuple(tuple(row) for row in table)
    return RouteEntry(table=rows, weight_set=name, predicted_error=0.0, members=1)


def metric(gram: np.ndarray, energy: float) -> MetricEntry:
    rows = tuple(tuple(tuple(row) for row in block) for block in gram.tolist())
    return MetricEntry(gram=rows, energy=energy, tolerance=0.05)


@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 4), st.integers(1, 6))
def test_the_error_is_the_formula(seed: int, blocks: int, experts: int, routes: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((blocks, experts, experts))
    gram, energy = root @ root.transpose(0, 2, 1), rng.uniform(1, 2)
    wanted = rng.random((blocks, experts)).astype(np.float32)
    tables = rng.random((routes, blocks, experts))
    errors = metric(gram, energy).metric.errors(wanted[None], tables)[0]
    for table, error in zip(tables, errors, strict=True):
        total = sum((w - r) @ g @ (w - r) for w, r, g in zip(wanted, table, gram, strict=True))
        assert error == pytest.approx(np.sqrt(total / energy), rel=1e-9)
    names = {f"r{k}": entry(table.tolist(), f"s{k}") for k, table in enumerate(tables)}
    store = RouteStore(names, metric(gram, energy), lambda name: WeightSet(name, {}))
    route, error = store.nearest(wanted)
    assert route == f"r{int(np.argmin(errors))}"
    assert error == errors.min()


def test_a_set_is_read_once_and_shared_by_routes() -> None:
    read = []

    def load(name: str) -> WeightSet:
        read.append(name)
        return WeightSet(name, {"w": np.zeros(10, np.float32)})

    routes = {"a": entry([[1.0, 0.0]], "one"), "b": entry([[0.0, 1.0]], "one")}
    store = RouteStore(routes, metric(np.eye(2)[None], 4.0), load)
    assert store.nbytes == 0
    first = store.get(np.array([[0.9, 0.1]], np.float32))
    second = store.get(np.array([[0.0, 1.0]], np.float32))
    assert (first.route, first.supply, second.route, second.supply) == (
        "a",
        "loaded",
        "b",
        "cached",
    )
    assert first.predicted_error == pytest.approx(np.sqrt(0.02 / 4), rel=1e-6)
    assert second.predicted_error == 0
    assert read == ["one"]
    assert store.nbytes == 40
