"""Smoothing moves range from activations to weights and leaves their product as it is."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from a2edit.calibration.smoothing import SETTINGS, Setting, input_range
from a2edit.kernels.reference import dequantise_rows, quantise_rows

PARTS = (24, 40)


def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations [T, in] with channels of very different size, and weights [out, in]."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(96, 64, generator=random) * torch.randn(64, generator=random).exp() ** 2
    return x, torch.randn(32, 64, generator=random)


@given(st.integers(0, 2**32 - 1), st.sampled_from(SETTINGS))
def test_the_fp32_product_stays(seed: int, setting: Setting) -> None:
    x, weight = drawn(seed)
    smooth = input_range(x.abs().amax(0), weight, PARTS, setting).smooth
    assert bool((smooth > 0).all())
    found, truth = (x / smooth) @ (weight * smooth).T, x @ weight.T
    # Rounding of two factors and of a sum of 64 terms.
    size = x.abs() @ weight.abs().T
    assert float(((found - truth).abs() / size).max()) <= 70 * torch.finfo(torch.float32).eps


@given(st.integers(0, 2**32 - 1), st.sampled_from(SETTINGS))
def test_what_is_represented_is_off_by_half_a_step(seed: int, setting: Setting) -> None:
    x, weight = drawn(seed)
    how = input_range(x.abs().amax(0), weight, PARTS, setting)
    divided = x / how.smooth
    found = how.quantised(x, PARTS)
    pieces = zip(divided.split(PARTS, -1), found.split(PARTS, -1), how.peaks, strict=True)
    for exact, part, peak in pieces:
        # What lies within the peak; a larger one becomes the peak or the step beyond.
        inside = exact.abs() <= peak
        assert float((part - exact)[inside].abs().max()) <= peak / 127 * 0.5001
        assert float(part.abs().max()) <= peak * 128 / 127 * 1.0001


def test_smoothing_pays_where_channels_differ() -> None:
    x, weight = drawn(0)
    truth = x @ weight.T
    errors = {}
    for setting in (Setting(None, 1.0), Setting(0.65, 1.0)):
        how = input_range(x.abs().amax(0), weight, PARTS, setting)
        levels = quantise_rows(weight.numpy(), how.smooth.numpy())
        found = how.quantised(x, PARTS) @ torch.from_numpy(dequantise_rows(*levels)).T
        errors[setting.alpha] = float((found - truth).norm() / truth.norm())
    assert errors[0.65] < 0.7 * errors[None]


def test_channels_that_are_always_zero_have_factors_too() -> None:
    how = input_range(torch.zeros(4), torch.zeros(3, 4), (4,), Setting(0.5, 0.8))
    assert np.isfinite(how.smooth.numpy()).all()
    assert how.peaks == (0.0,)
    assert how.quantised(torch.zeros(2, 4), (4,)).tolist() == [[0.0] * 4] * 2
