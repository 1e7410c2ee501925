"""Merging and quantising: exact by definition, reversible, never worse than half a step."""

import hashlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from a2edit.kernels.reference import FloatArray, dequantise_rows, merge_weight, quantise_rows

SEEDS = st.integers(0, 2**32 - 1)


def factors(
    seed: int, experts: int = 4, rank: int = 2, inner: int = 6, outer: int = 5
) -> tuple[FloatArray, FloatArray, FloatArray, np.random.Generator]:
    """Base [outer, inner], A, B, and the generator for more."""
    rng = np.random.default_rng(seed)
    shapes = (outer, inner), (experts, rank, inner), (experts, outer, rank)
    base, A, B = (np.asarray(rng.standard_normal(shape), np.float32) for shape in shapes)
    return base, A, B, rng


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_merge_is_the_sum_of_the_papers_formula(seed: int) -> None:
    base, A, B, rng = factors(seed)
    weights = rng.uniform(size=4).astype(np.float32) * (rng.uniform(size=4) > 0.4)
    truth = base.astype(np.float64)
    for weight, low, high in zip(weights, A, B, strict=True):
        truth = truth + float(weight) * 1.5 * (high.astype(np.float64) @ low)
    merged = merge_weight(base, A, B, weights, 1.5)
    assert merged.dtype == base.dtype
    np.testing.assert_allclose(merged, truth, rtol=0, atol=2e-5)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_a_b_a_gives_the_same_bytes_and_leaves_the_base_alone(seed: int) -> None:
    base, A, B, rng = factors(seed)
    before = hashlib.sha256(base.tobytes()).digest()
    one, other = rng.uniform(size=(2, 4)).astype(np.float32)
    first = merge_weight(base, A, B, one, 1.0).tobytes()
    merge_weight(base, A, B, other, 1.0)
    assert merge_weight(base, A, B, one, 1.0).tobytes() == first
    assert hashlib.sha256(base.tobytes()).digest() == before


def test_no_active_expert_is_the_base_itself_as_a_copy() -> None:
    base, A, B, _ = factors(0)
    merged = merge_weight(base, A, B, np.zeros(4, np.float32), 1.0)
    assert merged.tobytes() == base.tobytes()
    assert not np.shares_memory(merged, base)


def test_an_inactive_expert_cannot_spoil_the_sum() -> None:
    base, A, B, _ = factors(0)
    A[1] = np.inf
    merged = merge_weight(base, A, B, np.array([0.5, 0, 0.5, 0], np.float32), 1.0)
    assert np.isfinite(merged).all()


def test_half_precision_bases_are_rounded_once() -> None:
    base, A, B, rng = factors(3)
    weights = rng.uniform(size=4).astype(np.float32)
    half = base.astype(np.float16)
    exact = merge_weight(half.astype(np.float32), A, B, weights, 1.0)
    assert merge_weight(half, A, B, weights, 1.0).tobytes() == exact.astype(np.float16).tobytes()


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.floats(1e-6, 1e6))
def test_quantised_rows_are_within_half_a_step(seed: int, size: float) -> None:
    weight = (factors(seed)[0] * size).astype(np.float32)
    levels, scales = quantise_rows(weight)
    assert (levels.dtype.name, scales.dtype.name) == ("int8", "float32")
    assert np.abs(levels.astype(int)).max(axis=1).tolist() == [127] * len(weight)
    gap = np.abs(dequantise_rows(levels, scales) - weight)
    assert (gap <= scales[:, None] * 0.5001).all()


def test_a_row_of_zeros_stays_zero() -> None:
    levels, scales = quantise_rows(np.zeros((2, 3), np.float32))
    assert not levels.any()
    assert scales.tolist() == [1.0, 1.0]
    negative = quantise_rows(np.array([[-2.0, 1.0]], np.float32))[0]
    assert negative.tolist() == [[-127, 64]]  # 63.5 rounds to even
