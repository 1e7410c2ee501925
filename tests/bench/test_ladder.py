"""The ladder: its arithmetic, its figures, and a whole climb of a small random model."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from a2edit.bench.cli import main
from a2edit.bench.ladder.flops import step_flops
from a2edit.bench.ladder.rungs import Ladder, Rung
from a2edit.bench.merged_reference import MergedPipeline
from a2edit.bench.rows import Setup
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.pipeline import A2EditPipeline
from a2edit.runtime.request import EditRequest


def test_a_full_size_step_is_88_9_tflop() -> None:
    # by hand: 57 blocks of attention over 5,337 tokens of width 3,072, and every linear
    attention = 57 * 4 * 5337**2 * 3072
    assert step_flops("flux-fill") == pytest.approx(88.9e12, rel=1e-3)
    assert step_flops("flux-fill") > 4 * attention


def test_rungs_are_compared_round_by_round() -> None:
    slow = Rung(name="slow", edits=[3.0, 6.0], steps=[1.0, 2.0], peak_mb=10)
    fast = Rung(name="fast", edits=[1.0, 1.0], steps=[0.5, 0.5], likeness=[40, 50], peak_mb=5)
    ladder = Ladder([slow, fast], flops=1e9)
    assert ladder.times_faster(fast) == [2, 4]
    rows = {row.subject: row for row in ladder.rows(Setup.here("ladder", "tiny", 2))}
    assert rows["first rung / fast, step"].p50 == 3
    assert rows["fast, arithmetic"].p50 == pytest.approx(2)
    assert rows["fast, likeness in the mask"].p50 == 45
    assert "slow, likeness in the mask" not in rows


def test_merged_weights_edit_alike_and_leave_the_base(tiny_model: str) -> None:
    rng = np.random.default_rng(0)
    checkpoint = Checkpoint.load(tiny_model)
    before = {name: it.clone() for name, it in checkpoint.transformer.state_dict().items()}
    pipeline = MergedPipeline(checkpoint)
    for seed in (0, 1):
        request = EditRequest(
            image=rng.integers(0, 256, (64, 64, 3), dtype=np.uint8),
            boxes=["20,20,44,44"],
            reference=rng.integers(0, 256, (32, 32, 3), dtype=np.uint8),
            steps=2,
            seed=seed,
        )
        true = A2EditPipeline(checkpoint).edit(request)
        difference = np.asarray(pipeline.edit(request).image).astype(int) - np.asarray(true.image)
        assert np.abs(difference).max() <= 1
    for name, value in checkpoint.transformer.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.slow
def test_a_whole_climb(tiny_model: str, tmp_path: Path) -> None:
    picture = tmp_path / "ladder.png"
    arguments = ["ladder", "--model", tiny_model, "--work", str(tmp_path / "work"), "--rounds", "3"]
    arguments += ["--steps", "2", "--samples", "8", "--plot", str(picture)]
    done = CliRunner().invoke(main, [*arguments, "--results", str(tmp_path)])
    assert done.exit_code == 0, done.output
    with (tmp_path / "ladder.csv").open(encoding="utf-8") as file:
        rows = {row["subject"]: float(row["p50"]) for row in csv.DictReader(file)}
    assert rows["torch eager, route merged, likeness in the mask"] > 60
    assert rows["OpenVINO, fp32, likeness in the mask"] > 45
    assert rows["OpenVINO, int8, likeness in the mask"] > 20
    assert (
        rows["OpenVINO, fp32, peak resident set"]
        < rows["torch eager, route merged, peak resident set"]
    )
    assert all(value > 0 for value in rows.values())
    with Image.open(picture) as shown:
        assert shown.width > 800
