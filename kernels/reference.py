"""Merging and quantising in numpy: the readable truth that every faster kernel must repeat.

The build and the runtime merge by these functions, so that a weight set built ahead and one merged
on demand are the same bytes (SPEC §3, §11.1).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Int8Array = NDArray[np.int8]
Uint8Array = NDArray[np.uint8]

INT8_LEVELS = 127  # symmetric: −128 is not used, so that a weight and its negative are both exact
# The largest level of each 8-bit type; a scale maps the largest value onto it.
LEVELS = {"int8": float(INT8_LEVELS), "float8_e4m3fn": 448.0}

# OpenBLAS, which numpy's wheels bring, computes products of up to 2^18 multiplications (vectors:
# 9,216) in the calling thread. Larger ones it shares among threads, and on many processors the
# last bits of the sums then depend on how many there are.
MATRIX_TILE = 2**18
VECTOR_TILE = 2**13

# Rows that are quantised, or widened from 8 bits, at once: whole matrices would need several times
# their size beside them.
_BAND = 64


def merge_weight(
    base: NDArray[Any],
    A: NDArray[Any],
    B: NDArray[Any],
    weights: NDArray[np.floating],
    scale: float,
    dtype: str | None = None,
    base_scale: FloatArray | None = None,
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
        base_scale: of a base in 8 bits [out]: W⁰ is `wide_base(base, base_scale)`.

    `base`, A and B are float32, float16, or uint16 that holds the bits of bfloat16; `base` with
    `base_scale` is int8, and `dtype` is then given.

    Returns:
        a new array [out, in]; bfloat16 as its bits, uint16.
    """
    name = dtype or ("bfloat16" if base.dtype == np.uint16 else base.dtype.name)
    active = np.flatnonzero(weights)
    if active.size == 0:  # adding zeros would turn −0 into +0
        return narrowed(np.array(wide_base(base, base_scale)), name)
    factors = (weights[active] * np.float32(scale)).astype(np.float32)
    low = widened(A[active]) * factors[:, None, None]
    high = widened(B[active]).transpose(1, 0, 2)
    merged = tiled_product(high.reshape(len(base), -1), low.reshape(-1, base.shape[1]))
    if base_scale is None:
        merged += base if base.dtype != np.uint16 else widened(base)
    else:  # by rows: a wide copy of the whole would be one more of those that a merge holds
        for first in range(0, len(base), _BAND):
            band = slice(first, first + _BAND)
            merged[band] += wide_base(base[band], base_scale[band])
    return narrowed(merged, name)


def wide_base(base: NDArray[Any], base_scale: FloatArray | None) -> FloatArray:
    """W⁰ in fp32 as routes are merged from it, row for row: levels · scale of a base in 8 bits.

    Every value is one level times its row's scale, rounded once to fp32, before anything is added
    to it; so any part of the rows gives the same bytes as the whole.

    Args:
        base: [out, in], int8 where there is `base_scale`; else float32, float16 or bfloat16's bits.
        base_scale: fp32 [out] of a base in 8 bits, as of `quantise_rows`.
    """
    return widened(base) if base_scale is None else dequantise_rows(base, base_scale)


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
    """float32 of an array that is float32 or float16, or the bits of a type that numpy lacks.

    uint16 holds bfloat16's bits, uint8 those of float8_e4m3fn.
    """
    if array.dtype == np.uint8:
        decoded: FloatArray = _E4M3_VALUES[array]
        return decoded
    if array.dtype != np.uint16:
        return array.astype(np.float32, copy=False)
    wide: FloatArray = (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return wide


def narrowed(array: FloatArray, dtype: str) -> NDArray[Any]:
    """float32 rounded to the nearest of `dtype`, ties to even.

    "bfloat16" gives its bits, uint16. "float8_e4m3fn" gives its bits, uint8: what is larger than
    448, infinities too, becomes 448, as in ONNX's QuantizeLinear.
    """
    if dtype == "float8_e4m3fn":
        return _e4m3_bits(array)
    if dtype != "bfloat16":
        return array.astype(dtype, copy=False)
    bits = array.view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype(np.uint16)
    # of a NaN the carry could make an infinity
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)


