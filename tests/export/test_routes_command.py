"""a2edit-build routes: what a bundle knows of its routes, and what a log would change."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from a2edit.calibration.routes import RouteLimit
from a2edit.export.change import build_command, change_rows, new_routes, read_bundle_routes
from a2edit.export.cli import main
from a2edit.export.traffic import read_traffic
from a2edit.runtime.engines.base import WeightSet
from a2edit.runtime.errors import DataError
from a2edit.runtime.manifest import read_manifest
from a2edit.runtime.route_log import RouteLog
from a2edit.runtime.routing import RouteChoice

LOGGED = 40


def write_log(path: Path, checkpoint: str, tables: np.ndarray) -> Path:
    choice = RouteChoice(WeightSet("r", {}), "r", 0.0, "static", tables[0])
    with RouteLog(path, checkpoint) as log:
        for table in tables:
            log.append(table, choice)
    return path


def odd_traffic(bundle: Path) -> np.ndarray:
    """Requests for one more kind of weights, which no route is near to."""
    known = read_bundle_routes(bundle)
    rng = np.random.default_rng(0)
    far = 2 * known.sample.tables[0][:, ::-1] + rng.uniform(0, 1e-4, (LOGGED, 1, 1))
    return far.astype(np.float32)


@pytest.fixture
def log(bundle: Path, tmp_path: Path) -> Path:
    checkpoint = read_manifest(bundle).model.checkpoint_hash
    return write_log(tmp_path / "asked.jsonl", checkpoint, odd_traffic(bundle))


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["routes", *map(str, arguments)], env={"COLUMNS": "140"})
    assert result.exit_code == 0, result.output
    return result.output


def refuse(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["routes", *map(str, arguments)])
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_a_bundle_tells_of_its_routes(bundle: Path, tmp_path: Path) -> None:
    printed = run(bundle, "--report", tmp_path / "page.html")
    for route in read_manifest(bundle).routes:
        assert route in printed
    for text in ("merged on demand", "Predicted error against the number of routes", "knee"):
        assert text in printed
    assert "What would change" not in printed
    # The page that the build wrote: the bundle alone is enough for it.
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page == (bundle / "report/routes.html").read_text(encoding="utf-8")


def test_without_torch(bundle: Path, log: Path, tmp_path: Path) -> None:
    page = str(tmp_path / "p.html")
    code = f"""
import sys
class NoTorch:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] in {{"torch", "diffusers", "transformers", "openvino"}}:
            raise AssertionError(name)
sys.meta_path.insert(0, NoTorch())
from a2edit.export.cli import main
main(["routes", {str(bundle)!r}, "--from-log", {str(log)!r}, "--report", {page!r}])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "What would change" in done.stdout
    assert (tmp_path / "p.html").is_file()


def test_traffic_that_no_route_serves_brings_a_route_of_its_own(bundle: Path, log: Path) -> None:
    known = read_bundle_routes(bundle)
    traffic = read_traffic([log], known.manifest.model.checkpoint_hash)
    np.testing.assert_array_equal(traffic.tables, odd_traffic(bundle))
    new = new_routes(known, traffic.tables, None)
    assert len(new.routes) == len(known.routes)
    assert new.logged is not None
    now, then = new.logged
    assert now.hit_rate == 0.0
    assert then.hit_rate == 1.0
    assert then.mean < now.mean / 100
    rows = {what: (before, after) for what, before, after in change_rows(known, new)}
    assert rows["log: within 1 %"] == ("0.0 %", "100.0 %")
    assert rows["routes"] == ("3", "3")
    assert set(rows) == {
        "routes",
        "weight sets, MB",
        *(f"{of}: {what}" for of in ("calibration", "log")
          for what in ("within 1 %", "mean predicted error", "95 % are within")),
    }  # fmt: skip


