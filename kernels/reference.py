"""Merging and quantising in numpy: the readable truth that every faster kernel must repeat.

The build and the runtime merge by these functions, so that a weight set built ahead and one merged
on demand are the same bytes (SPEC §3, §11.1).
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Int8Array = NDArray[np.int8]

INT8_LEVELS = 127  # symmetric: −128 is not used, so that a weight and its negative are both exact


def merge_weight(
    base: NDArray[np.floating],
    A: FloatArray,
    B: FloatArray,
    weights: NDArray[np.floating],
    scale: float,
) -> NDArray[np.floating]:
    """W⁰ + Σ_i w_i · scale · B_i A_i, accumulated in fp32 and cast once to the base's dtype.

    Only active experts (w_i ≠ 0) take part, so an all-zero table returns the base's own bytes.

    Args:
        base: W⁰ [out, in]; read, never written.
        A: [N, r, in].
        B: [N, out, r].
        weights: w [N], one row of a gate table.
        scale: α/r.

    Returns:
        a new array [out, in] of the base's dtype.
    """
    active = np.flatnonzero(weights)
    if active.size == 0:
        return base.copy()
    factors = (weights[active] * np.float32(scale)).astype(np.float32)
    low = A[active].astype(np.float32) * factors[:, None, None]
    high = B[active].astype(np.float32).transpose(1, 0, 2)
    delta = high.reshape(high.shape[0], -1) @ low.reshape(-1, low.shape[-1])
    merged: NDArray[np.floating] = (base.astype(np.float32) + delta).astype(base.dtype)
    return merged


def quantise_rows(weight: NDArray[np.floating]) -> tuple[Int8Array, FloatArray]:
    """Symmetric int8 per output channel: q = round(w / s), s = max|w_row| / 127.

    Rounds half to even, as ONNX's QuantizeLinear does. A row of zeros gets scale 1.

    Args:
        weight: merged weight [out, in]; quantise last, never add to a quantised weight.

    Returns:
        int8 [out, in] within ±127, and scales fp32 [out].
    """
    rows = weight.astype(np.float32)
    amax = np.abs(rows).max(axis=1)
    scales = np.where(amax > 0, amax / np.float32(INT8_LEVELS), np.float32(1)).astype(np.float32)
    levels = np.rint(rows / scales[:, None])
    return np.clip(levels, -INT8_LEVELS, INT8_LEVELS).astype(np.int8), scales


def dequantise_rows(levels: Int8Array, scales: FloatArray) -> FloatArray:
    """int8 [out, in] · scales [out] → fp32 [out, in], as ONNX's DequantizeLinear on axis 0."""
    return levels.astype(np.float32) * scales[:, None]
