"""The same noise and the same schedule, bit by bit, and the types that C++ lacks."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2edit.kernels.reference import narrowed, widened
from a2edit.runtime.errors import RequestError
from a2edit.runtime.sampler import MAX_SEED, Shift, noise, sigmas


@given(seed=st.integers(0, MAX_SEED), count=st.integers(1, 70_000))
def test_noise_is_the_same_to_the_bit(probe: Any, seed: int, count: int) -> None:
    found = np.empty(count, np.float32)
    probe("noise", np.uint64(seed), count, found)
    np.testing.assert_array_equal(found.view(np.uint32), noise(seed, (count,)).view(np.uint32))


@given(
    steps=st.integers(1, 1000),
    tokens=st.integers(1, 20_000),
    ends=st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
    base=st.integers(0, 500),
)
def test_schedules_are_the_same_to_the_bit(
    probe: Any, steps: int, tokens: int, ends: tuple[float, float], base: int
) -> None:
    shift = Shift(*ends, base_tokens=base, max_tokens=4096)
    found = np.empty(steps + 1, np.float32)
    probe("sigmas", steps, tokens, *ends, base, 4096, found)
    np.testing.assert_array_equal(found, sigmas(steps, tokens, shift))


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_schedules_that_are_none(probe: Any, same_refusal: Any, steps: int) -> None:
    def cpp(most: int) -> None:
        probe("sigmas", steps, 512, 0.5, 1.15, 256, most, np.empty(1, np.float32))

    assert "between 1 and 1000" in same_refusal(lambda: sigmas(steps, 512), lambda: cpp(4096))


def test_a_shift_without_a_slope(probe: Any) -> None:
    with pytest.raises(RequestError) as expected:
        Shift(0.5, 1.15, 256, 256)
    with pytest.raises(RequestError) as found:
        probe("sigmas", 4, 512, 0.5, 1.15, 256, 256, np.empty(5, np.float32))
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn"])
@given(bits=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=200))
def test_narrow_types_round_as_numpys(probe: Any, dtype: str, bits: list[int]) -> None:
    """Every number there is, rounded and read back; of a NaN only that it stays one."""
    values = np.array(bits, np.uint32).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = narrowed(values, dtype)
    found, back = np.empty_like(expected), np.empty_like(values)
    probe("rounded", dtype, values.size, values, found, back)
    real = ~np.isnan(values)
    np.testing.assert_array_equal(
        found.view(f"u{found.itemsize}")[real], expected.view(f"u{found.itemsize}")[real]
    )
    np.testing.assert_array_equal(back, widened(found))
    assert np.isnan(back[~real]).all()
