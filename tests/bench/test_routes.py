"""Predicted against measured route errors, on a small random checkpoint."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from a2edit.bench.cli import main
from a2edit.bench.gram import measure_gram
from a2edit.bench.routes import Agreement
from a2edit.model.architectures import SMALL, new_checkpoint, randomise_experts


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    checkpoint = new_checkpoint(SMALL, folder / "tokenizers")
    randomise_experts(checkpoint)
    torch.manual_seed(1)
    torch.nn.init.normal_(checkpoint.gate.heads.weight, std=2.0)  # a gate with opinions
    checkpoint.save(folder / "small")
    return folder / "small"


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return {row["subject"]: row for row in csv.DictReader(file)}


def test_predicted_errors_are_those_of_the_velocity(model: Path, tmp_path: Path) -> None:
    """A random model's gate asks for continuous weights: errors of every size, well foreseen."""
    arguments = ["routes", "--model", str(model), "--samples", "6", "--calibration", "32"]
    arguments += ["--deep", "4", "--plot", str(tmp_path / "a.png"), "--results", str(tmp_path)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    found = rows(tmp_path / "routes.csv")
    served = "nearest of 1 to 32 routes"
    assert float(found[f"{served}: Spearman of predicted and measured"]["p50"]) > 0.9
    assert 0.7 < float(found[f"{served}: predicted / measured"]["p50"]) < 1.4
    one, many = (float(found[f"measured error of the nearest of {k}"]["p50"]) for k in (1, 32))
    assert many < one
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 1000


def test_ranks_and_ratios_are_of_the_pairs() -> None:
    measured = np.array([0.0, 1.0, 2.0, 4.0])
    found = Agreement(measured, predicted=2 * measured, free=measured[::-1].copy())
    assert found.rank == pytest.approx(1)
    assert found.free_rank == pytest.approx(-1)
    np.testing.assert_allclose(found.ratios, 2)  # what could not be measured has no ratio


def test_the_metrics_cost_is_of_the_models_shapes(model: Path) -> None:
    told: list[tuple[int, int]] = []
    cost = measure_gram(str(model), lambda done, of: told.append((done, of)))
    assert cost.linears == len(cost.seconds) == len(told) == told[-1][1]
    assert cost.parameters > 0
    assert cost.peak > 0
