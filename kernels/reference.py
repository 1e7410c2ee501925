"""Merging and quantising in numpy: the readable truth that every faster kernel must repeat.

The build and the runtime merge by these functions, so that a weight set built ahead and one merged
on demand are the same bytes (SPEC §3, §11.1).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Int8Array = NDArray[np.int8]

INT8_LEVELS = 127  # symmetric: −128 is not used, so that a weight and its negative are both exact

# OpenBLAS, which numpy's wheels bring, computes products of up to 2^18 multiplications (vectors:
# 9,216) in the calling thread. Larger ones it shares among threads, and on many processors the
# last bits of the sums then depend on how many there are.
MATRIX_TILE = 2**18
VECTOR_TILE = 2**13


def merge_weight(
    base: NDArray[Any],
    A: NDArray[Any],
    B: NDArray[Any],
    weights: NDArray[np.floating],
    scale: float,
    dtype: str | None = None,
) -> NDArray[Any]:
    """W⁰ + Σ_i w_i · scale · B_i A_i, accumulated in fp32 and cast once.

    Only active experts (w_i ≠ 0) take part, so an all-zero table gives the base's own bytes. The
    result's bytes do not depend on the number of BLAS's threads.

    Args:
        base: W⁰ [out, in]; read, never written.
        A: [N, r, in].
        B: [N, out, r].
        weights: w [N], one row of a gate table.
        scale: α/r.
        dtype: of the result, by name; default: the base's.

    `base`, A and B are float32, float16, or uint16 that holds the bits of bfloat16.

    Returns:
        a new array [out, in]; bfloat16 as its bits, uint16.
    """
    name = dtype or ("bfloat16" if base.dtype == np.uint16 else base.dtype.name)
    active = np.flatnonzero(weights)
    if active.size == 0:  # adding zeros would turn −0 into +0
        return narrowed(np.array(widened(base)), name)
    factors = (weights[active] * np.float32(scale)).astype(np.float32)
    low = widened(A[active]) * factors[:, None, None]
    high = widened(B[active]).transpose(1, 0, 2)
    merged = tiled_product(high.reshape(len(base), -1), low.reshape(-1, base.shape[1]))
    merged += base if base.dtype != np.uint16 else widened(base)
    return narrowed(merged, name)


def tiled_product(high: FloatArray, low: FloatArray) -> FloatArray:
    """high [out, k] · low [k, in] → [out, in], in tiles that BLAS computes in one thread each.

    The bytes are a function of the operands, the machine and the BLAS, not of its threads; and on
    a busy machine nobody waits for them.
    """
    out, depth = high.shape
    inner = low.shape[1]
    rows, columns = tile_sides(out, inner, depth)
    product = np.empty((out, inner), np.float32)
    np.matmul(
        np.ascontiguousarray(high).reshape(out // rows, 1, rows, depth),
        low.reshape(depth, inner // columns, columns).transpose(1, 0, 2),
        out=product.reshape(out // rows, rows, inner // columns, columns).transpose(0, 2, 1, 3),
    )
    return product


def tile_sides(out: int, inner: int, depth: int) -> tuple[int, int]:
    """Rows and columns of the tiles of `tiled_product`: divisors of `out` and `inner`.

    At most MATRIX_TILE multiplications a tile, where one is that small; wider than high, since
    rows are contiguous.
    """
    area = max(1, MATRIX_TILE // depth)
    columns = _divisor(inner, max(16, int(2 * area**0.5)))
    rows = _divisor(out, max(1, area // columns))
    if 1 in (rows, columns):
        area = max(1, VECTOR_TILE // depth)
        columns = _divisor(inner, area)
        rows = _divisor(out, max(1, area // columns))
    return rows, columns


def _divisor(size: int, limit: int) -> int:
    """The largest divisor of `size` that is at most `limit`."""
    return next(side for side in range(min(size, limit), 0, -1) if size % side == 0)


def widened(array: NDArray[Any]) -> FloatArray:
    """float32 of an array that is float32 or float16, or uint16: the bits of bfloat16."""
    if array.dtype != np.uint16:
        return array.astype(np.float32, copy=False)
    wide: FloatArray = (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return wide


def narrowed(array: FloatArray, dtype: str) -> NDArray[Any]:
    """float32 rounded to the nearest of `dtype`, ties to even; "bfloat16" as its bits, uint16."""
    if dtype != "bfloat16":
        return array.astype(dtype, copy=False)
    bits = array.view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype(np.uint16)
    # of a NaN the carry could make an infinity
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)


def quantise_rows(
    weight: NDArray[np.floating], smooth: FloatArray | None = None
) -> tuple[Int8Array, FloatArray]:
    """Symmetric int8 per output channel: q = round(w / s), s = max|w_row| / 127.

    Rounds half to even, as ONNX's QuantizeLinear does. A row of zeros gets scale 1.

    Args:
        weight: merged weight [out, in]; quantise last, never add to a quantised weight.
        smooth: s [in]: W·diag(s) is quantised, for a graph that divides its input by s.

    Returns:
        int8 [out, in] within ±127, and scales fp32 [out].
    """
    rows = weight.astype(np.float32, copy=False)
    if smooth is not None:
        rows = rows * smooth
    amax = np.maximum(rows.max(axis=1), -rows.min(axis=1))
    steps = (amax / np.float32(INT8_LEVELS)).astype(np.float32)
    scales = np.where(steps > 0, steps, np.float32(1)).astype(np.float32)
    levels = rows / scales[:, None]
    np.rint(levels, out=levels)
    np.clip(levels, -INT8_LEVELS, INT8_LEVELS, out=levels)
    return levels.astype(np.int8), scales


def dequantise_rows(levels: Int8Array, scales: FloatArray) -> FloatArray:
    """int8 [out, in] · scales [out] → fp32 [out, in], as ONNX's DequantizeLinear on axis 0."""
    return levels.astype(np.float32) * scales[:, None]
