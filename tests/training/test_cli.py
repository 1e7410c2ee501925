"""a2edit-train's command line: what it refuses, and what it must never delete."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE

import pytest
from click.testing import CliRunner, Result

from a2edit.model.checkpoint import PRETRAINED, Checkpoint
from a2edit.training.cli import main
from a2edit.training.stages import MINI_STAGES


def _refused(*options: str) -> Result:
    result = CliRunner().invoke(main, ["mini", *options])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--steps", "nonsense=3"), "the stages are autoencoder, base"),
        (("--steps", "base=many"), "is no STAGE=N"),
        (("--threads", "-1"), "--threads"),
        (("--sheet-every", "0"), "--sheet-every"),
        (("--recipe", "nowhere.toml"), "there is no recipe nowhere.toml"),
        (("--precision", "fp8"), "--precision"),
        (("--from", "nowhere"), "nowhere is no A²-Edit checkpoint"),
        (("--keep-experts",), "with --from only"),
        (("--accumulate", "5"), "cannot be cut into 5 equal parts"),
    ],
)
def test_bad_options(options: tuple[str, ...], says: str, tmp_path: Path) -> None:
    assert says in _refused(*options, "--out", str(tmp_path / "run")).stderr
    assert not (tmp_path / "run" / "state.pt").exists()


def test_a_printed_recipe_can_be_given_back(tmp_path: Path) -> None:
    printed = CliRunner().invoke(main, ["recipe", "mini"])
    assert printed.exit_code == 0
    (tmp_path / "mine.toml").write_text(printed.stdout.replace('"base-decay"', '"cooling"'))
    options = ("--recipe", str(tmp_path / "mine.toml"), "--steps", "nonsense=3")
    assert "the stages are autoencoder, base, cooling, fine" in _refused(*options).stderr


def test_restart_deletes_runs_only(tmp_path: Path) -> None:
    keep = tmp_path / "thesis.txt"
    keep.write_text("years of work")
    assert "holds no training run" in _refused("--out", str(tmp_path), "--restart").stderr
    assert keep.read_text() == "years of work"


def test_a_damaged_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"not a state")
    assert "cannot be taken up" in _refused("--out", str(tmp_path)).stderr


def test_restart_keeps_what_it_starts_from(tmp_path: Path) -> None:
    shutil.copytree(PRETRAINED / "a2edit-mini", tmp_path / "checkpoint")
    options = ("--from", str(tmp_path / "checkpoint"), "--out", str(tmp_path), "--restart")
    assert "is to start from" in _refused(*options).stderr
    assert (tmp_path / "checkpoint").is_dir()


@pytest.mark.slow
def test_a_terminated_command_says_so_and_can_be_repeated(tmp_path: Path) -> None:
    """The command as users run it: SIGTERM in the middle, then the same command again."""
    names = [stage.name for stage in MINI_STAGES]
    steps = [f"--steps={name}={4 if name == 'autoencoder' else 0}" for name in names]
    options = [*steps, "--from", "a2edit-mini", "--no-sheets", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "a2edit.training.cli", "mini", *options]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as process:
        metrics = tmp_path / "metrics.csv"
        while not metrics.exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "taken over: transformer" in out
    assert "stopped by SIGTERM after step" in err
    assert "Traceback" not in err
    Checkpoint.load(tmp_path / "checkpoint")
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert "taking up" in done.stdout
    assert "checkpoint: " in done.stdout
