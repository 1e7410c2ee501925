"""Schedule and noise against the numbers of SPEC §2."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2edit.runtime.errors import RequestError
from a2edit.runtime.sampler import FLUX_SHIFT, Shift, noise, sigmas


@pytest.mark.parametrize(
    ("width", "height", "mu"),
    [(512, 512, 0.63), (1024, 1024, 1.15), (768, 1536, 1.23667), (1024, 2048, 1.84333)],
)
def test_mu(width: int, height: int, mu: float) -> None:
    assert FLUX_SHIFT.mu(width * height // 256) == pytest.approx(mu, abs=5e-6)


def test_fifty_steps_at_1024() -> None:
    levels = sigmas(50, 4096)
    assert levels.dtype == np.float32
    assert levels.shape == (51,)
    np.testing.assert_allclose(levels[:3], [1.0, 0.99358, 0.98698], atol=5e-6)
    np.testing.assert_allclose(levels[-3:], [0.11629, 0.06055, 0.0], atol=5e-6)


@given(st.integers(1, 200), st.integers(1, 20000))
def test_levels_fall_from_one_to_zero(steps: int, tokens: int) -> None:
    levels = sigmas(steps, tokens)
    assert levels[0] == 1
    assert levels[-1] == 0
    assert (np.diff(levels) < 0).all()


@pytest.mark.parametrize("steps", [0, -3, 1001, 2.5, True, "8"])
def test_steps_out_of_range_are_refused(steps: int) -> None:
    with pytest.raises(RequestError, match="steps must be"):
        sigmas(steps, 512)


def test_a_shift_needs_two_ends() -> None:
    with pytest.raises(RequestError, match="must exceed"):
        Shift(base_tokens=256, max_tokens=256)


def test_noise_is_written_out() -> None:
    """Philox4x64-10, counter from 1, Box-Muller by pairs: repeated here with whole numbers."""
    low, mask = [], (1 << 64) - 1
    for block in (1, 2):
        c, key = [block, 0, 0, 0], [42, 0]
        for _ in range(10):
            a, b = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
            c = [(b >> 64) ^ c[1] ^ key[0], b & mask, (a >> 64) ^ c[3] ^ key[1], a & mask]
            key = [(key[0] + 0x9E3779B97F4A7C15) & mask, (key[1] + 0xBB67AE8584CAA73B) & mask]
        low += c
    expected = []
    for first, second in zip(low[::2], low[1::2], strict=True):
        radius = np.sqrt(-2 * np.log(((first >> 11) + 1) * 2.0**-53))
        angle = 2 * np.pi * ((second >> 11) * 2.0**-53)
        expected += [radius * np.cos(angle), radius * np.sin(angle)]
    np.testing.assert_array_equal(noise(42, (7,)), np.array(expected[:7], np.float32))


def test_noise_is_normal() -> None:
    values = noise(3, (1 << 20,)).astype(np.float64)
    assert abs(values.mean()) < 4e-3
    assert abs(values.var() - 1) < 6e-3
    assert abs((values**3).mean()) < 1e-2
    assert abs((values**4).mean() - 3) < 4e-2
    assert abs(np.corrcoef(values[::2], values[1::2])[0, 1]) < 5e-3


def test_seeds_give_the_same_bytes_in_a_new_process() -> None:
    code = (
        "import hashlib; from a2edit.runtime.sampler import noise;"
        "print(hashlib.sha256(noise(2**63 + 5, (4, 33)).tobytes()).hexdigest())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = hashlib.sha256(noise(2**63 + 5, (4, 33)).tobytes()).hexdigest()
    assert ran.stdout.strip() == here
    assert not np.array_equal(noise(0, (64,)), noise(1, (64,)))


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, None])
def test_seeds_out_of_range_are_refused(seed: int) -> None:
    with pytest.raises(RequestError, match="seed must be"):
        noise(seed, (4,))
