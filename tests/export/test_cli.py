"""a2edit-build from the outside: one clear line, exit status 2, nothing left behind."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from a2edit.export.cli import main
from a2edit.export.compile.openvino import choose_precision
from a2edit.runtime.engines.base import WeightSet
from a2edit.runtime.errors import TargetError
from a2edit.runtime.route_log import RouteLog
from a2edit.runtime.routing import RouteChoice


def refuse(*arguments: str) -> str:
    """Run in this process; returns what is printed: one line, exit status 2."""
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_inspect_prints_what_is_in_a_bundle(bundle: Path) -> None:
    result = CliRunner().invoke(main, ["inspect", str(bundle)])
    assert result.exit_code == 0
    for text in ("a2edit-tiny", "bundle hash", "image_encoder", "openvino", "experts awake"):
        assert text in result.output
    past = next(line for line in result.output.splitlines() if line.startswith("past routes"))
    size = (bundle / "weights/merge.safetensors").stat().st_size / 1e6
    assert "above a predicted error of 1.00% merged on demand" in past
    assert f"({size:.1f} MB)" in past
    assert "8 calibration samples" in past
    assert "merged by    the processor\n" in result.output


def test_an_error_is_one_line_and_exit_status_2(tmp_path: Path) -> None:
    code = "import sys; from a2edit.export.cli import main; main()"
    command = [sys.executable, "-c", code, "inspect", str(tmp_path / "nothing")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model", "no-such-model"], "no-such-model is no A²-Edit checkpoint"),
        (["--routes", "0"], "at least 1"),
        (["--routes", "2", "--route-error", "0.1"], "give one of --routes, --route-error"),
        (["--route-error", "-1"], "must be above 0"),
        (["--routes-budget", "1 parsec"], "is no size"),
        (["--route-tolerance", "-0.1"], "0 or more"),
        (["--samples", "0"], "--samples is 0"),
        (["--calibration", "no/such/folder"], "--calibration no/such/folder does not exist"),
        (["--from-log", "no-such-log"], "cannot be read"),
        (["--target", "sm70"], "sm70 is unknown; known are cpu, sm75"),
        (["--precision", "fp99"], "--precision"),
    ],
)
def test_refusals(options: list[str], says: str, tmp_path: Path) -> None:
    assert says in refuse("engines", "--out", str(tmp_path / "out"), *options)
    assert not (tmp_path / "out").exists()


def test_a_log_of_another_checkpoint_is_refused_before_anything_is_built(
    checkpoint_folder: Path, tmp_path: Path
) -> None:
    with RouteLog(tmp_path / "log", "f" * 64) as log:
        choice = RouteChoice(WeightSet("x", {}), "x", 0.0, "static", np.zeros((1, 1), np.float32))
        log.append(np.ones((2, 8), np.float32), choice)
    options = ["--model", str(checkpoint_folder), "--from-log", str(tmp_path / "log")]
    said = refuse("engines", "--out", str(tmp_path / "out"), *options)
    assert "is of checkpoint ffffffffffff" in said
    assert {path.name for path in tmp_path.iterdir()} == {"log"}


def test_a_folder_that_is_no_bundle_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/dear.txt").write_text("…", encoding="utf-8")
    assert "is no bundle" in refuse("engines", "--out", str(tmp_path / "letters"))
    assert (tmp_path / "letters/dear.txt").exists()


def test_a_damaged_checkpoint_is_refused_by_name(checkpoint_folder: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(checkpoint_folder, folder)
    (folder / "base/vae/config.json").unlink()
    assert "base/vae/config.json" in refuse(
        "engines", "--model", str(folder), "--out", str(tmp_path / "out")
    )
    assert not (tmp_path / "out").exists()


def test_bf16_where_there_is_none_is_refused() -> None:
    plain, amx = ("FP32", "INT8"), ("BF16", "FP32", "INT8")
    with pytest.raises(TargetError, match=r"no bf16 arithmetic.*offers fp32, int8"):
        choose_precision("bf16", plain)
    assert choose_precision("bf16", amx) == "bf16"
    assert choose_precision("auto", amx) == "bf16"
    assert choose_precision("auto", plain) == "fp32"
    assert choose_precision("int8", plain) == "int8"
