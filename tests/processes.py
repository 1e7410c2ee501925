"""Test files that need an environment of their own, run in a process of theirs."""

import os
import re
import subprocess
import sys
from pathlib import Path


def run_tests(file: Path, environment: dict[str, str], summary: str) -> None:
    """Fails unless every test of `file` passes there, and pytest's summary matches `summary`."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    done = subprocess.run(
        command,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(summary, done.stdout), done.stdout
