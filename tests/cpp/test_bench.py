"""a2edit-bench hosts, on the tiny bundle."""

import csv
from pathlib import Path

from click.testing import CliRunner

from a2edit.bench.cli import main


def test_hosts_are_compared(cpp_build: Path, byte_bundle: Path, tmp_path: Path) -> None:
    words = ["hosts", "--bundle", byte_bundle, "--build", cpp_build, "--results", tmp_path]
    done = CliRunner().invoke(main, [*map(str, words), "--rounds", "3", "--many", "10"])
    assert done.exit_code == 0, done.output
    with (tmp_path / "hosts.csv").open(encoding="utf-8") as file:
        rows = {row["subject"]: row for row in csv.DictReader(file)}
    assert int(rows["C++ / Python, warm edit"]["n"]) == 3
    assert int(rows["C++, resident set over 10 edits"]["n"]) == 10
    assert float(rows["C++ / Python, peak resident set"]["p50"]) < 1
    for side in ("Python", "C++"):
        assert float(rows[f"{side}, process to file"]["p50"]) > 0


def test_without_a_build_it_says_so(byte_bundle: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        main, ["hosts", "--bundle", str(byte_bundle), "--build", str(tmp_path)]
    )
    assert done.exit_code == 2
    assert "has no liba2edit.so, host/a2edit-host: run `make cpp` first" in done.output
