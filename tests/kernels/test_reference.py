"""Merging and quantising: exact by definition, reversible, never worse than half a step."""

import hashlib
import subprocess
import sys
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from a2edit.kernels.reference import (
    LEVELS,
    MATRIX_TILE,
    VECTOR_TILE,
    FloatArray,
    dequantise_rows,
    merge_weight,
    narrowed,
    quantise_rows,
    tile_sides,
    tiled_product,
    wide_base,
    widened,
)

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
    base[0, 0] = -0.0
    merged = merge_weight(base, A, B, np.zeros(4, np.float32), 1.0)
    assert merged.tobytes() == base.tobytes()
    assert not np.shares_memory(merged, base)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.sampled_from([1, 64, 65, 200]), st.booleans())
def test_a_base_in_8_bits_is_its_levels_times_its_scales(
    seed: int, outer: int, active: bool
) -> None:
    base, A, B, rng = factors(seed, outer=outer)
    levels, scales = quantise_rows(base)
    wide = wide_base(levels, scales)
    assert wide.tobytes() == (levels.astype(np.float32) * scales[:, None]).tobytes()
    assert wide_base(base, None) is base
    weights = rng.uniform(size=4).astype(np.float32) * np.float32(active)
    for dtype in ("float32", "float16", "bfloat16"):
        found = merge_weight(levels, A, B, weights, 1.5, dtype, scales)
        assert found.tobytes() == merge_weight(wide, A, B, weights, 1.5, dtype).tobytes()


def test_a_base_in_8_bits_needs_no_wide_copy_beside_the_merge() -> None:
    """What `RouteMerger.peak_bytes` counts for a linear holds for such a base as it is."""
    base, A, B, _ = factors(0, inner=512, outer=1024)
    levels, scales = quantise_rows(base)

    def peak(base: np.ndarray, *scale: FloatArray) -> int:
        tracemalloc.start()
        merge_weight(base, A, B, np.ones(4, np.float32), 1.0, "float32", *scale)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(levels, scales) < peak(base) + base.nbytes // 4


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


@pytest.mark.parametrize("scale", ["float32", "bfloat16"])
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, size=st.floats(1e-6, 1e6))
def test_quantised_rows_are_within_half_a_step(scale: str, seed: int, size: float) -> None:
    weight = (factors(seed)[0] * size).astype(np.float32)
    levels, scales = quantise_rows(weight, scale_dtype=scale)
    kinds = levels.dtype.name, scales.dtype.name
    assert kinds == ("int8", {"float32": "float32", "bfloat16": "uint16"}[scale])
    assert np.abs(levels.astype(int)).max(axis=1).tolist() == [127] * len(weight)
    gap = np.abs(dequantise_rows(levels, scales) - weight)
    assert (gap <= widened(scales)[:, None] * 0.5001).all()


@pytest.mark.parametrize("scale", ["float32", "bfloat16"])
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, size=st.floats(1e-6, 1e6))
def test_fp8_rows_are_within_half_a_place(scale: str, seed: int, size: float) -> None:
    """Three bits of mantissa: 2^-4 of a value, or half of 2^-9 of the scale near zero."""
    weight = (factors(seed)[0] * size).astype(np.float32)
    levels, scales = quantise_rows(weight, dtype="float8_e4m3fn", scale_dtype=scale)
    assert levels.dtype == np.uint8
    assert np.abs(widened(levels)).max(axis=1).tolist() == [448] * len(weight)
    gap = np.abs(dequantise_rows(levels, scales) - weight)
    assert (gap <= np.maximum(np.abs(weight) * 0.0626, widened(scales)[:, None] * 2**-10)).all()


@pytest.mark.parametrize("dtype", list(LEVELS))
def test_levels_are_those_of_the_scale_that_is_stored(dtype: str) -> None:
    """A scale is rounded before it divides; 130 rows are more than are quantised at once."""
    weight = factors(0, inner=64, outer=130)[0]
    levels, scales = quantise_rows(weight, dtype=dtype, scale_dtype="bfloat16")
    exact = weight / widened(scales)[:, None]
    nearest = narrowed(np.rint(exact) if dtype == "int8" else exact, dtype)
    np.testing.assert_array_equal(levels, nearest)
    assert not np.array_equal(widened(scales), quantise_rows(weight, dtype=dtype)[1])


@pytest.mark.parametrize("dtype", list(LEVELS))
@pytest.mark.parametrize("scale", ["float32", "bfloat16"])
def test_a_row_of_zeros_stays_zero(dtype: str, scale: str) -> None:
    levels, scales = quantise_rows(np.zeros((2, 3), np.float32), None, dtype, scale)
    assert not levels.any()
    assert widened(scales).tolist() == [1.0, 1.0]


def test_levels_are_symmetric_and_ties_go_to_even() -> None:
    negative = quantise_rows(np.array([[-2.0, 1.0]], np.float32))[0]
    assert negative.tolist() == [[-127, 64]]  # 63.5 rounds to even


def test_float8_is_the_nearest_of_every_bfloat16() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    values = widened(bits)
    found = narrowed(values, "float8_e4m3fn")
    saturated = np.clip(values, -448, 448)  # of both references, only torch's saturates
    with np.errstate(invalid="ignore"):
        expected = saturated.astype(ml_dtypes.float8_e4m3fn)
    theirs = torch.from_numpy(saturated).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    number = ~np.isnan(values)
    np.testing.assert_array_equal(found[number], expected.view(np.uint8)[number])
    np.testing.assert_array_equal(found[number], theirs[number])
    assert (found[~number] & 0x7F == 0x7F).all()
    np.testing.assert_array_equal(widened(found), expected.astype(np.float32))


