"""The loss bench: paired, and moved by what moves a loss."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from a2edit.bench.cli import main
from a2edit.bench.flow import MASKS, FlowPlan, change, flow_losses
from a2edit.model.architectures import SMALL, new_checkpoint, randomise_experts
from a2edit.model.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A base whose experts do nothing, and the same with loud ones."""
    folder = tmp_path_factory.mktemp("flow")
    checkpoint = new_checkpoint(SMALL, folder / "tokenizers")
    checkpoint.save(folder / "plain")
    randomise_experts(checkpoint)
    with torch.no_grad():
        for name in checkpoint.experts.linears:
            checkpoint.experts.pair(name).B.mul_(30)
    checkpoint.save(folder / "loud")
    return str(folder / "plain"), str(folder / "loud")


def test_the_same_samples_and_noise_every_time_and_experts_that_run(
    models: tuple[str, str],
) -> None:
    plan = FlowPlan(samples=16)
    plain, again, loud = (
        flow_losses(Checkpoint.load(model), plan) for model in (models[0], *models)
    )
    for mask in MASKS:
        assert plain[mask].shape == (2,)
        np.testing.assert_array_equal(plain[mask], again[mask])
        assert np.all(loud[mask] > plain[mask])
    assert not np.allclose(plain["fine"], plain["box"])


def test_a_change_is_paired() -> None:
    found = change([2.2, 4.2], [2.0, 4.0])
    assert found.mean == pytest.approx(0.2 / 3)
    assert found.error == pytest.approx(0, abs=1e-12)


@pytest.mark.filterwarnings("ignore:Mismatch dtype")
def test_half_runs_in_half_the_digits(models: tuple[str, str]) -> None:
    checkpoint = Checkpoint.load(models[1])
    exact, half = (flow_losses(checkpoint, FlowPlan(16, half=h))["fine"] for h in (False, True))
    assert 0 < np.abs(half / exact - 1).max() < 0.05


@pytest.mark.filterwarnings("ignore:Mismatch dtype")
@pytest.mark.parametrize("more", [[], ["--whole", "--half"]])
def test_the_command_compares_with_the_first_and_keeps_rows(
    models: tuple[str, str], tmp_path: Path, more: list[str]
) -> None:
    named = [f"plain={models[0]}", f"loud={models[1]}"]
    arguments = ["flow", *named, *more, "--samples", "16", "--results", str(tmp_path)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    with (tmp_path / "flow.csv").open(encoding="utf-8") as rows:
        found = list(csv.DictReader(rows))
    assert [(row["model"], row["subject"]) for row in found] == [
        (model, mask) for model in ("plain", "loud") for mask in MASKS
    ]


def test_a_folder_may_have_an_equals_sign(models: tuple[str, str], tmp_path: Path) -> None:
    shutil.copytree(models[0], tmp_path / "rank=2")
    arguments = ["flow", str(tmp_path / "rank=2"), "--samples", "16", "--results", str(tmp_path)]
    assert CliRunner().invoke(main, arguments).exit_code == 0


@pytest.mark.parametrize("wrong", [["missing"], ["a=x", "a=y"]])
def test_a_missing_model_and_a_label_given_twice_are_refused(
    wrong: list[str], tmp_path: Path
) -> None:
    refused = CliRunner().invoke(main, ["flow", *wrong, "--results", str(tmp_path)])
    assert refused.exit_code == 2
    assert not (tmp_path / "flow.csv").exists()
