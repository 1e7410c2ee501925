"""Costs of routes, on a small random model's own bundle."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from a2edit.bench.cli import main
from a2edit.export.build import build
from a2edit.export.chain import Silent
from a2edit.export.settings import BuildSettings


@pytest.mark.slow
def test_every_figure_is_measured_on_a_bundle(tiny_model: str, tmp_path: Path) -> None:
    model, out = tiny_model, tmp_path / "bundle"
    build(BuildSettings(model=model, out=out, samples=8, precision="fp32"), Silent())
    opened = tmp_path / "open"
    sizes = BuildSettings(model=model, out=opened, samples=8, routes=2, sizes=(48,), batch=3)
    build(replace(sizes, precision="fp32"), Silent())
    arguments = ["switching", "--bundle", str(out), "--model", model, "--rounds", "8"]
    arguments += ["--open", str(opened), "--results", str(tmp_path)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    with (tmp_path / "switching.csv").open(encoding="utf-8") as file:
        rows = {row["subject"]: float(row["p50"]) for row in csv.DictReader(file)}
    exact = rows["merged on demand against torch, relative error of the velocity"]
    assert 0 < exact <= 1e-5
    assert rows["denoising step"] > 0
    assert rows["step, sizes open / one size"] > 0.3
    assert 0.1 < rows["step of 3 requests / 3 steps"] < 3
    # mapped sets that are not bound rest in the file cache
    (grown,) = (rows[name] for name in rows if name.startswith("resident set, ") and "/ 1" in name)
    assert 0.9 < grown < 1.4
