"""The Gram metric against the error that it stands for, computed the long way."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from a2edit.calibration.gram import LinearFactors, gram_matrix, metric_of, to_euclid
from a2edit.runtime.metric import RouteMetric

N, RANK, SCALE = 3, 2, 1.5
SEEDS = st.integers(0, 2**32 - 1)


def linear(seed: int, block: int = 0, *, moments: bool = False) -> LinearFactors:
    rng = np.random.default_rng(seed)
    second = np.asarray(rng.uniform(0.1, 2, 5), np.float32) if moments else None
    shapes = (N, RANK, 5), (N, 4, RANK), (4, 5)
    A, B, base = (np.asarray(rng.standard_normal(shape), np.float32) for shape in shapes)
    return LinearFactors(block, A, B, base, second)


def deltas(found: LinearFactors) -> np.ndarray:
    """ΔW_i [N, out, in], which the metric never makes."""
    A, B = found.A.astype(np.float64), found.B.astype(np.float64)
    return SCALE * np.einsum("nor,nri->noi", B, A)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.booleans())
def test_quadratic_form_is_the_expected_squared_error(seed: int, moments: bool) -> None:
    found = linear(seed, moments=moments)
    gap = np.random.default_rng(seed + 1).standard_normal(N)
    spread = np.ones(5) if found.moments is None else found.moments.astype(np.float64)
    change = np.einsum("n,noi->oi", gap, deltas(found))
    truth = np.einsum("oi,i,oi->", change, spread, change)  # E‖ΔW x‖² with E[x xᵀ] = diag(spread)
    gram = gram_matrix(found, SCALE)
    np.testing.assert_allclose(gap @ gram @ gap, truth, rtol=1e-9)
    np.testing.assert_array_equal(gram, gram.T)


def test_moments_mean_what_sampling_says() -> None:
    found = linear(7, moments=True)
    assert found.moments is not None
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200_000, 5)) * np.sqrt(found.moments)
    gap = np.array([0.3, -0.7, 0.2])
    sampled = ((x @ np.einsum("n,noi->oi", gap, deltas(found)).T) ** 2).sum(1).mean()
    assert abs(gap @ gram_matrix(found, SCALE) @ gap / sampled - 1) < 0.02


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_errors_are_euclids_distance_after_the_transform(seed: int) -> None:
    metric = metric_of((linear(seed + i, block=i % 2) for i in range(4)), SCALE, 2, N)
    rng = np.random.default_rng(seed)
    tables, routes = rng.uniform(size=(5, 2, N)), rng.uniform(size=(3, 2, N))
    errors = metric.errors(tables, routes)
    gaps = to_euclid(metric, tables)[:, None] - to_euclid(metric, routes)[None]
    np.testing.assert_allclose(errors, np.linalg.norm(gaps, axis=-1), rtol=1e-6, atol=1e-9)


def test_experts_that_do_nothing_cost_nothing() -> None:
    metric = RouteMetric(np.zeros((1, N, N)), 1.0)
    tables = np.random.default_rng(0).uniform(size=(2, 1, N))
    assert metric.errors(tables, tables[::-1]).tolist() == [[0, 0], [0, 0]]
    assert np.isfinite(to_euclid(metric, tables)).all()
