"""A route's linear, merged and quantised in one pass over its base, into the engine's own buffers.

A row's scale needs its largest value, and a row is far too long for one program. So a program
merges one tile and keeps it in registers, tells the row's maximum, waits for the other tiles of its
rows and quantises: W⁰ is read once, the 8 bits are written once (decision 17).
"""

from typing import Any

import triton
import triton.language as tl

from a2edit.kernels.triton.encoding import levels_of, scale_of

ROWS, COLUMNS, WARPS = 64, 128, 4
# Programs of one multiprocessor that fit at any time, on every target; compiled cubins are held to
# it. A row's tiles wait for each other, so they must be able to run at once.
RESIDENT = 2

# The interpreter multiplies the bits of bfloat16 as if they were numbers: there, widen them first.
_INTERPRETED = bool(triton.knobs.runtime.interpret)

ONE_PASS = tl.constexpr(0)
MAXIMA = tl.constexpr(1)
LEVELS = tl.constexpr(2)


@triton.jit
def merge_quantize_kernel(
    base,
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

    merged = tl.load(base + at, mask=inside, other=0.0).to(tl.float32)
    inner_rank = tl.arange(0, RANK_BLOCK)
    for expert in range(EXPERTS):
        weight = tl.load(weights + expert)
        if weight != 0.0:  # 0 · ∞ of an expert that takes no part would spoil the sum
            high = tl.load(
                B + (expert * out + row.to(tl.int64))[:, None] * RANK + inner_rank[None, :],
                mask=(row < out)[:, None] & (inner_rank < RANK)[None, :],
                other=0.0,
            )
            low = tl.load(
                A + (expert * RANK + inner_rank.to(tl.int64))[:, None] * inner + column[None, :],
                mask=(inner_rank < RANK)[:, None] & (column < inner)[None, :],
                other=0.0,
            )
            if WIDEN:
                high = high.to(tl.float32)
                low = low.to(tl.float32)
            merged += (weight * factor) * tl.dot(high, low, input_precision="ieee")
    if SMOOTH:
        merged *= tl.load(smooth + column, mask=column < inner, other=0.0)[None, :]

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
    processors: int = 0,
) -> None:
    """W⁰ + Σ w_i · scale · B_i A_i, times `smooth`, in 8 bits: `merge_weight`, `quantise_rows`.

    Sums are in fp32, products of bfloat16 and float16 are exact; the order of summing is not the
    reference's, so a value that lies near a tie may be one level away from it. A GPU must run one
    merge at a time (one stream): programs wait for each other, and two merges' could for ever.

    Args:
        base: W⁰ [out, in]; read once, never written.
        A: [N, r, in], of the base's type: bfloat16, float16 or float32.
        B: [N, out, r], as A.
        weights: w [N], float32.
        levels: [out, in], int8, or uint8 that takes the bits of float8_e4m3fn; written.
        scales: [out], float32 or bfloat16; written.
        workspace: int32 [workspace_size(out)], of this launch alone; overwritten.
        scale: α/r.
        fp8: whether levels are float8_e4m3fn.
        smooth: s [in], float32, or None.
        processors: multiprocessors of the GPU that nothing else holds for good. With too few of
            them for a row's tiles, and with 0, two launches read W⁰ once each.

    Raises:
        ValueError: shapes that do not belong together, or strides.
    """
    out, inner = base.shape
    experts, rank = A.shape[:2]
    wanted = {
        "A": (A, (experts, rank, inner)),
        "B": (B, (experts, out, rank)),
        "weights": (weights, (experts,)),
        "levels": (levels, (out, inner)),
        "scales": (scales, (out,)),
        "workspace": (workspace, (workspace_size(out),)),
        "smooth": (base[0] if smooth is None else smooth, (inner,)),
    }
    for name, (tensor, shape) in wanted.items():
        if tuple(tensor.shape) != shape or not tensor.is_contiguous():
            raise ValueError(
                f"base is {[out, inner]}, so {name} must be contiguous {list(shape)}; got "
                f"{list(tensor.shape)}"
            )
    one = one_pass_fits(inner, processors)
    for phase in (ONE_PASS,) if one else (MAXIMA, LEVELS):
        if phase.value == LEVELS.value:
            workspace[:1].zero_()
        else:
            workspace.zero_()
        merge_quantize_kernel[(triton.cdiv(out, ROWS) * triton.cdiv(inner, COLUMNS),)](
            base,
            A,
            B,
            weights,
            weights if smooth is None else smooth,
            levels,
            scales,
            workspace,
            out,
            inner,
            scale,
            EXPERTS=experts,
            RANK=rank,
            RANK_BLOCK=max(16, triton.next_power_of_2(rank)),
            FP8=fp8,
            SMOOTH=smooth is not None,
            WIDEN=_INTERPRETED,
            PHASE=phase.value,
            ROWS=ROWS,
            COLUMNS=COLUMNS,
            num_warps=WARPS,
        )
