"""Every gate table has one answer: a static route, a merge, or a refusal (SPEC §5)."""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2edit.runtime.engines.base import WeightSet
from a2edit.runtime.errors import RequestError
from a2edit.runtime.manifest import MetricEntry, RouteEntry
from a2edit.runtime.routing import QUANTUM, RoutePlan, RouteStore, WeightSource

Table = list[list[float]]


def entry(table: Table) -> RouteEntry:
    rows = tuple(tuple(row) for row in table)
    return RouteEntry(table=rows, predicted_error=0.0, members=1)


def metric(gram: np.ndarray, energy: float, tolerance: float = 0.05) -> MetricEntry:
    rows = tuple(tuple(tuple(row) for row in block) for block in gram.tolist())
    return MetricEntry(gram=rows, energy=energy, tolerance=tolerance)


@dataclass
class Sources:
    """Makes sets of 40 bytes and remembers which."""

    made: list[str] = field(default_factory=list)

    def make(self, plan: RoutePlan) -> WeightSet:
        self.made.append(plan.route)
        fill = float(plan.table.sum())
        return WeightSet(plan.route, {"w": np.full(10, fill, np.float32)})

    @property
    def source(self) -> WeightSource:
        return WeightSource(self.make, 40)


ROUTES = {"a": entry([[1.0, 0.0]]), "b": entry([[0.0, 1.0]])}
NEAR_A, FAR = np.array([[0.9, 0.1]], np.float32), np.array([[0.5, 0.4]], np.float32)


def test_a_merge_that_errs_more_than_the_nearest_route_is_not_made() -> None:
    """As from a base in 8 bits; the routes err by √(0.1² + 0.1²) / 2 and √(0.5² + 0.4²) / 2."""
    for error, near, far in ((0.05, "merged", "merged"), (0.08, "static", "merged")):
        source = replace(Sources().source, error=error)
        routes = RouteStore(ROUTES, metric(np.eye(2)[None], 4.0), source, source, tolerance=0.01)
        plans = [routes.plan(wanted) for wanted in (NEAR_A, FAR)]
        assert [plan.supply for plan in plans] == [near, far]
        assert plans[1].predicted_error == pytest.approx(error, abs=1e-4)
        assert not plans[1].warning
    (nearest, _) = plans
    assert nearest.predicted_error == pytest.approx(0.1 * 2**-0.5)
    told = "error of 7.07%, above the tolerance of 1.00%, and a merge .* in 8 bits one of 8.00%"
    assert re.search(told, nearest.warning)
    strict = RouteStore(
        ROUTES, metric(np.eye(2)[None], 4.0), source, source, tolerance=0.01, strict=True
    )
    with pytest.raises(RequestError, match=f"{told}: build it with --merge-base full or with"):
        strict.plan(NEAR_A)
    assert strict.plan(FAR).supply == "merged"


def store(
    static: Sources | None = None,
    merged: Sources | None = None,
    routes: Mapping[str, RouteEntry] = ROUTES,
    *,
    tolerance: float | None = 0.1,
    strict: bool = False,
    memory_budget: int | None = None,
) -> RouteStore:
    return RouteStore(
        routes,
        metric(np.eye(2)[None], 4.0),
        (static or Sources()).source,
        merged.source if merged else None,
        tolerance=tolerance,
        strict=strict,
        memory_budget=memory_budget,
    )


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
    names = {f"r{k}": entry(table.tolist()) for k, table in enumerate(tables)}
    made = Sources().source
    ranked = RouteStore(names, metric(gram, energy), made).ranked(wanted)
    assert ranked == sorted(ranked, key=lambda pair: pair[1])
    assert dict(ranked) == {f"r{k}": error for k, error in enumerate(errors)}


def test_a_near_route_is_static_and_its_set_is_made_once() -> None:
    static, merged = Sources(), Sources()
    routes_store = store(static, merged)
    assert routes_store.nbytes == 0
    first, again = routes_store.get(NEAR_A), routes_store.get(np.array([[1.0, 0.0]], np.float32))
    assert {(choice.route, choice.supply) for choice in (first, again)} == {("a", "static")}
    assert first.predicted_error == pytest.approx(np.sqrt(0.02 / 4), rel=1e-6)
    assert again.predicted_error == 0
    assert first.table.tolist() == [[1.0, 0.0]]
    assert first.table.dtype == np.float32
    assert first.weight_set is again.weight_set
    assert (static.made, merged.made) == (["a"], [])
    assert routes_store.nbytes == 40
    routes_store.clear()
    assert routes_store.nbytes == 0


