"""What the Triton kernels compute, against numpy: run by test_triton.py in processes of its own.

With TRITON_INTERPRET=1 on a CPU, else on the GPU. A process of its own because Triton decides when
it is imported whether it interprets.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray

from a2edit.bench.ladder.merging import RouteMerger, measure_merging
from a2edit.bench.rows import Setup
from a2edit.kernels import activations
from a2edit.kernels.reference import LEVELS, merge_weight, narrowed, quantise_rows, widened
from a2edit.kernels.triton.encoding import bfloat16_of, e4m3_bits, int8_level
from a2edit.kernels.triton.merge_quantize import merge_quantize, one_pass_fits, workspace_size
from a2edit.kernels.triton.modulate_norm import modulate_norm
from a2edit.kernels.triton.qk_norm_rope import qk_norm_rope
from a2edit.kernels.triton.quantize_activation import quantize_activation
from a2edit.model.architectures import TINY, new_checkpoint, randomise_experts

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
PROCESSORS = 0 if INTERPRETED else torch.cuda.get_device_properties(0).multi_processor_count
Floats = NDArray[np.float32]
both = pytest.mark.parametrize("dtype", list(LEVELS))


def tensor(array: NDArray[Any]) -> torch.Tensor:
    """On the device; uint16 as the bfloat16 whose bits it holds."""
    if array.dtype == np.uint16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).to(DEVICE)
    return torch.from_numpy(array).to(DEVICE)


def bits(values: torch.Tensor) -> NDArray[Any]:
    """Back in numpy; bfloat16 as its bits."""
    if values.dtype == torch.bfloat16:
        return values.view(torch.int16).cpu().numpy().view(np.uint16)
    return np.asarray(values.cpu().numpy())


def buffer(dtype: str, *shape: int) -> torch.Tensor:
    """Takes levels; holds values that no kernel leaves by chance."""
    kind = torch.int8 if dtype == "int8" else torch.uint8
    return torch.full(shape, 85, dtype=kind, device=DEVICE)


def floats(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def bfloat16(values: Floats) -> Floats:
    return widened(narrowed(values, "bfloat16"))


@triton.jit
def encode(x, e4m3, int8, half, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + at).to(tl.float32)
    tl.store(e4m3 + at, e4m3_bits(values).to(tl.uint8))
    tl.store(int8 + at, int8_level(values).to(tl.int8))
    tl.store(half + at, bfloat16_of(values))


def encoded(values: torch.Tensor) -> list[NDArray[Any]]:
    """As float8_e4m3fn's bits, int8 and bfloat16's bits."""
    e4m3, int8 = buffer("float8_e4m3fn", len(values)), buffer("int8", len(values))
    half = torch.zeros(len(values), dtype=torch.bfloat16, device=DEVICE)
    encode[(len(values) // 4096,)](values, e4m3, int8, half, BLOCK=4096)
    return [bits(part) for part in (e4m3, int8, half)]


def test_every_bfloat16_is_encoded_as_by_the_reference() -> None:
    every = np.arange(2**16, dtype=np.uint16)
    e4m3, int8, _ = encoded(tensor(every))
    values = widened(every)
    np.testing.assert_array_equal(e4m3, narrowed(values, "float8_e4m3fn"))
    number = ~np.isnan(values)
    np.testing.assert_array_equal(int8[number], np.clip(np.rint(values[number]), -127, 127))


def test_ties_of_fp32_are_encoded_as_by_the_reference() -> None:
    """Every middle between two E4M3 values, and what lies just below and above it."""
    levels = widened(np.arange(0x7F, dtype=np.uint8))
    middles = ((levels[1:] + levels[:-1]) / 2).astype(np.float32)
    ties = np.concatenate([np.nextafter(middles, side) for side in (0, middles, np.inf)])
    values = np.resize(np.concatenate([ties, -ties]), 4096).astype(np.float32)
    np.testing.assert_array_equal(encoded(tensor(values))[0], narrowed(values, "float8_e4m3fn"))


def test_bfloat16_is_rounded_as_by_the_reference() -> None:
    rng = np.random.default_rng(0)
    anything = rng.integers(0, 2**32, 2**15, np.uint32)
    near = anything & np.uint32(0xFFFF0000) | rng.integers(0x7FFF, 0x8002, 2**15, np.uint32)
    values = np.concatenate([anything, near]).view(np.float32)
    np.testing.assert_array_equal(encoded(tensor(values))[2], narrowed(values, "bfloat16"))


@both
@pytest.mark.parametrize("channels", [96, 200])
def test_a_token_is_quantised_by_its_own_scale(dtype: str, channels: int) -> None:
    x = bfloat16(floats(0, 5, channels) * np.array([[1e-3], [1], [0], [40], [1e6]], np.float32))
    levels, scales = buffer(dtype, 5, channels), torch.zeros(5, device=DEVICE)
    quantize_activation(tensor(narrowed(x, "bfloat16")), levels, scales, fp8=dtype != "int8")
    expected = activations.quantize_activation(x, dtype)
    np.testing.assert_array_equal(bits(levels), expected[0])
    np.testing.assert_array_equal(bits(scales), expected[1])


@both
def test_a_given_scale_is_used_and_saturates(dtype: str) -> None:
    x, scale = floats(1, 3, 100), 1.5 / LEVELS[dtype]
    levels = buffer(dtype, 3, 100)
    scales = torch.full((1,), scale, device=DEVICE)
    quantize_activation(tensor(x), levels, scales, fp8=dtype != "int8", per_token=False)
    expected = activations.quantize_activation(x, dtype, scale)[0]
    np.testing.assert_array_equal(bits(levels), expected)
    assert (np.abs(widened(expected) if dtype != "int8" else expected) == LEVELS[dtype]).sum() > 9
    assert scales.item() == np.float32(scale)


def nearly(found: NDArray[Any], expected: NDArray[Any], dtype: str, share: float) -> None:
    """At most one level apart, in at most `share` of the places."""
    if dtype == "int8":
        order = [array.astype(int) for array in (found, expected)]
    else:  # magnitudes are in the order of their bits
        order = [np.where(a & 0x80, -1, 1) * (a & 0x7F).astype(int) for a in (found, expected)]
    gap = np.abs(order[0] - order[1])
    worst = np.unravel_index(gap.argmax(), gap.shape)
    assert gap.max() <= 1, f"{worst}: {found[worst]} for {expected[worst]}"
    assert (gap > 0).mean() <= share


@both
@pytest.mark.parametrize("per_token", [True, False])
def test_the_norm_is_modulated_and_quantised(dtype: str, per_token: bool) -> None:
    x = bfloat16(floats(2, 4, 200) * 3 + 7)
    shift, scale = bfloat16(floats(3, 200)), bfloat16(floats(4, 200) * 0.3)
    truth = activations.modulate_norm(*(part.astype(np.float64) for part in (x, shift, scale)))
    given = None if per_token else 3.0 / LEVELS[dtype]
    expected, steps = activations.quantize_activation(truth.astype(np.float32), dtype, given)
    levels = buffer(dtype, 4, 200)
    scales = torch.zeros(4, device=DEVICE) if per_token else tensor(steps)
    tokens, offset, gain = (tensor(narrowed(part, "bfloat16")) for part in (x, shift, scale))
    modulate_norm(tokens, offset, gain, levels, scales, fp8=dtype != "int8", per_token=per_token)
    np.testing.assert_allclose(bits(scales), steps, rtol=1e-5)
    # of values that lie evenly, those within 1e-5 of 127 levels of a tie
    nearly(bits(levels), expected, dtype, 0.01)


def test_heads_are_normed_and_turned_where_they_lie() -> None:
    """q and k out of a fused projection [tokens, 3 · heads · D], into rows of a longer buffer."""
    tokens, heads, D = 5, 3, 32
    fused = bfloat16(floats(5, tokens, 3, heads, D) * 2)
    weights = bfloat16(floats(6, 2, D))
    angles = floats(7, tokens, D // 2) * 3
    cosines, sines = np.cos(angles), np.sin(angles)
    device = tensor(narrowed(fused, "bfloat16"))
    joined = torch.zeros(2, tokens + 2, heads, D, device=DEVICE, dtype=torch.bfloat16)
    q_weight, k_weight = tensor(narrowed(weights, "bfloat16"))
    qk_norm_rope(
        device[:, 0],
        device[:, 1],
        q_weight,
        k_weight,
        tensor(cosines),
        tensor(sines),
        joined[0, 2:],
        joined[1, 2:],
    )
    for part in (0, 1):
        truth = activations.qk_norm_rope(
            *(a.astype(np.float64) for a in (fused[:, part], weights[part], cosines, sines))
        )
        found = widened(bits(joined[part, 2:]))
        # rounded once to bfloat16; sums of fp32 beside it
        gap = np.abs(found - truth) - np.abs(truth) * 2**-8
        assert gap.max() < 1e-5, np.unravel_index(gap.argmax(), gap.shape)
        assert not joined[part, :2].any()


Parts = tuple[Floats, Floats, Floats, Floats]


def random_parts(seed: int, out: int, inner: int, rank: int) -> Parts:
    base = bfloat16(floats(seed, out, inner))
    A, B = bfloat16(floats(seed + 1, 3, rank, inner)), bfloat16(floats(seed + 2, 3, out, rank))
    A[1] = np.inf  # takes no part
    return base, A, B, np.array([0.7, 0.0, -0.4], np.float32)


def whole_parts(seed: int, out: int, inner: int, rank: int) -> Parts:
    """Small whole numbers, whose sums are exact in any order."""
    base, A, B, _ = (np.rint(part * 2) for part in random_parts(seed, out, inner, rank))
    return base, A, B, np.array([2.0, 0.0, -0.5], np.float32)


def merged_levels(
    parts: Parts, dtype: str, stored: str, scale_dtype: str, smooth: Floats | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    base, A, B, weights = parts
    out, inner = base.shape
    levels = buffer(dtype, out, inner)
    kind = {"float32": torch.float32, "bfloat16": torch.bfloat16}[scale_dtype]
    scales = torch.zeros(out, dtype=kind, device=DEVICE)
    workspace = torch.full((workspace_size(out),), 9, dtype=torch.int32, device=DEVICE)
    W, low, high = (tensor(narrowed(part, stored)) for part in (base, A, B))
    merge_quantize(
        W,
        low,
        high,
        tensor(weights),
        levels,
        scales,
        workspace,
        scale=0.5,
        fp8=dtype != "int8",
        smooth=None if smooth is None else tensor(smooth),
        processors=PROCESSORS,
    )
    return bits(levels), bits(scales)


shapes = pytest.mark.parametrize(("out", "inner", "rank"), [(70, 300, 5), (64, 128, 32)])


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
    found = merged_levels(parts, dtype, "bfloat16", scale_dtype, smooth)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])


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
    found = merged_levels(parts, dtype, stored, "float32", None)
    # roundings of rank + experts + 1 additions, none larger than the row's sum of magnitudes
    np.testing.assert_allclose(found[1], scales, rtol=(rank + 4) * 2**-23)
    nearly(found[0], expected, dtype, 0.01)


ZEROS = torch.zeros(4, 8, device=DEVICE)


@pytest.mark.parametrize(
    ("call", "arguments", "words"),
    [
        (quantize_activation, (ZEROS, ZEROS[:3], ZEROS[:, 0]), r"\[4, 8\].*\[3, 8\]"),
        (quantize_activation, (ZEROS, ZEROS, ZEROS), r"scales \[4\]; got .*\[4, 8\]"),
        (quantize_activation, (ZEROS.T, ZEROS.T, ZEROS[0]), "contiguous"),
        (modulate_norm, (ZEROS, ZEROS[0], ZEROS[:, 0], ZEROS, ZEROS[:, 0]), "8 values"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(
    call: Callable[..., None], arguments: tuple[torch.Tensor, ...], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        call(*arguments, fp8=False)


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


def test_heads_that_do_not_fit_are_refused() -> None:
    q, odd, table = torch.zeros(4, 2, 8), torch.zeros(4, 2, 6), torch.zeros(4, 4)
    with pytest.raises(ValueError, match=r"\[4, 2, 8\].*\[8, 2\]"):
        qk_norm_rope(q, q, q, q, table, table.reshape(8, 2), q, q)
    with pytest.raises(ValueError, match="power of two of channels, got 6"):
        qk_norm_rope(odd, odd, odd, odd, table[:, :3], table[:, :3], odd, odd)
    apart = torch.zeros(4, 8, 2).mT
    with pytest.raises(ValueError, match="heads must be contiguous"):
        qk_norm_rope(q, apart, q, q, table, table, q, q)


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
