"""a2edit-train's command line: what it refuses, and what it must never delete."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from a2edit.training.cli import main


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
    ],
)
def test_bad_options(options: tuple[str, ...], says: str, tmp_path: Path) -> None:
    assert says in _refused(*options, "--out", str(tmp_path / "run")).stderr
    assert not (tmp_path / "run").exists()


def test_restart_deletes_runs_only(tmp_path: Path) -> None:
    keep = tmp_path / "thesis.txt"
    keep.write_text("years of work")
    assert "holds no training run" in _refused("--out", str(tmp_path), "--restart").stderr
    assert keep.read_text() == "years of work"


def test_a_damaged_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"not a state")
    assert "cannot be taken up" in _refused("--out", str(tmp_path)).stderr
