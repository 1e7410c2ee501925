"""Eight bits and their scales, in integer arithmetic: what every quantising kernel shares.

Neither Triton's interpreter nor GPUs before sm89 convert to E4M3 as numpy's reference does. Shifts
and additions on the bits of fp32 do, on all of them, and so do they for bfloat16 scales.
"""

import triton
import triton.language as tl

# Bits of fp32: 448, 2^-6 (the smallest normal E4M3), 2^14 (whose neighbours lie 2^-9 apart).
_LARGEST = tl.constexpr(0x43E00000)
_SMALLEST_NORMAL = tl.constexpr(0x3C800000)
_ANCHOR = tl.constexpr(0x46800000)
_INFINITY = tl.constexpr(0x7F800000)  # larger magnitudes are NaNs
_BIAS = tl.constexpr(120 << 3)  # from fp32's exponent, bias 127, to bias 7, above 3 bits
_NAN = tl.constexpr(0x7F)


@triton.jit
def e4m3_bits(x):
    """float8_e4m3fn of fp32 `x`, as int32: nearest, ties to even, saturating at ±448."""
    bits = x.to(tl.int32, bitcast=True)
    sign = (bits >> 24) & 0x80
    size = bits & 0x7FFFFFFF
    nan = size > _INFINITY
    size = tl.minimum(size, _LARGEST)
    # a carry out of the mantissa is the next exponent
    normal = ((size + 0x7FFFF + ((size >> 20) & 1)) >> 20) - _BIAS
    # below 2^-6 numbers lie 2^-9 apart: beside 2^14 fp32 rounds to just that, and counts them
    small = tl.where(size < _SMALLEST_NORMAL, size, 0).to(tl.float32, bitcast=True)
    count = (small + 16384.0).to(tl.int32, bitcast=True) - _ANCHOR
    level = tl.where(size < _SMALLEST_NORMAL, count, normal)
    return tl.where(nan, _NAN, level) | sign


@triton.jit
def bfloat16_of(x):
    """fp32 `x` as bfloat16: nearest, ties to even (the interpreter's own conversion truncates)."""
    bits = x.to(tl.int32, bitcast=True)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    # of a NaN the carry could make another number
    rounded = tl.where((bits & 0x7FFFFFFF) > _INFINITY, 0x7FC0, rounded)
    return rounded.to(tl.int16).to(tl.bfloat16, bitcast=True)


@triton.jit
def int8_level(x):
    """fp32 `x` as int32 within ±127: nearest, ties to even."""
    clipped = tl.minimum(tl.maximum(x, -127.0), 127.0)
    # 1.5 · 2^23, beside which fp32 holds integers only
    return ((clipped + 12582912.0) - 12582912.0).to(tl.int32)


@triton.jit
def levels_of(x, scale, FP8: tl.constexpr):
    """x / scale in 8 bits: uint8 that holds E4M3's bits, or int8.

    Division rounds as IEEE says: a faster one would move levels that lie near a tie.
    """
    quotient = tl.div_rn(x, scale)
    return e4m3_bits(quotient).to(tl.uint8) if FP8 else int8_level(quotient).to(tl.int8)


@triton.jit
def scale_of(amax, FP8: tl.constexpr, NARROW: tl.constexpr):
    """fp32 scales for the largest magnitudes `amax`, 1 where these are 0.

    NARROW: rounded to bfloat16, as they will be stored.
    """
    if FP8:
        step = tl.div_rn(amax, tl.full(amax.shape, 448.0, tl.float32))
    else:
        step = tl.div_rn(amax, tl.full(amax.shape, 127.0, tl.float32))
    if NARROW:
        step = bfloat16_of(step).to(tl.float32)
    return tl.where(step > 0.0, step, 1.0)
