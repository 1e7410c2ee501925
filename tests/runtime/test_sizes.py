"""Amounts of memory, read and written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2edit.runtime.errors import RequestError
from a2edit.runtime.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("1b", 1),
        ("500MB", 500_000_000),
        ("500 mb", 500_000_000),
        (" 8GiB ", 8 * 2**30),
        ("1.5 kib", 1536),
        ("0.25TB", 250_000_000_000),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "-1GB", "1 XB", "1e9", "0", "0.1B", "8Gi B", "nan", "9" * 400 + "GB", "१GB5"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="is no size: give bytes, or a number with MB"):
        parse_size(text)


@given(st.integers(1, 2**50))
def test_what_is_written_can_be_read(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.05)


def test_sizes_are_written() -> None:
    assert [format_size(n) for n in (1, 1023, 1024, 22020096, 3 * 2**42)] == [
        "1 B",
        "1023 B",
        "1.0 KiB",
        "21.0 MiB",
        "12.0 TiB",
    ]
