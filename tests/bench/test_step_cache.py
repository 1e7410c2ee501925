"""Figures of the step cache, on a small random model's own bundle."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from a2edit.bench.cli import main
from a2edit.export.build import build
from a2edit.export.chain import Silent
from a2edit.export.settings import BuildSettings
from a2edit.model.architectures import TINY, new_checkpoint, randomise_experts
from a2edit.runtime.step_cache import FirstBlockCache


@pytest.mark.slow
def test_every_threshold_is_measured_beside_none(tmp_path: Path) -> None:
    shape = replace(TINY, mot=replace(TINY.mot, steps=8))
    checkpoint = new_checkpoint(shape, tmp_path / "tokenizers")
    randomise_experts(checkpoint)
    checkpoint.save(tmp_path / "model")
    settings = BuildSettings(
        model=str(tmp_path / "model"),
        out=tmp_path / "bundle",
        samples=8,
        routes=1,
        precision="fp32",
        step_cache=FirstBlockCache(),
    )
    build(settings, Silent())
    options = ["--bundle", str(settings.out), "--results", str(tmp_path), "--rounds", "2"]
    thresholds = ["--threshold", "0.000001", "--threshold", "0.99"]
    done = CliRunner().invoke(main, ["cache", *options, *thresholds])
    assert done.exit_code == 0, done.output
    with (tmp_path / "cache.csv").open(encoding="utf-8") as file:
        rows = {row["subject"]: float(row["p50"]) for row in csv.DictReader(file)}
    assert rows["without a cache: edit"] > 0
    never, often = "first-block:1e-06", "first-block:0.99"
    assert rows[f"{never}: steps skipped"] == 0 < rows[f"{often}: steps skipped"] <= 75
    assert rows[f"{never}: PSNR, mask, least"] == 100  # the same picture
    assert rows[f"{often}: PSNR, mask, least"] < 100
    assert rows[f"{often}: SSIM, mask"] <= 1
    assert rows[f"{often}: times as fast as without"] > 0
    assert f"{never}: velocity error of skipped steps" not in rows
    errors = f"{often}: velocity error of skipped steps"
    assert 0 < rows[errors] <= rows[f"{errors}, largest"] < 200
