"""Result rows: percentiles, one header, and nothing that names a host."""

import csv
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from a2edit.bench.cli import main
from a2edit.bench.figures import Edits
from a2edit.bench.heldout.cases import Case, drawn_case
from a2edit.bench.latency import WARM_UP, interleaved
from a2edit.bench.rows import Setup, append_rows, device_name
from a2edit.runtime.request import EditRequest, EditResult


def test_rows_are_appended_below_one_header(tmp_path: Path) -> None:
    path = tmp_path / "new" / "latency.csv"
    setup = Setup.here("latency", "a2edit-mini", 16)
    append_rows(path, [setup.row("engine", "s", [0.1, 0.2, 0.3])])
    append_rows(path, [setup.row("torch", "s", [1.0])])
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["subject"] for row in rows] == ["engine", "torch"]
    assert float(rows[0]["p50"]) == pytest.approx(0.2)
    assert float(rows[0]["p20"]) == pytest.approx(0.14)
    assert rows[1]["p20"] == rows[1]["p80"] == "1"
    assert rows[0]["n"] == "3"


def test_the_device_is_a_processor_and_not_a_host() -> None:
    assert "cores" in device_name()
    assert platform.node() not in device_name()


def test_sides_take_turns_and_warm_up_is_not_counted() -> None:
    calls: list[tuple[str, int]] = []

    class Side:
        def __init__(self, name: str) -> None:
            self.name = name

        def edit(self, request: EditRequest) -> EditResult:
            calls.append((self.name, request.seed))
            return None  # type: ignore[return-value]  # the loop looks at the clock only

    ticks = iter(range(1000))
    sides: dict[str, Edits] = {"a": Side("a"), "b": Side("b")}
    case: Case = drawn_case("fish")
    seconds = interleaved(sides, case, 2, 3, lambda: float(next(ticks)))
    assert [name for name, _ in calls] == ["a", "b"] * (WARM_UP + 3)
    assert {side: len(values) for side, values in seconds.items()} == {"a": 3, "b": 3}
    assert [seed for name, seed in calls if name == "a"] == [0] * WARM_UP + [0, 1, 2]


@pytest.mark.parametrize("command", ["latency", "quality"])
def test_a_missing_bundle_is_refused_and_leaves_nothing(command: str, tmp_path: Path) -> None:
    results = tmp_path / "results"
    missing = str(tmp_path / "nope")
    outcome = CliRunner().invoke(main, [command, "--bundle", missing, "--results", str(results)])
    assert outcome.exit_code == 2
    assert outcome.stderr.startswith("error: ")
    assert missing in outcome.stderr
    assert not results.exists()


def test_a_workers_peak_is_its_own_and_not_its_parents() -> None:
    ballast = np.ones((300, 1000, 1000), np.uint8)  # 300 MB that the child never sees
    code = "from a2edit.runtime.memory import peak_resident_mb; print(peak_resident_mb())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ballast.nbytes / 1e6 > 2 * float(done.stdout) > 0
