"""Kernels as operators of torch, `torch.ops.a2edit`, for programs that torch compiles.

On a GPU they are Triton's, compiled into the engine; on a processor the formulas of
`activations.py`, by which programs are checked. This module imports torch, and no other here does.
"""

import torch
from torch import Tensor

from a2edit.kernels.activations import EPSILON
from a2edit.kernels.reference import LEVELS

_KINDS = {False: torch.int8, True: torch.float8_e4m3fn}


def quantised(x: Tensor, step: float | Tensor, kind: torch.dtype) -> Tensor:
    """x [tokens, channels] / step, rounded to `kind`; what is too large becomes the largest.

    `kind` is int8 (within ±127) or float8_e4m3fn.
    """
    levels = x.float() / step
    if kind == torch.int8:
        limit = LEVELS["int8"]
        return levels.round().clamp(-limit, limit).to(kind)
    limit = LEVELS["float8_e4m3fn"]
    return levels.clamp(-limit, limit).to(kind)


@torch.library.triton_op("a2edit::quantize_activation", mutates_args=())
def quantize_activation(x: Tensor, step: float, fp8: bool) -> Tensor:
    """As `quantised`: x [tokens, channels] → int8, or float8_e4m3fn where `fp8`."""
    import triton
    from torch.library import wrap_triton

    from a2edit.kernels.triton.quantize_activation import quantize_activation_kernel, warps_for

    tokens, channels = x.shape
    levels = torch.empty(x.shape, dtype=torch.uint8 if fp8 else torch.int8, device=x.device)
    wrap_triton(quantize_activation_kernel)[(tokens,)](
        x.contiguous(),
        levels,
        torch.full((1,), step, device=x.device),
        channels,
        BLOCK=triton.next_power_of_2(channels),
        FP8=fp8,
        PER_TOKEN=False,
        num_warps=warps_for(channels),
    )
    return levels.view(_KINDS[fp8]) if fp8 else levels


@quantize_activation.register_kernel("cpu")
def _(x: Tensor, step: float, fp8: bool) -> Tensor:
    return quantised(x, step, _KINDS[fp8])


@quantize_activation.register_fake
def _(x: Tensor, step: float, fp8: bool) -> Tensor:  # noqa: ARG001 # the operator's signature
    return torch.empty(x.shape, dtype=_KINDS[fp8], device=x.device)


@torch.library.triton_op("a2edit::qk_norm_rope", mutates_args=())
def qk_norm_rope(
    q: Tensor, k: Tensor, q_weight: Tensor, k_weight: Tensor, cosines: Tensor, sines: Tensor
) -> tuple[Tensor, Tensor]:
    """RMSNorm of every head, then RoPE on neighbouring channels, of q and k.

    q and k are [B, tokens, heads, D], whose heads are contiguous and whose strides are equal; D is
    a power of two. The norms' weights are [D], cosines and sines fp32 [tokens, D / 2]. The results
    are contiguous.
    """
    import triton
    from torch.library import wrap_triton

    from a2edit.kernels.triton.qk_norm_rope import qk_norm_rope_kernel

    batch, tokens, heads, D = q.shape
    q_out, k_out = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k))
    # to the kernel, requests are further tokens at the same places
    cosines, sines = (table.repeat(batch, 1) for table in (cosines, sines))
    q, k = (x.contiguous() for x in (q, k))
    wrap_triton(qk_norm_rope_kernel)[(batch * tokens, 2)](
        q,
        k,
        q_weight,
        k_weight,
        cosines,
        sines,
        q_out,
        k_out,
        heads,
        heads * D,
        heads * D,
        EPSILON,
        HEADS=triton.next_power_of_2(heads),
        D=D,
        num_warps=4,
    )
    return q_out, k_out


@qk_norm_rope.register_kernel("cpu")
def _(
    q: Tensor, k: Tensor, q_weight: Tensor, k_weight: Tensor, cosines: Tensor, sines: Tensor
) -> tuple[Tensor, Tensor]:
    return _normed(q, q_weight, cosines, sines), _normed(k, k_weight, cosines, sines)


@qk_norm_rope.register_fake
def _(
    q: Tensor,
    k: Tensor,
    q_weight: Tensor,  # noqa: ARG001 # the operator's signature
    k_weight: Tensor,  # noqa: ARG001
    cosines: Tensor,  # noqa: ARG001
    sines: Tensor,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    return tuple(torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k))  # type: ignore[return-value] # two of them


def _normed(x: Tensor, weight: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    wide = x.float()
    normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPSILON) * weight.float()
    even, odd = normed[..., 0::2], normed[..., 1::2]
    cos, sin = cosines[:, None], sines[:, None]
    turned = torch.stack((even * cos - odd * sin, odd * cos + even * sin), -1)
    return turned.flatten(-2).to(x.dtype)
