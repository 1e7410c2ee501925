"""A route's linear, merged in one pass over its base, into the engine's own buffers.

In 8 bits a row's scale needs its largest value, and a row is far too long for one program. So a
program merges one tile and keeps it in registers, tells the row's maximum, waits for the other
tiles of its rows and quantises: W⁰ is read once, the 8 bits are written once (decision 17). A
weight of more bits has no scales: its tiles do not wait.
"""

from typing import Any

import triton
import triton.language as tl

from a2edit.kernels.triton.encoding import bfloat16_of, levels_of, scale_of

ROWS, COLUMNS, WARPS = 64, 128, 4
# Programs of one multiprocessor that fit at any time, on every target; compiled cubins are held to
# it. A row's tiles wait for each other, so they must be able to run at once.
RESIDENT = 2

# The interpreter multiplies the bits of bfloat16 as if they were numbers: there, widen them first.
_INTERPRETED = bool(triton.knobs.runtime.interpret)

# base, its scales or None, A, B and the experts' weights.
_Parts = tuple[Any, Any, Any, Any, Any]

ONE_PASS = tl.constexpr(0)
MAXIMA = tl.constexpr(1)
LEVELS = tl.constexpr(2)
CAST = tl.constexpr(3)


@triton.jit
def merged_tile(
    base,
    base_scales,
    A,
    B,
    weights,
    smooth,
    row,
    column,
    out,
    inner,
    factor,
    EXPERTS: tl.constexpr,
    RANK: tl.constexpr,
    RANK_BLOCK: tl.constexpr,
    SMOOTH: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """fp32 of the rows `row` and the columns `column`; 0 outside of `out` and `inner`."""
    inside = (row < out)[:, None] & (column < inner)[None, :]
    at = row.to(tl.int64)[:, None] * inner + column[None, :]
    merged = tl.load(base + at, mask=inside, other=0).to(tl.float32)
    if base.dtype.element_ty == tl.int8:
        merged *= tl.load(base_scales + row, mask=row < out, other=0.0)[:, None]
    for expert in range(EXPERTS):
        weight = tl.load(weights + expert)
        if weight != 0.0:  # 0 · ∞ of an expert that takes no part would spoil the sum
            product = tl.zeros(at.shape, tl.float32)
            for first in range(0, RANK, RANK_BLOCK):
                rank = first + tl.arange(0, RANK_BLOCK)
                high = tl.load(
                    B + (expert * out + row.to(tl.int64))[:, None] * RANK + rank[None, :],
                    mask=(row < out)[:, None] & (rank < RANK)[None, :],
                    other=0.0,
                )
                low = tl.load(
                    A + (expert * RANK + rank.to(tl.int64))[:, None] * inner + column[None, :],
                    mask=(rank < RANK)[:, None] & (column < inner)[None, :],
                    other=0.0,
                )
                if WIDEN:
                    high = high.to(tl.float32)
                    low = low.to(tl.float32)
                product = tl.dot(high, low, product, input_precision="ieee")
            merged += (weight * factor) * product
    if SMOOTH:
        merged *= tl.load(smooth + column, mask=column < inner, other=0.0)[None, :]
    return merged


@triton.jit
def merge_quantize_kernel(
    base,
    base_scales,
    A,
    B,
    weights,
    smooth,
    levels,
    scales,
    workspace,
    out,
    inner,
    factor,
    EXPERTS: tl.constexpr,
    RANK: tl.constexpr,
    RANK_BLOCK: tl.constexpr,
    FP8: tl.constexpr,
    SMOOTH: tl.constexpr,
    WIDEN: tl.constexpr,
    PHASE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One tile. `workspace`, zeros: a ticket, a count for every band of rows, a maximum a row."""
    # Tickets, not program ids: whoever waits, waits for tiles that have begun or are next to.
    ticket = tl.atomic_add(workspace, 1, sem="relaxed")
    tiles = tl.cdiv(inner, COLUMNS)
    band = ticket // tiles
    row = band * ROWS + tl.arange(0, ROWS)
    column = (ticket % tiles) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < out)[:, None] & (column < inner)[None, :]
    at = row.to(tl.int64)[:, None] * inner + column[None, :]
    count = workspace + 1 + band
    maxima = workspace + 1 + tl.cdiv(out, ROWS) + row
    merged = merged_tile(
        base,
        base_scales,
        A,
        B,
        weights,
        smooth,
        row,
        column,
        out,
        inner,
        factor,
        EXPERTS,
        RANK,
        RANK_BLOCK,
        SMOOTH,
        WIDEN,
    )
    if PHASE == CAST:
        if levels.dtype.element_ty == tl.bfloat16:
            tl.store(levels + at, bfloat16_of(merged), mask=inside)
        else:
            tl.store(levels + at, merged.to(levels.dtype.element_ty), mask=inside)
        return
    if PHASE != LEVELS:
        # of numbers that are not negative, larger bits are larger numbers
        largest = tl.max(tl.abs(merged), axis=1).to(tl.int32, bitcast=True)
        tl.atomic_max(maxima, largest, mask=row < out, sem="relaxed")
    if PHASE == ONE_PASS:
        tl.debug_barrier()  # all threads' maxima before the count
        tl.atomic_add(count, 1, sem="acq_rel")
        while tl.atomic_add(count, 0, sem="acquire") < tiles:
            pass
        tl.debug_barrier()
    if PHASE != MAXIMA:
        # an atomic reads past the multiprocessor's own cache
        amax = tl.atomic_max(maxima, tl.zeros([ROWS], tl.int32), mask=row < out, sem="relaxed")
        narrow: tl.constexpr = scales.dtype.element_ty == tl.bfloat16
        step = scale_of(amax.to(tl.float32, bitcast=True), FP8, narrow)
        tl.store(levels + at, levels_of(merged, step[:, None], FP8), mask=inside)
        if ticket % tiles == 0:
            tl.store(scales + row, step.to(scales.dtype.element_ty), mask=row < out)


def workspace_size(out: int) -> int:
    """int32 values that a launch for `out` rows needs beside its results."""
    return 1 + int(triton.cdiv(out, ROWS)) + out


def one_pass_fits(inner: int, processors: int) -> bool:
    """Whether all tiles of a row run at once on a GPU of so many multiprocessors."""
    return bool(triton.cdiv(inner, COLUMNS) <= RESIDENT * processors)


def merge_quantize(
    base: Any,
    A: Any,
    B: Any,
    weights: Any,
    levels: Any,
    scales: Any,
    workspace: Any,
    *,
    scale: float,
    fp8: bool,
    smooth: Any = None,
    base_scales: Any = None,
    processors: int = 0,
) -> None:
    """W⁰ + Σ w_i · scale · B_i A_i, times `smooth`, in 8 bits: `merge_weight`, `quantise_rows`.

    Sums are in fp32, products of bfloat16 and float16 are exact; the order of summing is not the
    reference's, so a value that lies near a tie may be one level away from it. A GPU must run one
    merge at a time (one stream): programs wait for each other, and two merges' could for ever.

    Args:
        base: W⁰ [out, in], bfloat16, float16, float32 or int8; read once, never written.
        A: [N, r, in], bfloat16, float16 or float32.
        B: [N, out, r], as A.
        weights: w [N], float32.
        levels: [out, in], int8, or uint8 that takes the bits of float8_e4m3fn; written.
        scales: [out], float32 or bfloat16; written.
        workspace: int32 [workspace_size(out)], of this launch alone; overwritten.
        scale: α/r.
        fp8: whether levels are float8_e4m3fn.
        smooth: s [in], float32, or None.
        base_scales: [out], float32, which rows of an int8 base are multiplied by; None for others.
        processors: multiprocessors of the GPU that nothing else holds for good. With too few of
            them for a row's tiles, and with 0, two launches read W⁰ once each.

    Raises:
        ValueError: shapes that do not belong together, or strides.
    """
    out, inner = base.shape
    more = {"levels": (levels, (out, inner)), "scales": (scales, (out,))}
    if smooth is not None:
        more["smooth"] = (smooth, (inner,))
    parts = base, base_scales, A, B, weights
    _check(parts, workspace, more)
    one = one_pass_fits(inner, processors)
    for phase in (ONE_PASS,) if one else (MAXIMA, LEVELS):
        if phase.value == LEVELS.value:
            workspace[:1].zero_()
        else:
            workspace.zero_()
        _launch(phase, parts, smooth, levels, scales, workspace, scale, fp8)


def merge_cast(
    base: Any,
    A: Any,
    B: Any,
    weights: Any,
    merged: Any,
    workspace: Any,
    *,
    scale: float,
    base_scales: Any = None,
) -> None:
    """W⁰ + Σ w_i · scale · B_i A_i, cast once into `merged`: `merge_weight`.

    Arguments as of `merge_quantize`; `merged` is [out, in], bfloat16, float16 or float32.

    Raises:
        ValueError: shapes that do not belong together, or strides.
    """
    parts = base, base_scales, A, B, weights
    _check(parts, workspace, {"merged": (merged, tuple(base.shape))})
    workspace.zero_()
    _launch(CAST, parts, None, merged, None, workspace, scale, fp8=False)


def _check(parts: _Parts, workspace: Any, more: dict[str, tuple[Any, tuple[int, ...]]]) -> None:
    """Raises ValueError where something is not contiguous, or has not the shape beside it."""
    base, base_scales, A, B, weights = parts
    out, inner = base.shape
    experts, rank = A.shape[:2]
    if (base.element_size() == 1) != (base_scales is not None):
        raise ValueError(f"base_scales belong to a base of int8, and to no other; got {base.dtype}")
    wanted = {
        "base": (base, (out, inner)),
        "A": (A, (experts, rank, inner)),
        "B": (B, (experts, out, rank)),
        "weights": (weights, (experts,)),
        "workspace": (workspace, (workspace_size(out),)),
        **more,
    }
    if base_scales is not None:
        wanted["base_scales"] = (base_scales, (out,))
    for name, (tensor, shape) in wanted.items():
        if tuple(tensor.shape) != shape or not tensor.is_contiguous():
            raise ValueError(
                f"base is {[out, inner]}, so {name} must be contiguous {list(shape)}; got "
                f"{list(tensor.shape)}"
            )


def _launch(
    phase: Any,
    parts: _Parts,
    smooth: Any,
    levels: Any,
    scales: Any,
    workspace: Any,
    scale: float,
    fp8: bool,
) -> None:
    """What a phase does not read is given `weights`, which are there."""
    base, base_scales, A, B, weights = parts
    out, inner = base.shape
    experts, rank = A.shape[:2]
    merge_quantize_kernel[(triton.cdiv(out, ROWS) * triton.cdiv(inner, COLUMNS),)](
        base,
        weights if base_scales is None else base_scales,
        A,
        B,
        weights,
        weights if smooth is None else smooth,
        levels,
        weights if scales is None else scales,
        workspace,
        out,
        inner,
        scale,
        **constants(
            phase, experts, rank, wide=A.element_size() == 4, fp8=fp8, smooth=smooth is not None
        ),
        num_warps=WARPS,
    )


def constants(
    phase: Any, experts: int, rank: int, *, wide: bool, fp8: bool, smooth: bool
) -> dict[str, Any]:
    """The kernel's compile-time arguments for one of ONE_PASS, MAXIMA, LEVELS and CAST.

    `wide`: A and B are float32, whose ranks are taken fewer at a time, or registers spill.
    """
    return {
        "EXPERTS": experts,
        "RANK": rank,
        "RANK_BLOCK": 16 if wide or rank <= 16 else 32,
        "FP8": fp8,
        "SMOOTH": smooth,
        "WIDEN": _INTERPRETED,
        "PHASE": phase.value,
        "ROWS": ROWS,
        "COLUMNS": COLUMNS,
    }
