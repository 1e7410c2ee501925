"""The same route for the same gate: its name, its table, its error, its warning."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2edit.runtime.engines.base import WeightSet
from a2edit.runtime.manifest import read_manifest
from a2edit.runtime.routing import RouteStore, WeightSource
from a2edit.runtime.sizes import format_size

BLOCKS, EXPERTS = 2, 3


def store(
    folder: Path, tolerance: float, strict: bool, merging: bool, budget: int = 0
) -> RouteStore:
    manifest = read_manifest(folder)
    error = manifest.merge.error if manifest.merge else 0.0
    source = WeightSource(lambda plan: WeightSet(plan.route, {}), 100, error)
    return RouteStore(
        manifest.routes,
        manifest.route_metric,
        source,
        source if merging else None,
        tolerance=None if math.isnan(tolerance) else tolerance,
        strict=strict,
        memory_budget=budget or None,
    )


gates = st.lists(
    st.floats(-1, 1, width=32), min_size=BLOCKS * EXPERTS, max_size=BLOCKS * EXPERTS
).map(lambda values: np.array(values, np.float32).reshape(BLOCKS, EXPERTS))


@given(gate=gates, tolerance=st.just(math.nan) | st.floats(0, 2), merging=st.booleans())
def test_the_same_gate_gets_the_same_route(
    probe: Any, bundle: Path, gate: Any, tolerance: float, merging: bool
) -> None:
    python = store(bundle, tolerance, strict=False, merging=merging)
    plan = python.plan(gate)
    route, error, supply, warning, table, ranked = probe.answer(
        "plan", bundle, tolerance, False, merging, 0, gate.size, gate
    )
    expected = python.ranked(gate)
    assert dict(ranked) == pytest.approx(dict(expected), rel=1e-9, abs=1e-12)
    first, second = (one[1] for one in expected[:2])
    near_tolerance = abs(first - python.tolerance) < 1e-9 * max(1, first)
    if second - first < 1e-9 * max(1, first) or near_tolerance:
        return  # a tie, which rounding decides: numpy adds in another order
    assert (route, supply) == (plan.route, plan.supply)
    assert error == pytest.approx(plan.predicted_error, rel=1e-9, abs=1e-12)
    assert table == hashlib.sha256(plan.table.tobytes()).hexdigest()
    assert _without_figures(warning) == _without_figures(plan.warning)


def test_a_base_in_8_bits_is_weighed_alike(probe: Any, own_bundle: Path) -> None:
    """It errs by itself: merges that are no better than the nearest route are not made."""
    manifest = read_manifest(own_bundle)
    assert manifest.merge
    replace(manifest, merge=replace(manifest.merge, error=0.5)).write(own_bundle)
    python = store(own_bundle, 0.01, strict=False, merging=True)
    rng, supplies = np.random.default_rng(0), []
    for _ in range(40):
        gate = rng.uniform(0, 1, (BLOCKS, EXPERTS)).astype(np.float32)
        plan = python.plan(gate)
        route, error, supply, warning, *_ = probe.answer(
            "plan", own_bundle, 0.01, False, True, 0, gate.size, gate
        )
        assert _without_figures(warning) == _without_figures(plan.warning)
        assert (route, supply) == (plan.route, plan.supply)
        assert error == pytest.approx(plan.predicted_error, rel=1e-9)
        supplies.append(supply)
    assert {"static", "merged"} == set(supplies)


def _without_figures(text: str) -> str:
    """Two decimals of a percent may be rounded apart by the last bit of an error."""
    return " ".join(word for word in text.split() if "%" not in word)


def test_the_routes_own_tables_are_found(probe: Any, bundle: Path) -> None:
    for name, entry in read_manifest(bundle).routes.items():
        gate = np.array(entry.table, np.float32)
        route, error, supply, *_ = probe.answer("plan", bundle, 1e-6, False, True, 0, 6, gate)
        assert (route, supply) == (name, "static")
        assert error < 1e-6


def refusals() -> dict[str, tuple[float, bool, bool, int, Any]]:
    """Tolerance, strict, merging, budget, gate."""
    fine = np.full((BLOCKS, EXPERTS), 0.5, np.float32)
    broken = fine.copy()
    broken[1, 2] = -np.inf
    no_number = fine.copy()
    no_number[0, 1] = np.nan
    return {
        "strict": (0.001, True, False, 0, fine),
        "below 0": (-0.5, False, True, 0, fine),
        "infinite": (math.inf, False, True, 0, fine),
        "a small budget": (0.1, False, True, 99, fine),
        "infinite weights": (0.1, False, True, 0, broken),
        "no numbers": (0.1, False, True, 0, no_number),
    }


@pytest.mark.parametrize("case", refusals().values(), ids=refusals().keys())
def test_refusals(probe: Any, bundle: Path, same_refusal: Any, case: Any) -> None:
    tolerance, strict, merging, budget, gate = case
    same_refusal(
        lambda: store(bundle, tolerance, strict, merging, budget).plan(gate),
        lambda: probe("plan", bundle, tolerance, strict, merging, budget, gate.size, gate),
    )


@given(size=st.integers(0, 2**50))
def test_sizes_are_written_alike(probe: Any, size: int) -> None:
    probe("format_size", size)
    assert probe.message() == format_size(size)
