"""The C++ host's own tests, and the texts of its messages."""

import subprocess
import unicodedata
from pathlib import Path
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st


def test_its_units_pass(cpp_build: Path) -> None:
    done = subprocess.run(
        ["ctest", "--output-on-failure"],
        cwd=cpp_build,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "No tests were found" not in done.stdout + done.stderr


@given(data=st.one_of(st.text().map(str.encode), st.binary()))
def test_texts_are_quoted_as_python_quotes_them(probe: Any, data: bytes) -> None:
    """Also those that are no UTF-8, as names of files need not be."""
    text = data.decode(errors="surrogateescape")
    # what a newer Unicode has given a character to since is for Python not to be printed
    assume("Cn" not in map(unicodedata.category, text))
    probe("repr_text", data, len(data))
    assert probe.message() == repr(text)


@given(number=st.floats())
def test_numbers_are_written_as_python_writes_them(probe: Any, number: float) -> None:
    probe("repr_float", number)
    assert probe.message() == repr(number)
