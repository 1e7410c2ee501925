"""The log of gate tables: whole lines from many processes, and no silence about damage."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from a2edit.runtime.engines.base import WeightSet
from a2edit.runtime.errors import DataError, RequestError
from a2edit.runtime.route_log import RouteLog, read_route_log
from a2edit.runtime.routing import RouteChoice, Supply

CHECKPOINT = "9f" * 32


def choice(route: str = "garments", error: float = 0.004) -> RouteChoice:
    supply: Supply = "merged" if route.startswith("merged") else "static"
    return RouteChoice(WeightSet(route, {}), route, error, supply, np.zeros((1, 1), np.float32))


def tables(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 2, 3)).astype(np.float32)


def write(path: Path, count: int = 3) -> list[str]:
    with RouteLog(path, CHECKPOINT) as log:
        for table in tables(count):
            log.append(table, choice())
    return path.read_text().splitlines()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6), st.floats(0, 10))
def test_a_table_comes_back_to_the_last_bit(
    tmp_path: Path, weights: list[float], error: float
) -> None:
    path = tmp_path / "log.jsonl"
    path.unlink(missing_ok=True)
    table = np.array(weights, np.float32).reshape(2, 3)
    with RouteLog(path, CHECKPOINT) as log:
        log.append(table, choice(error=error))
        log.append(table, choice("merged-0123456789ab"))
    records = read_route_log(path)
    assert len(records) == 2
    assert records.checkpoint == CHECKPOINT
    assert records.tables.dtype == np.float32
    np.testing.assert_array_equal(records.tables, [table, table])
    assert records.routes == ("garments", "merged-0123456789ab")
    assert records.supplies == ("static", "merged")
    assert records.predicted_errors.tolist() == [error, 0.004]
    assert records.torn is None


def test_a_line_is_json_and_holds_no_more_than_it_says(tmp_path: Path) -> None:
    (line,) = write(tmp_path / "log", 1)
    assert json.loads(line).keys() == {
        "checkpoint",
        "route",
        "predicted_error",
        "supply",
        "table",
    }


def test_two_processes_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    code = f"""
import sys
import numpy as np
from a2edit.runtime.engines.base import WeightSet
from a2edit.runtime.route_log import RouteLog
from a2edit.runtime.routing import RouteChoice
seed = int(sys.argv[1])
table = np.full((57, 8), seed, np.float32) + np.arange(8, dtype=np.float32) / 7
choice = RouteChoice(WeightSet("w", {{}}), f"r{{seed}}", 0.1, "static", table)
with RouteLog({str(path)!r}, "ab") as log:
    for _ in range(300):
        log.append(table, choice)
"""
    both = [subprocess.Popen([sys.executable, "-c", code, str(seed)]) for seed in (1, 2)]
    assert [process.wait(120) for process in both] == [0, 0]
    records = read_route_log(path)
    assert sorted(records.routes) == ["r1"] * 300 + ["r2"] * 300
    for table, route in zip(records.tables, records.routes, strict=True):
        assert (np.floor(table[:, 0]) == int(route[1])).all()


def test_a_last_line_that_was_cut_short_is_left_out_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    records = read_route_log(path)
    assert (len(records), records.torn) == (2, 3)
    np.testing.assert_array_equal(records.tables, tables(3)[:2])
    # whoever writes on loses nothing to it, and the reader says where it is
    with RouteLog(path, CHECKPOINT) as log:
        log.append(tables(1)[0], choice())
    with pytest.raises(DataError, match=r"line 3 is damaged .*: delete that line"):
        read_route_log(path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], *lines[3:], ""]))
    assert len(read_route_log(path)) == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{", "[", "line 2 is damaged"),
        ('"table"', '"tables"', "'table' missing"),
        ("0.004", "-1", "predicted_error is -1"),
        ("0.004", "true", "predicted_error is True"),
        ("0.004", "1e999", "predicted_error is inf"),
        ("static", "magic", "make no sense"),
        ('"garments"', "3", "make no sense"),
        ("[[", "[[[", "line 2 is damaged"),
        ("[[0.", "[[NaN,0.", "line 2 is damaged"),
        ("[[0.", '[["x",0.', "line 2 is damaged"),
        (CHECKPOINT, "00" * 32, "line 2 is of checkpoint 000000000000, line 1 of 9f9f9f9f9f9f"),
    ],
)
def test_damaged_lines_are_refused_by_number(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "log"
    lines = write(path)
    assert old in lines[1]
    lines[1] = lines[1].replace(old, new, 1)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=message) as caught:
        read_route_log(path)
    assert "line 2" in str(caught.value)


def test_tables_of_two_shapes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path)
    with RouteLog(path, CHECKPOINT) as log:
        log.append(np.zeros((3, 3), np.float32), choice())
    with pytest.raises(DataError, match=r"line 4 has a table \[3, 3\], line 1 one of \[2, 3\]"):
        read_route_log(path)


def test_files_that_are_no_logs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none' cannot be read: No such file"):
        read_route_log(tmp_path / "none")
    for content in ("", "\n\n", '{"checkpoint": "9f'):
        (tmp_path / "log").write_text(content)
        with pytest.raises(DataError, match="has no lines"):
            read_route_log(tmp_path / "log")
    with pytest.raises(RequestError, match=r"cannot be written .*give a file in a folder"):
        RouteLog(tmp_path, CHECKPOINT)


def test_a_closed_log_says_so(tmp_path: Path) -> None:
    log = RouteLog(tmp_path / "log", CHECKPOINT)
    log.close()
    log.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        log.append(tables(1)[0], choice())
