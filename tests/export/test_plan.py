"""A dry run's numbers beside what a build made: sizes and memory, from shapes alone."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from a2edit.calibration.policy import graph_policy
from a2edit.export.build import build
from a2edit.export.chain import Silent
from a2edit.export.cli import main
from a2edit.export.memory import counting_bytes, denoiser_bytes, encoder_bytes
from a2edit.export.plan import Constants, engine_bytes, least_set_bytes, plan_build, set_bytes
from a2edit.export.settings import BuildSettings
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.weightless import FLUX_FILL, Shapes, fake_checkpoint, outline, without_weights
from a2edit.model.widening import widest_bytes
from a2edit.runtime.errors import RequestError
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
@pytest.mark.parametrize("model", ["tiny", "a2edit-mini"])
def test_memory_is_within_what_was_foretold(
    checkpoint_folder: Path, tmp_path: Path, model: str
) -> None:
    """A build in a process of its own takes at most what the plan says, and at least a third."""
    name = str(checkpoint_folder) if model == "tiny" else model
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
    command = [sys.executable, "-c", script, name, str(tmp_path / "one")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = 1e6 * float(done.stdout.split()[-1])
    plan = plan_build(small_build(name, tmp_path))
    assert plan.peak / 3 < peak <= plan.peak


def without(shapes: Shapes) -> Checkpoint:
    with without_weights():
        return fake_checkpoint(shapes, torch.float32)


def small_build(model: str, folder: Path, **options: Any) -> BuildSettings:
    return BuildSettings(
        model=model, out=folder / "new", routes=1, samples=2, precision="fp32", **options
    )


def test_each_job_adds_a_compiler(checkpoint_folder: Path, tmp_path: Path) -> None:
    one, three, five = (
        plan_build(small_build(str(checkpoint_folder), tmp_path, jobs=jobs)) for jobs in (1, 3, 5)
    )
    assert one.peak <= three.peak <= one.peak + 2 * one.per_job
    assert five.peak == three.peak + 2 * one.per_job


def test_larger_sizes_take_more(tmp_path: Path) -> None:
    own, larger = (
        plan_build(small_build("a2edit-mini", tmp_path, sizes=sizes)) for sizes in ((), (2048,))
    )
    assert larger.peak > own.peak + 300e6


@pytest.mark.slow
def test_memory_goes_with_a_layer_and_not_with_their_number() -> None:
    """FLUX.1-Fill, 12 billion parameters, and a quarter of its blocks."""
    layers = {"num_layers": 5, "num_single_layers": 10}
    whole, quarter = (
        without(replace(FLUX_FILL, transformer={**FLUX_FILL.transformer, **few}))
        for few in ({}, layers)
    )
    assert denoiser_bytes(whole) == denoiser_bytes(quarter) < 3.5e9
    assert encoder_bytes(whole) == encoder_bytes(quarter) < 6e9
    matrix = 4 * (4 + 1) * 3072**2
    assert widest_bytes(whole.transformer) == 6 * 4 * 3072 * 3072 + 6 * 4 * 3072 > matrix
    assert counting_bytes(whole, 64) < 2.5e9
    # Of what would be 48 GB.
    assert sum(4 * it.numel() for it in whole.transformer.parameters()) > 47e9


def test_a_budget_below_one_route_is_refused_before_anything_is_done(
    tiny_settings: Settings, checkpoint_folder: Path, tmp_path: Path
) -> None:
    for precision in ("fp32", "int8"):
        policy = graph_policy("dit", TARGETS["cpu"], precision, small=False)
        least = least_set_bytes(outline(checkpoint_folder), policy)
        options = {"routes": None, "precision": precision}
        short = tiny_settings(tmp_path / "new", routes_budget=least - 1, **options)
        with pytest.raises(RequestError, match=f"takes {least} .* give at least that"):
            build(short, Silent())
        with pytest.raises(RequestError, match="give at least that"):
            plan_build(short)
        assert not list(tmp_path.iterdir())
        assert (
            plan_build(tiny_settings(tmp_path / "new", routes_budget=least, **options)).routes == 1
        )


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
    assert kinds.count("graph") == 8
    assert kinds.count("weights") == 1
    assert kinds.count("engine") == 16
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
    for said in ("sm89", "fp8-bf16", "up to 2 routes, 16 engines", "each further job of --jobs"):
        assert said in result.output
    assert not out.parent.exists()
