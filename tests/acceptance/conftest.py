"""The bundle of the model that ships, built once a session, and the C++ host."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cpp.conftest import cpp_build

__all__ = ["bundle", "cpp_build"]


def run_command(name: str, *options: object) -> None:
    """One of our commands, in a process of its own."""
    code = f"from a2edit.{name}.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "a2edit-mini"
    run_command("export", "engines", "--model", "a2edit-mini", "--out", out, "--precision", "fp32")
    return out
