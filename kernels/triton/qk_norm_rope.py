"""RMSNorm of every head of q and k, and RoPE: each is read once and written once."""

from typing import Any

import triton
import triton.language as tl

from a2edit.kernels.activations import EPSILON
from a2edit.kernels.triton.encoding import bfloat16_of


@triton.jit
def _norm_rope(
    x, weight, out, start, to, cos, sin, heads, epsilon, HEADS: tl.constexpr, D: tl.constexpr
):
    head = tl.arange(0, HEADS)[:, None]
    channel = tl.arange(0, D)[None, :]
    mask = head < heads
    offset = head * D + channel
    values = tl.load(x + start + offset, mask=mask, other=0.0).to(tl.float32)
    power = tl.sum(values * values, axis=1) / D
    normed = values * tl.rsqrt(power + epsilon)[:, None] * tl.load(weight + channel).to(tl.float32)
    even, odd = tl.split(tl.reshape(normed, (HEADS, D // 2, 2)))
    turned = tl.reshape(tl.join(even * cos - odd * sin, odd * cos + even * sin), (HEADS, D))
    if out.dtype.element_ty == tl.bfloat16:
        tl.store(out + to + offset, bfloat16_of(turned), mask=mask)
    else:
        tl.store(out + to + offset, turned.to(out.dtype.element_ty), mask=mask)


@triton.jit
def qk_norm_rope_kernel(
    q,
    k,
    q_weight,
    k_weight,
    cosines,
    sines,
    q_out,
    k_out,
    heads,
    stride,
    out_stride,
    epsilon,
    HEADS: tl.constexpr,
    D: tl.constexpr,
):
    """Program (token, 0) is of its q, (token, 1) of its k; HEADS is a power of two ≥ heads."""
    token = tl.program_id(0)
    angle = token * (D // 2) + tl.arange(0, D // 2)[None, :]
    cos = tl.load(cosines + angle)
    sin = tl.load(sines + angle)
    start = token.to(tl.int64) * stride
    to = token.to(tl.int64) * out_stride
    if tl.program_id(1) == 0:
        _norm_rope(q, q_weight, q_out, start, to, cos, sin, heads, epsilon, HEADS, D)
    else:
        _norm_rope(k, k_weight, k_out, start, to, cos, sin, heads, epsilon, HEADS, D)


def qk_norm_rope(
    q: Any,
    k: Any,
    q_weight: Any,
    k_weight: Any,
    cosines: Any,
    sines: Any,
    q_out: Any,
    k_out: Any,
    *,
    epsilon: float = EPSILON,
) -> None:
    """q and k [tokens, heads, D] → normed and turned, into q_out and k_out of the same shape.

    Tokens may be apart, so that q and k are read where they lie in a fused projection, and
    written where the two streams are joined; heads are contiguous. Output may be input.

    The norms' weights are [D], cosines and sines float32 [tokens, D / 2].

    Raises:
        ValueError: shapes or strides that do not belong together, or a D that is no power of two.
    """
    tokens, heads, D = q.shape
    same = {tuple(tensor.shape) for tensor in (q, k, q_out, k_out)}
    if len(same) != 1 or tuple(cosines.shape) != (tokens, D // 2) or sines.shape != cosines.shape:
        raise ValueError(
            f"q is {list(q.shape)}: k and both outputs must be too, cosines and sines "
            f"{[tokens, D // 2]}; got {sorted(map(list, same))} and {list(cosines.shape)}, "
            f"{list(sines.shape)}"
        )
    if D & (D - 1):
        raise ValueError(f"a head must have a power of two of channels, got {D}")
    inside = {tensor.stride()[1:] for tensor in (q, k, q_out, k_out)}
    if inside != {(D, 1)} or q.stride(0) != k.stride(0) or q_out.stride(0) != k_out.stride(0):
        raise ValueError("heads must be contiguous, and q and k (both outputs) equally far apart")
    qk_norm_rope_kernel[(tokens, 2)](
        q,
        k,
        q_weight,
        k_weight,
        cosines,
        sines,
        q_out,
        k_out,
        heads,
        q.stride(0),
        q_out.stride(0),
        epsilon,
        HEADS=triton.next_power_of_2(heads),
        D=D,
        num_warps=4,
    )