def _e4m3_bits(array: FloatArray) -> Uint8Array:
    """Sign, 4 bits of exponent (bias 7), 3 of mantissa; no infinities, NaN is all ones.

    https://arxiv.org/abs/2209.05433
    """
    bits = np.clip(array, -LEVELS["float8_e4m3fn"], LEVELS["float8_e4m3fn"]).view(np.uint32)
    sign = (bits >> np.uint32(24)).astype(np.uint8) & np.uint8(0x80)
    size = bits & np.uint32(0x7FFFFFFF)
    odd = (size >> np.uint32(20)) & np.uint32(1)
    # of fp32's exponent, bias 127, to bias 7; a carry out of the mantissa is the next exponent
    normal = ((size + np.uint32(0x7FFFF) + odd) >> np.uint32(20)) - np.uint32(120 << 3)
    # below 2^-6 the numbers lie 2^-9 apart, and their count is their bits
    small = size < np.float32(2**-6).view(np.uint32)
    subnormal = np.rint(np.where(small, size, 0).view(np.float32) * np.float32(2**9))
    levels = np.where(small, subnormal.astype(np.uint32), normal)
    levels[np.isnan(array)] = _E4M3_NAN
    return levels.astype(np.uint8) | sign


_E4M3_NAN = 0x7F


def _e4m3_values() -> FloatArray:
    bits = np.arange(256)
    exponent, mantissa = (bits >> 3) & 15, bits & 7
    size = np.where(exponent > 0, 8 + mantissa, mantissa) * 2.0 ** (np.maximum(exponent, 1) - 10)
    size[bits & 0x7F == _E4M3_NAN] = np.nan
    signed: FloatArray = np.where(bits >= 128, -size, size).astype(np.float32)
    return signed


_E4M3_VALUES = _e4m3_values()


def quantise_rows(
    weight: NDArray[np.floating],
    smooth: FloatArray | None = None,
    dtype: str = "int8",
    scale_dtype: str = "float32",
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Symmetric 8 bits per output channel: q = round(w / s), s = max|w_row| / (127 or 448).

    s is rounded to its type first: the levels are those of the scale that the graph multiplies by.
    A rounded scale can be too small by 2^-9 of itself, and 127 · (1 + 2^-9) is still rounded to
    127, as 448 · (1 + 2^-9) is to 448. Rounds half to even, as ONNX's QuantizeLinear does. A row of
    zeros gets scale 1.

    Args:
        weight: merged weight [out, in]; quantise last, never add to a quantised weight.
        smooth: s [in]: W·diag(s) is quantised, for a graph that divides its input by s.
        dtype: "int8" or "float8_e4m3fn".
        scale_dtype: "float32" or "bfloat16", the type of the network's other values.

    Returns:
        int8 [out, in] within ±127 or the bits of float8_e4m3fn, uint8 [out, in]; and scales [out]:
        float32, or the bits of bfloat16, uint16.
    """
    bands = [
        _quantised(weight[first : first + _BAND], smooth, dtype, scale_dtype)
        for first in range(0, len(weight), _BAND)
    ]
    levels, scales = zip(*bands, strict=True)
    return np.concatenate(levels), np.concatenate(scales)


def _quantised(
    weight: NDArray[np.floating], smooth: FloatArray | None, dtype: str, scale_dtype: str
) -> tuple[NDArray[Any], NDArray[Any]]:
    rows = weight.astype(np.float32, copy=False)
    if smooth is not None:
        rows = rows * smooth
    largest = np.float32(LEVELS[dtype])
    amax = np.maximum(rows.max(axis=1), -rows.min(axis=1))
    steps = widened(narrowed((amax / largest).astype(np.float32), scale_dtype))
    scales = np.where(steps > 0, steps, np.float32(1)).astype(np.float32)
    levels = rows / scales[:, None]
    if dtype == "int8":
        np.rint(levels, out=levels)
        np.clip(levels, -largest, largest, out=levels)
    return narrowed(levels, dtype), narrowed(scales, scale_dtype)


def dequantise_rows(levels: NDArray[Any], scales: NDArray[Any]) -> FloatArray:
    """Levels [out, in] · scales [out], both as of `quantise_rows`, → fp32 [out, in]."""
    return widened(levels) * widened(scales)[:, None]
