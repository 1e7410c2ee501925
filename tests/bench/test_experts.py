"""Specialisation of a tiny checkpoint, whose experts are made to matter for what they should."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from a2edit.bench.cli import main
from a2edit.bench.experts import Plan, measure_experts
from a2edit.model.architectures import SMALL, new_checkpoint, randomise_experts
from a2edit.model.experts import MixtureLinear


def test_figures_have_their_shapes_and_an_expert_that_does_nothing_is_not_missed(
    tmp_path: Path,
) -> None:
    checkpoint = new_checkpoint(SMALL, tmp_path)
    randomise_experts(checkpoint)
    with torch.no_grad():
        for name in checkpoint.experts.linears:
            pair = checkpoint.experts.pair(name)
            pair.B[3] = 0
            pair.B[5] *= 20
        # The fifth is awake for everyone.
        bias = checkpoint.gate.heads.bias.view(-1, 8)
        bias[:, 5] += 8
    found = measure_experts(checkpoint, Plan(samples=40, effects=8, routes=2))
    assert found.effects is not None
    assert found.weights.shape == found.effects.shape == (8, 8)
    assert len(found.categories) == 8
    assert np.allclose(found.effects[:, 3], 0)
    assert np.abs(found.effects[:, 5]).mean() > 1e-3
    assert found.active.awake[0] == 1  # the anchor
    assert found.active.awake[5] == 1
    assert 0 <= found.covered <= 1
    assert found.route_errors.shape == (40,)
    # The model is as it was.
    assert checkpoint.experts.weights is None
    assert not any(isinstance(module, MixtureLinear) for module in checkpoint.transformer.modules())


@pytest.mark.filterwarnings("ignore:Mismatch dtype")
def test_the_command_prints_draws_and_keeps_rows(tmp_path: Path) -> None:
    checkpoint = new_checkpoint(SMALL, tmp_path / "tokenizers")
    randomise_experts(checkpoint)
    checkpoint.save(tmp_path / "model")
    arguments = ["experts", "--model", str(tmp_path / "model"), "--samples", "80", "--effects", "8"]
    arguments += ["--half", "--split", "held_out"]
    arguments += ["--plot", str(tmp_path / "a.png"), "--results", str(tmp_path)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "category from the gate table" in done.output
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 1000
    with (tmp_path / "experts.csv").open(encoding="utf-8") as rows:
        assert len(list(csv.DictReader(rows))) == 5 + 1 + 8


def test_switching_off_can_be_left_out(tmp_path: Path) -> None:
    checkpoint = new_checkpoint(SMALL, tmp_path / "tokenizers")
    checkpoint.save(tmp_path / "model")
    arguments = ["experts", "--model", str(tmp_path / "model"), "--samples", "80", "--effects", "0"]
    arguments += ["--plot", str(tmp_path / "a.png"), "--results", str(tmp_path)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width < 1000
    with (tmp_path / "experts.csv").open(encoding="utf-8") as rows:
        assert len(list(csv.DictReader(rows))) == 5
