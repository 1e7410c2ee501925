"""The full-size bench on a small model: plans, a merge source and a route, each a case."""

import csv
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from click.testing import CliRunner

from a2edit.bench import fullsize
from a2edit.bench.calibrating import FILES, OWN, peaks
from a2edit.bench.cli import main
from a2edit.bench.random_weights import (
    checkpoint_bytes,
    linears_of,
    merge_specs,
    random_bfloat16,
)
from a2edit.model.weightless import FLUX_FILL, shapes_of
from a2edit.runtime.errors import EngineError
from a2edit.runtime.memory import status_mb


def _rows(folder: Path, only: str) -> dict[str, float]:
    command = ["fullsize", "--model", "a2edit-mini", "--only", only, "--work", str(folder)]
    done = CliRunner().invoke(main, [*command, "--results", str(folder)])
    assert done.exit_code == 0, done.output
    assert [path.name for path in folder.iterdir()] == ["fullsize.csv"]  # nothing else is left
    with (folder / "fullsize.csv").open(encoding="utf-8") as file:
        return {row["subject"]: float(row["p50"]) for row in csv.DictReader(file)}


def test_what_a_route_is_merged_from_and_a_route(tmp_path: Path) -> None:
    rows = _rows(tmp_path, "streams,route-fp8")
    shapes = shapes_of("a2edit-mini")
    routed = [it.in_features * it.out_features for it in linears_of(shapes)]
    assert rows["route-fp8, size"] == pytest.approx(sum(routed) / 1e6, rel=0.05)
    assert rows["streams, merge.safetensors, size"] > rows["streams, shared.safetensors, size"] / 9


def test_running_the_model_out_of_its_files(tmp_path: Path) -> None:
    rows = _rows(tmp_path, "calibration")
    steps = [name for name in rows if name.endswith(", peak of its own")]
    assert len(steps) == 6
    assert all(rows[name] > 100 for name in steps)  # Python and torch at least
    size = checkpoint_bytes(shapes_of("a2edit-mini")) / 1e6
    assert rows["calibration, model"] == pytest.approx(size, rel=1e-4)


@pytest.mark.parametrize(("mode", "kind"), [("r", FILES), ("c", OWN)])
def test_memory_of_its_own_is_told_from_pages_of_files(
    tmp_path: Path, mode: Literal["r", "c"], kind: str
) -> None:
    """A file of 100 MB that is read, and one that is written to, in the process's copy alone."""
    (tmp_path / "file").write_bytes(bytes(100_000_000))
    before = {each: status_mb(each) for each in (OWN, FILES)}
    if None in before.values():
        pytest.skip("only Linux tells them apart")
    with peaks() as found:
        mapped = np.memmap(tmp_path / "file", np.uint8, mode)
        if mode == "c":
            mapped[:] = 1
        assert mapped.max() == (mode == "c")
        found.look()
        del mapped
    grown = {each: found.most[each] - (size or 0) for each, size in before.items()}
    assert grown.pop(kind) == pytest.approx(100, abs=20)
    assert max(grown.values()) < 20


@pytest.mark.slow
def test_a_plan(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    rows = _rows(tmp_path, "dit-sm80,modulation")
    assert rows["dit-sm80, plan (int8-bf16)"] > 0
    assert rows["dit-sm80, plan, size"] > rows["dit-sm80, parameters outside"]
    apart = rows["modulation, parameters outside"]
    assert apart + rows["dit-sm80, parameters outside"] > 3


def test_what_it_would_take_is_known_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = sum(spec.nbytes for spec in merge_specs(FLUX_FILL))
    assert source == 2 * (19 * 24 + 38 * 12) * 3072**2 + 2 * 8 * 32 * sum(
        it.in_features + it.out_features for it in linears_of(FLUX_FILL)
    )
    monkeypatch.setattr(fullsize, "FREE", 2**60)
    with pytest.raises(EngineError, match=r"leaves .* GiB alone: give another folder by --work"):
        fullsize.run_case("route-int8", FLUX_FILL, tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_two_rows_are_alike() -> None:
    matrix = random_bfloat16((2048, 4096), 7)
    assert len({row.tobytes() for row in matrix}) == 2048


def test_an_unknown_case_is_refused() -> None:
    done = CliRunner().invoke(main, ["fullsize", "--only", "dit-sm81"])
    assert done.exit_code == 2
    assert "--only dit-sm81: allowed are dit-sm80" in done.stderr
