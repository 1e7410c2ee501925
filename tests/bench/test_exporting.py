"""Every graph of FLUX.1-Fill at its real size, exported from shapes alone."""

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner

from a2edit.bench.cli import main
from a2edit.bench.exporting import ExportCost, export_graph, full_size, measure_export

# Far below one copy of the weights in any precision: the denoiser's alone are 24 GB in bf16.
PEAK_MB = 6000
# Parameters, as published.
FLUX, MODULATION, T5 = 11_902_391_360, 3_247_448_064, 4_762_310_656
# Of the 418 routed weights: in a double block eight of 3072² and four of 3072 · 12288, in a single
# block three of 3072², 3072 · 12288 and (3072 + 12288) · 3072.
ROUTED = 19 * (8 + 4 * 4) * 3072**2 + 38 * (3 + 4 + 5) * 3072**2


def _check_size(cost: ExportCost) -> None:
    """Nothing is in the file but nodes and small tables: RoPE's, and T5's distances."""
    assert cost.constant_bytes < 6e6
    assert cost.file < 8e6


@pytest.mark.slow
def test_the_denoiser_takes_418_routed_weights(tmp_path: Path) -> None:
    cost = measure_export("flux-fill", "redux", "dit")
    _check_size(cost)
    assert cost.peak < PEAK_MB
    assert cost.inputs == 6 + 418
    apart = export_graph(full_size("flux-fill", "redux"), "modulation", tmp_path)
    _check_size(apart)
    assert apart.inputs == 3
    assert apart.parameter_bytes > 2 * MODULATION
    assert cost.parameter_bytes + apart.parameter_bytes == 2 * (FLUX - ROUTED)
    # cos and sin of 4,096 image, 512 text and 729 reference tokens, fp32: real, not fake.
    assert cost.constant_bytes > 2 * 4 * 5337 * 64
    assert 5000 < cost.nodes < 8000


@pytest.mark.slow
def test_encoders_gate_and_autoencoder(tmp_path: Path) -> None:
    checkpoint = full_size("flux-fill", "redux")
    inputs = {
        "vae_encoder": 2,
        "text_encoder": 1,
        "pooled_encoder": 1,
        "image_encoder": 1,
        "gate": 3,
        "vae_decoder": 1,
    }
    for name, count in inputs.items():
        cost = export_graph(checkpoint, name, tmp_path)
        _check_size(cost)
        assert cost.inputs == count, name
        if name == "text_encoder":
            assert cost.parameter_bytes == 2 * T5


def test_the_command_writes_rows(tmp_path: Path) -> None:
    arguments = ["export", "--model", "a2edit-mini", "--layout", "diptych", "--graph", "gate"]
    done = CliRunner().invoke(main, [*arguments, "--results", str(tmp_path)])
    assert done.exit_code == 0, done.output
    with (tmp_path / "export.csv").open(encoding="utf-8") as file:
        rows = {row["subject"]: float(row["p50"]) for row in csv.DictReader(file)}
    assert rows["gate, inputs"] == 3
    assert 0 < rows["gate, file"] < 0.1


def test_what_cannot_be_exported_says_why() -> None:
    done = CliRunner().invoke(main, ["export", "--model", "nowhere", "--graph", "gate"])
    assert done.exit_code == 2
    assert "exporting gate of nowhere failed" in done.stderr
    assert "is no A²-Edit checkpoint" in done.stderr
