"""What merging by Triton gives, against numpy: run by test_triton.py, as triton_checks.py is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from a2edit.bench.ladder.merging import RouteMerger, measure_merging
from a2edit.bench.rows import Setup
from a2edit.kernels.reference import LEVELS, merge_weight, narrowed, quantise_rows, widened
from a2edit.kernels.triton.merge_quantize import (
    merge_cast,
    merge_quantize,
    one_pass_fits,
    workspace_size,
)
from a2edit.model.architectures import TINY, new_checkpoint, randomise_experts
from tests.kernels.triton_arrays import (
    DEVICE,
    INTERPRETED,
    Floats,
    bfloat16,
    bits,
    buffer,
    floats,
    nearly,
    tensor,
)

PROCESSORS = 0 if INTERPRETED else torch.cuda.get_device_properties(0).multi_processor_count
ZEROS = torch.zeros(4, 8, device=DEVICE)
both = pytest.mark.parametrize("dtype", list(LEVELS))
SIZES = [(70, 300, 5), (64, 128, 32), (64, 130, 70)]
shapes = pytest.mark.parametrize(("out", "inner", "rank"), SIZES)
Parts = tuple[Floats, Floats, Floats, Floats]
Stored = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor, torch.Tensor]


def random_parts(seed: int, out: int, inner: int, rank: int) -> Parts:
    base = bfloat16(floats(seed, out, inner))
    A, B = bfloat16(floats(seed + 1, 3, rank, inner)), bfloat16(floats(seed + 2, 3, out, rank))
    A[1] = np.inf  # takes no part
    return base, A, B, np.array([0.7, 0.0, -0.4], np.float32)


def whole_parts(seed: int, out: int, inner: int, rank: int) -> Parts:
    """Small whole numbers, whose sums are exact in any order."""
    base, A, B, _ = (np.rint(part * 2) for part in random_parts(seed, out, inner, rank))
    return base, A, B, np.array([2.0, 0.0, -0.5], np.float32)


def stored_parts(parts: Parts, stored: str, base_scales: Floats | None = None) -> Stored:
    """On the device: base, its scales, A, B, weights; the base in int8 where it has scales."""
    base, A, B, weights = parts
    low, high = (tensor(narrowed(part, stored)) for part in (A, B))
    if base_scales is None:
        return tensor(narrowed(base, stored)), None, low, high, tensor(weights)
    return tensor(base.astype(np.int8)), tensor(base_scales), low, high, tensor(weights)


def dirty_workspace(out: int) -> torch.Tensor:
    return torch.full((workspace_size(out),), 9, dtype=torch.int32, device=DEVICE)


def merged_levels(
    parts: Stored, dtype: str, scale_dtype: str, smooth: Floats | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    base, base_scales, A, B, weights = parts
    out, inner = base.shape
    levels = buffer(dtype, out, inner)
    kind = {"float32": torch.float32, "bfloat16": torch.bfloat16}[scale_dtype]
    scales = torch.zeros(out, dtype=kind, device=DEVICE)
    merge_quantize(
        base,
        A,
        B,
        weights,
        levels,
        scales,
        dirty_workspace(out),
        scale=0.5,
        fp8=dtype != "int8",
        smooth=None if smooth is None else tensor(smooth),
        base_scales=base_scales,
        processors=PROCESSORS,
    )
    return bits(levels), bits(scales)


def merged_cast(parts: Stored, dtype: str) -> NDArray[Any]:
    base, base_scales, A, B, weights = parts
    merged = torch.full(base.shape, 85.0, dtype=getattr(torch, dtype), device=DEVICE)
    space = dirty_workspace(len(base))
    merge_cast(base, A, B, weights, merged, space, scale=0.5, base_scales=base_scales)
    return bits(merged)


@both
@shapes
@pytest.mark.parametrize("scale_dtype", ["float32", "bfloat16"])
def test_exact_sums_give_the_references_bytes(
    dtype: str, out: int, inner: int, rank: int, scale_dtype: str
) -> None:
    parts = whole_parts(8, out, inner, rank)
    parts[0][3] = 0
    parts[2][:, 3] = 0  # a row of zeros gets scale 1
    smooth = (2.0 ** np.rint(floats(9, inner))).astype(np.float32)
    weight = merge_weight(*parts, 0.5)
    expected = quantise_rows(weight, smooth, dtype, scale_dtype)
    found = merged_levels(stored_parts(parts, "bfloat16"), dtype, scale_dtype, smooth)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])


def int8_base(parts: Parts) -> tuple[Floats, Floats]:
    """Scales of its rows, powers of two; and the base that its whole numbers then stand for."""
    scales = (2.0 ** (np.arange(len(parts[0])) % 5 - 2)).astype(np.float32)
    return scales, parts[0] * scales[:, None]


@both
@shapes
@pytest.mark.parametrize("stored", ["float16", "bfloat16"])
def test_a_base_of_int8_is_widened_by_its_rows_scales(
    dtype: str, out: int, inner: int, rank: int, stored: str
) -> None:
    parts = whole_parts(12, out, inner, rank)
    scales, wide = int8_base(parts)
    expected = quantise_rows(merge_weight(wide, *parts[1:], 0.5), None, dtype)
    found = merged_levels(stored_parts(parts, stored, scales), dtype, "float32", None)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])


@shapes
@pytest.mark.parametrize("stored", ["float16", "bfloat16", "float32", "int8"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_weight_of_more_bits_is_cast_once(
    dtype: str, out: int, inner: int, rank: int, stored: str
) -> None:
    """Sums that are exact in fp32; most of them round in bfloat16."""
    base, A, B, weights = parts = whole_parts(13, out, inner, rank)
    wide = base
    if stored == "int8":
        scales, wide = int8_base(parts)
        given = stored_parts(parts, "bfloat16", scales)
    else:
        given = stored_parts(parts, stored)
    found = merged_cast(given, dtype)
    np.testing.assert_array_equal(found, merge_weight(wide, A, B, weights, 0.5, dtype))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_without_an_expert_the_base_is_only_cast(dtype: str) -> None:
    base, A, B, weights = random_parts(14, 70, 300, 5)
    base[0] = -0.0
    awake = np.zeros_like(weights)
    found = merged_cast(stored_parts((base, A, B, awake), "float32"), dtype)
    np.testing.assert_array_equal(found, narrowed(base, dtype))
    assert np.signbit(widened(found[0])).all()


@both
@shapes
@pytest.mark.parametrize("stored", ["bfloat16", "float32"])
def test_a_merged_route_is_float64s(
    dtype: str, out: int, inner: int, rank: int, stored: str
) -> None:
    parts = base, A, B, weights = random_parts(10, out, inner, rank)
    truth = base.astype(np.float64)
    for expert in np.flatnonzero(weights):
        truth += float(weights[expert]) * 0.5 * (B[expert].astype(np.float64) @ A[expert])
    expected, scales = quantise_rows(truth, None, dtype)
    found = merged_levels(stored_parts(parts, stored), dtype, "float32", None)
    # roundings of rank + experts + 1 additions, none larger than the row's sum of magnitudes
    np.testing.assert_allclose(found[1], scales, rtol=(rank + 4) * 2**-23)
    nearly(found[0], expected, dtype, 0.01)


@pytest.mark.parametrize("name", ["A", "B", "weights", "levels", "scales", "workspace", "smooth"])
def test_a_merge_refuses_what_does_not_fit(name: str) -> None:
    fitting: dict[str, Any] = {
        "A": torch.zeros(2, 3, 8),
        "B": torch.zeros(2, 4, 3),
        "weights": torch.zeros(2),
        "levels": torch.zeros(4, 8),
        "scales": torch.zeros(4),
        "workspace": torch.zeros(workspace_size(4)),
        "smooth": torch.zeros(8),
    }
    fitting[name] = torch.zeros(9, 9, 9)
    with pytest.raises(ValueError, match=rf"so {name} must be .*got \[9, 9, 9\]"):
        merge_quantize(ZEROS, scale=1.0, fp8=False, **fitting)


@pytest.mark.parametrize(
    ("base", "base_scales", "words"),
    [
        (torch.zeros(4, 8, dtype=torch.int8), None, "base_scales belong to a base of int8"),
        (torch.zeros(4, 8), torch.zeros(4), "to no other; got torch.float32"),
        (torch.zeros(4, 8, dtype=torch.int8), torch.zeros(5), r"base_scales must be .*got \[5\]"),
        (torch.zeros(8, 4).T, None, r"base is \[4, 8\], so base must be contiguous"),
    ],
)
def test_a_cast_refuses_what_does_not_fit(
    base: torch.Tensor, base_scales: torch.Tensor | None, words: str
) -> None:
    parts = torch.zeros(2, 3, 8), torch.zeros(2, 4, 3), torch.zeros(2)
    space = torch.zeros(workspace_size(4))
    with pytest.raises(ValueError, match=words):
        merge_cast(base, *parts, torch.zeros(4, 8), space, scale=1.0, base_scales=base_scales)
    with pytest.raises(ValueError, match=r"so merged must be contiguous \[4, 8\]"):
        merge_cast(ZEROS, *parts, torch.zeros(4, 9), space, scale=1.0)


def test_a_rows_tiles_must_run_at_once_for_one_pass() -> None:
    assert one_pass_fits(15360, 108)  # FLUX's longest row on an A100
    assert not one_pass_fits(15360, 58)  # and on an L4
    assert not one_pass_fits(128, 0)


def test_a_whole_route_is_merged_into_its_buffers(tmp_path: Path) -> None:
    checkpoint = new_checkpoint(TINY, tmp_path)
    randomise_experts(checkpoint)
    for module in checkpoint.modules().values():
        module.to(DEVICE).requires_grad_(False)
    table = torch.zeros(checkpoint.blocks, checkpoint.experts.experts, device=DEVICE)
    table[:, 0], table[:, 2] = 0.7, 0.3
    merger = RouteMerger(checkpoint, torch.device(DEVICE), fp8=False)
    merger.merge(table)
    for name, (levels, scales) in merger.merged.items():
        base = checkpoint.transformer.get_parameter(f"{name}.weight")
        merged = checkpoint.experts.merged_weight(name, base, table)
        found = levels.float() * scales[:, None]
        assert (found - merged).abs().max() <= 0.51 * scales.max(), name
    # two of the experts are read, and not the others
    pairs = [checkpoint.experts.pair(name) for name in merger.base]
    factors = sum(2 * (it.A[0].nbytes + it.B[0].nbytes) for it in pairs)
    weights = sum(it.nbytes + it.numel() + 4 * len(it) for it in merger.base.values())
    assert merger.moved(table) == factors + weights
    figures = measure_merging(checkpoint, table, torch.device(DEVICE), 1, fp8=True)
    assert all(row.p50 > 0 for row in figures.rows(Setup.here("ladder", "tiny", 0)))
