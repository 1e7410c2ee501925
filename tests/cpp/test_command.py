"""a2edit-host refuses what a2edit-run refuses: one line in its words, and exit code 2."""

import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from a2edit.runtime.cli import main

COMPLETE = ["--image", "a.png", "--reference", "b.png", "--out", "c.png"]
WITH_BOX = [*COMPLETE, "--box", "0,0,1,1"]


@pytest.mark.parametrize(
    "words",
    [
        ["--image"],
        ["--image", "a.png"],
        ["--image=a.png", "--reference=b.png"],
        ["extra"],
        ["--resize-mask=1"],
        COMPLETE,
        [*COMPLETE, "--box", "1,2"],
        [*COMPLETE, "--box=3,2,1,4"],
        [*COMPLETE, "--out", "missing/c.png"],
        *([*WITH_BOX, "--steps", steps] for steps in ("q", "", "1.5", "0", "-3", "1001")),
        *([*WITH_BOX, "--seed", seed] for seed in ("x", "-1", str(2**64), "1" * 40)),
        *([*WITH_BOX, "--memory-budget", size] for size in ("5x", "0", "", "GB")),
        [*WITH_BOX, "--route-tolerance", "q"],
        [*WITH_BOX, "--bundle", "nowhere"],
    ],
    ids=" ".join,
)
def test_refusals(
    cpp_build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("A2EDIT_BUNDLE", raising=False)
    expected = CliRunner().invoke(main, words, prog_name="a2edit-host")
    program = cpp_build / "host" / "a2edit-host"
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == expected.exit_code == 2
    assert done.stderr == expected.stderr
    assert done.stdout == ""


def test_options_that_it_does_not_have(cpp_build: Path) -> None:
    program = cpp_build / "host" / "a2edit-host"
    done = subprocess.run([program, "--jobs", "a"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: No such option '--jobs'. (see a2edit-host --help)\n"


def options(text: str) -> set[str]:
    return set(re.findall(r"--[a-z-]+", text))


def test_help_and_version(cpp_build: Path) -> None:
    program = cpp_build / "host" / "a2edit-host"
    done = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    offered, known = options(done.stdout), options(CliRunner().invoke(main, ["--help"]).output)
    assert offered <= known
    assert {"--image", "--mask", "--reference", "--box", "--size", "--out", "--bundle"} <= offered
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == CliRunner().invoke(main, ["--version"], prog_name="a2edit-host").output
