"""The C++ host, configured and built once a session, and its insides by ctypes."""

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a2edit.runtime.errors import (
    A2EditError,
    BundleError,
    DeviceMemoryError,
    EngineError,
    RequestError,
    TargetError,
)

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "runtime" / "cpp"
BUILD = ROOT / "build" / "cpp"
# In the order of ErrorKind, src/core/error.hpp.
KINDS = (RequestError, BundleError, TargetError, EngineError, DeviceMemoryError, AssertionError)


class Probe:
    """Functions of tests/probe_*.cpp: 0 is success, 1 + ErrorKind a failure with a message."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.probe_message.restype = ctypes.c_char_p

    def message(self) -> str:
        """What the last function left: an error's text, or its answer where that is a text."""
        text: bytes = self._library.probe_message()
        return text.decode()

    def __call__(self, function: str, *given: Any) -> None:
        """Call `probe_<function>`; raises what Python's own function would raise.

        Texts and paths go as bytes with an end, arrays as pointers, ints as int64, floats as
        double.
        """
        status = getattr(self._library, f"probe_{function}")(*map(_argument, given))
        if status:
            raise KINDS[status - 1](self.message())


def _argument(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        assert value.flags["C_CONTIGUOUS"]
        return value.ctypes.data_as(ctypes.c_void_p)
    if isinstance(value, str | Path):
        return ctypes.c_char_p(str(value).encode(errors="surrogateescape"))
    if isinstance(value, bytes):
        return ctypes.c_char_p(value)
    if isinstance(value, bool | int | np.integer):
        return ctypes.c_uint64(int(value)) if value > 2**63 - 1 else ctypes.c_int64(int(value))
    return ctypes.c_double(value) if isinstance(value, float) else value


@pytest.fixture(scope="session")
def cpp_build() -> Path:
    """The folder that the host was built in: minutes at first, a second where nothing changed."""
    for tool in ("cmake", "ninja"):
        assert shutil.which(tool), f"{tool} is not installed: run `make cpp-setup`"
    python = f"-DA2EDIT_PYTHON={sys.executable}"
    _command("cmake", "--preset", "default", "-B", str(BUILD), python, cwd=SOURCE)
    _command("cmake", "--build", str(BUILD), cwd=SOURCE)
    return BUILD


def _command(*words: str, cwd: Path) -> None:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="session")
def probe(cpp_build: Path) -> Probe:
    return Probe(cpp_build / "tests" / "liba2edit_probe.so")


@pytest.fixture(scope="session")
def same_refusal() -> Callable[[Callable[[], object], Callable[[], object]], str]:
    """Of two calls: both refuse, by the same kind of error and text, which is returned."""

    def compare(python: Callable[[], object], cpp: Callable[[], object]) -> str:
        with pytest.raises(A2EditError) as expected:
            python()
        with pytest.raises(A2EditError) as found:
            cpp()
        assert str(found.value) == str(expected.value)
        assert found.type is expected.type
        return str(found.value)

    return compare
