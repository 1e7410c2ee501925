"""The ladder: its arithmetic, its figures, and a whole climb of a small random model."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from a2edit.bench.cli import main
from a2edit.bench.ladder.classes import kind_of
from a2edit.bench.ladder.flops import step_flops
from a2edit.bench.ladder.rungs import Ladder, Rung
from a2edit.bench.ladder.steps import Changes, Denoiser
from a2edit.bench.merged_reference import MergedPipeline
from a2edit.bench.rows import Setup
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import unmerged
from a2edit.model.modulation import modulation_widths
from a2edit.model.pipeline import A2EditPipeline
from a2edit.runtime.request import EditRequest


def test_a_full_size_step_is_88_9_tflop() -> None:
    # by hand: 57 blocks of attention over 5,337 tokens of width 3,072, and every linear
    attention = 57 * 4 * 5337**2 * 3072
    found = step_flops("flux-fill")
    assert found.all == pytest.approx(88.9e12, rel=1e-3)
    assert found.attention == pytest.approx(attention, rel=1e-6)


def test_rungs_are_compared_round_by_round() -> None:
    slow = Rung(name="slow", runs=[3.0, 6.0], steps=[1.0, 2.0], peak_mb=10)
    fast = Rung(name="fast", runs=[1.0, 1.0], steps=[0.5, 0.5], likeness=[40, 50], peak_mb=5)
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
    assert rows["OpenVINO, fp32, step cache, likeness in the mask"] > 20
    assert (
        rows["OpenVINO, fp32, peak resident set"]
        < rows["torch eager, route merged, peak resident set"]
    )
    assert all(value > 0 for value in rows.values())
    with Image.open(picture) as shown:
        assert shown.width > 800


@torch.inference_mode()
def test_every_change_of_the_denoiser_leaves_what_it_computes(tiny_model: str) -> None:
    checkpoint = Checkpoint.load(tiny_model)
    for norm in modulation_widths(checkpoint.transformer):
        linear = checkpoint.transformer.get_submodule(f"{norm}.linear")
        torch.nn.init.normal_(linear.get_parameter("weight"), std=0.1)
    denoiser = Denoiser(checkpoint, torch.device("cpu"), 3)
    with unmerged(checkpoint.transformer, checkpoint.experts, denoiser.table[None]):
        expected, _ = denoiser.run()
    plain, _ = denoiser.run()
    assert not torch.allclose(plain, expected, rtol=1e-3), "experts matter"
    errors = {}
    with Changes() as changes:
        for change in changes.all():
            # compiling takes most of a minute, and is what the climb below does
            if change.name not in {"compiled", "CUDA graph"}:
                change.apply(denoiser)
                denoiser.step = denoiser.module
                found, _ = denoiser.run()
                errors[change.name] = float((found - expected).norm() / expected.norm())
    assert errors.pop("eager, experts by PEFT") < 1e-5
    assert errors.pop("route merged") < 1e-5
    # from there on 8 bits are in all of them, and nothing else errs
    error = errors.pop("linears in 8 bits")
    assert 1e-4 < error < 0.05
    assert errors == pytest.approx(
        {"fused kernels": error, "modulation precomputed": error}, rel=0.05
    )


def test_kernels_are_told_apart() -> None:
    kinds = {
        "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm>": "linear",
        "nvjet_sm90_tst_128x256": "linear",
        "aten::addmm": "linear",
        "void pytorch_flash::flash_fwd_kernel": "attention",
        "aten::_scaled_dot_product_flash_attention_for_cpu": "attention",
        "triton_red_fused_native_layer_norm_3": "norms and the rest",
    }
    assert {name: kind_of(name) for name in kinds} == kinds


@pytest.mark.slow
def test_a_climb_in_torch_on_any_device(tiny_model: str, tmp_path: Path) -> None:
    arguments = ["ladder", "--device", "cpu", "--model", tiny_model, "--rounds", "3"]
    arguments += ["--steps", "2", "--plot", str(tmp_path / "ladder.png")]
    done = CliRunner().invoke(main, [*arguments, "--results", str(tmp_path)])
    assert done.exit_code == 0, done.output
    with (tmp_path / "ladder.csv").open(encoding="utf-8") as file:
        rows = {row["subject"]: float(row["p50"]) for row in csv.DictReader(file)}
    rungs = ("eager, experts by PEFT", "route merged", "compiled", "linears in 8 bits")
    for rung in (*rungs, "modulation precomputed"):
        assert rows[f"{rung}, 2 steps"] > rows[f"{rung}, step"] / 1e3 > 0
        assert 0 < rows[f"{rung}, floor (no 8 bits) / step"] < 100
    assert rows["modulation precomputed, linear of a step"] > 0
    assert "42,074 MiB" in done.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["ladder", "--device", "cuda", "--results", str(tmp_path)])
    assert done.exit_code == 2
    assert "torch finds no NVIDIA GPU here" in done.stderr
    assert not list(tmp_path.iterdir())
