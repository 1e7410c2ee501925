"""LayerNorm without affine, adaLN's scale and shift, and 8 bits, without a round trip to memory."""

from typing import Any

import triton
import triton.language as tl

from a2edit.kernels.activations import EPSILON
from a2edit.kernels.triton.quantize_activation import (
    check_tokens,
    load_token,
    store_quantized,
    warps_for,
)


@triton.jit
def modulate_norm_kernel(
    x,
    shift,
    scale,
    levels,
    scales,
    channels,
    epsilon,
    BLOCK: tl.constexpr,
    FP8: tl.constexpr,
    PER_TOKEN: tl.constexpr,
):
    """One program a token; BLOCK, a power of two, holds all of its channels."""
    row = tl.program_id(0)
    column, at, mask, values = load_token(x, row, channels, BLOCK)
    mean = tl.sum(values, axis=0) / channels
    centred = tl.where(mask, values - mean, 0.0)
    variance = tl.sum(centred * centred, axis=0) / channels
    normed = centred * tl.rsqrt(variance + epsilon)
    gain = 1.0 + tl.load(scale + column, mask=mask, other=0.0).to(tl.float32)
    offset = tl.load(shift + column, mask=mask, other=0.0).to(tl.float32)
    modulated = normed * gain + offset
    store_quantized(modulated, at, mask, row, levels, scales, FP8, PER_TOKEN)


def modulate_norm(
    x: Any,
    shift: Any,
    scale: Any,
    levels: Any,
    scales: Any,
    *,
    fp8: bool,
    per_token: bool = True,
    epsilon: float = EPSILON,
) -> None:
    """x [tokens, channels] of one request → quantised (norm(x) · (1 + scale) + shift).

    shift and scale are [channels]; the rest is as in `quantize_activation`.
    """
    tokens, channels = check_tokens(x, levels, scales, per_token)
    if shift.numel() != channels or scale.numel() != channels:
        raise ValueError(
            f"shift and scale must have {channels} values, one a channel; got "
            f"{list(shift.shape)} and {list(scale.shape)}"
        )
    modulate_norm_kernel[(tokens,)](
        x,
        shift,
        scale,
        levels,
        scales,
        channels,
        epsilon,
        BLOCK=triton.next_power_of_2(channels),
        FP8=fp8,
        PER_TOKEN=per_token,
        num_warps=warps_for(channels),
    )
