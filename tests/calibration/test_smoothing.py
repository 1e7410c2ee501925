"""Smoothing moves range from activations to weights and leaves their product as it is."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from a2edit.calibration.choice import SETTINGS
from a2edit.calibration.policy import Kind
from a2edit.calibration.ranges import InputSpread
from a2edit.calibration.smoothing import STORED, Setting, input_range
from a2edit.kernels.reference import dequantise_rows, quantise_rows

PARTS = (24, 40)
WAYS = [(kind, setting) for kind in SETTINGS for setting in SETTINGS[kind]]


def drawn(seed: int) -> tuple[torch.Tensor, InputSpread, torch.Tensor]:
    """Activations [T, in] with channels of very different size, their spread, weights [out, in]."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(96, 64, generator=random) * torch.randn(64, generator=random).exp() ** 2
    spread = InputSpread.empty(64)
    spread.add(x)
    return x, spread, torch.randn(32, 64, generator=random)


@given(st.integers(0, 2**32 - 1), st.sampled_from(WAYS))
def test_the_fp32_product_stays(seed: int, way: tuple[Kind, Setting]) -> None:
    x, spread, weight = drawn(seed)
    smooth = input_range(spread, [weight], PARTS, *way).smooth
    assert bool((smooth > 0).all())
    found, truth = (x / smooth) @ (weight * smooth).T, x @ weight.T
    # Rounding of two factors and of a sum of 64 terms.
    size = x.abs() @ weight.abs().T
    assert float(((found - truth).abs() / size).max()) <= 70 * torch.finfo(torch.float32).eps


@given(st.integers(0, 2**32 - 1), st.sampled_from(WAYS))
def test_what_is_represented_is_off_by_half_a_step(seed: int, way: tuple[Kind, Setting]) -> None:
    x, spread, weight = drawn(seed)
    how = input_range(spread, [weight], PARTS, *way)
    divided = x / how.smooth
    found = how.quantised(x)
    inside = divided.abs() <= how.peak
    gap = (found - divided)[inside].abs()
    if how.kind == "int8":
        # What is larger becomes the peak or the step beyond.
        assert float(gap.max()) <= how.peak / 127 * 0.5001
        assert float(found.abs().max()) <= how.peak * 128 / 127 * 1.0001
    else:
        # Three bits behind the leading one, and at the bottom steps of 2^-9.
        allowed = (divided[inside].abs() / 16).clamp_min(how.peak / 448 * 2**-10)
        assert bool((gap <= allowed * 1.0001).all())
        assert float(found.abs().max()) <= how.peak * 1.0001


@given(st.integers(0, 2**32 - 1), st.sampled_from(SETTINGS["int8"]))
def test_int8s_factors_bring_joined_parts_to_one_range(seed: int, setting: Setting) -> None:
    x, spread, weight = drawn(seed)
    x[:, PARTS[0] :] *= 30
    spread = InputSpread.empty(64)
    spread.add(x)
    how = input_range(spread, [weight], PARTS, "int8", setting)
    parts = spread.split(how.smooth, PARTS)
    found = [part.represented(factors, setting.share) for part, factors in parts]
    # as far as a bin is wide
    assert found == pytest.approx([how.peak] * 2, rel=0.2 if setting.share < 1 else 1e-5)


def test_a_value_beyond_fp8s_largest_saturates() -> None:
    x, spread, weight = drawn(0)
    how = input_range(spread, [weight], PARTS, "fp8", Setting(None, 1.0))
    found = how.quantised(x * 100)
    assert bool(found.isfinite().all())
    assert float(found.abs().max()) == pytest.approx(how.peak)


def test_smoothing_pays_where_channels_differ() -> None:
    x, spread, weight = drawn(0)
    truth = x @ weight.T
    errors = {}
    for setting in (Setting(None, 1.0), Setting(0.65, 1.0)):
        how = input_range(spread, [weight], PARTS, "int8", setting)
        levels = quantise_rows(weight.numpy(), how.smooth.numpy(), STORED["int8"])
        found = how.quantised(x) @ torch.from_numpy(dequantise_rows(*levels)).T
        errors[setting.alpha] = float((found - truth).norm() / truth.norm())
    assert errors[0.65] < 0.7 * errors[None]


def test_readers_of_one_tensor_share_factors_of_their_largest_weights() -> None:
    _, spread, weight = drawn(0)
    both = input_range(spread, [weight, 3 * weight], PARTS, "int8", Setting(0.5, 1.0))
    larger = input_range(spread, [3 * weight], PARTS, "int8", Setting(0.5, 1.0))
    assert torch.equal(both.smooth, larger.smooth)


def test_channels_that_are_always_zero_have_factors_too() -> None:
    spread = InputSpread.empty(4)
    spread.add(torch.zeros(2, 4))
    for kind in SETTINGS:
        how = input_range(spread, [torch.zeros(3, 4)], (4,), kind, Setting(0.5, 0.99))
        assert np.isfinite(how.smooth.numpy()).all()
        assert how.peak == 0
        assert how.quantised(torch.zeros(2, 4)).tolist() == [[0.0] * 4] * 2
        assert not math.isnan(float(how.quantised(torch.ones(2, 4)).sum()))
