"""Activations to 8 bits, with a scale a token or one from calibration; every value is read once."""

from typing import Any

import triton
import triton.language as tl

from a2edit.kernels.triton.encoding import levels_of, scale_of


@triton.jit
def load_token(x, row, channels, BLOCK: tl.constexpr):
    """A token's channels, where they lie in x, which of BLOCK there are, and their fp32 values."""
    column = tl.arange(0, BLOCK)
    mask = column < channels
    at = row.to(tl.int64) * channels + column
    return column, at, mask, tl.load(x + at, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def store_quantized(x, at, mask, row, levels, scales, FP8: tl.constexpr, PER_TOKEN: tl.constexpr):
    """Quantise the token `row`, fp32 x at offsets `at`, by its own scale or that at scales[0]."""
    if PER_TOKEN:
        scale = scale_of(tl.max(tl.abs(x), axis=0), FP8, False)
        tl.store(scales + row, scale)
    else:
        scale = tl.load(scales)
    tl.store(levels + at, levels_of(x, scale, FP8), mask=mask)


@triton.jit
def quantize_activation_kernel(
    x,
    levels,
    scales,
    channels,
    BLOCK: tl.constexpr,
    FP8: tl.constexpr,
    PER_TOKEN: tl.constexpr,
):
    """One program a token; BLOCK, a power of two, holds all of its channels."""
    row = tl.program_id(0)
    _, at, mask, values = load_token(x, row, channels, BLOCK)
    store_quantized(values, at, mask, row, levels, scales, FP8, PER_TOKEN)


def quantize_activation(
    x: Any, levels: Any, scales: Any, *, fp8: bool, per_token: bool = True
) -> None:
    """x [tokens, channels] → levels [tokens, channels] and scales.

    Args:
        x: contiguous, bfloat16, float16 or float32.
        levels: int8, or uint8 that takes the bits of float8_e4m3fn; written.
        scales: float32 [tokens], written; or calibration's [1], which is read.
        fp8: whether levels are float8_e4m3fn.
        per_token: whether each token gets a scale of its own.

    Raises:
        ValueError: shapes that do not belong together, or strides.
    """
    tokens, channels = check_tokens(x, levels, scales, per_token)
    quantize_activation_kernel[(tokens,)](
        x,
        levels,
        scales,
        channels,
        BLOCK=triton.next_power_of_2(channels),
        FP8=fp8,
        PER_TOKEN=per_token,
        num_warps=warps_for(channels),
    )


def check_tokens(x: Any, levels: Any, scales: Any, per_token: bool) -> tuple[int, int]:
    """Tokens and channels of `x`; ValueError where the buffers do not fit it."""
    tokens, channels = x.shape
    if tuple(levels.shape) != (tokens, channels) or scales.numel() != (tokens if per_token else 1):
        raise ValueError(
            f"x is {list(x.shape)}, so levels must be {[tokens, channels]} and scales "
            f"{[tokens] if per_token else [1]}; got {list(levels.shape)} and {list(scales.shape)}"
        )
    if not (x.is_contiguous() and levels.is_contiguous()):
        raise ValueError("x and levels must be contiguous: call .contiguous() first")
    return tokens, channels


def warps_for(channels: int) -> int:
    """Warps of a program that holds one token: 32 values a thread at most, in registers."""
    return min(16, max(1, int(triton.next_power_of_2(channels)) // 1024))