def test_what_would_change_is_printed_with_its_command(bundle: Path, log: Path) -> None:
    printed = run(bundle, "--from-log", log, "--routes", 2)
    assert "What would change" in printed
    assert "log: within 1 %" in printed
    words = printed.split("to build it", 1)[1].split()
    assert words[:2] == ["a2edit-build", "engines"]
    command = " ".join(words)
    for option in (f"--out {bundle}", "--routes 2", "--samples 8", f"--from-log {log}"):
        assert option in command
    # Another limit alone is compared too.
    printed = run(bundle, "--route-error", 0.5)
    assert "calibration: within" in printed
    assert "log: within" not in printed
    assert "--route-error 0.5" in printed


def test_commands_say_what_was_asked(bundle: Path) -> None:
    known = read_bundle_routes(bundle)
    for limit, option in (
        (None, "--routes 3"),
        (RouteLimit(error=0.02), "--route-error 0.02"),
        (RouteLimit(budget=10**9), "--routes-budget 1000000000"),
    ):
        command = build_command(known, Path("my bundle"), [], limit)
        assert option in command
        assert "--out 'my bundle'" in command
        assert "--calibration" not in command


def test_a_budget_buys_weight_sets_of_the_bundles_size(bundle: Path) -> None:
    size = read_bundle_routes(bundle).set_bytes
    entry = read_manifest(bundle).files[next(
        item.file for item in read_manifest(bundle).weight_sets["fp32"].values()
    )]  # fmt: skip
    assert 0 < entry.bytes - size < 20_000  # but for the file's header
    rows = [line.split() for line in run(bundle, "--routes-budget", 2 * size).splitlines()]
    assert ["routes", "3", "2"] in rows
    assert "at least that" in refuse(bundle, "--routes-budget", size - 1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--routes", 2, "--route-error", 0.1), "give one of"),
        (("--routes-budget", "many"), "'many' is no size"),
        (("--routes", 0), "at least 1"),
        (("--from-log", "nothing.jsonl"), "cannot be read"),
    ],
)
def test_refusals(bundle: Path, options: tuple[object, ...], says: str) -> None:
    assert says in refuse(bundle, *options)


def test_a_log_of_another_checkpoint_is_refused(bundle: Path, tmp_path: Path) -> None:
    path = write_log(tmp_path / "other.jsonl", "0" * 64, odd_traffic(bundle))
    assert "is of checkpoint 000000000000" in refuse(bundle, "--from-log", path)


def test_a_log_of_another_gate_is_refused(bundle: Path, tmp_path: Path) -> None:
    checkpoint = read_manifest(bundle).model.checkpoint_hash
    path = write_log(tmp_path / "wide.jsonl", checkpoint, np.ones((3, 2, 9), np.float32))
    assert "logged gate tables are [2, 9]" in refuse(bundle, "--from-log", path)


def test_logs_are_read_one_after_the_other(bundle: Path, log: Path, tmp_path: Path) -> None:
    checkpoint = read_manifest(bundle).model.checkpoint_hash
    tables = odd_traffic(bundle)
    other = write_log(tmp_path / "more.jsonl", checkpoint, tables[:3])
    other.write_bytes(other.read_bytes()[:-5])
    found = read_traffic([log, other], checkpoint)
    assert len(found.tables) == LOGGED + 2
    (note,) = found.notes
    assert note.startswith(f"{other}: line ")
    assert note.endswith(" was cut short and is left out")
    wide = write_log(tmp_path / "wide.jsonl", checkpoint, np.ones((3, 2, 9), np.float32))
    with pytest.raises(DataError, match="one is damaged"):
        read_traffic([log, wide], checkpoint)


def test_a_bundle_without_calibration_tables_is_refused(bundle: Path, tmp_path: Path) -> None:
    import shutil

    from a2edit.runtime.manifest import canonical_hash, file_bytes

    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    content = json.loads((folder / "manifest.json").read_bytes())
    del content["files"][content["calibration"]["file"]]
    (folder / content["calibration"]["file"]).unlink()
    content["calibration"] = None
    content["bundle_hash"] = canonical_hash(content)
    (folder / "manifest.json").write_bytes(file_bytes(content))
    assert "build it again" in refuse(folder)