def test_past_the_tolerance_the_exact_table_is_merged_and_found_again() -> None:
    static, merged = Sources(), Sources()
    routes = store(static, merged)
    choice, again = routes.get(FAR), routes.get(FAR.copy())
    assert (choice.supply, choice.warning) == ("merged", "")
    assert re.fullmatch(r"merged-[0-9a-f]{12}", choice.route)
    assert choice.weight_set.name == choice.route
    assert choice.predicted_error < 1e-5
    np.testing.assert_allclose(choice.table, FAR, atol=0.5 / QUANTUM)
    assert again.weight_set is choice.weight_set
    assert (static.made, merged.made) == ([], [choice.route])


def test_zero_tolerance_merges_whatever_was_not_built() -> None:
    routes = store(merged=Sources(), tolerance=0)
    assert routes.get(np.array([[1.0, 0.0]], np.float32)).supply == "static"
    assert routes.get(NEAR_A).supply == "merged"


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_the_answer_does_not_depend_on_what_was_asked_before(seed: int, kinds: int) -> None:
    """Tables that differ in a last bit share weights, whoever comes first."""
    rng = np.random.default_rng(seed)
    tables = [rng.random((1, 2)).astype(np.float32) for _ in range(kinds)]
    tables += [np.nextafter(table, np.float32(2)) for table in tables]
    alone = [store(merged=Sources()).get(table) for table in tables]
    shared = store(merged=Sources(), memory_budget=80)
    for k in rng.integers(0, len(tables), 20):
        choice = shared.get(tables[k])
        assert (choice.route, choice.supply) == (alone[k].route, alone[k].supply)
        assert choice.predicted_error == alone[k].predicted_error
        assert choice.table.tobytes() == alone[k].table.tobytes()
        expected = alone[k].weight_set.tensors["w"].tobytes()
        assert choice.weight_set.tensors["w"].tobytes() == expected
        assert shared.nbytes <= 80


def test_the_merged_table_is_the_gates_in_steps_that_float32_holds() -> None:
    wanted = np.array([[0.1, -0.0], [1 / 3, 1e-9], [0.5, 1.0]], np.float32)
    eye = np.eye(2)[None].repeat(3, axis=0)
    routes = {"zero": entry([[0.0, 0.0]] * 3)}
    merged = RouteStore(routes, metric(eye, 1.0), Sources().source, Sources().source)
    table = merged.get(wanted).table
    assert (table * QUANTUM == np.rint(table * QUANTUM)).all()
    assert table[1, 1] == 0  # an expert of no weight stays asleep
    assert not np.signbit(table).any()
    np.testing.assert_allclose(table, wanted, atol=0.5 / QUANTUM)


def test_without_experts_the_nearest_route_runs_with_a_warning_or_is_refused() -> None:
    choice = store().get(FAR)
    assert (choice.route, choice.supply) == ("a", "static")
    assert choice.predicted_error > 0.1
    assert "nearest route, a, has a predicted error of 32.02%" in choice.warning
    assert "above the tolerance of 10.00%" in choice.warning
    with pytest.raises(RequestError, match=r"nearest route, a, .* 32.02%, .* --route-tolerance"):
        store(strict=True).get(FAR)
    assert store(strict=True).get(NEAR_A).warning == ""
    assert store(strict=True, merged=Sources()).get(FAR).supply == "merged"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.zeros((2, 2), np.float32), r"shape \[2, 2\]; this bundle's routes are \[1, 2\]"),
        (np.zeros(2, np.float32), r"shape \[2\]"),
        (np.array([[0.5, np.nan]], np.float32), "got nan for block 0, expert 1"),
        (np.array([[np.inf, 0.5]], np.float32), "got inf for block 0, expert 0"),
    ],
)
def test_tables_that_are_none_are_refused(table: np.ndarray, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        store(merged=Sources()).get(table)


@pytest.mark.parametrize("tolerance", [-0.01, float("nan"), float("inf")])
def test_tolerances_that_are_none_are_refused(tolerance: float) -> None:
    with pytest.raises(RequestError, match="must be 0 or more"):
        store(tolerance=tolerance)
    assert store(tolerance=None).tolerance == 0.05


def test_a_budget_for_less_than_one_set_is_refused_at_once() -> None:
    with pytest.raises(RequestError, match=r"memory budget 39 B is less than one .* 40 B"):
        store(memory_budget=39)
    assert store(memory_budget=40).get(NEAR_A).route == "a"


def test_threads_that_miss_one_table_merge_it_once() -> None:
    merged = Sources()
    routes, barrier = store(merged=merged), threading.Barrier(16)
    found: list[WeightSet] = []

    def ask() -> None:
        barrier.wait()
        found.append(routes.get(FAR).weight_set)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(merged.made) == 1
    assert len({id(weights) for weights in found}) == 1
    assert len(found) == 16
