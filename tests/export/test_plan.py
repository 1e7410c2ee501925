"""A dry run's numbers beside what a build made: sizes and memory, from shapes alone."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from a2edit.calibration.policy import graph_policy
from a2edit.export.cli import main
from a2edit.export.plan import Constants, engine_bytes, least_set_bytes, plan_build, set_bytes
from a2edit.export.settings import BuildSettings
from a2edit.model.weightless import outline
from a2edit.runtime.manifest import read_manifest
from a2edit.runtime.targets import TARGETS

Settings = Callable[..., BuildSettings]


def test_a_tiny_bundle_is_as_large_as_foretold(
    bundle: Path, tiny_settings: Settings, tmp_path: Path
) -> None:
    """Parameters to the byte, weight sets but their heads; engines to a fifth."""
    plan = plan_build(tiny_settings(tmp_path / "new"))
    files = {name: entry.bytes for name, entry in read_manifest(bundle).files.items()}
    assert plan.routes == 3
    for item in plan.items:
        if item.kind == "file":
            made = [size for name, size in files.items() if name.startswith(item.name)]
            assert item.bytes == pytest.approx(sum(made), rel=0.05 if len(made) > 1 else 0)
        if item.kind == "weights":
            made = [size for name, size in files.items() if name.startswith("weights/fp32/")]
            assert item.total == pytest.approx(item.bytes * 3) == pytest.approx(sum(made), rel=0.05)
    engines = sum(size for name, size in files.items() if name.startswith("engines/"))
    foretold = sum(item.total for item in plan.items if item.kind == "engine")
    assert foretold == pytest.approx(engines, rel=0.2)


@pytest.mark.slow
def test_memory_is_within_what_was_foretold(
    bundle: Path, checkpoint_folder: Path, tiny_settings: Settings, tmp_path: Path
) -> None:
    """A build in a process of its own takes at most what the plan says, and at least a third."""
    script = """
import sys
from pathlib import Path
from a2edit.export.build import build
from a2edit.export.chain import Silent
from a2edit.export.settings import BuildSettings
from a2edit.runtime.memory import peak_resident_mb
build(BuildSettings(model=sys.argv[1], out=Path(sys.argv[2]), routes=1, samples=2,
                    precision="fp32"), Silent())
print(peak_resident_mb())
"""
    command = [sys.executable, "-c", script, str(checkpoint_folder), str(tmp_path / "one")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = 1e6 * float(done.stdout.split()[-1])
    plan = plan_build(tiny_settings(tmp_path / "new", routes=1, samples=2))
    assert plan.peak / 3 < peak <= plan.peak
    more = plan_build(tiny_settings(tmp_path / "new", routes=1, samples=2, jobs=3))
    assert more.peak - plan.peak == 2 * plan.per_job


def test_types_halve_and_quarter_what_they_hold(checkpoint_folder: Path) -> None:
    model = outline(checkpoint_folder)
    weights = sum(it.in_features * it.out_features for it in model.linears)
    rows = sum(it.out_features for it in model.linears)
    fp32, bf16, int8 = (
        graph_policy("dit", TARGETS[target], kind, small=False)  # type: ignore[arg-type]
        for target, kind in (("cpu", "fp32"), ("sm80", "bf16"), ("sm80", "int8"))
    )
    most = [set_bytes(model, it) for it in (fp32, bf16, int8)]
    assert most == [4 * weights, 2 * weights, 2 * weights]
    assert least_set_bytes(model, int8) == weights + 2 * rows
    some = Constants(wide=1000, narrow=500)
    assert engine_bytes(some, fp32, "cpu") == 6000
    assert engine_bytes(some, bf16, "cuda") == 3000
    assert engine_bytes(some, replace(bf16, weight_only=True), "cuda") == 2500


def test_targets_share_graphs_and_sets_and_baked_engines_hold_them(
    tiny_settings: Settings, tmp_path: Path
) -> None:
    two = plan_build(tiny_settings(tmp_path / "new", precision="auto", target="sm80,sm86"))
    kinds = [item.kind for item in two.items]
    assert kinds.count("graph") == 7
    assert kinds.count("weights") == 1
    assert kinds.count("engine") == 14
    inputs = plan_build(tiny_settings(tmp_path / "new"))
    baked = plan_build(tiny_settings(tmp_path / "new", materialise="baked", routes_only=True))
    (one,), (own,) = (
        [it for it in plan.items if it.kind == "engine" and it.name == "dit"]
        for plan in (inputs, baked)
    )
    (sets,) = [it for it in inputs.items if it.kind == "weights"]
    assert (own.count, own.bytes) == (3, one.bytes + sets.bytes)
    assert not [it for it in baked.items if it.name == "weights/merge.safetensors"]


def test_a_dry_run_prints_and_builds_nothing(checkpoint_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out/tiny"
    options = ["--model", str(checkpoint_folder), "--out", str(out), "--routes", "2"]
    result = CliRunner().invoke(main, ["engines", *options, "--dry-run", "--target", "cpu,sm89"])
    assert result.exit_code == 0, result.output
    for said in ("sm89", "fp8-bf16", "up to 2 routes, 14 engines", "each further job of --jobs"):
        assert said in result.output
    assert not out.parent.exists()
