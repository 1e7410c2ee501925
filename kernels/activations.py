"""A step's small operators in numpy: the readable truth of the kernels between matrix products.

Formulas are FLUX's (SPEC §2, §11.6): LayerNorm and RMSNorm with ε = 1e-6, RoPE on neighbouring
pairs. All is computed in fp32, or in fp64 where the input is, and rounded once, at the end.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2edit.kernels.reference import LEVELS, narrowed, quantise_rows

EPSILON = 1e-6


def quantize_activation(
    x: NDArray[np.floating], dtype: str = "int8", scale: float | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Symmetric 8 bits of x [tokens, channels], with a scale a token or a given one.

    Args:
        x: float32 or float64.
        dtype: "int8" or "float8_e4m3fn".
        scale: of the whole tensor, from calibration; what is larger than its levels reach
            becomes the largest. None: max|x_token| / (127 or 448), a scale for each token.

    Returns:
        int8 or the bits of float8_e4m3fn, uint8 [tokens, channels]; and float32 scales, [tokens]
        or [1].
    """
    if scale is None:
        return quantise_rows(x, dtype=dtype)
    step = np.float32(scale)
    levels = x.astype(np.float32) / step
    if dtype == "int8":
        levels = np.clip(np.rint(levels), -LEVELS[dtype], LEVELS[dtype])
    return narrowed(levels, dtype), np.array([step], np.float32)


def modulate_norm(
    x: NDArray[np.floating], shift: NDArray[np.floating], scale: NDArray[np.floating]
) -> NDArray[np.floating]:
    """LayerNorm without affine, then adaLN: (x − mean) / √(var + ε) · (1 + scale) + shift.

    x is [tokens, channels], shift and scale are [channels]; the result has x's type.
    """
    centred = x - x.mean(axis=1, keepdims=True)
    variance = np.square(centred).mean(axis=1, keepdims=True)
    modulated: NDArray[np.floating] = centred / np.sqrt(variance + EPSILON) * (1 + scale) + shift
    return modulated.astype(x.dtype, copy=False)


def qk_norm_rope(
    x: NDArray[np.floating],
    weight: NDArray[np.floating],
    cosines: NDArray[np.floating],
    sines: NDArray[np.floating],
) -> NDArray[np.floating]:
    """RMSNorm of every head, then RoPE: what q and k pass before attention.

    Args:
        x: q or k [tokens, heads, D].
        weight: of the norm [D].
        cosines: of the tokens' angles [tokens, D / 2]: channels 2i and 2i + 1 are one pair, which
            is turned by angle i.
        sines: as `cosines`.

    Returns:
        [tokens, heads, D], of x's type.
    """
    power = np.square(x).mean(axis=-1, keepdims=True)
    normed = x / np.sqrt(power + EPSILON) * weight
    even, odd = normed[..., 0::2], normed[..., 1::2]
    cos, sin = cosines[:, None], sines[:, None]
    turned: NDArray[np.floating] = np.stack(
        (even * cos - odd * sin, odd * cos + even * sin), axis=-1
    ).reshape(x.shape)
    return turned.astype(x.dtype, copy=False)