@settings(max_examples=200, deadline=None)
@given(st.floats(-500, 500, width=32))
def test_float8_is_rounded_once_from_float32(value: float) -> None:
    number = np.array([value], np.float32)
    expected = np.clip(number, -448, 448).astype(ml_dtypes.float8_e4m3fn)
    assert narrowed(number, "float8_e4m3fn").tobytes() == expected.tobytes()


def test_every_float8_is_its_own_nearest() -> None:
    bits = np.arange(256, dtype=np.uint8)
    expected = bits.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    np.testing.assert_array_equal(widened(bits), expected)
    np.testing.assert_array_equal(narrowed(widened(bits), "float8_e4m3fn"), bits)


DTYPES = st.sampled_from(["float32", "float16", "bfloat16"])


@settings(max_examples=60, deadline=None)
@given(SEEDS, DTYPES, DTYPES)
def test_stored_narrow_or_wide_the_sum_is_one(seed: int, stored: str, wanted: str) -> None:
    """What narrow types hold exactly is merged as if it had been stored in fp32."""
    base, A, B, rng = factors(seed)
    W, P, Q = (narrowed(part, stored) for part in (base, A, B))
    weights = rng.uniform(size=4).astype(np.float32)
    merged = merge_weight(W, P, Q, weights, 1.5, wanted)
    wide = merge_weight(widened(W), widened(P), widened(Q), weights, 1.5)
    assert merged.tobytes() == narrowed(wide, wanted).tobytes()
    assert merge_weight(W, P, Q, weights, 1.5).dtype == W.dtype


@settings(max_examples=200, deadline=None)
@given(st.floats(width=32, allow_nan=True))
def test_bfloat16_is_the_nearest_and_ties_go_to_even(value: float) -> None:
    number = np.array([value], np.float32)
    bits = narrowed(number, "bfloat16")
    back = widened(bits)
    if np.isnan(number[0]):
        assert np.isnan(back[0])
        return
    assert narrowed(back, "bfloat16").tobytes() == bits.tobytes()
    steps = (bits[0].astype(int) + step for step in (-1, 0, 1))
    near = {step: widened(np.array([step & 0xFFFF], np.uint16))[0] for step in steps}
    gaps = {
        step: abs(float(other) - float(number[0]))
        for step, other in near.items()
        if np.isfinite(other) and np.isfinite(number[0])
    }
    if int(bits[0]) in gaps:
        least = min(gaps.values())
        assert gaps[int(bits[0])] == least
        assert list(gaps.values()).count(least) == 1 or bits[0] % 2 == 0


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 3000))
def test_tiles_fill_the_product_and_are_small_enough_for_one_thread(
    out: int, inner: int, depth: int
) -> None:
    rows, columns = tile_sides(out, inner, depth)
    assert out % rows == inner % columns == 0
    limit = VECTOR_TILE if 1 in (rows, columns) else MATRIX_TILE
    assert rows * columns * depth <= max(limit, depth)


def test_the_shapes_of_real_models_get_tiles_of_a_fair_size() -> None:
    for out, inner in ((256, 1280), (1024, 256), (3072, 3072), (12288, 3072), (3072, 15360)):
        for depth in (8, 24, 64, 96, 256):
            rows, columns = tile_sides(out, inner, depth)
            assert rows * columns * depth >= MATRIX_TILE / 8


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 300), st.integers(1, 300), st.integers(1, 300))
def test_the_tiled_product_is_the_product(seed: int, out: int, inner: int, depth: int) -> None:
    rng = np.random.default_rng(seed)
    high = rng.standard_normal((out, depth)).astype(np.float32)
    low = rng.standard_normal((depth, inner)).astype(np.float32)
    exact = high.astype(np.float64) @ low.astype(np.float64)
    # depth roundings of partial sums, none larger than the sum of magnitudes
    bound = depth * np.finfo(np.float32).eps * (np.abs(high) @ np.abs(low))
    assert (np.abs(tiled_product(high, low) - exact) <= bound).all()


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 700), st.integers(1, 700), st.integers(1, 300))
def test_the_bytes_do_not_depend_on_threads(seed: int, out: int, inner: int, depth: int) -> None:
    rng = np.random.default_rng(seed)
    high = rng.standard_normal((out, depth)).astype(np.float32)
    low = rng.standard_normal((depth, inner)).astype(np.float32)
    found = set()
    for threads in (1, 2, 5):
        with threadpool_limits(threads):
            found.add(tiled_product(high, low).tobytes())
    assert len(found) == 1


# Of these the plain product does depend on threads (checked with OpenBLAS 0.3.31).
@pytest.mark.parametrize("core", ["Haswell", "SandyBridge", "Prescott", "SkylakeX"])
def test_the_bytes_do_not_depend_on_threads_on_other_processors(core: str) -> None:
    code = """
import hashlib
import numpy as np
from a2edit.kernels.reference import tiled_product
from threadpoolctl import threadpool_limits
rng = np.random.default_rng(0)
for out, inner, depth in ((336, 167, 561), (256, 1280, 24), (1000, 999, 64), (1, 4000, 300)):
    high = rng.standard_normal((out, depth)).astype(np.float32)
    low = rng.standard_normal((depth, inner)).astype(np.float32)
    found = set()
    for threads in (1, 2, 5):
        with threadpool_limits(threads):
            found.add(tiled_product(high, low).tobytes())
    assert len(found) == 1, (out, inner, depth)
"""
    environment = {"OPENBLAS_CORETYPE": core, "OPENBLAS_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)
