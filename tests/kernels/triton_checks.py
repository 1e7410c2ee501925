"""What the Triton kernels compute, against numpy: run by test_triton.py in processes of its own.

With TRITON_INTERPRET=1 on a CPU, else on the GPU. A process of its own because Triton decides when
it is imported whether it interprets.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray

from a2edit.kernels import activations
from a2edit.kernels.reference import LEVELS, narrowed, widened
from a2edit.kernels.triton.encoding import bfloat16_of, e4m3_bits, int8_level
from a2edit.kernels.triton.modulate_norm import modulate_norm
from a2edit.kernels.triton.qk_norm_rope import qk_norm_rope
from a2edit.kernels.triton.quantize_activation import quantize_activation
from tests.kernels.triton_arrays import DEVICE, bfloat16, bits, buffer, floats, nearly, tensor

both = pytest.mark.parametrize("dtype", list(LEVELS))


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


def test_heads_that_do_not_fit_are_refused() -> None:
    q, odd, table = torch.zeros(4, 2, 8), torch.zeros(4, 2, 6), torch.zeros(4, 4)
    with pytest.raises(ValueError, match=r"\[4, 2, 8\].*\[8, 2\]"):
        qk_norm_rope(q, q, q, q, table, table.reshape(8, 2), q, q)
    with pytest.raises(ValueError, match="power of two of channels, got 6"):
        qk_norm_rope(odd, odd, odd, odd, table[:, :3], table[:, :3], odd, odd)
    apart = torch.zeros(4, 8, 2).mT
    with pytest.raises(ValueError, match="heads must be contiguous"):
        qk_norm_rope(q, apart, q, q, table, table, q, q)
